//! The consistent-hash exchange: each message goes to one destination, chosen by a hash of its routing key, a header or
//! a property; a binding's key is its weight (RabbitMQ's plugin rabbitmq_consistent_hash_exchange).
//!
//! ```text
//!                                   to q1, weight 1    to q2, weight 2    to q3, weight 1
//!  cost of (message's hash, point)       0.9               0.7 / 2             1.3            ─▶ q2, the cheapest
//! ```
//!
//! Every destination names its cost for the message, the logarithm of a number in 0..1 that both together hash to,
//! divided by its weight, and the cheapest has it (weighted rendezvous hashing). The chance to be cheapest is the
//! weight's share of all weights. A destination that comes takes its share from all others and nothing else moves;
//! one that goes leaves its share to the others. Which destination has a key depends on the destinations alone, not
//! on the order they came in, so it is the same on every core and after a restart.
//!
//! RabbitMQ's jump hash was set aside: it costs a logarithm of the weights' sum where this costs 3 ns a destination,
//! but numbers its buckets in the order of binding, which a restart does not keep, and renumbers all that follow one
//! that goes.

use crate::model::{FieldValue, ShortString};
use crate::topology::{Destination, HashOn, binding_weight};

use super::Routed;
use super::envelope::Envelope;
use super::hash::{hash, mix};
use super::targets::Target;

/// The bindings, and what of a message is hashed.
#[derive(Clone, Debug)]
pub(super) struct ConsistentHashTable {
    hash_on: HashOn,
    /// In order of targets; of one target's, in the order they were bound, and the first alone counts. After a restart
    /// that is the one of the least key.
    shares: Vec<Share>,
}

#[derive(Clone, Debug)]
struct Share {
    target: Target,
    /// The destination's hash.
    point: u64,
    weight: f64,
    key: ShortString,
    arguments: Box<[u8]>,
}

impl ConsistentHashTable {
    pub(super) fn new(hash_on: HashOn) -> Self {
        let shares = Vec::new();
        Self { hash_on, shares }
    }

    pub(super) fn bind(
        &mut self,
        key: &ShortString,
        arguments: &[u8],
        (target, destination): (Target, &Destination),
    ) -> bool {
        let Ok(weight) = binding_weight(key.as_bytes()) else {
            return false;
        };
        if self.find(key, arguments, target).is_some() {
            return false;
        }
        let at = self.shares.partition_point(|share| share.target <= target);
        let share = Share {
            target,
            point: point(destination),
            weight,
            key: key.clone(),
            arguments: arguments.into(),
        };
        self.shares.insert(at, share);
        true
    }

    pub(super) fn unbind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        let found = self.find(key, arguments, target);
        found.map(|at| self.shares.remove(at)).is_some()
    }

    pub(super) fn route(&self, envelope: &Envelope<'_>, routed: &mut Routed) {
        if self.hash_on != HashOn::RoutingKey {
            routed.decided_for_message_alone();
        }
        if let Some(target) = self.cheapest(self.hash_of(envelope)) {
            routed.reach(target);
        }
    }

    fn cheapest(&self, message: u64) -> Option<Target> {
        let (mut cheapest, mut cost, mut previous) = (None, f64::INFINITY, None);
        for share in &self.shares {
            if previous.replace(share.target) == Some(share.target) {
                continue;
            }
            let chance = fraction(mix(message ^ share.point));
            // -ln(chance) is at least 1 - chance: most destinations are out without a logarithm.
            if 1.0 - chance < cost * share.weight {
                let found = -chance.ln() / share.weight;
                if found < cost {
                    (cheapest, cost) = (Some(share.target), found);
                }
            }
        }
        cheapest
    }

    fn hash_of(&self, envelope: &Envelope<'_>) -> u64 {
        let found = match &self.hash_on {
            HashOn::RoutingKey => Some(hash(envelope.routing_key())),
            HashOn::Header(name) => envelope
                .headers
                .and_then(|headers| headers.get(name))
                .map(hash_value),
            HashOn::CorrelationId => envelope.correlation_id.map(hash),
            HashOn::MessageId => envelope.message_id.map(hash),
            HashOn::Timestamp => envelope.timestamp.map(mix),
        };
        found.unwrap_or(ABSENT)
    }

    fn find(&self, key: &ShortString, arguments: &[u8], target: Target) -> Option<usize> {
        let first = self.shares.partition_point(|share| share.target < target);
        let mut of_target = self.shares[first..]
            .iter()
            .take_while(|share| share.target == target);
        of_target
            .position(|share| share.key == *key && *share.arguments == *arguments)
            .map(|at| first + at)
    }
}

/// The hash of a destination: of the queue's incarnation, or of the exchange's name.
fn point(destination: &Destination) -> u64 {
    match destination {
        Destination::Queue(id) => mix(id.0),
        Destination::Exchange(name) => hash(name.as_bytes()),
    }
}

/// The hash of a header's value and type.
fn hash_value(value: FieldValue<'_>) -> u64 {
    match value.as_string() {
        Some(text) => hash(text),
        None => {
            let mut bytes = Vec::new();
            value.encode(&mut bytes);
            hash(&bytes)
        }
    }
}

/// A number between 0 and 1, neither of them.
#[inline]
fn fraction(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// The hash of a message that lacks what is hashed.
const ABSENT: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldTable, QueueId};

    fn weight(weight: u32) -> ShortString {
        ShortString::truncated(&weight.to_string())
    }

    fn bind(table: &mut ConsistentHashTable, queue: u64, key: &ShortString) -> bool {
        let id = QueueId(queue);
        table.bind(key, b"", (Target::Queue(id), &Destination::Queue(id)))
    }

    fn unbind(table: &mut ConsistentHashTable, queue: u64, key: &ShortString) -> bool {
        table.unbind(key, b"", Target::Queue(QueueId(queue)))
    }

    /// Queues 1, 2 and so on, of these weights.
    fn table(weights: &[u32]) -> ConsistentHashTable {
        let mut table = ConsistentHashTable::new(HashOn::RoutingKey);
        for (queue, &of_queue) in (1..).zip(weights) {
            assert!(bind(&mut table, queue, &weight(of_queue)));
        }
        table
    }

    fn queue_of(table: &ConsistentHashTable, envelope: &Envelope<'_>) -> u64 {
        let mut routed = Routed::default();
        table.route(envelope, &mut routed);
        assert_eq!(routed.queues.len(), 1, "a message goes to one queue");
        routed.queues[0].0
    }

    const KEYS: u32 = 20_000;

    /// The queue of each of many keys.
    fn queues(table: &ConsistentHashTable) -> Vec<u64> {
        let keys = (0..KEYS).map(|number| format!("order.{number}"));
        keys.map(|key| {
            let routing_keys = [key.as_bytes()];
            let envelope = Envelope {
                routing_keys: &routing_keys,
                ..Envelope::default()
            };
            queue_of(table, &envelope)
        })
        .collect()
    }

    fn count(queues: &[u64], queue: u64) -> f64 {
        queues.iter().filter(|found| **found == queue).count() as f64
    }

    #[test]
    fn keys_spread_by_the_weights() {
        let weights = [1, 2, 3, 10, 1, 1, 2];
        let queues = queues(&table(&weights));
        for (queue, of_queue) in (1..).zip(weights) {
            let share = f64::from(KEYS) * f64::from(of_queue) / 20.0;
            let found = count(&queues, queue);
            assert!(
                (found - share).abs() < 5.0 * share.sqrt(),
                "queue {queue}: {found} of {share}"
            );
        }
    }

    #[test]
    fn a_queue_that_comes_takes_its_share_and_no_other_key_moves() {
        let before = queues(&table(&[2, 1, 1]));
        let after = queues(&table(&[2, 1, 1, 4]));
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| before == after || *after == 4)
        );
        let (moved, share) = (count(&after, 4), f64::from(KEYS) / 2.0);
        assert!((moved - share).abs() < 5.0 * share.sqrt(), "{moved} of {share}");
    }

    #[test]
    fn a_queue_that_goes_leaves_the_keys_of_the_others_where_they_are() {
        let mut shrinking = table(&[2, 1, 1, 4]);
        let before = queues(&shrinking);
        assert!(unbind(&mut shrinking, 2, &weight(1)));
        let after = queues(&shrinking);
        assert_eq!(count(&after, 2), 0.0);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert_eq!(moved.count() as f64, count(&before, 2));
    }

    #[test]
    fn the_order_of_binding_decides_nothing() {
        let (forward, mut backward) = (table(&[1, 2, 3]), table(&[]));
        for queue in [3, 2, 1] {
            assert!(bind(&mut backward, queue, &weight(queue as u32)));
        }
        assert_eq!(queues(&forward), queues(&backward));
    }

    #[test]
    fn a_second_binding_of_a_queue_counts_when_the_first_has_gone() {
        let (once, heavy) = (queues(&table(&[1, 1])), queues(&table(&[50, 1])));
        let mut twice = table(&[1, 1]);
        assert!(bind(&mut twice, 1, &weight(50)));
        assert!(!bind(&mut twice, 1, &weight(50)), "the same binding again");
        assert_eq!(queues(&twice), once);
        assert!(unbind(&mut twice, 1, &weight(1)));
        assert_eq!(queues(&twice), heavy);
        assert!(unbind(&mut twice, 1, &weight(50)));
        assert!(!unbind(&mut twice, 1, &weight(50)));
        assert_eq!(count(&queues(&twice), 2), f64::from(KEYS));
    }

    #[test]
    fn without_bindings_nothing_matches() {
        let mut routed = Routed::default();
        table(&[]).route(&Envelope::default(), &mut routed);
        assert_eq!((routed.queues.len(), routed.matches), (0, 0));
    }

    /// What is hashed, and may differ from message to message.
    #[derive(Default)]
    struct Sample {
        keys: Vec<String>,
        headers: FieldTable,
        message_id: Option<String>,
        timestamp: Option<u64>,
    }

    /// How many of three queues a hundred messages come to.
    fn spread(hash_on: HashOn, sample: fn(u64) -> Sample) -> usize {
        let mut table = table(&[1, 1, 1]);
        table.hash_on = hash_on;
        let queue = |number| {
            let sample = sample(number);
            let routing_keys: Vec<_> = sample.keys.iter().map(|key| key.as_bytes()).collect();
            let envelope = Envelope {
                routing_keys: &routing_keys,
                headers: Some(sample.headers.as_ref()),
                message_id: sample.message_id.as_ref().map(|id| id.as_bytes()),
                timestamp: sample.timestamp,
                ..Envelope::default()
            };
            queue_of(&table, &envelope)
        };
        (0..100)
            .map(queue)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    }

    #[test]
    fn what_was_asked_for_is_hashed_and_nothing_else() {
        let with_key = |number: u64| Sample {
            keys: vec![number.to_string()],
            ..Sample::default()
        };
        let with_cc = |number: u64| Sample {
            keys: vec!["same".to_owned(), number.to_string()],
            ..Sample::default()
        };
        let with_header = |number: u64| Sample {
            headers: FieldTable::builder().string("h", number.to_string()).build(),
            ..Sample::default()
        };
        let with_number = |number: u64| Sample {
            headers: FieldTable::builder().long("h", number as i64).build(),
            ..Sample::default()
        };
        let with_properties = |number: u64| Sample {
            message_id: Some(number.to_string()),
            timestamp: Some(number),
            ..Sample::default()
        };
        let header = || HashOn::Header(b"h"[..].into());
        assert_eq!(spread(HashOn::RoutingKey, with_key), 3);
        assert_eq!(spread(HashOn::RoutingKey, with_cc), 1);
        assert_eq!(spread(HashOn::RoutingKey, with_header), 1);
        assert_eq!(spread(header(), with_header), 3);
        assert_eq!(spread(header(), with_number), 3);
        assert_eq!(spread(header(), with_key), 1);
        assert_eq!(spread(HashOn::MessageId, with_properties), 3);
        assert_eq!(spread(HashOn::Timestamp, with_properties), 3);
        assert_eq!(spread(HashOn::CorrelationId, with_properties), 1);
    }
}
