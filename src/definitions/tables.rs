//! JSON objects as AMQP's tables, in the types that RabbitMQ gives them: whole numbers are `long`, others `double`.

use serde_json::{Map, Value};

use crate::model::field_table::FieldArray;
use crate::model::{FieldTable, FieldValue};

/// The table that `object` stands for, or what of it AMQP does not have.
pub(super) fn table_of(object: &Map<String, Value>) -> Result<FieldTable, String> {
    let table = unchecked(object)?;
    match table.as_ref().validate() {
        Ok(()) => Ok(table),
        Err(error) => Err(format!("expected a table, found one that cannot travel: {error}")),
    }
}

fn unchecked(object: &Map<String, Value>) -> Result<FieldTable, String> {
    let mut table = FieldTable::builder();
    for (key, value) in object {
        if key.len() > usize::from(u8::MAX) {
            return Err("expected keys of at most 255 bytes, found a longer one".to_owned());
        }
        table = match value {
            Value::Array(values) => table.array(key, &array_of(values)?),
            Value::Object(inner) => table.table(key, &unchecked(inner)?),
            value => table.value(key, plain(value)?),
        };
    }
    Ok(table.build())
}

fn array_of(values: &[Value]) -> Result<FieldArray, String> {
    let mut array = FieldArray::new();
    for value in values {
        array = match value {
            Value::Array(values) => array.with(FieldValue::Array(array_of(values)?.as_ref())),
            Value::Object(inner) => array.with(FieldValue::Table(unchecked(inner)?.as_ref())),
            value => array.with(plain(value)?),
        };
    }
    Ok(array)
}

fn plain(value: &Value) -> Result<FieldValue<'_>, String> {
    match value {
        Value::Bool(value) => Ok(FieldValue::Boolean(*value)),
        Value::String(text) => Ok(FieldValue::LongString(text.as_bytes())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(FieldValue::Int64(integer)),
            (None, Some(float)) if !number.is_u64() => Ok(FieldValue::Double(float)),
            _ => Err(format!(
                "expected a number of 64 bits with a sign, found {number}"
            )),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => Ok(FieldValue::Void),
    }
}
