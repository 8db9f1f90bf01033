//! `Place`: a published message by where it lies, so that a run of them needs no copies.

/// Where the parts of a message lie in a stretch of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Begin and end of the properties.
    pub properties: (u32, u32),
    /// Begin and end of the body.
    pub body: (u32, u32),
    /// Whether the publisher asked for the message to survive a restart.
    pub is_persistent: bool,
    /// Whether it has a time to live of its own; then it comes alone.
    pub expires: bool,
}
