//! The headers exchange: a binding matches when the message's headers fit its arguments (AMQP 0-9-1 §3.1.3.4, with
//! RabbitMQ's rules).
//!
//! - `x-match` is `all` (the default) or `any`; keys that begin with `x-` do not count. With `all-with-x` and
//!   `any-with-x` they do, all but `x-match` itself.
//! - A key fits when the message has it with an equal value (`erlang_term::same_value`), or with any value if the
//!   binding's is void.
//! - Without a key that counts, `all` matches every message and `any` none.

use std::collections::BTreeMap;

use crate::model::{FieldTableRef, FieldValue, ShortString};
use crate::topology::erlang_term::same_value;

use super::Routed;
use super::targets::{Target, Targets};

/// Targets by the bindings' arguments, so that a pattern that many queues share is tried once. A route tries every
/// pattern, and allocates once for the decoded headers.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadersTable {
    patterns: BTreeMap<Box<[u8]>, Targets>,
}

impl HeadersTable {
    pub(super) fn bind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        self.patterns
            .entry(arguments.into())
            .or_default()
            .insert(target, key.as_bytes())
    }

    pub(super) fn unbind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        let Some(targets) = self.patterns.get_mut(arguments) else {
            return false;
        };
        let removed = targets.remove(target, key.as_bytes());
        if targets.is_empty() {
            self.patterns.remove(arguments);
        }
        removed
    }

    pub(super) fn route(&self, headers: Option<FieldTableRef<'_>>, routed: &mut Routed) {
        routed.decided_for_message_alone();
        let headers = by_key(headers.unwrap_or_default());
        for (arguments, targets) in &self.patterns {
            if matches(FieldTableRef(arguments), &headers) {
                targets.reach(routed);
            }
        }
    }
}

/// Decoded headers, ascending by key; of equal keys the first counts.
fn by_key(headers: FieldTableRef<'_>) -> Vec<(&[u8], FieldValue<'_>)> {
    let mut decoded: Vec<_> = headers.iter().map_while(Result::ok).collect();
    decoded.sort_by_key(|(key, _)| *key);
    decoded
}

/// Whether a binding with these arguments takes a message with these headers, which ascend by key.
pub(super) fn matches(arguments: FieldTableRef<'_>, headers: &[(&[u8], FieldValue<'_>)]) -> bool {
    let (any, with_x) = match arguments.get(b"x-match").and_then(|value| value.as_string()) {
        Some(b"any") => (true, false),
        Some(b"any-with-x") => (true, true),
        Some(b"all-with-x") => (false, true),
        _ => (false, false),
    };
    let counts = |key: &[u8]| {
        if with_x {
            key != b"x-match"
        } else {
            !key.starts_with(b"x-")
        }
    };
    let mut wanted = arguments
        .iter()
        .map_while(Result::ok)
        .filter(|(key, _)| counts(key));
    let fits = |(key, value): (&[u8], FieldValue<'_>)| {
        let at = headers.partition_point(|(header, _)| *header < key);
        match headers.get(at).filter(|(header, _)| *header == key) {
            Some(_) if value == FieldValue::Void => true,
            Some((_, found)) => same_value(value, *found),
            None => false,
        }
    };
    if any { wanted.any(fits) } else { wanted.all(fits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldTable, field_table::FieldTableBuilder};

    /// The verdicts of `all`, `any`, `all-with-x` and `any-with-x`.
    fn verdicts(wanted: &FieldTableBuilder, headers: &FieldTableBuilder) -> [bool; 4] {
        let headers = headers.clone().build();
        let headers = by_key(headers.as_ref());
        ["all", "any", "all-with-x", "any-with-x"].map(|kind| {
            let arguments = wanted.clone().string("x-match", kind).build();
            matches(arguments.as_ref(), &headers)
        })
    }

    fn table() -> FieldTableBuilder {
        FieldTable::builder()
    }

    const NONE: [bool; 4] = [false; 4];
    const EVERY: [bool; 4] = [true; 4];

    #[test]
    fn all_wants_every_key_and_any_wants_one() {
        let wanted = table().int("a", 1).int("b", 2);
        assert_eq!(
            verdicts(&wanted, &table().int("a", 1)),
            [false, true, false, true]
        );
        assert_eq!(
            verdicts(&wanted, &table().int("a", 1).int("b", 2).int("c", 3)),
            EVERY
        );
        assert_eq!(verdicts(&wanted, &table().int("a", 9).int("c", 3)), NONE);
        assert_eq!(verdicts(&wanted, &table()), NONE);
    }

    #[test]
    fn keys_that_begin_with_x_count_only_when_asked_for() {
        let wanted = table().int("x-a", 1).int("b", 2);
        assert_eq!(verdicts(&wanted, &table().int("b", 2)), [true, true, false, true]);
        assert_eq!(
            verdicts(&wanted, &table().int("x-a", 1)),
            [false, false, false, true]
        );
        assert_eq!(verdicts(&wanted, &table().int("x-a", 1).int("b", 2)), EVERY);
        assert_eq!(
            verdicts(&table().int("x-a", 1), &table().int("x-a", 2)),
            [true, false, false, false]
        );
    }

    #[test]
    fn no_keys_match_everything_with_all_and_nothing_with_any() {
        assert_eq!(verdicts(&table(), &table()), [true, false, true, false]);
        assert_eq!(
            verdicts(&table(), &table().int("a", 1)),
            [true, false, true, false]
        );
    }

    #[test]
    fn a_void_value_wants_the_key_alone() {
        assert_eq!(verdicts(&table().void("a"), &table().int("a", 7)), EVERY);
        assert_eq!(verdicts(&table().void("a"), &table().void("a")), EVERY);
        assert_eq!(verdicts(&table().void("a"), &table().int("b", 7)), NONE);
        assert_eq!(verdicts(&table().int("a", 7), &table().void("a")), NONE);
    }

    #[test]
    fn values_are_compared_by_value_and_not_by_width() {
        assert_eq!(verdicts(&table().int("a", 5), &table().long("a", 5)), EVERY);
        assert_eq!(verdicts(&table().int("a", 5), &table().timestamp("a", 5)), EVERY);
        assert_eq!(verdicts(&table().int("a", 5), &table().string("a", "5")), NONE);
        assert_eq!(verdicts(&table().int("a", 1), &table().boolean("a", true)), NONE);
    }
}
