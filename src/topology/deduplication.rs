//! What deduplication is asked for, by an exchange's or a queue's arguments, in LavinMQ's words.
//!
//! | argument | |
//! |---|---|
//! | `x-message-deduplication` | `true` to deduplicate |
//! | `x-cache-size` | how many values are remembered, 128 unless told |
//! | `x-cache-ttl` | how long, in milliseconds; without it as long as there is room |
//! | `x-deduplication-header` | the header that holds a message's value, `x-deduplication-header` unless told |

use crate::model::{FieldTableRef, FieldValue, Refusal, ReplyCode, ShortString};

pub(super) const DEDUPLICATION: &str = "x-message-deduplication";
pub(super) const CACHE_SIZE: &str = "x-cache-size";
pub(super) const CACHE_TTL: &str = "x-cache-ttl";
pub(super) const DEDUPLICATION_HEADER: &str = "x-deduplication-header";
/// All arguments.
pub(super) const ARGUMENTS: [&str; 4] = [DEDUPLICATION, CACHE_SIZE, CACHE_TTL, DEDUPLICATION_HEADER];

const CACHE_SIZE_DEFAULT: u64 = 128;
/// Most values that are remembered: at up to 255 bytes each, they stay in memory.
pub(super) const CACHE_SIZE_MAX: i64 = 1_000_000;

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplicating {
    /// Values that are remembered, above 0.
    pub cache_size: u64,
    /// How long a value is remembered, in milliseconds.
    pub cache_ttl: Option<u64>,
    /// The header with the value.
    pub header: ShortString,
}

impl Deduplicating {
    /// What checked arguments ask for; `None` if that is not to deduplicate.
    pub fn of(arguments: FieldTableRef<'_>) -> Option<Self> {
        if arguments.get(DEDUPLICATION.as_bytes())? != FieldValue::Boolean(true) {
            return None;
        }
        let number = |key: &str| {
            let value = arguments.get(key.as_bytes())?.as_integer()?;
            u64::try_from(value).ok()
        };
        let header = arguments.get(DEDUPLICATION_HEADER.as_bytes());
        let header = header
            .and_then(|header| header.as_string())
            .and_then(ShortString::new);
        Some(Self {
            cache_size: number(CACHE_SIZE).unwrap_or(CACHE_SIZE_DEFAULT),
            cache_ttl: number(CACHE_TTL),
            header: header.unwrap_or_else(|| ShortString::from(DEDUPLICATION_HEADER)),
        })
    }
}

/// Checks the arguments of an exchange: 406 names the first that is wrong.
pub(super) fn check_exchange_arguments(arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
    let wrong = |key: &str, rule: &str| {
        let text = format!("Invalid argument, '{key}' must be {rule}");
        Err(Refusal::new(ReplyCode::PreconditionFailed, text))
    };
    let in_range = |key: &str, most: i64| {
        let value = arguments.get(key.as_bytes());
        value.is_none_or(|value| {
            value
                .as_integer()
                .is_some_and(|value| (1..=most).contains(&value))
        })
    };
    let flag = arguments.get(DEDUPLICATION.as_bytes());
    let header = arguments.get(DEDUPLICATION_HEADER.as_bytes());
    if flag.is_some_and(|value| !matches!(value, FieldValue::Boolean(_))) {
        wrong(DEDUPLICATION, "true or false")
    } else if !in_range(CACHE_SIZE, CACHE_SIZE_MAX) {
        wrong(CACHE_SIZE, &format!("an integer from 1 to {CACHE_SIZE_MAX}"))
    } else if !in_range(CACHE_TTL, i64::MAX) {
        wrong(CACHE_TTL, "a positive number of milliseconds")
    } else if header.is_some_and(|name| name.as_string().and_then(ShortString::new).is_none()) {
        wrong(DEDUPLICATION_HEADER, "a string of at most 255 bytes")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;

    #[test]
    fn what_is_not_said_is_as_lavinmq_has_it() {
        let asked = FieldTable::builder()
            .boolean("x-message-deduplication", true)
            .build();
        let expected = Deduplicating {
            cache_size: 128,
            cache_ttl: None,
            header: ShortString::from("x-deduplication-header"),
        };
        assert_eq!(Deduplicating::of(asked.as_ref()), Some(expected));
        let declined = FieldTable::builder()
            .boolean("x-message-deduplication", false)
            .build();
        assert_eq!(Deduplicating::of(declined.as_ref()), None);
    }

    #[test]
    fn arguments_of_an_exchange_are_checked() {
        let refused = |table: FieldTable| {
            let refusal = check_exchange_arguments(table.as_ref()).expect_err("it is wrong");
            refusal.explanation.to_string()
        };
        assert_eq!(
            refused(FieldTable::builder().int("x-cache-size", 0).build()),
            "Invalid argument, 'x-cache-size' must be an integer from 1 to 1000000"
        );
        assert_eq!(
            refused(FieldTable::builder().string("x-cache-ttl", "1h").build()),
            "Invalid argument, 'x-cache-ttl' must be a positive number of milliseconds"
        );
        assert_eq!(
            refused(FieldTable::builder().int("x-message-deduplication", 1).build()),
            "Invalid argument, 'x-message-deduplication' must be true or false"
        );
        assert_eq!(
            refused(FieldTable::builder().int("x-deduplication-header", 1).build()),
            "Invalid argument, 'x-deduplication-header' must be a string of at most 255 bytes"
        );
    }
}
