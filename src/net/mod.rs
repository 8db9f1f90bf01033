//! Listeners and sockets as a core's loop sees them: events in, bytes out.
//!
//! Each connection has one task that reads, and for as long as its socket is full one that writes. They post
//! `SocketEvent`s to the loop's inbox and hold no state of the broker.
//!
//! ```text
//!            ┌────────────── resume_reading(leftover) ──────────────┐
//!            ▼                                                      │
//!   reader task ── Received ──► the core's loop ── send(outbound) ──┴──► socket
//!                                     ▲                 │ full
//!                                     └─ Writable ── writer task
//! ```
//!
//! A reader posts one `Received`, then waits until the loop says resume: that is the flow control, and bounds a tick
//! to one buffer a connection. A connection that is idle holds neither a receive buffer nor an output buffer.
//!
//! `net` knows nothing of frames, of channels, or of what a byte means; the loop gives back the bytes of a frame that
//! is not complete, and the next buffer begins with them. TLS and the PROXY header belong behind `ReadHalf` and
//! `WriteHalf`.

mod control;
mod handle;
mod listener;
mod outbound;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use handle::{SendProgress, SocketHandle};
pub use listener::{AcceptedSocket, ListenerHandle, start_listener};
pub use outbound::Outbound;

use crate::runtime::ReceiveBuffer;
use std::fmt;
use std::io;

/// A connection of one core: its slot in the core's table, and the slot's generation, so that an event for a
/// connection that has gone is recognised. The loop gives it out when it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketToken {
    /// Slot in the core's table of connections.
    pub slot: u32,
    /// Times the slot was used before.
    pub generation: u32,
}

/// What happened to a listener or a socket.
pub enum SocketEvent {
    /// A connection was made.
    Accepted {
        /// Its socket, not reading yet.
        socket: AcceptedSocket,
        /// The number that `start_listener` was given.
        listener: u16,
    },
    /// Bytes arrived; nothing more is read until `SocketHandle::resume_reading`.
    Received {
        /// The connection.
        token: SocketToken,
        /// The leftover that the loop gave back last, then at least one new byte.
        buffer: ReceiveBuffer,
    },
    /// A socket that was full takes bytes again.
    Writable {
        /// The connection.
        token: SocketToken,
    },
    /// The connection is lost; the last event of its token.
    Closed {
        /// The connection.
        token: SocketToken,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection was lost.
#[derive(Debug)]
pub enum CloseReason {
    /// The peer has sent its last byte.
    Eof,
    /// The peer, or its machine, reset the connection.
    Reset,
    /// Another error of the socket, such as a timeout.
    Error(io::Error),
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => {
                Self::Reset
            }
            _ => Self::Error(error),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("closed by the peer"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Error(error) => error.fmt(f),
        }
    }
}
