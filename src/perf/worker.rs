//! `Worker`: one thread of the generator, with its publishers and consumers on one poll loop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::consumer::Consumer;
use super::error::PerfError;
use super::measure::{Board, Counts, Latencies, Timing, Window};
use super::plan::Plan;
use super::poller::{Poller, Socket};
use super::publisher::{PublishLatencies, Publisher};
use super::tally::Tally;
use super::verify::Integrity;
use crate::protocol::method::{ConnectionClose, ConnectionCloseOk, Method};

/// What all threads of a run share.
#[derive(Clone, Debug)]
pub struct Common {
    /// Who takes part.
    pub plan: Arc<Plan>,
    /// Counts of all threads.
    pub board: Arc<Board>,
    /// The run's clock and phases.
    pub timing: Timing,
    /// Messages in flight at which closed loops pause, `u64::MAX` for no bound.
    pub in_flight_limit: u64,
}

/// One thread's part of a run.
#[derive(Debug)]
pub struct Worker {
    thread: usize,
    common: Common,
    poller: Poller,
    publishers: Vec<Publisher>,
    consumers: Vec<Consumer>,
    tally: Tally,
    latencies: PublishLatencies,
    window: Window,
    buffer: Vec<u8>,
    counts: Counts,
    published: u64,
    /// The publisher whose turn comes first.
    first: usize,
    complete_since: Option<u64>,
}

/// What a thread brings home.
#[derive(Debug)]
pub struct Outcome {
    /// Its counts inside the measured window.
    pub window: Window,
    /// End-to-end checks and latencies, to be finished once all publishers' totals are known.
    pub tally: Tally,
    /// What its publishers found.
    pub integrity: Integrity,
    /// Messages published by each of its publishers.
    pub published: Vec<(u32, u64)>,
    /// Confirm latencies.
    pub confirm: Latencies,
    /// Lateness of the generator.
    pub send_delay: Latencies,
}

impl Worker {
    /// A worker over connections that are ready; none has published yet.
    pub fn new(
        thread: usize,
        common: Common,
        publishers: Vec<Publisher>,
        consumers: Vec<Consumer>,
        tally: Tally,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        for (token, publisher) in publishers.iter().enumerate() {
            poller.add(publisher.socket(), token as u64)?;
        }
        for (index, consumer) in consumers.iter().enumerate() {
            poller.add(consumer.socket(), (publishers.len() + index) as u64)?;
        }
        Ok(Self {
            thread,
            common,
            poller,
            publishers,
            consumers,
            tally,
            latencies: PublishLatencies::default(),
            window: Window::default(),
            buffer: vec![0; BUFFER_BYTES],
            counts: Counts::default(),
            published: 0,
            first: 0,
            complete_since: None,
        })
    }

    /// Runs through all phases. An error tells the other threads to give up.
    pub fn run(mut self) -> Result<Outcome, PerfError> {
        let board = Arc::clone(&self.common.board);
        let ran = self.load().and_then(|()| self.drain());
        ran.inspect_err(|_| board.abort())?;
        self.close();
        let mut integrity = Integrity::default();
        self.publishers
            .iter()
            .for_each(|publisher| integrity.add(&publisher.integrity()));
        Ok(Outcome {
            window: self.window,
            tally: self.tally,
            integrity,
            published: self.publishers.iter().map(Publisher::published).collect(),
            confirm: self.latencies.confirm,
            send_delay: self.latencies.send_delay,
        })
    }

    /// Publishes and consumes until measuring ends.
    fn load(&mut self) -> Result<(), PerfError> {
        let Timing { clock, phases } = self.common.timing;
        clock.sleep_until(phases.start);
        self.publishers
            .iter_mut()
            .for_each(|publisher| publisher.begin(phases.start, phases.drain));
        let mut now = clock.now();
        let mut is_idle = false;
        while now < phases.drain && !self.common.board.is_aborted() {
            self.poll(if is_idle {
                self.patience(now)
            } else {
                Duration::ZERO
            })?;
            is_idle = !self.turn()?;
            now = self.note();
        }
        Ok(())
    }

    /// Lets publishers write what they have stamped or should have, and consumes until everything is accounted for or it is late.
    fn drain(&mut self) -> Result<(), PerfError> {
        self.publishers.iter_mut().for_each(Publisher::stop);
        let mut now = self.note();
        let mut is_idle = false;
        while now < self.common.timing.phases.end
            && !self.common.board.is_aborted()
            && !self.is_accounted_for(now)
        {
            self.poll(if is_idle { DRAIN_PATIENCE } else { Duration::ZERO })?;
            is_idle = !self.turn()?;
            now = self.note();
        }
        self.consumers
            .iter_mut()
            .try_for_each(|consumer| consumer.flush_acks(true))
    }

    /// Closes the connections in both directions. A publisher that could not write all it had is in the middle of a
    /// frame and just goes.
    fn close(&mut self) {
        let mut goodbye = Vec::new();
        let close = ConnectionClose {
            reply_code: 200,
            reply_text: b"done",
            class_id: 0,
            method_id: 0,
        };
        Method::from(close).encode(0, &mut goodbye);
        let mut answer = Vec::new();
        Method::from(ConnectionCloseOk {}).encode(0, &mut answer);
        let publishers = self
            .publishers
            .iter_mut()
            .filter(|publisher| publisher.is_finished());
        let consumers = self.consumers.iter_mut().map(Consumer::socket_mut);
        let sockets = publishers.map(Publisher::socket_mut).chain(consumers);
        let told: Vec<&mut Socket> = sockets
            .filter_map(|socket| socket.say_goodbye(&goodbye).ok().map(|()| socket))
            .collect();
        for socket in told {
            // Everything is measured; a peer that does not answer is its own affair.
            let _ = socket.await_goodbye(&answer);
        }
    }

    fn poll(&mut self, timeout: Duration) -> Result<(), PerfError> {
        let count = self.publishers.len();
        let ready = self
            .poller
            .wait(timeout)
            .map_err(PerfError::system("waiting for sockets"))?;
        for &ready in ready {
            let index = ready.token as usize;
            match index.checked_sub(count) {
                Some(consumer) => self.consumers[consumer].note(ready),
                None => self.publishers[index].note(ready),
            }
        }
        Ok(())
    }

    /// One look at every connection. True when there was something to do.
    fn turn(&mut self) -> Result<bool, PerfError> {
        let has_consumed = self.consume()?;
        let has_published = self.publish()?;
        Ok(has_consumed || has_published)
    }

    fn consume(&mut self) -> Result<bool, PerfError> {
        let mut is_busy = false;
        for consumer in &mut self.consumers {
            is_busy |= consumer.receive(&mut self.buffer, &self.common.timing, &mut self.tally)?;
            consumer.flush_acks(false)?;
        }
        Ok(is_busy)
    }

    fn publish(&mut self) -> Result<bool, PerfError> {
        let timing = self.common.timing;
        let mut is_busy = false;
        let mut allowance = self.allowance();
        // Each turn another one is first, so that a small allowance does not always go to the same.
        self.first = (self.first + 1) % self.publishers.len().max(1);
        let (last, first) = self.publishers.split_at_mut(self.first);
        for publisher in first.iter_mut().chain(last) {
            is_busy |= publisher.receive(&mut self.buffer, &timing, &mut self.latencies)?;
            let stamped = publisher.publish(allowance, &timing, &mut self.latencies);
            let stamped = stamped.map_err(PerfError::system("writing to a publisher's connection"))?;
            allowance = allowance.saturating_sub(stamped);
            self.published += stamped as u64;
            is_busy |= stamped > 0 || (allowance > 0 && publisher.is_ready());
        }
        Ok(is_busy)
    }

    /// Messages that closed loops may publish now.
    #[inline]
    fn allowance(&self) -> usize {
        let limit = self.common.in_flight_limit;
        if limit == u64::MAX {
            return usize::MAX;
        }
        let total = self.common.board.total();
        let delivered = total.fresh / self.common.plan.copies;
        let in_flight = total.published.saturating_sub(delivered);
        limit.saturating_sub(in_flight) as usize
    }

    /// Shows and notes the counts, and returns the time.
    #[inline]
    fn note(&mut self) -> u64 {
        let settled = self.publishers.iter().map(Publisher::settled).sum();
        self.counts = Counts {
            published: self.published,
            settled,
            ..Counts::default()
        };
        self.tally.add_counts(&mut self.counts);
        let unfinished = self
            .publishers
            .iter()
            .filter(|publisher| !publisher.is_finished())
            .count();
        self.common
            .board
            .show(self.thread, &self.counts, unfinished as u64);
        let Timing { clock, phases } = &self.common.timing;
        let now = clock.now();
        self.window.note(now, phases, &self.counts);
        now
    }

    /// How long to wait for sockets when there is nothing to do. An open loop does not sleep: waking up would be late,
    /// and would be charged to the broker.
    fn patience(&self, now: u64) -> Duration {
        if self
            .publishers
            .iter()
            .any(|publisher| publisher.next_due().is_some_and(|due| due < now + SPIN))
        {
            return Duration::ZERO;
        }
        // Another thread's deliveries may allow this one's publishers to go on, and no socket tells.
        Duration::from_millis(1)
    }

    /// Whether everything published has been written, delivered and confirmed for a little while, in which duplicates
    /// would show.
    fn is_accounted_for(&mut self, now: u64) -> bool {
        let total = self.common.board.total();
        let has_consumers = !self.common.plan.consumers.is_empty();
        let is_delivered = !has_consumers || total.fresh >= total.published * self.common.plan.copies;
        let is_settled = self
            .publishers
            .iter()
            .all(|publisher| publisher.unconfirmed() == 0);
        if !(self.common.board.is_published() && is_delivered && is_settled) {
            self.complete_since = None;
            return false;
        }
        now - *self.complete_since.get_or_insert(now) > AFTERMATH
    }
}

/// One read of a connection; more than twice the largest frame.
const BUFFER_BYTES: usize = 384 << 10;
/// A schedule that is due within this many nanoseconds is waited for without sleeping.
const SPIN: u64 = 1_500_000;
const DRAIN_PATIENCE: Duration = Duration::from_millis(1);
/// Nanoseconds that a thread goes on listening once all is accounted for.
const AFTERMATH: u64 = 100_000_000;
