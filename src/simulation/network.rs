//! `Network`: the simulated sockets. Bytes go both ways in order, are cut anywhere, wait for room, and are lost when a
//! client resets its connection.
//!
//! ```text
//!   client ── to_broker ──▶ leftover + cut ──▶ Received          the reader rests until it is told to read on
//!   client ◀── to_client ── outbound                             full: the writer is blocked until the client reads
//! ```

use crate::net::Outbound;
use std::collections::BTreeMap;

/// A connection's number, never used again.
pub type LinkId = u32;

/// How a side has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    /// It sends nothing more; what it sent arrives.
    Finished,
    /// It is gone, and what was under way is lost.
    Reset,
}

/// What the broker's reader finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing yet.
    Nothing,
    /// These bytes, behind what was left over.
    Bytes(Vec<u8>),
    /// The client's end.
    End(&'static str),
}

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it.
    Flushed,
    /// There is room, but this write has had its share.
    Unfinished,
    /// There is no room.
    Blocked,
    /// The client is gone.
    Lost,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// The client that opened it.
    pub client: usize,
    /// The core that accepts it.
    pub core: usize,
    /// Slot and generation at the core, once accepted.
    pub token: (u32, u32),
    /// Whether the arrival of bytes at the broker is arranged.
    pub is_reach_arranged: bool,
    /// Whether the arrival of bytes at the client is arranged.
    pub is_read_arranged: bool,
    to_broker: Vec<u8>,
    to_client: Vec<u8>,
    leftover: Vec<u8>,
    is_reading: bool,
    is_blocked: bool,
    room: usize,
    client_end: End,
    broker_end: End,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    opened: LinkId,
}

impl Network {
    /// Opens a connection of `client` to `core`, whose kernel holds `room` bytes that the client has not read.
    pub fn open(&mut self, client: usize, core: usize, room: usize) -> LinkId {
        self.opened += 1;
        let link = Link {
            client,
            core,
            token: (0, 0),
            is_reach_arranged: false,
            is_read_arranged: false,
            to_broker: Vec::new(),
            to_client: Vec::new(),
            leftover: Vec::new(),
            is_reading: false,
            is_blocked: false,
            room,
            client_end: End::Open,
            broker_end: End::Open,
        };
        self.links.insert(self.opened, link);
        self.opened
    }

    /// The connection, unless both sides have ended.
    pub fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// Takes all connections away: the broker's machine or process is gone. Returns them.
    pub fn cut_all(&mut self) -> Vec<(LinkId, Link)> {
        std::mem::take(&mut self.links).into_iter().collect()
    }

    /// Forgets a connection.
    pub fn forget(&mut self, id: LinkId) {
        self.links.remove(&id);
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

impl Link {
    // ---- the client's side

    /// The client sends `bytes`, and none are left in it.
    pub fn send(&mut self, bytes: &mut Vec<u8>) {
        self.to_broker.append(bytes);
    }

    /// The client ends the connection.
    pub fn end_by_client(&mut self, end: End) {
        self.client_end = end;
        if end == End::Reset {
            self.to_broker.clear();
        }
        self.to_client.clear();
    }

    /// Takes bytes that the client reads now, chosen by `cut`. Returns them, and whether the broker's writer may go on.
    pub fn read(&mut self, cut: impl FnOnce(usize) -> usize) -> (Vec<u8>, bool) {
        if self.to_client.is_empty() {
            return (Vec::new(), false);
        }
        let count = cut(self.to_client.len());
        let bytes = self.to_client.drain(..count).collect();
        let is_relieved = self.is_blocked && self.to_client.len() < self.room;
        self.is_blocked &= !is_relieved;
        (bytes, is_relieved)
    }

    /// Whether the broker's writer was blocked when the client went; it goes on now, and meets the end.
    pub fn frees_writer(&mut self) -> bool {
        self.client_end != End::Open && std::mem::take(&mut self.is_blocked)
    }

    /// Whether the client has bytes to read.
    pub fn has_bytes_for_client(&self) -> bool {
        !self.to_client.is_empty()
    }

    /// Whether the broker has ended the connection and the client has read everything.
    pub fn is_ended_for_client(&self) -> bool {
        self.broker_end != End::Open && self.to_client.is_empty()
    }

    /// Whether the client is still there.
    pub fn has_client(&self) -> bool {
        self.client_end == End::Open
    }

    // ---- the broker's side

    /// A core has accepted the connection, and reads it.
    pub fn accept(&mut self, token: (u32, u32)) {
        self.token = token;
        self.is_reading = true;
    }

    /// Whether the reader would find something.
    pub fn can_be_read(&self) -> bool {
        self.is_reading
            && self.broker_end == End::Open
            && (!self.to_broker.is_empty() || self.client_end != End::Open)
    }

    /// The reader's next read into a buffer of `buffer_bytes`; it then rests.
    pub fn receive(&mut self, buffer_bytes: usize, cut: impl FnOnce(usize) -> usize) -> Arrival {
        if !self.can_be_read() {
            return Arrival::Nothing;
        }
        self.is_reading = false;
        if self.to_broker.is_empty() {
            let is_reset = self.client_end == End::Reset;
            return Arrival::End(if is_reset {
                "connection reset by peer"
            } else {
                "end of stream"
            });
        }
        let room = buffer_bytes - self.leftover.len();
        let count = cut(self.to_broker.len().min(room));
        let mut bytes = std::mem::take(&mut self.leftover);
        bytes.extend(self.to_broker.drain(..count));
        Arrival::Bytes(bytes)
    }

    /// The reader goes on, with what was left over of its last read.
    pub fn read_on(&mut self, leftover: &[u8]) {
        self.leftover = leftover.to_vec();
        self.is_reading = true;
    }

    /// Writes from `outbound` what fits, at most `share` bytes.
    pub fn write(&mut self, outbound: &mut Outbound, share: usize) -> Written {
        if self.client_end != End::Open {
            return Written::Lost;
        }
        let mut left = share;
        while let Some(slice) = outbound.first_slice() {
            let room = self.room.saturating_sub(self.to_client.len());
            if room == 0 {
                self.is_blocked = true;
                return Written::Blocked;
            }
            if left == 0 {
                return Written::Unfinished;
            }
            let count = slice.len().min(room).min(left);
            self.to_client.extend_from_slice(&slice[..count]);
            outbound.consume(count);
            left -= count;
        }
        Written::Flushed
    }

    /// The broker ends the connection after what is left in `outbound`.
    pub fn end_by_broker(&mut self, mut outbound: Outbound) {
        while let Some(slice) = outbound.first_slice() {
            let count = slice.len();
            if self.client_end == End::Open {
                self.to_client.extend_from_slice(slice);
            }
            outbound.consume(count);
        }
        self.broker_end = End::Finished;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_left_over_come_again_in_front_of_the_next_read() {
        let mut network = Network::default();
        let id = network.open(0, 0, 4);
        let link = network.link(id).expect("just opened");
        link.accept((0, 0));
        link.send(&mut b"abcdef".to_vec());
        assert_eq!(link.receive(16, |_| 4), Arrival::Bytes(b"abcd".to_vec()));
        assert_eq!(link.receive(16, |_| 4), Arrival::Nothing, "the reader rests");
        link.read_on(b"cd");
        assert_eq!(link.receive(16, |count| count), Arrival::Bytes(b"cdef".to_vec()));
    }

    #[test]
    fn a_full_socket_blocks_its_writer_until_the_client_reads() {
        let mut network = Network::default();
        let id = network.open(0, 0, 4);
        let link = network.link(id).expect("just opened");
        let mut outbound = Outbound::new();
        outbound.buffer().extend_from_slice(b"abcdef");
        assert_eq!(link.write(&mut outbound, 100), Written::Blocked);
        assert_eq!(link.read(|_| 3), (b"abc".to_vec(), true));
        assert_eq!(link.write(&mut outbound, 100), Written::Flushed);
    }
}
