//! `Consumer`: one connection that consumes one or several queues, checks what comes and acknowledges it.

use super::body::{BODY_TIMED_MIN, Stamp};
use super::connection::{Client, refuse_close};
use super::delivery::{Recogniser, content_length};
use super::error::PerfError;
use super::measure::{Reading, Timing};
use super::plan::{ConsumerPlan, Plan};
use super::poller::{Ready, Socket};
use super::publisher::{ACK_HEAD, ACK_LENGTH};
use super::tally::{Order, Received, Tally};
use super::workload::AckMode;
use crate::model::FieldTableRef;
use crate::protocol::frame::{FRAME_END, Frame, FrameKind, decode_frame};
use crate::protocol::method::{BasicConsume, BasicDeliver, BasicQos, Method};

/// A consumer at work.
#[derive(Debug)]
pub struct Consumer {
    socket: Socket,
    frame_max: u32,
    recogniser: Recogniser,
    /// Index into `queues` of the last delivery that the recogniser learned.
    recognised: usize,
    /// Its queues with the order of what came out of them; the consumer tag is the index, in decimal.
    queues: Vec<(usize, Order)>,
    content: Option<Content>,
    ack: AckMode,
    last_tag: u64,
    acked_tag: u64,
    acks: Vec<u8>,
}

/// A delivery that comes in several frames, or of which only a part has arrived.
#[derive(Debug)]
struct Content {
    index: usize,
    tag: u64,
    redelivered: bool,
    /// Body size, once the header frame is here.
    length: Option<usize>,
    arrived: usize,
    beginning: [u8; BODY_TIMED_MIN],
    stamp: Option<Stamp>,
    is_rest_good: bool,
}

impl Consumer {
    /// Takes over an open connection and starts consuming.
    pub fn new(mut client: Client, plan: &Plan, consumer: &ConsumerPlan) -> Result<Self, PerfError> {
        start_consuming(&mut client, plan, consumer)?;
        let frame_max = client.frame_max();
        let (stream, unused) = client.into_parts()?;
        let order = Order::new(plan.publishers.len());
        Ok(Self {
            socket: Socket::new(stream, unused),
            frame_max,
            recogniser: Recogniser::default(),
            recognised: 0,
            queues: consumer
                .queues
                .iter()
                .map(|&queue| (queue, order.clone()))
                .collect(),
            content: None,
            ack: consumer.ack,
            last_tag: 0,
            acked_tag: 0,
            acks: Vec::new(),
        })
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

    /// Reads once, gives what came to `tally` and acknowledges it. True when there was something.
    #[inline]
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        timing: &Timing,
        tally: &mut Tally,
    ) -> Result<bool, PerfError> {
        if !self.socket.is_readable() {
            return Ok(false);
        }
        let filled = self
            .socket
            .fill(buffer)
            .map_err(PerfError::system("reading from a consumer's connection"))?;
        let used = self.take_all(&buffer[..filled], &timing.read(), tally)?;
        self.socket.keep(&buffer[used..filled]);
        self.acknowledge()?;
        Ok(used > 0)
    }

    /// Writes acks that the socket did not take before; with `all`, also for deliveries short of a full `multiple`.
    pub fn flush_acks(&mut self, all: bool) -> Result<(), PerfError> {
        if all && self.ack != AckMode::Auto && self.last_tag > self.acked_tag {
            self.push_ack(self.last_tag, true);
        }
        self.write_acks()
    }

    fn take_all(
        &mut self,
        input: &[u8],
        reading: &Reading<'_>,
        tally: &mut Tally,
    ) -> Result<usize, PerfError> {
        let mut at = 0;
        loop {
            if self.content.is_none() {
                at += self.take_run(&input[at..], reading, tally);
                if let Some(consumer_tag) = self.recogniser.learn(&input[at..], self.frame_max)? {
                    self.recognised = self.queue_index(consumer_tag)?;
                    continue;
                }
            }
            let Some((frame, used)) = decode_frame(&input[at..], self.frame_max)? else {
                return Ok(at);
            };
            self.take_frame(&frame, reading, tally)?;
            at += used;
        }
    }

    /// Takes deliveries of the learned form, as long as they last, and returns their bytes.
    #[inline]
    fn take_run(&mut self, input: &[u8], reading: &Reading<'_>, tally: &mut Tally) -> usize {
        let (queue, order) = &mut self.queues[self.recognised];
        let mut at = 0;
        while let Some(delivery) = self.recogniser.recognise(&input[at..]) {
            let received = Received {
                beginning: delivery.body,
                length: delivery.body.len(),
                is_rest_good: true,
                redelivered: delivery.redelivered,
            };
            tally.accept(&received, *queue, order, reading);
            self.last_tag = delivery.tag;
            at += delivery.length;
        }
        at
    }

    fn take_frame(
        &mut self,
        frame: &Frame<'_>,
        reading: &Reading<'_>,
        tally: &mut Tally,
    ) -> Result<(), PerfError> {
        match frame.kind {
            FrameKind::Method => self.take_method(&Method::decode(frame.payload)?),
            FrameKind::Header => self.take_header(frame.payload, reading, tally),
            FrameKind::Body => self.take_body(frame.payload, reading, tally),
            FrameKind::Heartbeat => Ok(()),
        }
    }

    fn take_method(&mut self, method: &Method<'_>) -> Result<(), PerfError> {
        refuse_close(method, DOING)?;
        let Method::BasicDeliver(deliver) = method else {
            return Err(unexpected(method.name()));
        };
        let BasicDeliver {
            consumer_tag,
            delivery_tag,
            redelivered,
            ..
        } = *deliver;
        self.content = Some(Content {
            index: self.queue_index(consumer_tag)?,
            tag: delivery_tag,
            redelivered,
            length: None,
            arrived: 0,
            beginning: [0; BODY_TIMED_MIN],
            stamp: None,
            is_rest_good: true,
        });
        Ok(())
    }

    fn take_header(
        &mut self,
        payload: &[u8],
        reading: &Reading<'_>,
        tally: &mut Tally,
    ) -> Result<(), PerfError> {
        let content = self
            .content
            .as_mut()
            .ok_or_else(|| unexpected("a header frame"))?;
        content.length = Some(content_length(payload)? as usize);
        self.finish_if_complete(reading, tally);
        Ok(())
    }

    fn take_body(
        &mut self,
        payload: &[u8],
        reading: &Reading<'_>,
        tally: &mut Tally,
    ) -> Result<(), PerfError> {
        let content = self.content.as_mut().ok_or_else(|| unexpected("a body frame"))?;
        content.append(payload, tally);
        self.finish_if_complete(reading, tally);
        Ok(())
    }

    fn finish_if_complete(&mut self, reading: &Reading<'_>, tally: &mut Tally) {
        let Some(content) = self.content.take_if(|content| content.is_complete()) else {
            return;
        };
        let length = content.arrived;
        let received = Received {
            beginning: &content.beginning[..length.min(BODY_TIMED_MIN)],
            length,
            is_rest_good: content.is_rest_good,
            redelivered: content.redelivered,
        };
        let (queue, order) = &mut self.queues[content.index];
        tally.accept(&received, *queue, order, reading);
        self.last_tag = content.tag;
    }

    fn queue_index(&self, consumer_tag: &[u8]) -> Result<usize, PerfError> {
        let parsed = std::str::from_utf8(consumer_tag)
            .ok()
            .and_then(|tag| tag.parse().ok());
        parsed
            .filter(|&index: &usize| index < self.queues.len())
            .ok_or_else(|| unexpected("a delivery for an unknown consumer tag"))
    }

    #[inline]
    fn acknowledge(&mut self) -> Result<(), PerfError> {
        match self.ack {
            AckMode::Auto => return Ok(()),
            AckMode::Each => (self.acked_tag + 1..=self.last_tag).for_each(|tag| self.push_ack(tag, false)),
            AckMode::Multiple(every) => {
                let every = u64::from(every);
                while self.last_tag - self.acked_tag >= every {
                    self.push_ack(self.acked_tag + every, true);
                }
            }
        }
        self.write_acks()
    }

    #[inline]
    fn push_ack(&mut self, tag: u64, multiple: bool) {
        let mut frame = [0; ACK_LENGTH];
        frame[..11].copy_from_slice(&ACK_HEAD);
        frame[11..19].copy_from_slice(&tag.to_be_bytes());
        frame[19] = u8::from(multiple);
        frame[20] = FRAME_END;
        self.acks.extend_from_slice(&frame);
        self.acked_tag = tag;
    }

    fn write_acks(&mut self) -> Result<(), PerfError> {
        if self.acks.is_empty() || !self.socket.is_writable() {
            return Ok(());
        }
        let written = self
            .socket
            .write(&self.acks)
            .map_err(PerfError::system("writing acks"))?;
        self.acks.drain(..written);
        Ok(())
    }
}

impl Content {
    /// Takes the next part of the body; what lies behind the stamp is compared at once.
    fn append(&mut self, payload: &[u8], tally: &Tally) {
        let in_beginning = BODY_TIMED_MIN.saturating_sub(self.arrived).min(payload.len());
        let start = self.arrived.min(BODY_TIMED_MIN);
        self.beginning[start..start + in_beginning].copy_from_slice(&payload[..in_beginning]);
        let rest_at = self.arrived + in_beginning;
        self.arrived += payload.len();
        let rest = &payload[in_beginning..];
        if rest.is_empty() {
            return;
        }
        self.stamp = self.stamp.or_else(|| tally.stamp(&self.beginning));
        self.is_rest_good &= self
            .stamp
            .is_some_and(|stamp| tally.is_as_sent(&stamp, rest_at, rest));
    }

    fn is_complete(&self) -> bool {
        self.length.is_some_and(|length| self.arrived >= length)
    }
}

fn start_consuming(client: &mut Client, plan: &Plan, consumer: &ConsumerPlan) -> Result<(), PerfError> {
    if consumer.prefetch > 0 {
        let qos = BasicQos {
            prefetch_size: 0,
            prefetch_count: consumer.prefetch,
            global: false,
        };
        client.request(qos, "basic.qos-ok")?;
    }
    for (index, &queue) in consumer.queues.iter().enumerate() {
        let (name, tag) = (&plan.queues[queue].name, index.to_string());
        client.request(
            consume(name, &tag, consumer.ack == AckMode::Auto),
            "basic.consume-ok",
        )?;
    }
    Ok(())
}

fn consume<'a>(queue: &'a str, tag: &'a str, no_ack: bool) -> BasicConsume<'a> {
    BasicConsume {
        queue: queue.as_bytes(),
        consumer_tag: tag.as_bytes(),
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: FieldTableRef::default(),
    }
}

fn unexpected(found: &str) -> PerfError {
    PerfError::Unexpected {
        found: found.to_owned(),
        doing: DOING.to_owned(),
    }
}

const DOING: &str = "consuming";
