//! What clients are sent, read as the naive queues say it.

use super::naive::{Death, Delivered, Letter, Told};
use super::*;
use crate::model::FieldTableRef;
use crate::protocol::properties::Properties;

/// What a client was sent since it was last read.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub delivered: Vec<Delivered>,
    pub told: Vec<Told>,
    /// Names of other methods.
    pub others: Vec<String>,
}

/// A method whose content follows.
enum Head {
    Delivered(String, u64, bool),
    Got(u64, bool, usize),
    Returned,
}

struct Unfinished {
    head: Head,
    exchange: String,
    key: String,
    properties: Vec<u8>,
    body: Vec<u8>,
    left: usize,
}

/// Reads what a client was sent; its deliveries count as those of `channel`.
pub(super) fn received(bytes: &[u8], channel: usize) -> Received {
    let (mut at, mut found, mut unfinished) = (0, Received::default(), None);
    while let Some((frame, used)) = decode_frame(&bytes[at..], FRAME_MAX).expect("frames are well formed") {
        at += used;
        match frame.kind {
            FrameKind::Method => {
                let method = Method::decode(frame.payload).expect("a method");
                unfinished = found.take_method(&method, channel);
            }
            FrameKind::Header => {
                let message = unfinished.as_mut().expect("a header follows its method");
                let length = frame.payload[4..12].try_into().expect("eight bytes");
                message.left = u64::from_be_bytes(length) as usize;
                message.properties = frame.payload[12..].to_vec();
            }
            FrameKind::Body => {
                let message = unfinished.as_mut().expect("a body follows its header");
                message.body.extend_from_slice(frame.payload);
                message.left -= frame.payload.len();
            }
            _ => {}
        }
        if let Some(message) =
            unfinished.take_if(|message| !message.properties.is_empty() && message.left == 0)
        {
            found.finish(message, channel);
        }
    }
    assert_eq!(at, bytes.len(), "whole frames are sent");
    found
}

impl Received {
    fn take_method(&mut self, method: &Method<'_>, channel: usize) -> Option<Unfinished> {
        match method {
            Method::BasicDeliver(m) => {
                let head = Head::Delivered(text(m.consumer_tag), m.delivery_tag, m.redelivered);
                return Some(Unfinished::new(head, m.exchange, m.routing_key));
            }
            Method::BasicGetOk(m) => {
                let head = Head::Got(m.delivery_tag, m.redelivered, m.message_count as usize);
                return Some(Unfinished::new(head, m.exchange, m.routing_key));
            }
            Method::BasicReturn(m) => {
                assert_eq!((m.reply_code, m.reply_text), (312, &b"NO_ROUTE"[..]));
                return Some(Unfinished::new(Head::Returned, m.exchange, m.routing_key));
            }
            Method::BasicAck(_) => self.told.push(Told::Confirmed(true)),
            Method::BasicNack(_) => self.told.push(Told::Confirmed(false)),
            Method::BasicGetEmpty(_) => self.told.push(Told::Empty),
            Method::QueueDeclareOk(m) => self
                .told
                .push(Told::Counts(m.message_count as usize, m.consumer_count as usize)),
            Method::QueuePurgeOk(m) => self.told.push(Told::Removed(m.message_count as usize)),
            Method::QueueDeleteOk(m) => self.told.push(Told::Removed(m.message_count as usize)),
            Method::BasicCancel(m) => self.told.push(Told::Cancelled(channel, text(m.consumer_tag))),
            other => self.others.push(sentence(other)),
        }
        None
    }

    fn finish(&mut self, message: Unfinished, channel: usize) {
        let letter = message.letter();
        match message.head {
            Head::Delivered(consumer, tag, redelivered) => self.delivered.push(Delivered {
                channel,
                consumer,
                tag,
                redelivered,
                letter,
            }),
            Head::Got(tag, redelivered, left) => self.told.push(Told::Got(tag, redelivered, letter, left)),
            Head::Returned => self.told.push(Told::Returned(letter)),
        }
    }
}

impl Unfinished {
    fn new(head: Head, exchange: &[u8], key: &[u8]) -> Self {
        Self {
            head,
            exchange: text(exchange),
            key: text(key),
            properties: Vec::new(),
            body: Vec::new(),
            left: usize::MAX,
        }
    }

    fn letter(&self) -> Letter {
        let properties = Properties::trusted(&self.properties);
        let headers = properties.headers().unwrap_or_default();
        let digits = |bytes: &[u8]| text(bytes).parse().expect("a number");
        Letter {
            body: digits(&self.body[..6]) as u32,
            length: self.body.len(),
            exchange: self.exchange.clone(),
            key: self.key.clone(),
            copies: texts(headers, "CC"),
            is_persistent: properties.is_persistent(),
            priority: properties.priority(),
            expiration: properties.expiration().map(digits),
            deaths: deaths(headers),
            first: death_of(headers, "first"),
            last: death_of(headers, "last"),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn string(table: FieldTableRef<'_>, key: &str) -> Option<String> {
    let value = table.get(key.as_bytes());
    value.and_then(|value| value.as_string()).map(text)
}

fn texts(table: FieldTableRef<'_>, key: &str) -> Vec<String> {
    let Some(FieldValue::Array(values)) = table.get(key.as_bytes()) else {
        return Vec::new();
    };
    let strings = values.iter().map(|value| value.expect("well formed"));
    strings
        .map(|value| text(value.as_string().expect("a string")))
        .collect()
}

fn deaths(headers: FieldTableRef<'_>) -> Vec<Death> {
    let Some(FieldValue::Array(deaths)) = headers.get(b"x-death") else {
        return Vec::new();
    };
    let tables = deaths.iter().map(|death| match death.expect("well formed") {
        FieldValue::Table(table) => table,
        other => panic!("a death is a table, not {other:?}"),
    });
    tables.map(death).collect()
}

fn death(table: FieldTableRef<'_>) -> Death {
    let own = |key| string(table, key).unwrap_or_else(|| panic!("{key} is missing"));
    let time = match table.get(b"time") {
        Some(FieldValue::Timestamp(seconds)) => seconds,
        other => panic!("the time of a death is {other:?}"),
    };
    Death {
        queue: own("queue"),
        reason: own("reason"),
        count: match table.get(b"count") {
            Some(FieldValue::Int64(count)) => count,
            other => panic!("the count of deaths is {other:?}"),
        },
        seconds: time,
        exchange: own("exchange"),
        keys: texts(table, "routing-keys"),
        expiration: string(table, "original-expiration").map(|digits| digits.parse().expect("a number")),
    }
}

fn death_of(headers: FieldTableRef<'_>, which: &str) -> Option<[String; 3]> {
    let own = |word: &str| string(headers, &format!("x-{which}-death-{word}"));
    Some([own("exchange")?, own("queue")?, own("reason")?])
}
