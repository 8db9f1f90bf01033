//! `Limits`: how many ready messages a queue holds, and how large they may be together (`x-max-length`,
//! `x-max-length-bytes`). Unacked messages do not count, as in RabbitMQ.

/// The limits of one queue, `u64::MAX` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most ready messages.
    pub messages: u64,
    /// Most bytes of their bodies.
    pub bytes: u64,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self {
        messages: u64::MAX,
        bytes: u64::MAX,
    };

    /// The limits that are given.
    pub fn new(messages: Option<u64>, bytes: Option<u64>) -> Self {
        Self {
            messages: messages.unwrap_or(u64::MAX),
            bytes: bytes.unwrap_or(u64::MAX),
        }
    }

    /// Whether so much is more than may be ready.
    pub fn are_exceeded_by(&self, messages: u64, bytes: u64) -> bool {
        messages > self.messages || bytes > self.bytes
    }
}
