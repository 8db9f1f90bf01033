//! `Letter`: a message as a client sends and receives it; its id travels as the property `message-id`, and its body
//! follows from the id.

use super::catalogue::{QUEUES, QueueIndex, Target, colour_table};
use crate::protocol::content::encode_content;
use crate::protocol::method::{BasicPublish, Method};
use crate::protocol::properties::{PERSISTENT, Properties, PropertiesBuilder};
use crate::queue::dead_letter::has_died;

/// A message that came to a client.
#[derive(Clone, Default)]
pub struct Letter {
    /// Its delivery tag, 0 if it was returned.
    pub tag: u64,
    /// Whether the broker says that it was delivered before.
    pub redelivered: bool,
    /// The tag of the consumer it came for, empty for basic.get and returned messages.
    pub consumer_tag: Vec<u8>,
    /// The exchange it was published to.
    pub exchange: Vec<u8>,
    /// Its routing key.
    pub routing_key: Vec<u8>,
    /// Its properties.
    pub properties: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (exchange, key) = (self.exchange.escape_ascii(), self.routing_key.escape_ascii());
        let (tag, length, redelivered) = (self.tag, self.body.len(), self.redelivered);
        write!(
            f,
            "exchange '{exchange}' key '{key}' tag {tag} redelivered {redelivered} body of {length} bytes"
        )
    }
}

impl Letter {
    /// The id of the message it is.
    pub fn id(&self) -> Option<usize> {
        let properties = Properties::new_checked(&self.properties).ok()?;
        std::str::from_utf8(properties.message_id()?).ok()?.parse().ok()
    }

    /// Whether it is what message `id` was sent as.
    pub fn is_as_sent(&self, id: usize, target: &Target, body_length: usize, is_persistent: bool) -> bool {
        self.exchange == target.exchange.as_bytes()
            && self.routing_key == target.routing_key.as_bytes()
            && self.properties == properties_of(id, target, is_persistent)
            && self.has_body_of(id, body_length)
    }

    /// Whether it is what message `id` becomes when it dies in `source`.
    pub fn is_dead_letter_of(
        &self,
        source: QueueIndex,
        id: usize,
        body_length: usize,
        is_persistent: bool,
    ) -> bool {
        let Some(target) = QUEUES[source].dead_letters else {
            return false;
        };
        let properties = Properties::new_checked(&self.properties).ok();
        let tells_of_death = properties.is_some_and(|properties| {
            let headers = properties.headers();
            properties.is_persistent() == is_persistent
                && headers.is_some_and(|headers| has_died(headers, Some(QUEUES[source].name.as_bytes())))
        });
        tells_of_death
            && self.exchange.is_empty()
            && self.routing_key == QUEUES[target].name.as_bytes()
            && self.has_body_of(id, body_length)
    }

    fn has_body_of(&self, id: usize, length: usize) -> bool {
        let mut bytes = self.body.iter().enumerate();
        self.body.len() == length && bytes.all(|(at, &byte)| byte == body_byte(id, at))
    }
}

/// Appends the frames of a publish.
pub fn encode_publish(
    (channel, frame_max): (u16, u32),
    id: usize,
    target: &Target,
    is_mandatory: bool,
    (body_length, is_persistent): (usize, bool),
    out: &mut Vec<u8>,
) {
    let publish = BasicPublish {
        exchange: target.exchange.as_bytes(),
        routing_key: target.routing_key.as_bytes(),
        mandatory: is_mandatory,
        immediate: false,
    };
    Method::BasicPublish(publish).encode(channel, out);
    let body: Vec<u8> = (0..body_length).map(|at| body_byte(id, at)).collect();
    encode_content(
        channel,
        &properties_of(id, target, is_persistent),
        &[&body],
        frame_max,
        out,
    );
}

fn properties_of(id: usize, target: &Target, is_persistent: bool) -> Vec<u8> {
    let (id, headers) = (id.to_string(), colour_table(target.colour));
    let properties = PropertiesBuilder {
        message_id: Some(id.as_bytes()),
        headers: target.colour.map(|_| headers.as_ref()),
        delivery_mode: is_persistent.then_some(PERSISTENT),
        ..PropertiesBuilder::default()
    };
    let mut bytes = Vec::new();
    properties.encode(&mut bytes);
    bytes
}

#[inline]
fn body_byte(id: usize, at: usize) -> u8 {
    (id.wrapping_mul(131) ^ at.wrapping_mul(17) ^ (at >> 8)) as u8
}
