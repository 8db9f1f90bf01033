//! `Publisher`: one connection that publishes, in a closed loop or by its schedule, and takes its confirms.

use std::io;

use super::body::Pattern;
use super::confirms::Confirms;
use super::connection::{CHANNEL, Client, refuse_close};
use super::error::PerfError;
use super::measure::{Latencies, Reading, Timing};
use super::plan::{Plan, PublisherPlan};
use super::poller::{Ready, Socket};
use super::ring::Ring;
use super::schedule::Schedule;
use super::verify::Integrity;
use crate::protocol::frame::{FRAME_END, FrameKind, decode_frame};
use crate::protocol::method::{BasicAck, BasicNack, ConfirmSelect, Method};

/// A publisher at work.
#[derive(Debug)]
pub struct Publisher {
    /// Its number in the run.
    number: u32,
    socket: Socket,
    frame_max: u32,
    ring: Ring,
    schedule: Option<Schedule>,
    confirms: Option<Confirms>,
    confirmed: u64,
    nacked: u64,
    returned: u64,
    is_stopped: bool,
}

/// Latencies that all publishers of a thread share.
#[derive(Debug, Default)]
pub struct PublishLatencies {
    /// From the intended send time to the confirm.
    pub confirm: Latencies,
    /// From the intended send time to the stamp: how far the generator itself was behind. Open loops only.
    pub send_delay: Latencies,
}

impl Publisher {
    /// Takes over an open connection.
    pub fn new(
        mut client: Client,
        plan: &Plan,
        publisher: &PublisherPlan,
        pattern: &Pattern,
    ) -> Result<Self, PerfError> {
        if publisher.confirm_window > 0 {
            client.request(ConfirmSelect { nowait: false }, "confirm.select-ok")?;
        }
        let frame_max = client.frame_max();
        let (stream, unused) = client.into_parts()?;
        let seed = plan
            .seed
            .wrapping_add(u64::from(publisher.number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Ok(Self {
            number: publisher.number,
            socket: Socket::new(stream, unused),
            frame_max,
            ring: Ring::new(plan, publisher, pattern, frame_max),
            schedule: publisher
                .pace
                .map(|pace| Schedule::new(pace.arrival, pace.rate, pace.share, seed)),
            confirms: (publisher.confirm_window > 0).then(|| Confirms::new(publisher.confirm_window)),
            confirmed: 0,
            nacked: 0,
            returned: 0,
            is_stopped: false,
        })
    }

    /// Sets when the schedule begins and ends.
    pub fn begin(&mut self, start: u64, end: u64) {
        if let Some(schedule) = &mut self.schedule {
            schedule.begin(start, end);
        }
    }

    /// Its socket, for the poller.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Its socket, to close the connection.
    pub fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Notes what the poller found.
    pub fn note(&mut self, ready: Ready) {
        self.socket.note(ready);
    }

    /// Stamps and writes at most `allowance` messages (an open loop ignores that), and returns how many it stamped.
    #[inline]
    pub fn publish(
        &mut self,
        allowance: usize,
        timing: &Timing,
        latencies: &mut PublishLatencies,
    ) -> io::Result<usize> {
        if !self.socket.is_writable() {
            return Ok(0);
        }
        let stamped = if self.is_stopped {
            0
        } else {
            self.stamp(allowance, timing.clock.now(), latencies)
        };
        let pending = self.ring.pending();
        if !pending.is_empty() {
            let count = self.socket.write(pending)?;
            self.ring.advance(count);
        }
        Ok(stamped)
    }

    /// Ends a closed loop. An open one goes on until its schedule is over: to leave out what is late would leave out
    /// the worst.
    pub fn stop(&mut self) {
        self.is_stopped = self.schedule.is_none();
    }

    /// Whether it has nothing more to stamp, and everything stamped is written.
    pub fn is_finished(&self) -> bool {
        let is_over = self
            .schedule
            .as_ref()
            .map_or(self.is_stopped, |schedule| schedule.next().is_none());
        is_over && self.ring.pending().is_empty()
    }

    /// When the next message of its schedule is due.
    pub fn next_due(&self) -> Option<u64> {
        self.schedule.as_ref().and_then(Schedule::next)
    }

    /// Whether it could publish something at `now` if it were allowed to.
    #[inline]
    pub fn is_ready(&self) -> bool {
        let has_room = self.confirms.as_ref().is_none_or(|confirms| confirms.room() > 0);
        let has_work =
            !self.ring.pending().is_empty() || (self.schedule.is_none() && has_room && !self.is_stopped);
        self.socket.is_writable() && has_work
    }

    /// Reads once and takes confirms and returns, if there may be any. True when there was something.
    #[inline]
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        timing: &Timing,
        latencies: &mut PublishLatencies,
    ) -> Result<bool, PerfError> {
        if !self.socket.is_readable() {
            return Ok(false);
        }
        let filled = self
            .socket
            .fill(buffer)
            .map_err(PerfError::system("reading from a publisher's connection"))?;
        let used = self.take_all(&buffer[..filled], &timing.read(), &mut latencies.confirm)?;
        self.socket.keep(&buffer[used..filled]);
        Ok(used > 0)
    }

    /// Messages stamped, with the publisher's number.
    pub fn published(&self) -> (u32, u64) {
        (self.number, self.ring.number())
    }

    /// Messages that wait for their confirm.
    #[inline]
    pub fn unconfirmed(&self) -> usize {
        self.confirms.as_ref().map_or(0, Confirms::waiting)
    }

    /// Messages confirmed or refused.
    #[inline]
    pub fn settled(&self) -> u64 {
        self.confirmed + self.nacked
    }

    /// What it has found, deliveries aside.
    pub fn integrity(&self) -> Integrity {
        Integrity {
            published: self.ring.number(),
            confirmed: self.confirmed,
            nacked: self.nacked,
            returned: self.returned,
            unsent: self.schedule.as_ref().map_or(0, Schedule::remaining),
            unconfirmed: self
                .confirms
                .as_ref()
                .map_or(0, |confirms| confirms.waiting() as u64),
            ..Integrity::default()
        }
    }

    #[inline]
    fn stamp(&mut self, allowance: usize, now: u64, latencies: &mut PublishLatencies) -> usize {
        let room = self
            .confirms
            .as_ref()
            .map_or(usize::MAX, Confirms::room)
            .min(self.ring.room());
        if self.schedule.is_some() {
            return self.stamp_due(room, now, latencies);
        }
        let count = room.min(allowance);
        for _ in 0..count {
            self.stamp_one(now);
        }
        count
    }

    fn stamp_due(&mut self, room: usize, now: u64, latencies: &mut PublishLatencies) -> usize {
        let mut count = 0;
        while count < room {
            let Some(intended) = self.schedule.as_ref().and_then(|schedule| schedule.due(now)) else {
                break;
            };
            self.schedule.as_mut().into_iter().for_each(Schedule::advance);
            self.stamp_one(intended);
            latencies.send_delay.record(now - intended);
            count += 1;
        }
        count
    }

    #[inline]
    fn stamp_one(&mut self, intended: u64) {
        self.ring.stamp(intended);
        if let Some(confirms) = &mut self.confirms {
            confirms.send(intended);
        }
    }

    fn take_all(
        &mut self,
        input: &[u8],
        reading: &Reading<'_>,
        latencies: &mut Latencies,
    ) -> Result<usize, PerfError> {
        let mut at = 0;
        loop {
            if let Some(verdict) = recognise_ack(&input[at..]) {
                self.settle(verdict, reading, latencies)?;
                at += ACK_LENGTH;
                continue;
            }
            let Some((frame, used)) = decode_frame(&input[at..], self.frame_max)? else {
                return Ok(at);
            };
            if frame.kind == FrameKind::Method {
                self.take_method(&Method::decode(frame.payload)?, reading, latencies)?;
            }
            at += used;
        }
    }

    fn take_method(
        &mut self,
        method: &Method<'_>,
        reading: &Reading<'_>,
        latencies: &mut Latencies,
    ) -> Result<(), PerfError> {
        refuse_close(method, DOING)?;
        if let Some(verdict) = Verdict::of(method) {
            return self.settle(verdict, reading, latencies);
        }
        // Its content, a header and body frames, is skipped like every frame that is no method.
        let Method::BasicReturn(_) = method else {
            return Err(unexpected(method.name()));
        };
        self.returned += 1;
        Ok(())
    }

    #[inline]
    fn settle(
        &mut self,
        verdict: Verdict,
        reading: &Reading<'_>,
        latencies: &mut Latencies,
    ) -> Result<(), PerfError> {
        let confirms = self
            .confirms
            .as_mut()
            .ok_or_else(|| unexpected("a confirm that was not asked for"))?;
        let mut count = 0;
        let is_known = confirms.settle(verdict.tag, verdict.multiple, |intended| {
            count += 1;
            if let Some(latency) = reading.latency(intended).filter(|_| verdict.is_ack) {
                latencies.record(latency);
            }
        });
        if !is_known {
            return Err(unexpected(&format!(
                "a confirm for tag {}, which does not wait for one",
                verdict.tag
            )));
        }
        let counter = if verdict.is_ack {
            &mut self.confirmed
        } else {
            &mut self.nacked
        };
        *counter += count;
        Ok(())
    }
}

/// What a basic.ack or basic.nack says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    tag: u64,
    multiple: bool,
    is_ack: bool,
}

impl Verdict {
    fn of(method: &Method<'_>) -> Option<Self> {
        match *method {
            Method::BasicAck(BasicAck {
                delivery_tag: tag,
                multiple,
            }) => Some(Self {
                tag,
                multiple,
                is_ack: true,
            }),
            Method::BasicNack(BasicNack {
                delivery_tag: tag,
                multiple,
                ..
            }) => Some(Self {
                tag,
                multiple,
                is_ack: false,
            }),
            _ => None,
        }
    }
}

/// A basic.ack frame on our channel at the head of `input`.
#[inline]
fn recognise_ack(input: &[u8]) -> Option<Verdict> {
    let frame = input.first_chunk::<ACK_LENGTH>()?;
    let (head, rest) = frame.split_first_chunk::<11>()?;
    let (tag, rest) = rest.split_first_chunk::<8>()?;
    let is_ack = *head == ACK_HEAD && rest[1] == FRAME_END;
    is_ack.then(|| Verdict {
        tag: u64::from_be_bytes(*tag),
        multiple: rest[0] & 1 == 1,
        is_ack,
    })
}

fn unexpected(found: &str) -> PerfError {
    PerfError::Unexpected {
        found: found.to_owned(),
        doing: DOING.to_owned(),
    }
}

/// Frame head and ids of basic.ack on our channel.
pub const ACK_HEAD: [u8; 11] = [1, 0, CHANNEL as u8, 0, 0, 0, 13, 0, 60, 0, 80];
/// Bytes of a basic.ack frame.
pub const ACK_LENGTH: usize = 21;
const DOING: &str = "publishing";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_is_recognised_as_the_encoder_writes_it() {
        for (delivery_tag, multiple) in [(1, false), (u64::MAX, true)] {
            let mut bytes = Vec::new();
            Method::from(BasicAck {
                delivery_tag,
                multiple,
            })
            .encode(CHANNEL, &mut bytes);
            assert_eq!(bytes.len(), ACK_LENGTH);
            assert_eq!(
                recognise_ack(&bytes),
                Some(Verdict {
                    tag: delivery_tag,
                    multiple,
                    is_ack: true
                })
            );
            assert_eq!(recognise_ack(&bytes[..20]), None);
            bytes[10] = 120;
            assert_eq!(recognise_ack(&bytes), None);
        }
    }
}
