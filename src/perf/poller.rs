//! `Poller` and `Socket`: sockets of one thread that never make it wait, but for one place.
//!
//! Readiness is edge-triggered: a socket stays readable or writable until a call on it says otherwise, so no call is
//! spent on changing what is waited for.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// Waits for many sockets.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    ready: Vec<Ready>,
}

/// What became possible on the socket with this token.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number given to `add`.
    pub token: u64,
    /// Reading may yield something, if only an error.
    pub is_readable: bool,
    /// Writing may take something.
    pub is_writable: bool,
}

impl Poller {
    /// A poller without sockets.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            ready: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Waits for `socket` too, and calls it `token`.
    pub fn add(&self, socket: &Socket, token: u64) -> io::Result<()> {
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            &socket.stream,
            epoll::EventData::new_u64(token),
            flags,
        )?)
    }

    /// Waits at most `timeout`, and returns what became possible.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<&[Ready]> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        self.ready.clear();
        match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((events, _)) => self.ready.extend(events.iter().map(ready)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(&self.ready)
    }
}

fn ready(event: &epoll::Event) -> Ready {
    let flags = event.flags;
    let is_broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
    Ready {
        token: event.data.u64(),
        is_readable: is_broken || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
        is_writable: is_broken || flags.contains(epoll::EventFlags::OUT),
    }
}

const EVENTS_MAX: usize = 256;
/// How long a peer may take to say goodbye, or to make room for ours.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// A non-blocking socket with what was read from it and not used yet.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    unused: Vec<u8>,
    is_readable: bool,
    is_writable: bool,
}

impl Socket {
    /// A socket in non-blocking mode, and what was read from it before.
    pub fn new(stream: TcpStream, unused: Vec<u8>) -> Self {
        Self {
            stream,
            unused,
            is_readable: true,
            is_writable: true,
        }
    }

    /// Notes what the poller found.
    pub fn note(&mut self, ready: Ready) {
        self.is_readable |= ready.is_readable;
        self.is_writable |= ready.is_writable;
    }

    /// Whether reading may yield something.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Whether writing may take something.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Reads once into `buffer`, behind what `keep` kept, and returns how much there is in all. An end of the stream
    /// is an error.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let kept = self.unused.len();
        buffer[..kept].copy_from_slice(&self.unused);
        self.unused.clear();
        let room = &mut buffer[kept..];
        match self.stream.read(room) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                // Less than asked for: the socket is empty (epoll(7), on edge-triggered streams).
                self.is_readable = count == room.len();
                Ok(kept + count)
            }
            Err(error) => {
                self.is_readable = stays_ready(error)?;
                Ok(kept)
            }
        }
    }

    /// Keeps what of the buffer was not used, for the next `fill`.
    pub fn keep(&mut self, rest: &[u8]) {
        self.unused.extend_from_slice(rest);
    }

    /// Writes `goodbye`, waiting for room if need be; nothing else is written afterwards.
    pub fn say_goodbye(&mut self, goodbye: &[u8]) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(GOODBYE_TIMEOUT))?;
        self.stream.write_all(goodbye)
    }

    /// Reads on after `say_goodbye` until the peer ends its side or what it sends ends with `answer`.
    pub fn await_goodbye(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.set_read_timeout(Some(GOODBYE_TIMEOUT))?;
        let mut buffer = [0; 4096];
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 || buffer[..count].ends_with(answer) {
                return Ok(());
            }
        }
    }

    /// Ends both directions; the peer sees the end of the stream.
    pub fn shut_down(&self) {
        // It may be gone already, which is what was wanted.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Writes once, and returns how much was taken.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Ok(count) => {
                self.is_writable = count == bytes.len();
                Ok(count)
            }
            Err(error) => {
                self.is_writable = stays_ready(error)?;
                Ok(0)
            }
        }
    }
}

/// Whether a call that failed may be made again at once, or only after the poller said so; other errors are passed on.
fn stays_ready(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}
