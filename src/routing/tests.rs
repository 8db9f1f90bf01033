//! The router against a naive evaluation over the list of bindings.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::FieldTable;
use crate::topology::tests::{EXCHANGES, any_operation, any_operation_on, decide};
use crate::topology::{Destination, ExchangeKind};

/// Whether a routing key fits a topic pattern, by the definition.
pub(super) fn topic_matches(pattern: &[u8], key: &[u8]) -> bool {
    fn words(text: &[u8]) -> Vec<&[u8]> {
        if text.is_empty() {
            Vec::new()
        } else {
            text.split(|&byte| byte == b'.').collect()
        }
    }
    fn fits(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            ([b"#", rest @ ..], _) => fits(rest, key) || (!key.is_empty() && fits(pattern, &key[1..])),
            ([b"*", rest @ ..], [_, key @ ..]) => fits(rest, key),
            ([word, rest @ ..], [found, key @ ..]) => word == found && fits(rest, key),
            _ => false,
        }
    }
    fits(&words(pattern), &words(key))
}

fn naive_matches(kind: ExchangeKind, binding: &Binding, key: &[u8], message: &FieldTable) -> bool {
    let headers: Vec<_> = message.as_ref().iter().map_while(Result::ok).collect();
    match kind {
        ExchangeKind::Direct => binding.routing_key.as_bytes() == key,
        ExchangeKind::Fanout | ExchangeKind::RecentHistory => true,
        ExchangeKind::Delayed => unreachable!("what is due is routed by another type"),
        ExchangeKind::Topic => topic_matches(binding.routing_key.as_bytes(), key),
        ExchangeKind::Headers => headers::matches(binding.arguments.as_ref(), &headers),
        other => panic!("{other:?} has no rule for one binding by itself"),
    }
}

/// The queues by RabbitMQ's rules, worked out from the list of bindings.
fn naive_route(
    topology: &Topology,
    exchange: &str,
    keys: &[&[u8]],
    message: &FieldTable,
) -> BTreeSet<QueueId> {
    let (mut queues, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut ahead = vec![ShortString::new(exchange.as_bytes()).expect("a short name")];
    while let Some(name) = ahead.pop() {
        let Some(exchange) = topology.exchange(b"/", name.as_bytes()) else {
            continue;
        };
        if !seen.insert(name.clone()) {
            continue;
        }
        let matching = topology.bindings(b"/").filter(|binding| {
            let fits = |key: &&[u8]| naive_matches(exchange.kind, binding, key, message);
            binding.source == name && keys.iter().any(fits)
        });
        let matching: Vec<_> = matching.collect();
        if let ([], Some(alternate)) = (matching.as_slice(), &exchange.alternate) {
            ahead.push(alternate.clone());
        }
        for binding in matching {
            match &binding.destination {
                Destination::Queue(id) => {
                    queues.insert(*id);
                }
                Destination::Exchange(name) => ahead.push(name.clone()),
            }
        }
    }
    queues
}

fn any_message() -> impl Strategy<Value = FieldTable> {
    let with = |key: &'static str, value| FieldTable::builder().long(key, value);
    let messages = [
        with("a", 1).build(),
        with("b", 2).build(),
        with("a", 1).long("b", 2).build(),
        FieldTable::default(),
    ];
    prop::sample::select(messages.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_router_agrees_with_a_naive_evaluation(
        operations in prop::collection::vec(any_operation_on(&ExchangeKind::ALL[..4]), 1..90),
        messages in prop::collection::vec(
            (prop::sample::select(&EXCHANGES[..]), prop::sample::subsequence(vec!["", "a", "a.b", "a.c.b"], 1..3), any_message()),
            1..12,
        ),
        topology_first in any::<bool>(),
    ) {
        let (mut topology, mut router, mut routed) = (Topology::new(), Router::new(), Routed::default());
        for (number, operation) in (1..).zip(&operations) {
            for change in decide(&topology, operation, number).unwrap_or_default() {
                if topology_first {
                    topology.apply(&change);
                    router.apply(&change);
                } else {
                    router.apply(&change);
                    topology.apply(&change);
                }
            }
        }
        for (exchange, keys, message) in &messages {
            let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
            let envelope = Envelope { routing_keys: &keys, headers: Some(message.as_ref()), ..Envelope::default() };
            let verdict = router.route(&topology, b"/", exchange.as_bytes(), &envelope, &mut routed);
            match topology.exchange(b"/", exchange.as_bytes()) {
                None => prop_assert_eq!(verdict, Err(RouteError::NoExchange)),
                Some(found) => {
                    let published = router.check_published_to(b"/", exchange.as_bytes());
                    prop_assert_eq!(published.is_err(), found.internal);
                    let expected: Vec<_> = naive_route(&topology, exchange, &keys, message).into_iter().collect();
                    prop_assert_eq!(verdict, Ok(()));
                    prop_assert_eq!(&routed.queues, &expected, "{} {:?} {:?}", exchange, keys, message);
                    if !routed.is_for_message_alone {
                        let without = naive_route(&topology, exchange, &keys, &FieldTable::default());
                        prop_assert_eq!(without.into_iter().collect::<Vec<_>>(), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_router_fed_with_a_snapshot_agrees_with_one_that_saw_it_grow(
        operations in prop::collection::vec(any_operation(), 1..60),
        message in any_message(),
        chance in any::<u64>(),
    ) {
        let (mut topology, mut grown) = (Topology::new(), Router::new());
        for (number, operation) in (1..).zip(&operations) {
            for change in decide(&topology, operation, number).unwrap_or_default() {
                if change.is_durable(&topology) {
                    topology.apply(&change);
                    grown.apply(&change);
                }
            }
        }
        let mut fed = Router::new();
        topology.snapshot_durable().for_each(|change| fed.apply(&change));
        let (mut one, mut other) = (Routed::default(), Routed::default());
        for exchange in EXCHANGES {
            let headers = Some(message.as_ref());
            let envelope = Envelope { routing_keys: &[b"a.b"], headers, chance, ..Envelope::default() };
            let verdict = grown.route(&topology, b"/", exchange.as_bytes(), &envelope, &mut one);
            prop_assert_eq!(fed.route(&topology, b"/", exchange.as_bytes(), &envelope, &mut other), verdict);
            prop_assert_eq!(&one.queues, &other.queues);
        }
    }
}

#[test]
fn a_missing_exchange_and_an_internal_one_refuse_a_publish() {
    let router = Router::new();
    let envelope = Envelope::default();
    let verdict = router.route(&Topology::new(), b"/", b"x", &envelope, &mut Routed::default());
    let refusal = verdict.expect_err("there is no x").refusal(b"/", b"x");
    assert_eq!(
        refusal.to_string(),
        "404 NOT_FOUND - no exchange 'x' in vhost '/'"
    );
    let refusal = RouteError::Internal.refusal(b"/", b"x");
    assert_eq!(
        refusal.to_string(),
        "403 ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'"
    );
}
