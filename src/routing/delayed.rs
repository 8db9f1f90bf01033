//! Delayed exchanges: a message with a header `x-delay` goes to the exchange's memory, and on by another type's rules once
//! its time has come. Then its header is negative, as the RabbitMQ plugin makes it, which delays no more.

use crate::model::{FieldTableRef, FieldValue};

/// Longest delay in milliseconds; a longer one is none, as in the RabbitMQ plugin.
const DELAY_MAX: i64 = u32::MAX as i64;

/// How long a message with these headers is to wait, in milliseconds, if it is.
pub fn delay_of(headers: Option<FieldTableRef<'_>>) -> Option<u64> {
    let value = headers?.get(DELAY)?;
    let milliseconds = match value {
        FieldValue::LongString(digits) => std::str::from_utf8(digits).ok()?.trim().parse().ok()?,
        FieldValue::Double(number) => number as i64,
        FieldValue::Float(number) => number as i64,
        value => value.as_integer()?,
    };
    (1..=DELAY_MAX)
        .contains(&milliseconds)
        .then_some(milliseconds as u64)
}

/// The header that asks for a delay.
pub const DELAY: &[u8] = b"x-delay";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;

    fn delay(value: FieldValue<'_>) -> Option<u64> {
        let headers = FieldTable::builder().value("x-delay", value).build();
        delay_of(Some(headers.as_ref()))
    }

    #[test]
    fn a_delay_is_a_positive_number_in_any_form() {
        assert_eq!(delay(FieldValue::Int32(1_500)), Some(1_500));
        assert_eq!(delay(FieldValue::Int64(86_400_000)), Some(86_400_000));
        assert_eq!(delay(FieldValue::LongString(b"250")), Some(250));
        assert_eq!(delay(FieldValue::Double(20.9)), Some(20));
        for none in [
            FieldValue::Int32(0),
            FieldValue::Int32(-5),
            FieldValue::Int64(1 << 32),
            FieldValue::Void,
        ] {
            assert_eq!(delay(none), None, "{none:?}");
        }
        assert_eq!(delay_of(None), None);
    }
}
