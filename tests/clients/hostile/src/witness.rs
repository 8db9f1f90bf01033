//! The well-behaved client: it publishes and consumes all along, and notices what is lost or late.

use std::io::{self, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::session;
use crate::wire::{BODY, CONNECTION_CLOSE, Frame, HEADER, METHOD, Payload, joined};

/// The time in which a message must come back.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
/// The time in which any answer must come, or the connection counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

const QUEUE_DECLARE_OK: (u16, u16) = (50, 11);
const CONSUME_OK: (u16, u16) = (60, 21);
const DELIVER: (u16, u16) = (60, 60);
const ACK: (u16, u16) = (60, 80);
const CONFIRM_SELECT_OK: (u16, u16) = (85, 11);

/// What the client saw.
#[derive(Default)]
pub struct Testimony {
    pub round_trips: Vec<Duration>,
}

impl Testimony {
    pub fn slowest(&self) -> Duration {
        self.round_trips.iter().max().copied().unwrap_or_default()
    }

    /// The round trip that 99 of 100 do not exceed.
    pub fn percentile_99(&self) -> Duration {
        let mut sorted = self.round_trips.clone();
        sorted.sort();
        sorted
            .get(sorted.len().saturating_sub(1) * 99 / 100)
            .copied()
            .unwrap_or_default()
    }
}

/// A connection with a queue of its own, in confirm mode.
struct Witness {
    stream: TcpStream,
    queue: String,
}

/// Sends a message, waits for its confirm and its delivery, acknowledges it; and so on until told to stop.
///
/// Fails when a message is lost, comes out of order or later than [`ROUND_TRIP_MAX`], and when the broker closes
/// the connection.
pub fn watch(target: SocketAddrV4, stop: &AtomicBool) -> Result<Testimony, String> {
    let mut testimony = Testimony::default();
    let mut witness =
        Witness::connect(target).map_err(|error| format!("the well-behaved client: {error}"))?;
    let mut number = 1;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let trip = witness.round_trip(number);
        trip.map_err(|error| format!("round trip {number} of the well-behaved client: {error}"))?;
        testimony.round_trips.push(begin.elapsed());
        if begin.elapsed() > ROUND_TRIP_MAX {
            return Err(format!(
                "expected round trip {number} within {ROUND_TRIP_MAX:?}, found {:?}",
                begin.elapsed()
            ));
        }
        number += 1;
        thread::sleep(PAUSE);
    }
    Ok(testimony)
}

impl Witness {
    fn connect(target: SocketAddrV4) -> io::Result<Witness> {
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(&joined(&session::handshake()))?;
        let mut witness = Witness {
            stream,
            queue: String::new(),
        };
        witness.declare_queue()?;
        witness.send(&Payload::method(85, 10).octet(0).frame(METHOD, 1))?;
        witness.wait_for(CONFIRM_SELECT_OK)?;
        let consume = Payload::method(60, 20)
            .short(0)
            .short_string(&witness.queue)
            .short_string("witness");
        witness.send(&consume.octet(0).long(0).frame(METHOD, 1))?;
        witness.wait_for(CONSUME_OK)?;
        Ok(witness)
    }

    fn declare_queue(&mut self) -> io::Result<()> {
        self.send(&session::queue_declare_with(b""))?;
        let payload = self.wait_for(QUEUE_DECLARE_OK)?;
        let name_end = 5 + usize::from(payload[4]);
        self.queue = String::from_utf8_lossy(&payload[5..name_end]).into_owned();
        Ok(())
    }

    fn round_trip(&mut self, number: u64) -> io::Result<()> {
        self.publish(number)?;
        let (mut is_confirmed, mut is_delivered) = (false, false);
        while !(is_confirmed && is_delivered) {
            let frame = self.read()?;
            match frame.method() {
                Some(ACK) => is_confirmed = true,
                Some(DELIVER) => self.receive(number, &frame).map(|()| is_delivered = true)?,
                method => return Err(unexpected("an ack or a delivery", method, &frame)),
            }
        }
        Ok(())
    }

    fn publish(&mut self, number: u64) -> io::Result<()> {
        let publish = Payload::method(60, 40)
            .short(0)
            .short_string("")
            .short_string(&self.queue)
            .octet(0);
        let header = Payload::new().short(60).short(0).long_long(8).short(0);
        let body = Payload::new().long_long(number);
        self.send(
            &[
                publish.frame(METHOD, 1),
                header.frame(HEADER, 1),
                body.frame(BODY, 1),
            ]
            .concat(),
        )
    }

    /// Reads the content of a delivery, which must be message `number`, and acknowledges it.
    fn receive(&mut self, number: u64, deliver: &Frame) -> io::Result<()> {
        let tag_begin = 5 + usize::from(deliver.payload[4]);
        let delivery_tag = &deliver.payload[tag_begin..tag_begin + 8];
        self.read()?;
        let body = self.read()?.payload;
        if body != number.to_be_bytes() {
            return Err(io::Error::other(format!(
                "expected message {number}, found the body {body:02x?}"
            )));
        }
        self.send(
            &Payload::method(60, 80)
                .bytes(delivery_tag)
                .octet(0)
                .frame(METHOD, 1),
        )
    }

    /// Reads up to a method, and returns its payload.
    fn wait_for(&mut self, expected: (u16, u16)) -> io::Result<Vec<u8>> {
        loop {
            let frame = self.read()?;
            match frame.method() {
                Some(method) if method == expected => return Ok(frame.payload),
                // The broker's part of the handshake.
                Some((10, 10 | 30 | 41) | (20, 11)) => {}
                method => return Err(unexpected(&format!("method {expected:?}"), method, &frame)),
            }
        }
    }

    fn read(&mut self) -> io::Result<Frame> {
        loop {
            let frame = Frame::read(&mut self.stream)?;
            if frame.kind != crate::wire::HEARTBEAT {
                return Ok(frame);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
}

fn unexpected(expected: &str, method: Option<(u16, u16)>, frame: &Frame) -> io::Error {
    let payload = String::from_utf8_lossy(&frame.payload).into_owned();
    let channel = frame.channel;
    io::Error::other(format!(
        "expected {expected}, found {method:?} on channel {channel}: {payload:?}"
    ))
}

/// Plays the session that the attack mutates, as it is: were it not valid, the mutations would all fail at the same
/// place. Fails when the broker objects, and goes on objecting: at first it may still be busy with the end of hostile
/// sessions, whose exchange has the same name.
pub fn play_valid_session(target: SocketAddrV4) -> Result<(), String> {
    const ATTEMPTS: u32 = 10;
    for _ in 1..ATTEMPTS {
        if play(target).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(300));
    }
    play(target).map_err(|error| format!("the valid session: {error}"))
}

fn play(target: SocketAddrV4) -> io::Result<()> {
    const CONNECTION_CLOSE_OK: (u16, u16) = (10, 51);
    const OBJECTIONS: [(u16, u16); 2] = [CONNECTION_CLOSE, (20, 40)];
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&joined(&session::frames()))?;
    loop {
        let frame = Frame::read(&mut stream)?;
        match frame.method() {
            Some(CONNECTION_CLOSE_OK) => return Ok(()),
            Some(method) if OBJECTIONS.contains(&method) => {
                return Err(unexpected("connection.close-ok", Some(method), &frame));
            }
            _ => {}
        }
    }
}
