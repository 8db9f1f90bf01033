//! Direct reply-to: a consumer whose queue is the channel itself (RabbitMQ, "Direct Reply-to"). Who asks publishes with
//! `reply-to` set to the pseudo-queue's name; the broker puts the consumer's address there, and who answers publishes to
//! that by the default exchange.
//!
//! ```text
//!   amq.rabbitmq.reply-to . AAAAAAAAAAcAAAACAAEAAAAB . kD3…
//!   ─────────────────────   ────────────────────────   ────
//!   the pseudo-queue         core, slot, generation,    secret, so that only
//!                            channel, number            who was asked can answer
//! ```

use crate::model::short_string::{base64url, from_base64url};
use crate::model::{ChannelNumber, ConnectionId, ConsumerId, Refusal, ReplyCode, ShardId, ShortString};

/// The pseudo-queue.
pub const REPLY_QUEUE: &[u8] = b"amq.rabbitmq.reply-to";
/// LavinMQ's name of it.
const REPLY_QUEUE_ALIAS: &[u8] = b"amq.direct.reply-to";

/// Whether `name` is the pseudo-queue's.
pub fn is_reply_queue(name: &[u8]) -> bool {
    name == REPLY_QUEUE || name == REPLY_QUEUE_ALIAS
}

/// Whether `name` is the pseudo-queue's, or begins like an address: no other queue is called so.
pub fn is_reply_name(name: &[u8]) -> bool {
    name.starts_with(REPLY_QUEUE) || name == REPLY_QUEUE_ALIAS
}

/// Where replies for one consumer are published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyAddress {
    /// The consumer.
    pub consumer: ConsumerId,
    /// What only its core can tell.
    pub secret: u128,
}

impl ReplyAddress {
    /// The routing key that stands for it.
    pub fn encode(&self) -> ShortString {
        let prefix = String::from_utf8_lossy(REPLY_QUEUE);
        let place = base64url(place_of(self.consumer));
        ShortString::truncated(&format!("{prefix}.{place}.{}", base64url(self.secret)))
    }

    /// The address that a routing key stands for, if it has its form; whether anybody is there is not said.
    pub fn decode(routing_key: &[u8]) -> Option<Self> {
        let rest = routing_key.strip_prefix(REPLY_QUEUE)?.strip_prefix(b".")?;
        let dot = rest.iter().position(|&byte| byte == b'.')?;
        let place = from_base64url(&rest[..dot])?;
        let secret = from_base64url(&rest[dot + 1..])?;
        Some(Self {
            consumer: consumer_at(place),
            secret,
        })
    }
}

/// A consumer in one number: core, slot, generation, channel, number of the consumer, from the top.
pub fn place_of(consumer: ConsumerId) -> u128 {
    let ConsumerId {
        connection,
        channel,
        number,
    } = consumer;
    u128::from(connection.shard.0) << 112
        | u128::from(connection.slot) << 80
        | u128::from(connection.generation) << 48
        | u128::from(channel.0) << 32
        | u128::from(number)
}

fn consumer_at(place: u128) -> ConsumerId {
    ConsumerId {
        connection: ConnectionId {
            shard: ShardId((place >> 112) as u16),
            slot: (place >> 80) as u32,
            generation: (place >> 48) as u32,
        },
        channel: ChannelNumber((place >> 32) as u16),
        number: place as u32,
    }
}

/// The consumer of replies on a channel.
#[derive(Clone, Debug)]
pub struct ReplyConsumer {
    /// Its tag.
    pub tag: ShortString,
    /// Its number on the channel.
    pub number: u32,
    /// Its address, as requests carry it.
    pub address: ShortString,
}

impl ReplyConsumer {
    /// Judges basic.consume of the pseudo-queue on a channel that has `other` already.
    ///
    /// # Errors
    /// 406 `reply consumer cannot acknowledge`, or `reply consumer already set`.
    pub fn check(other: Option<&ReplyConsumer>, no_ack: bool) -> Result<(), Refusal> {
        let refused = |text| Err(Refusal::new(ReplyCode::PreconditionFailed, text));
        match (no_ack, other) {
            (false, _) => refused("reply consumer cannot acknowledge"),
            (true, Some(_)) => refused("reply consumer already set"),
            (true, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> ReplyAddress {
        ReplyAddress {
            consumer: consumer_at(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            secret: u128::MAX / 3,
        }
    }

    #[test]
    fn an_address_is_read_as_it_was_written() {
        let key = address().encode();
        assert_eq!(ReplyAddress::decode(key.as_bytes()), Some(address()));
        assert_eq!(
            address().consumer,
            ConsumerId {
                connection: ConnectionId {
                    shard: ShardId(0x0102),
                    slot: 0x0304_0506,
                    generation: 0x0708_090a
                },
                channel: ChannelNumber(0x0b0c),
                number: 0x0d0e_0f10
            }
        );
    }

    #[test]
    fn what_has_not_the_form_of_an_address_is_none() {
        let key = address().encode();
        let key = key.as_bytes();
        for end in 0..key.len() {
            assert_eq!(ReplyAddress::decode(&key[..end]), None);
        }
        for at in 0..key.len() {
            let mut changed = key.to_vec();
            changed[at] = b'!';
            assert_eq!(ReplyAddress::decode(&changed), None);
        }
        assert_eq!(ReplyAddress::decode(&[key, b"A"].concat()), None);
    }

    #[test]
    fn a_consumer_of_replies_is_alone_and_does_not_acknowledge() {
        let text = |checked: Result<(), Refusal>| checked.expect_err("it is refused").explanation;
        let consumer = ReplyConsumer {
            tag: "tag".into(),
            number: 1,
            address: address().encode(),
        };
        assert_eq!(ReplyConsumer::check(None, true), Ok(()));
        assert_eq!(
            text(ReplyConsumer::check(Some(&consumer), true)),
            "reply consumer already set"
        );
        assert_eq!(
            text(ReplyConsumer::check(None, false)),
            "reply consumer cannot acknowledge"
        );
    }
}
