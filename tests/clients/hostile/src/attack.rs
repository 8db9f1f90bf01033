//! Connections of the hostile side: each from one of several source addresses, each ended by a reset, so that no
//! port stays occupied.

use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::mutate::{Base, KINDS};
use crate::session;
use crate::wire::{CONNECTION_CLOSE, Frame, joined};

/// Connections under way at one time.
const THREADS: u64 = 48;
/// The sources are 127.0.0.2 and those that follow.
const SOURCES: u64 = 8;
/// How long a patient connection waits for the broker's next word.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long the broker may take to accept a connection or to take bytes in.
const STALL_MAX: Duration = Duration::from_secs(5);

/// What became of the connections. Each string has a connection of its own.
#[derive(Default)]
pub struct Tally {
    /// Strings sent; of some the broker did not take the last bytes, because it had closed already.
    pub sent: AtomicU64,
    /// Connections that waited for the broker's answer before the reset, as every second does.
    pub waited: AtomicU64,
    /// Of those, the ones which the broker closed, or answered by connection.close.
    pub closed_by_broker: AtomicU64,
    /// Connections that were not accepted, or whose bytes were not taken in, within the time allowed.
    pub stalled: AtomicU64,
    /// Bytes sent.
    pub bytes: AtomicU64,
    /// Strings sent of each kind.
    pub kinds: [AtomicU64; KINDS.len()],
}

/// The hostile side: where it sends to, and whether it is to stop.
pub struct Attack<'a> {
    pub target: SocketAddrV4,
    pub stop: &'a AtomicBool,
    pub tally: Tally,
}

impl<'a> Attack<'a> {
    pub fn new(target: SocketAddrV4, stop: &'a AtomicBool) -> Attack<'a> {
        Attack {
            target,
            stop,
            tally: Tally::default(),
        }
    }

    /// Sends the strings `first..first + count` of `seed`.
    pub fn send_strings(&self, base: &Base, seed: u64, first: u64, count: u64) {
        self.in_threads(count, |number| {
            let (kind, bytes) = base.string(seed, first + number);
            self.tally.kinds[kind].fetch_add(1, Ordering::Relaxed);
            self.connect_and_send(number, &bytes);
        });
    }

    /// Sends every method of a client, cut off at every byte, in every state; returns the number of connections.
    pub fn send_cut_methods(&self) -> u64 {
        let cuts = all_cuts();
        self.in_threads(cuts.len() as u64, |number| {
            self.connect_and_send(number, &cuts[number as usize]);
        });
        cuts.len() as u64
    }

    /// Calls `work` for every number in `0..count`, on as many threads as there are connections at a time.
    fn in_threads(&self, count: u64, work: impl Fn(u64) + Sync) {
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while !self.stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        work(number);
                    }
                });
            }
        });
    }

    fn connect_and_send(&self, number: u64, bytes: &[u8]) {
        let is_patient = number.is_multiple_of(2);
        let Ok(mut stream) = self.connect(number % SOURCES) else {
            self.tally.stalled.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match stream.write_all(bytes) {
            Err(error) if is_timeout(&error) => drop(self.tally.stalled.fetch_add(1, Ordering::Relaxed)),
            // An error here says that the broker has heard enough.
            _ => drop(self.tally.sent.fetch_add(1, Ordering::Relaxed)),
        }
        self.tally.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if is_patient {
            self.tally.waited.fetch_add(1, Ordering::Relaxed);
            if waits_for_close(&mut stream) {
                self.tally.closed_by_broker.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Connects from one of the sources. The socket is reset when it is dropped.
    fn connect(&self, source: u64) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_linger(Some(Duration::ZERO))?;
        let address = Ipv4Addr::new(127, 0, 0, 2 + source as u8);
        socket.bind(&SocketAddr::from((address, 0)).into())?;
        socket.connect_timeout(&SocketAddr::from(self.target).into(), STALL_MAX)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_write_timeout(Some(STALL_MAX))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    }
}

/// Reads what the broker says; true when it closes the connection or asks to, false when it falls silent.
fn waits_for_close(stream: &mut TcpStream) -> bool {
    let mut answers = BufReader::new(stream);
    loop {
        match Frame::read(&mut answers) {
            Ok(frame) if frame.method() == Some(CONNECTION_CLOSE) => return true,
            Ok(_) => {}
            Err(error) => return !is_timeout(&error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What is sent before the method: one entry for each state of connection and channel.
fn states() -> Vec<Vec<u8>> {
    let handshake = session::handshake();
    let mut states: Vec<Vec<u8>> = (0..=handshake.len())
        .map(|steps| joined(&handshake[..steps]))
        .collect();
    states.push(joined(&session::busy_channel()));
    states.push(joined(&session::before_content_header()));
    states.push(joined(&session::before_body()));
    states.push(joined(&session::within_transaction()));
    states.push(joined(&session::closing()));
    states
}

fn all_cuts() -> Vec<Vec<u8>> {
    let methods = session::client_methods();
    let mut cuts = Vec::new();
    for state in states() {
        for bytes in &methods {
            cuts.extend((1..=bytes.len()).map(|end| [&state[..], &bytes[..end]].concat()));
        }
    }
    cuts
}
