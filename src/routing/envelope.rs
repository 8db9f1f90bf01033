//! `Envelope`: what of a message, and of who published it, can decide where it goes.

use crate::model::{FieldTableRef, QueueId, ShardId};

/// See the file's head. Only an exchange of the type that needs a field looks at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// The routing key, then those of `CC` and `BCC`: the message goes where any of them leads.
    pub routing_keys: &'a [&'a [u8]],
    /// The message's headers.
    pub headers: Option<FieldTableRef<'a>>,
    /// Its property correlation-id.
    pub correlation_id: Option<&'a [u8]>,
    /// Its property message-id.
    pub message_id: Option<&'a [u8]>,
    /// Its property timestamp.
    pub timestamp: Option<u64>,
    /// The queue in which the exchange remembered it that it goes on through: it is not to remember it again.
    pub from_memory: Option<QueueId>,
    /// The core of the connection that published it.
    pub home: ShardId,
    /// A random number, another one for each message.
    pub chance: u64,
}

impl<'a> Envelope<'a> {
    /// The routing key that it was published with.
    pub(super) fn routing_key(&self) -> &'a [u8] {
        self.routing_keys.first().copied().unwrap_or_default()
    }
}
