//! What a message says of its deaths: the header `x-death` and its companions, as RabbitMQ writes them, and whether a
//! message runs in circles.
//!
//! ```text
//!   x-death: [ {count, reason, queue, time, exchange, routing-keys, original-expiration}, … ]      newest first
//!   x-first-death-reason, -queue, -exchange      of the first death, never changed
//!   x-last-death-reason, -queue, -exchange       of this one
//! ```
//!
//! There is one entry for each queue and reason. Another death of the same kind raises its count and moves it to the
//! front; time, exchange and keys stay those of the first.

use crate::model::field_table::{FieldArray, FieldTableBuilder};
use crate::model::{FieldTable, FieldTableRef, FieldValue};

const X_DEATH: &[u8] = b"x-death";
const CC: &[u8] = b"CC";
const BCC: &[u8] = b"BCC";
const FIRST_DEATH: [&str; 3] = [
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
];
const LAST_DEATH: [&str; 3] = [
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

/// Why a queue gives up a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// basic.reject or basic.nack without requeue.
    Rejected,
    /// Its time to live ran out.
    Expired,
    /// The queue has as many messages, or bytes, as it may.
    MaxLength,
    /// It came back more often than the queue allows.
    DeliveryLimit,
}

impl DeathReason {
    /// RabbitMQ's word for it.
    pub fn name(self) -> &'static str {
        match self {
            DeathReason::Rejected => "rejected",
            DeathReason::Expired => "expired",
            DeathReason::MaxLength => "maxlen",
            DeathReason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message's death in one queue.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// Why.
    pub reason: DeathReason,
    /// The queue.
    pub queue: &'a [u8],
    /// The exchange it had been published to.
    pub exchange: &'a [u8],
    /// The key it had been published with.
    pub routing_key: &'a [u8],
    /// Its property `expiration`, which it loses.
    pub expiration: Option<&'a [u8]>,
    /// When, in seconds since 1970.
    pub seconds: u64,
    /// Whether it gets a new key, and loses `CC` and `BCC` for it.
    pub is_rekeyed: bool,
}

/// The headers of a message after a death, ascending by name.
pub fn headers_after(headers: Option<FieldTableRef<'_>>, death: &Death<'_>) -> FieldTable {
    let headers = headers.unwrap_or_default();
    let is_kept = |name: &[u8]| {
        name != X_DEATH
            && !(death.is_rekeyed && [CC, BCC].contains(&name))
            && LAST_DEATH.iter().all(|last| last.as_bytes() != name)
    };
    let former = former_deaths(headers);
    let deaths = deaths_after(headers, former, death);
    let mut entries: Vec<(&[u8], FieldValue<'_>)> = headers
        .iter()
        .map_while(Result::ok)
        .filter(|(name, _)| is_kept(name))
        .collect();
    let words = [death.exchange, death.queue, death.reason.name().as_bytes()];
    let words = || words.into_iter().map(FieldValue::LongString);
    if headers.get(X_DEATH).is_none() {
        entries.retain(|(name, _)| FIRST_DEATH.iter().all(|first| first.as_bytes() != *name));
        entries.extend(FIRST_DEATH.iter().map(|name| name.as_bytes()).zip(words()));
    }
    entries.extend(LAST_DEATH.iter().map(|name| name.as_bytes()).zip(words()));
    entries.push((X_DEATH, FieldValue::Array(deaths.as_ref())));
    entries.sort_by_key(|(name, _)| *name);
    let add = |table: FieldTableBuilder, (name, value): (&[u8], FieldValue<'_>)| table.value(name, value);
    entries.into_iter().fold(FieldTable::builder(), add).build()
}

/// Whether a message with these headers has died in `queue`, or in any if none is named.
pub fn has_died(headers: FieldTableRef<'_>, queue: Option<&[u8]>) -> bool {
    let is_there = |death: FieldTableRef<'_>| {
        queue.is_none_or(|queue| death.get(b"queue") == Some(FieldValue::LongString(queue)))
    };
    former_deaths(headers).is_some_and(|deaths| tables(deaths).any(is_there))
}

/// Whether a message with these headers, the death that sends it among them, would run in a circle in `queue`: it died
/// there before, and nobody has rejected it since.
pub fn is_cycle(headers: FieldTableRef<'_>, queue: &[u8]) -> bool {
    let Some(deaths) = former_deaths(headers) else {
        return false;
    };
    for death in tables(deaths) {
        if death.get(b"reason") == Some(FieldValue::LongString(b"rejected")) {
            return false;
        }
        if death.get(b"queue") == Some(FieldValue::LongString(queue)) {
            return true;
        }
    }
    false
}

type Deaths<'a> = crate::model::field_table::FieldArrayRef<'a>;

fn former_deaths(headers: FieldTableRef<'_>) -> Option<Deaths<'_>> {
    match headers.get(X_DEATH)? {
        FieldValue::Array(deaths) => Some(deaths),
        _ => None,
    }
}

fn tables(deaths: Deaths<'_>) -> impl Iterator<Item = FieldTableRef<'_>> {
    deaths
        .iter()
        .map_while(Result::ok)
        .filter_map(|value| match value {
            FieldValue::Table(table) => Some(table),
            _ => None,
        })
}

fn deaths_after(headers: FieldTableRef<'_>, former: Option<Deaths<'_>>, death: &Death<'_>) -> FieldArray {
    let reason = FieldValue::LongString(death.reason.name().as_bytes());
    let queue = FieldValue::LongString(death.queue);
    let is_same = |table: &FieldTableRef<'_>| {
        table.get(b"queue") == Some(queue) && table.get(b"reason") == Some(reason)
    };
    let former = former.unwrap_or_default();
    let (same, others): (Vec<_>, Vec<_>) = tables(former).partition(is_same);
    let newest = match same.first() {
        Some(table) => counted_once_more(*table),
        None => first_of_its_kind(headers, death),
    };
    others.into_iter().fold(
        FieldArray::new().with(FieldValue::Table(newest.as_ref())),
        |deaths, table| deaths.with(FieldValue::Table(table)),
    )
}

fn counted_once_more(table: FieldTableRef<'_>) -> FieldTable {
    let count = table
        .get(b"count")
        .and_then(|count| count.as_integer())
        .unwrap_or(0);
    let others = table
        .iter()
        .map_while(Result::ok)
        .filter(|(name, _)| *name != b"count");
    others
        .fold(
            FieldTable::builder().long("count", count.saturating_add(1)),
            |table, (name, value)| table.value(name, value),
        )
        .build()
}

fn first_of_its_kind(headers: FieldTableRef<'_>, death: &Death<'_>) -> FieldTable {
    let mut keys = FieldArray::new().with(FieldValue::LongString(death.routing_key));
    if let Some(FieldValue::Array(more)) = headers.get(CC) {
        for key in more
            .iter()
            .map_while(Result::ok)
            .filter(|key| key.as_string().is_some())
        {
            keys = keys.with(key);
        }
    }
    let mut table = FieldTable::builder();
    if let Some(expiration) = death.expiration {
        table = table.string("original-expiration", expiration);
    }
    table
        .long("count", 1)
        .string("reason", death.reason.name())
        .string("queue", death.queue)
        .timestamp("time", death.seconds)
        .string("exchange", death.exchange)
        .array("routing-keys", &keys)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEATH: Death<'static> = Death {
        reason: DeathReason::Expired,
        queue: b"q",
        exchange: b"x",
        routing_key: b"k",
        expiration: None,
        seconds: 1_700_000_000,
        is_rekeyed: false,
    };

    fn death(queue: &'static [u8], reason: DeathReason) -> Death<'static> {
        Death {
            reason,
            queue,
            ..DEATH
        }
    }

    fn after(deaths: &[Death<'_>]) -> FieldTable {
        deaths.iter().fold(FieldTable::default(), |headers, death| {
            headers_after(Some(headers.as_ref()), death)
        })
    }

    fn deaths_of(headers: &FieldTable) -> Vec<(String, String, i64)> {
        let text = |value: Option<FieldValue<'_>>| {
            String::from_utf8_lossy(value.and_then(|v| v.as_string()).unwrap_or(b"?")).into_owned()
        };
        let count = |table: FieldTableRef<'_>| table.get(b"count").and_then(|c| c.as_integer()).unwrap_or(-1);
        tables(former_deaths(headers.as_ref()).expect("it died"))
            .map(|table| {
                (
                    text(table.get(b"queue")),
                    text(table.get(b"reason")),
                    count(table),
                )
            })
            .collect()
    }

    fn listed(entries: &[(&str, &str, i64)]) -> Vec<(String, String, i64)> {
        let own = |&(queue, reason, count): &(&str, &str, i64)| (queue.to_owned(), reason.to_owned(), count);
        entries.iter().map(own).collect()
    }

    #[test]
    fn the_first_death_tells_where_the_message_came_from() {
        let headers = FieldTable::builder()
            .string("mine", "kept")
            .array("CC", &FieldArray::new().with(FieldValue::LongString(b"second")))
            .build();
        let dead = headers_after(
            Some(headers.as_ref()),
            &Death {
                expiration: Some(b"500"),
                ..DEATH
            },
        );
        let table = tables(former_deaths(dead.as_ref()).unwrap()).next().unwrap();
        let keys = FieldArray::new()
            .with(FieldValue::LongString(b"k"))
            .with(FieldValue::LongString(b"second"));
        let expected = FieldTable::builder()
            .string("original-expiration", "500")
            .long("count", 1)
            .string("reason", "expired")
            .string("queue", "q")
            .timestamp("time", 1_700_000_000)
            .string("exchange", "x")
            .array("routing-keys", &keys)
            .build();
        assert_eq!(table, expected.as_ref());
        for (name, value) in [
            ("mine", "kept"),
            ("x-first-death-reason", "expired"),
            ("x-first-death-queue", "q"),
            ("x-last-death-exchange", "x"),
        ] {
            let found = dead
                .as_ref()
                .get(name.as_bytes())
                .and_then(|value| value.as_string());
            assert_eq!(found, Some(value.as_bytes()), "{name}");
        }
        assert!(dead.as_ref().get(b"CC").is_some());
    }

    #[test]
    fn a_new_key_takes_the_place_of_the_copies() {
        let headers = FieldTable::builder().array("CC", &FieldArray::new()).build();
        let dead = headers_after(
            Some(headers.as_ref()),
            &Death {
                is_rekeyed: true,
                ..DEATH
            },
        );
        assert!(dead.as_ref().get(b"CC").is_none());
    }

    #[test]
    fn deaths_of_one_kind_are_counted_and_the_newest_stands_first() {
        let expired = DeathReason::Expired;
        let dead = after(&[
            death(b"a", expired),
            death(b"b", DeathReason::Rejected),
            death(b"a", expired),
            death(b"a", DeathReason::MaxLength),
        ]);
        assert_eq!(
            deaths_of(&dead),
            listed(&[("a", "maxlen", 1), ("a", "expired", 2), ("b", "rejected", 1)])
        );
        let first = dead
            .as_ref()
            .get(b"x-first-death-queue")
            .and_then(|value| value.as_string());
        let last = dead
            .as_ref()
            .get(b"x-last-death-reason")
            .and_then(|value| value.as_string());
        assert_eq!((first, last), (Some(&b"a"[..]), Some(&b"maxlen"[..])));
    }

    #[test]
    fn a_circle_without_a_rejection_is_one() {
        let expired = DeathReason::Expired;
        let once_around = after(&[death(b"a", expired), death(b"b", expired)]);
        assert!(is_cycle(once_around.as_ref(), b"a"));
        assert!(!is_cycle(once_around.as_ref(), b"c"));
        let rejected = after(&[death(b"a", expired), death(b"b", DeathReason::Rejected)]);
        assert!(!is_cycle(rejected.as_ref(), b"a"));
        let rejected_before = after(&[death(b"b", DeathReason::Rejected), death(b"a", expired)]);
        assert!(is_cycle(rejected_before.as_ref(), b"a"));
    }

    #[test]
    fn what_a_publisher_calls_its_deaths_is_replaced() {
        let headers = FieldTable::builder()
            .string("x-death", "none of your business")
            .build();
        let dead = headers_after(Some(headers.as_ref()), &DEATH);
        assert_eq!(deaths_of(&dead), listed(&[("q", "expired", 1)]));
    }
}
