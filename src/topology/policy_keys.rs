//! The keys of policies and operator policies: their types and ranges, with RabbitMQ's texts when they are wrong.

use crate::model::{FieldTableRef, FieldValue};

use super::erlang_term::{binary, term};
use super::policy::PolicyKind;

/// What is wrong with a policy's definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// There is nothing in it.
    #[error("no policy provided")]
    Empty,
    /// A value that its key does not allow.
    #[error("{found} is not a valid {what}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value as an Erlang term.
        found: String,
        /// What it should have been.
        what: &'static str,
    },
    /// A key that nobody knows, or that an operator policy may not have.
    #[error("[{{{},{found}}}] are not recognised policy settings", binary(key.as_bytes()))]
    Unknown {
        /// The key.
        key: String,
        /// The value as an Erlang term.
        found: String,
    },
}

/// What a key takes.
#[derive(Clone, Copy)]
enum Rule {
    /// A string.
    Text,
    /// An integer of at least so much.
    AtLeast(i64),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// One of these numbers.
    Number(&'static [i64]),
    /// A number and a unit, such as `7D`.
    Age,
    /// Whatever it is: it has no effect here.
    Anything,
}

/// Who may use a key.
const BOTH: bool = true;
const USER: bool = false;

/// Key, rule, what a valid value is called, whether an operator policy may have it.
const KEYS: &[(&str, Rule, &str, bool)] = &[
    ("alternate-exchange", Rule::Text, "alternate exchange name", USER),
    ("message-ttl", Rule::AtLeast(0), "message TTL", BOTH),
    ("expires", Rule::AtLeast(1), "queue expiry", BOTH),
    ("max-length", Rule::AtLeast(0), "maximum length", BOTH),
    (
        "max-length-bytes",
        Rule::AtLeast(0),
        "maximum length in bytes",
        BOTH,
    ),
    (
        "max-in-memory-length",
        Rule::AtLeast(0),
        "maximum memory in bytes",
        BOTH,
    ),
    (
        "max-in-memory-bytes",
        Rule::AtLeast(0),
        "maximum memory in bytes",
        BOTH,
    ),
    (
        "overflow",
        Rule::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
        "overflow value",
        BOTH,
    ),
    (
        "dead-letter-exchange",
        Rule::Text,
        "dead letter exchange name",
        USER,
    ),
    (
        "dead-letter-routing-key",
        Rule::Text,
        "dead letter routing key",
        USER,
    ),
    (
        "dead-letter-strategy",
        Rule::OneOf(&["at-most-once", "at-least-once"]),
        "dead letter strategy",
        USER,
    ),
    ("delivery-limit", Rule::AtLeast(0), "delivery limit", BOTH),
    ("consumer-timeout", Rule::AtLeast(0), "consumer timeout", USER),
    (
        "consumer-disconnected-timeout",
        Rule::AtLeast(0),
        "consumer disconnected timeout",
        USER,
    ),
    (
        "delayed-retry-type",
        Rule::OneOf(&["disabled", "all", "failed", "returned"]),
        "delayed retry type",
        BOTH,
    ),
    (
        "delayed-retry-min",
        Rule::AtLeast(1),
        "delayed retry minimum",
        BOTH,
    ),
    (
        "delayed-retry-max",
        Rule::AtLeast(1),
        "delayed retry maximum",
        BOTH,
    ),
    ("target-group-size", Rule::AtLeast(1), "target group size", BOTH),
    ("member-placement-tag", Rule::Text, "member placement tag", BOTH),
    (
        "queue-leader-locator",
        Rule::OneOf(&["client-local", "balanced", "random", "least-leaders"]),
        "queue leader locator value",
        USER,
    ),
    ("initial-cluster-size", Rule::AtLeast(0), "cluster size", USER),
    ("max-age", Rule::Age, "max age", USER),
    (
        "stream-max-segment-size-bytes",
        Rule::AtLeast(0),
        "segment size",
        USER,
    ),
    ("stream-filter-size-bytes", Rule::AtLeast(16), "filter size", USER),
    (
        "queue-mode",
        Rule::OneOf(&["default", "lazy"]),
        "queue-mode value",
        USER,
    ),
    (
        "queue-version",
        Rule::Number(&[1, 2]),
        "queue-version value",
        BOTH,
    ),
    (
        "queue-master-locator",
        Rule::Anything,
        "queue master locator",
        USER,
    ),
    ("ha-mode", Rule::Anything, "ha-mode", USER),
    ("ha-params", Rule::Anything, "ha-params", USER),
    ("ha-sync-mode", Rule::Anything, "ha-sync-mode", USER),
    ("ha-sync-batch-size", Rule::Anything, "ha-sync-batch-size", BOTH),
    (
        "ha-promote-on-shutdown",
        Rule::Anything,
        "ha-promote-on-shutdown",
        USER,
    ),
    (
        "ha-promote-on-failure",
        Rule::Anything,
        "ha-promote-on-failure",
        USER,
    ),
    ("federation-upstream", Rule::Anything, "federation upstream", USER),
    (
        "federation-upstream-set",
        Rule::Anything,
        "federation upstream set",
        USER,
    ),
    (
        "federation-upstream-pattern",
        Rule::Anything,
        "federation upstream pattern",
        USER,
    ),
    ("shards-per-node", Rule::Anything, "number of shards", USER),
    ("routing-key", Rule::Anything, "routing key", USER),
];

/// Keys that have an effect here; the others are accepted for the sake of files that have them.
const EFFECTIVE: &[&str] = &[
    "alternate-exchange",
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "overflow",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "delivery-limit",
    "consumer-timeout",
];

/// Checks a definition; all that is wrong with it, in its order.
pub fn check_policy(kind: PolicyKind, definition: FieldTableRef<'_>) -> Result<(), Vec<PolicyFault>> {
    if definition.is_empty() {
        return Err(vec![PolicyFault::Empty]);
    }
    let entries = definition.iter().map_while(Result::ok);
    let faults: Vec<_> = entries
        .filter_map(|(key, value)| check_entry(kind, key, value).err())
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Whether `key` does nothing here.
pub fn is_without_effect(key: &[u8]) -> bool {
    !EFFECTIVE.iter().any(|known| known.as_bytes() == key)
}

fn check_entry(kind: PolicyKind, key: &[u8], value: FieldValue<'_>) -> Result<(), PolicyFault> {
    let known = KEYS.iter().find(|(known, _, _, is_operators)| {
        known.as_bytes() == key && (kind == PolicyKind::User || *is_operators)
    });
    let Some(&(key, rule, what, _)) = known else {
        let key = String::from_utf8_lossy(key).into_owned();
        return Err(PolicyFault::Unknown {
            key,
            found: term(value),
        });
    };
    match rule.allows(value) {
        true => Ok(()),
        false => Err(PolicyFault::Value {
            key,
            found: term(value),
            what,
        }),
    }
}

impl Rule {
    fn allows(self, value: FieldValue<'_>) -> bool {
        let text = value.as_string().and_then(|text| std::str::from_utf8(text).ok());
        let number = value.as_integer();
        match self {
            Rule::Text => value.as_string().is_some(),
            Rule::AtLeast(least) => number.is_some_and(|number| number >= least),
            Rule::OneOf(words) => text.is_some_and(|text| words.contains(&text)),
            Rule::Number(numbers) => number.is_some_and(|number| numbers.contains(&number)),
            Rule::Age => text.is_some_and(is_age),
            Rule::Anything => true,
        }
    }
}

fn is_age(text: &str) -> bool {
    let digits = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).unwrap_or("");
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;

    fn told(kind: PolicyKind, key: &str, value: FieldValue<'_>) -> Option<String> {
        let definition = FieldTable::builder().value(key, value).build();
        let faults = check_policy(kind, definition.as_ref()).err()?;
        assert_eq!(faults.len(), 1);
        Some(faults[0].to_string())
    }

    #[test]
    fn every_key_is_refused_with_rabbitmqs_text() {
        let (int, text) = (FieldValue::Int64, |text: &'static str| {
            FieldValue::LongString(text.as_bytes())
        });
        for (key, value, expected) in [
            ("message-ttl", int(-1), "-1 is not a valid message TTL"),
            ("message-ttl", text("x"), "<<\"x\">> is not a valid message TTL"),
            ("expires", int(0), "0 is not a valid queue expiry"),
            ("max-length", int(-1), "-1 is not a valid maximum length"),
            (
                "max-length-bytes",
                int(-1),
                "-1 is not a valid maximum length in bytes",
            ),
            (
                "overflow",
                text("foo"),
                "<<\"foo\">> is not a valid overflow value",
            ),
            ("overflow", int(1), "1 is not a valid overflow value"),
            (
                "dead-letter-exchange",
                int(5),
                "5 is not a valid dead letter exchange name",
            ),
            (
                "dead-letter-routing-key",
                int(5),
                "5 is not a valid dead letter routing key",
            ),
            (
                "dead-letter-strategy",
                text("x"),
                "<<\"x\">> is not a valid dead letter strategy",
            ),
            (
                "alternate-exchange",
                int(5),
                "5 is not a valid alternate exchange name",
            ),
            ("delivery-limit", int(-1), "-1 is not a valid delivery limit"),
            (
                "queue-leader-locator",
                text("x"),
                "<<\"x\">> is not a valid queue leader locator value",
            ),
            (
                "stream-max-segment-size-bytes",
                int(-1),
                "-1 is not a valid segment size",
            ),
            (
                "queue-mode",
                text("foo"),
                "<<\"foo\">> is not a valid queue-mode value",
            ),
            ("queue-version", int(3), "3 is not a valid queue-version value"),
            (
                "foo",
                int(1),
                "[{<<\"foo\">>,1}] are not recognised policy settings",
            ),
        ] {
            assert_eq!(told(PolicyKind::User, key, value).as_deref(), Some(expected));
        }
        let empty = check_policy(PolicyKind::User, FieldTableRef(b"")).expect_err("nothing in it");
        assert_eq!(empty[0].to_string(), "no policy provided");
    }

    #[test]
    fn an_operator_policy_has_limits_alone() {
        let dlx = FieldValue::LongString(b"x");
        let refused = told(PolicyKind::Operator, "dead-letter-exchange", dlx);
        let expected = "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings";
        assert_eq!(refused.as_deref(), Some(expected));
        assert_eq!(
            told(PolicyKind::Operator, "max-length", FieldValue::Int64(5)),
            None
        );
    }

    #[test]
    fn all_faults_are_told_together() {
        let definition = FieldTable::builder()
            .int("expires", 0)
            .int("max-length", -1)
            .int("x", 1);
        let faults = check_policy(PolicyKind::User, definition.build().as_ref()).expect_err("three faults");
        assert_eq!(faults.len(), 3);
    }

    #[test]
    fn what_has_an_effect_is_a_known_key() {
        for key in EFFECTIVE {
            assert!(KEYS.iter().any(|(known, ..)| known == key) && !is_without_effect(key.as_bytes()));
        }
        assert!(is_without_effect(b"ha-mode"));
        assert_eq!(
            told(PolicyKind::User, "max-age", FieldValue::LongString(b"7D")),
            None
        );
    }
}
