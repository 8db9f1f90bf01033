//! Field values as RabbitMQ prints and compares them: as Erlang terms.
//!
//! Its refusals print values with `~p`, and clients' tests match those texts; its headers exchange and its
//! equivalence checks compare values with `==`, for which a width of an integer or the kind of a string is no
//! difference.

use std::borrow::Cow;

use crate::model::FieldValue;

/// Whether `a` and `b` are equal as Erlang's `==` sees their values: integers of any width and times by number,
/// also against floats, both kinds of string by bytes. Inside arrays and tables the types must agree as well.
pub fn same_value(a: FieldValue<'_>, b: FieldValue<'_>) -> bool {
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        return a == b;
    }
    if let (Some(integer), Some(float)) = (integer(a).or(integer(b)), float(a).or(float(b))) {
        return is_same_number(integer, float);
    }
    if let (Some(a), Some(b)) = (bytes(a), bytes(b)) {
        return a == b;
    }
    match (a, b) {
        (FieldValue::Array(a), FieldValue::Array(b)) => {
            let (a, b) = (a.iter().map_while(Result::ok), b.iter().map_while(Result::ok));
            same_sequence(a, b, same_typed_value)
        }
        (FieldValue::Table(a), FieldValue::Table(b)) => {
            let (a, b) = (a.iter().map_while(Result::ok), b.iter().map_while(Result::ok));
            same_sequence(a, b, |a, b| a.0 == b.0 && same_typed_value(a.1, b.1))
        }
        // Erlang has one empty list for both.
        (FieldValue::Array(a), FieldValue::Table(b)) | (FieldValue::Table(b), FieldValue::Array(a)) => {
            a.is_empty() && b.is_empty()
        }
        _ => a == b,
    }
}

/// Whether `value` is a float of either width, which no integer is equivalent to in a declaration.
pub fn is_float(value: FieldValue<'_>) -> bool {
    matches!(value, FieldValue::Float(_) | FieldValue::Double(_))
}

/// A value as a refusal names it between quotes: strings as they are, all else as a term.
pub fn value_text(value: FieldValue<'_>) -> String {
    match bytes(value) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => term(value),
    }
}

/// A value as the term that RabbitMQ holds for it.
pub fn term(value: FieldValue<'_>) -> String {
    match value {
        FieldValue::Boolean(value) => value.to_string(),
        FieldValue::Int8(_) | FieldValue::Uint8(_) | FieldValue::Int16(_) | FieldValue::Uint16(_) => {
            integer_text(value)
        }
        FieldValue::Int32(_) | FieldValue::Uint32(_) | FieldValue::Int64(_) => integer_text(value),
        FieldValue::Timestamp(_) => integer_text(value),
        FieldValue::Float(value) => format!("{value:?}"),
        FieldValue::Double(value) => format!("{value:?}"),
        FieldValue::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        FieldValue::LongString(bytes) | FieldValue::ByteArray(bytes) => binary(bytes),
        FieldValue::Array(array) => list(array.iter().map_while(Result::ok).map(typed_term)),
        FieldValue::Table(table) => list(table.iter().map_while(Result::ok).map(|(name, value)| {
            format!(
                "{{{},{},{}}}",
                binary(name),
                value.rabbit_type_name(),
                term(value)
            )
        })),
        FieldValue::Void => "undefined".to_owned(),
    }
}

/// Bytes as a binary: `<<"text">>`, or `<<1,2>>` when they are no printable text.
pub fn binary(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.chars().all(is_printable))
    {
        Some("") => "<<>>".to_owned(),
        Some(text) => format!("<<\"{}\">>", escaped(text)),
        None => format!("<<{}>>", numbers(bytes.iter().copied().map(u32::from))),
    }
}

/// A name as an atom: between quotes unless it is a plain lower-case word.
pub fn atom(name: &str) -> Cow<'_, str> {
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|other| other.is_ascii_alphanumeric() || matches!(other, '_' | '@'));
    match is_plain {
        true => Cow::Borrowed(name),
        false => Cow::Owned(format!("'{name}'")),
    }
}

/// Text as a string: `"text"`, or the list of its characters when they are not printable.
pub fn string(text: &str) -> String {
    if text.chars().all(is_printable) {
        format!("\"{}\"", escaped(text))
    } else {
        format!("[{}]", numbers(text.chars().map(u32::from)))
    }
}

fn integer(value: FieldValue<'_>) -> Option<i128> {
    match value {
        FieldValue::Timestamp(seconds) => Some(seconds.into()),
        value => value.as_integer().map(i128::from),
    }
}

fn float(value: FieldValue<'_>) -> Option<f64> {
    match value {
        FieldValue::Float(value) => Some(value.into()),
        FieldValue::Double(value) => Some(value),
        _ => None,
    }
}

/// Whether both are the same number, digit for digit: a large integer is not made a float that is only near it.
fn is_same_number(integer: i128, float: f64) -> bool {
    float.fract() == 0.0 && float as i128 == integer
}

fn bytes(value: FieldValue<'_>) -> Option<&[u8]> {
    match value {
        FieldValue::LongString(bytes) | FieldValue::ByteArray(bytes) => Some(bytes),
        _ => None,
    }
}

fn same_typed_value(a: FieldValue<'_>, b: FieldValue<'_>) -> bool {
    a.rabbit_type_name() == b.rabbit_type_name() && same_value(a, b)
}

fn same_sequence<T>(
    a: impl Iterator<Item = T>,
    mut b: impl Iterator<Item = T>,
    same: impl Fn(T, T) -> bool,
) -> bool {
    for a in a {
        if !b.next().is_some_and(|b| same(a, b)) {
            return false;
        }
    }
    b.next().is_none()
}

fn integer_text(value: FieldValue<'_>) -> String {
    integer(value).map(|value| value.to_string()).unwrap_or_default()
}

fn typed_term(value: FieldValue<'_>) -> String {
    format!("{{{},{}}}", value.rabbit_type_name(), term(value))
}

fn list(terms: impl Iterator<Item = String>) -> String {
    format!("[{}]", terms.collect::<Vec<_>>().join(","))
}

fn numbers(values: impl Iterator<Item = u32>) -> String {
    values
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

fn is_printable(character: char) -> bool {
    !character.is_control() || matches!(character, '\n' | '\r' | '\t')
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;
    use crate::model::field_table::FieldArray;

    #[test]
    fn values_are_printed_as_erlang_does() {
        let array = FieldArray::new()
            .with(FieldValue::Int32(1))
            .with(FieldValue::LongString(b"a"));
        let table = FieldTable::builder().int("a", 1).build();
        assert_eq!(
            term(FieldValue::Array(array.as_ref())),
            "[{signedint,1},{longstr,<<\"a\">>}]"
        );
        assert_eq!(
            term(FieldValue::Table(table.as_ref())),
            "[{<<\"a\">>,signedint,1}]"
        );
        assert_eq!(term(FieldValue::Decimal { scale: 1, value: 15 }), "{1,15}");
        assert_eq!(binary(b"a\"b"), "<<\"a\\\"b\">>");
        assert_eq!(binary(&[1]), "<<1>>");
        assert_eq!(atom("direct"), "direct");
        assert_eq!(atom("x-random"), "'x-random'");
        assert_eq!(string("a\nb"), "\"a\\nb\"");
        assert_eq!(string("\u{1}a"), "[1,97]");
    }

    #[test]
    fn values_are_compared_without_regard_to_width_or_kind_of_string() {
        assert!(same_value(FieldValue::Int8(5), FieldValue::Int64(5)));
        assert!(same_value(FieldValue::Int32(5), FieldValue::Timestamp(5)));
        assert!(same_value(FieldValue::Int32(5), FieldValue::Double(5.0)));
        assert!(same_value(
            FieldValue::LongString(b"x"),
            FieldValue::ByteArray(b"x")
        ));
        assert!(same_value(FieldValue::Double(-0.0), FieldValue::Int8(0)));
        let large = 1 << 53;
        assert!(same_value(
            FieldValue::Int64(large),
            FieldValue::Double(large as f64)
        ));
        assert!(!same_value(
            FieldValue::Int64(large + 1),
            FieldValue::Double(large as f64)
        ));
        assert!(!same_value(FieldValue::Double(f64::NAN), FieldValue::Int8(0)));
        assert!(!same_value(
            FieldValue::Double(f64::INFINITY),
            FieldValue::Int64(i64::MAX)
        ));
        assert!(!same_value(FieldValue::Int32(1), FieldValue::Boolean(true)));
        assert!(!same_value(FieldValue::Int32(5), FieldValue::LongString(b"5")));
    }

    #[test]
    fn an_empty_array_equals_an_empty_table() {
        let (array, table) = (FieldArray::new(), FieldTable::default());
        let (array, table) = (
            FieldValue::Array(array.as_ref()),
            FieldValue::Table(table.as_ref()),
        );
        assert!(same_value(array, table) && same_value(table, array));
        let one = FieldArray::new().with(FieldValue::Void);
        assert!(!same_value(FieldValue::Array(one.as_ref()), table));
    }

    #[test]
    fn values_inside_an_array_are_compared_with_their_types() {
        let array = |value| FieldArray::new().with(value);
        let (narrow, wide) = (array(FieldValue::Int32(1)), array(FieldValue::Int64(1)));
        assert!(same_value(
            FieldValue::Array(narrow.as_ref()),
            FieldValue::Array(narrow.as_ref())
        ));
        assert!(!same_value(
            FieldValue::Array(narrow.as_ref()),
            FieldValue::Array(wide.as_ref())
        ));
        let longer = narrow.clone().with(FieldValue::Void);
        assert!(!same_value(
            FieldValue::Array(narrow.as_ref()),
            FieldValue::Array(longer.as_ref())
        ));
    }
}
