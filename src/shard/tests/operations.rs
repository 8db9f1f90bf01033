//! What somebody may do to queues, chosen at random, and the bytes that ask for it.

use super::naive::{CHANNELS, Fate, QUEUES, name};
use super::naive_queue::{Letter, Overflow, Rules};
use super::*;
use proptest::prelude::*;

/// What somebody does; queues, consumers and tags are chosen among those there are.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Declare(usize, Rules),
    Look(usize),
    Publish {
        exchange: &'static str,
        key: usize,
        copy: Option<usize>,
        letter: Wishes,
        mandatory: bool,
    },
    Get(usize, usize, bool),
    Consume(usize, usize, bool, usize),
    Cancel(usize, usize),
    Settle(usize, usize, bool, Fate),
    Recover(usize),
    CloseChannel(usize),
    Purge(usize),
    Delete(usize),
    Pass(u64),
    Restart(bool),
}

/// What a message asks for.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    pub is_persistent: bool,
    pub priority: Option<u8>,
    pub expiration: Option<u64>,
    pub length: usize,
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let dead_letter = prop_oneof![
        2 => Just(None),
        4 => (0..QUEUES).prop_map(|queue| Some((String::new(), Some(name(queue))))),
        2 => Just(Some((String::new(), None))),
        2 => Just(Some(("fan".to_owned(), None))),
        1 => (0..QUEUES).prop_map(|queue| Some(("fan".to_owned(), Some(name(queue))))),
        1 => Just(Some(("missing".to_owned(), None))),
    ];
    let overflow = prop::sample::select(vec![Overflow::DropHead, Overflow::Reject, Overflow::RejectDlx]);
    (
        (any::<bool>(), any::<bool>(), 0..2u8),
        // Deadlines are even and leases odd, so that it is clear which comes first.
        maybe(0.4, &[0, 10, 20, 40, 100]),
        maybe(0.4, &[0, 1, 2, 3, 5]),
        maybe(0.2, &[0, 10, 30, 20_000]),
        overflow,
        dead_letter,
        prop_oneof![3 => Just(0), 1 => 1..4u8],
        maybe(0.15, &[55, 155]),
    )
        .prop_map(
            |(
                (is_durable, is_bound, lane),
                ttl,
                max_length,
                max_bytes,
                overflow,
                dead_letter,
                max_priority,
                expires,
            )| Rules {
                is_durable,
                is_bound,
                lane,
                ttl,
                max_length: max_length.map(|most| most as usize),
                max_bytes: max_bytes.map(|most| most as usize),
                overflow,
                dead_letter,
                max_priority,
                expires,
            },
        )
}

fn maybe(probability: f64, of: &'static [u64]) -> impl Strategy<Value = Option<u64>> {
    prop::option::weighted(probability, prop::sample::select(of))
}

fn any_wishes() -> impl Strategy<Value = Wishes> {
    let length = prop_oneof![8 => 6..12usize, 1 => Just(17_000)];
    (
        any::<bool>(),
        prop::option::weighted(0.4, 0..5u8),
        maybe(0.3, &[0, 10, 30, 60]),
        length,
    )
        .prop_map(|(is_persistent, priority, expiration, length)| Wishes {
            is_persistent,
            priority,
            expiration,
            length,
        })
}

pub(super) fn any_operation() -> impl Strategy<Value = Operation> {
    let (queue, channel) = (|| 0..QUEUES, || 0..CHANNELS);
    let fate = prop::sample::select(vec![
        Fate::Ack,
        Fate::Drop,
        Fate::Drop,
        Fate::Requeue,
        Fate::Requeue,
    ]);
    let publish = (
        prop::sample::select(vec!["", "", "", "fan"]),
        0..QUEUES + 1,
        prop::option::weighted(0.15, queue()),
        any_wishes(),
        any::<bool>(),
    );
    prop_oneof![
        6 => (queue(), any_rules()).prop_map(|(queue, rules)| Operation::Declare(queue, rules)),
        1 => queue().prop_map(Operation::Look),
        24 => publish.prop_map(|(exchange, key, copy, letter, mandatory)| Operation::Publish {
            exchange, key, copy, letter, mandatory,
        }),
        7 => (channel(), queue(), prop::bool::weighted(0.3))
            .prop_map(|(channel, queue, no_ack)| Operation::Get(channel, queue, no_ack)),
        4 => (channel(), queue(), prop::bool::weighted(0.3), 0..4usize)
            .prop_map(|(channel, queue, no_ack, prefetch)| Operation::Consume(channel, queue, no_ack, prefetch)),
        3 => (channel(), 0..8usize).prop_map(|(channel, nth)| Operation::Cancel(channel, nth)),
        12 => (channel(), 0..8usize, any::<bool>(), fate)
            .prop_map(|(channel, nth, multiple, fate)| Operation::Settle(channel, nth, multiple, fate)),
        1 => channel().prop_map(Operation::Recover),
        2 => channel().prop_map(Operation::CloseChannel),
        1 => queue().prop_map(Operation::Purge),
        1 => queue().prop_map(Operation::Delete),
        8 => (1..40u64).prop_map(|half| Operation::Pass(2 * half)),
        1 => any::<bool>().prop_map(Operation::Restart),
    ]
}

pub(super) fn arguments(rules: &Rules, lane: usize) -> FieldTable {
    let mut arguments = FieldTable::builder().int("x-lane", lane as i32);
    let integers = [
        ("x-message-ttl", rules.ttl),
        ("x-max-length", rules.max_length.map(|most| most as u64)),
        ("x-max-length-bytes", rules.max_bytes.map(|most| most as u64)),
        ("x-expires", rules.expires),
        (
            "x-max-priority",
            Some(u64::from(rules.max_priority)).filter(|&most| most > 0),
        ),
    ];
    for (key, value) in integers {
        if let Some(value) = value {
            arguments = arguments.long(key, value as i64);
        }
    }
    if let Some((exchange, key)) = &rules.dead_letter {
        arguments = arguments.string("x-dead-letter-exchange", exchange);
        if let Some(key) = key {
            arguments = arguments.string("x-dead-letter-routing-key", key);
        }
    }
    let overflow = match rules.overflow {
        Overflow::DropHead => "drop-head",
        Overflow::Reject => "reject-publish",
        Overflow::RejectDlx => "reject-publish-dlx",
    };
    arguments.string("x-overflow", overflow).build()
}

pub(super) fn look(queue: usize, bytes: &mut Vec<u8>) {
    let arguments = FieldTable::default();
    Method::from(QueueDeclare {
        queue: name(queue).as_bytes(),
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: arguments.as_ref(),
    })
    .encode(1, bytes);
}

pub(super) fn letter_bytes(letter: &Letter, mandatory: bool) -> Vec<u8> {
    let (mut bytes, mut properties) = (Vec::new(), Vec::new());
    Method::from(BasicPublish {
        exchange: letter.exchange.as_bytes(),
        routing_key: letter.key.as_bytes(),
        mandatory,
        immediate: false,
    })
    .encode(1, &mut bytes);
    let add = |keys: FieldArray, key: &String| keys.with(FieldValue::LongString(key.as_bytes()));
    let copies = letter.copies.iter().fold(FieldArray::new(), add);
    let headers = FieldTable::builder().array("CC", &copies).build();
    let expiration = letter.expiration.map(|expiration| expiration.to_string());
    PropertiesBuilder {
        headers: (!letter.copies.is_empty()).then_some(headers.as_ref()),
        delivery_mode: Some(if letter.is_persistent { 2 } else { 1 }),
        priority: letter.priority,
        expiration: expiration.as_ref().map(|digits| digits.as_bytes()),
        ..Default::default()
    }
    .encode(&mut properties);
    let body = format!("{:06}{}", letter.body, ".".repeat(letter.length - 6));
    encode_content(1, &properties, &[body.as_bytes()], FRAME_MAX, &mut bytes);
    bytes
}
