//! Policies: settings for the queues and exchanges whose names fit a pattern.
//!
//! Of the policies of a vhost the one of the highest priority is in force for a queue or exchange, and of those that are
//! alike the first by name; two are never merged. Operator policies are chosen in the same way, apart, and laid over
//! the other's settings ([`Policies::value`]):
//!
//! | settings | what is in force |
//! |---|---|
//! | dead letter exchange and key, alternate exchange | the argument of the declaration, else the policy's |
//! | numeric limits and times | the least of argument, policy and operator policy |
//! | overflow | without an argument the operator policy's, else the policy's |
//!
//! As in RabbitMQ, a policy with a key that a queue's type does not know is not in force for it at all.

use std::collections::BTreeMap;

use crate::model::{FieldTable, FieldTableRef, FieldValue, Pattern, ShortString};

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All = 0,
    /// Queues of every type.
    Queues = 1,
    /// Exchanges.
    Exchanges = 2,
    /// Classic queues.
    ClassicQueues = 3,
    /// Quorum queues.
    QuorumQueues = 4,
    /// Streams.
    Streams = 5,
}

impl ApplyTo {
    /// Every one, with its name.
    pub const ALL: [(ApplyTo, &'static str); 6] = [
        (ApplyTo::All, "all"),
        (ApplyTo::Queues, "queues"),
        (ApplyTo::Exchanges, "exchanges"),
        (ApplyTo::ClassicQueues, "classic_queues"),
        (ApplyTo::QuorumQueues, "quorum_queues"),
        (ApplyTo::Streams, "streams"),
    ];

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find_map(|(apply_to, known)| (known == name).then_some(apply_to))
    }

    /// The name that `parse` takes.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn covers(self, target: Target<'_>) -> bool {
        match (self, target) {
            (ApplyTo::All, _)
            | (ApplyTo::Exchanges, Target::Exchange)
            | (ApplyTo::Queues, Target::Queue(_)) => true,
            (ApplyTo::ClassicQueues, Target::Queue(kind)) => kind == b"classic",
            (ApplyTo::QuorumQueues, Target::Queue(kind)) => kind == b"quorum",
            (ApplyTo::Streams, Target::Queue(kind)) => kind == b"stream",
            _ => false,
        }
    }
}

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// Of those who use the vhost.
    User,
    /// Of those who run the broker; laid over the other.
    Operator,
}

impl PolicyKind {
    /// How a text calls such a policy.
    pub fn noun(self) -> &'static str {
        match self {
            PolicyKind::User => "policy",
            PolicyKind::Operator => "operator policy",
        }
    }
}

/// What a policy may be in force for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// An exchange.
    Exchange,
    /// A queue of this type, as `x-queue-type` has it.
    Queue(&'a [u8]),
}

impl<'a> Target<'a> {
    /// A queue that was declared with these arguments.
    pub fn queue(arguments: FieldTableRef<'a>) -> Self {
        let kind = arguments.get(b"x-queue-type").and_then(|value| value.as_string());
        Target::Queue(kind.unwrap_or(b"classic"))
    }
}

/// A policy or operator policy of a vhost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, unique among those of its kind in the vhost.
    pub name: ShortString,
    /// The names it is for.
    pub pattern: Pattern,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// The highest wins.
    pub priority: i64,
    /// Its settings, checked by `policy_keys::check_policy`.
    pub definition: FieldTable,
}

impl Policy {
    /// Whether it is for `name`.
    pub fn fits(&self, name: &[u8], target: Target<'_>) -> bool {
        self.apply_to.covers(target) && self.is_known_to(target) && self.pattern.matches(name)
    }

    fn is_known_to(&self, target: Target<'_>) -> bool {
        let foreign = match target {
            Target::Queue(b"classic") => FOREIGN_TO_CLASSIC,
            Target::Queue(b"quorum") => FOREIGN_TO_QUORUM,
            _ => return true,
        };
        let mut keys = self.definition.as_ref().iter().map_while(Result::ok);
        !keys.any(|(key, _)| foreign.iter().any(|foreign| foreign.as_bytes() == key))
    }
}

/// Keys with which a policy is not for classic queues.
const FOREIGN_TO_CLASSIC: &[&str] = &[
    "max-age",
    "stream-max-segment-size-bytes",
    "initial-cluster-size",
    "delivery-limit",
    "dead-letter-strategy",
];

/// Keys with which a policy is not for quorum queues.
const FOREIGN_TO_QUORUM: &[&str] = &[
    "queue-mode",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
    "queue-master-locator",
    "max-age",
    "stream-max-segment-size-bytes",
    "initial-cluster-size",
];

/// The policies of one kind in one vhost.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyTable(BTreeMap<ShortString, Policy>);

impl PolicyTable {
    pub(super) fn set(&mut self, policy: &Policy) {
        self.0.insert(policy.name.clone(), policy.clone());
    }

    pub(super) fn clear(&mut self, name: &ShortString) {
        self.0.remove(name);
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Policy> {
        self.0.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.values()
    }

    /// The policy of the highest priority that is for `name`, of those alike the first by name.
    pub(super) fn highest(&self, name: &[u8], target: Target<'_>) -> Option<&Policy> {
        let mut highest: Option<&Policy> = None;
        for policy in self.0.values() {
            let is_higher = highest.is_none_or(|highest| policy.priority > highest.priority);
            if is_higher && policy.fits(name, target) {
                highest = Some(policy);
            }
        }
        highest
    }
}

/// The policies that are in force for a queue or an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policies<'a> {
    /// The policy.
    pub user: Option<&'a Policy>,
    /// The operator policy.
    pub operator: Option<&'a Policy>,
}

impl<'a> Policies<'a> {
    /// What they say under `key`, where the operator's word counts more.
    pub fn value(self, key: &str) -> Option<FieldValue<'a>> {
        self.values(key).next()
    }

    /// The text under `key`.
    pub fn text(self, key: &str) -> Option<&'a [u8]> {
        self.value(key)?.as_string()
    }

    /// The name under `key`.
    pub fn name(self, key: &str) -> Option<ShortString> {
        ShortString::new(self.text(key)?)
    }

    /// The lesser number under `key`.
    pub fn least(self, key: &str) -> Option<u64> {
        let numbers = self.values(key).filter_map(|value| value.as_integer());
        numbers.filter_map(|number| u64::try_from(number).ok()).min()
    }

    fn values(self, key: &str) -> impl Iterator<Item = FieldValue<'a>> {
        let policies = self.operator.into_iter().chain(self.user);
        policies.filter_map(move |policy| policy.definition.as_ref().get(key.as_bytes()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn policy(name: &'static str, pattern: &str, priority: i64, definition: FieldTable) -> Policy {
        Policy {
            name: ShortString::from(name),
            pattern: Pattern::new(pattern).expect("a valid pattern"),
            apply_to: ApplyTo::All,
            priority,
            definition,
        }
    }

    fn limit(most: i64) -> FieldTable {
        FieldTable::builder().long("max-length", most).build()
    }

    fn highest<'a>(table: &'a PolicyTable, name: &str, target: Target<'_>) -> Option<&'a [u8]> {
        let policy = table.highest(name.as_bytes(), target)?;
        Some(policy.name.as_bytes())
    }

    const CLASSIC: Target<'static> = Target::Queue(b"classic");

    #[test]
    fn the_highest_priority_wins_and_the_first_by_name_of_those_alike() {
        let mut table = PolicyTable::default();
        for (name, pattern, priority) in [("low", "", 0), ("b", "^a", 5), ("a", "^a", 5), ("other", "^z", 9)]
        {
            table.set(&policy(name, pattern, priority, limit(1)));
        }
        assert_eq!(highest(&table, "abc", CLASSIC), Some(&b"a"[..]));
        assert_eq!(highest(&table, "xyz", CLASSIC), Some(&b"low"[..]));
        table.clear(&ShortString::from("low"));
        assert_eq!(highest(&table, "xyz", CLASSIC), None);
    }

    #[test]
    fn a_policy_is_for_what_it_names_alone() {
        let mut table = PolicyTable::default();
        for (apply_to, target) in [
            (ApplyTo::Queues, CLASSIC),
            (ApplyTo::ClassicQueues, CLASSIC),
            (ApplyTo::QuorumQueues, Target::Queue(b"quorum")),
            (ApplyTo::Streams, Target::Queue(b"stream")),
            (ApplyTo::Exchanges, Target::Exchange),
        ] {
            table.set(&Policy {
                apply_to,
                ..policy("p", "", 0, limit(1))
            });
            assert!(highest(&table, "a", target).is_some(), "{apply_to:?}");
            let other = if target == Target::Exchange {
                CLASSIC
            } else {
                Target::Exchange
            };
            assert!(highest(&table, "a", other).is_none(), "{apply_to:?}");
            assert_eq!(ApplyTo::parse(apply_to.name()), Some(apply_to));
        }
    }

    #[test]
    fn a_policy_with_a_key_of_another_type_of_queue_is_not_for_a_queue() {
        let mut table = PolicyTable::default();
        let definition = FieldTable::builder().long("delivery-limit", 5).build();
        table.set(&policy("p", "", 0, definition));
        assert!(highest(&table, "a", CLASSIC).is_none());
        assert!(highest(&table, "a", Target::Queue(b"quorum")).is_some());
    }

    #[test]
    fn the_operator_bounds_numbers_and_wins_otherwise() {
        let user = FieldTable::builder()
            .long("max-length", 5)
            .string("overflow", "drop-head");
        let user = policy("u", "", 0, user.long("expires", 7).build());
        let operator = FieldTable::builder()
            .long("max-length", 9)
            .string("overflow", "reject-publish");
        let operator = policy("o", "", 0, operator.build());
        let policies = Policies {
            user: Some(&user),
            operator: Some(&operator),
        };
        assert_eq!(policies.least("max-length"), Some(5));
        assert_eq!(policies.least("expires"), Some(7));
        assert_eq!(policies.text("overflow"), Some(&b"reject-publish"[..]));
        assert_eq!(policies.least("message-ttl"), None);
    }
}
