//! `Tally`: what came out of the queues of one thread, checked message by message.

use std::sync::Arc;

use super::body::{BODY_TIMED_MIN, Pattern, Stamp};
use super::measure::{Counts, Latencies, Reading};
use super::plan::Plan;
use super::verify::{Arrived, Integrity, Stream};
use super::workload::Workload;

/// What a consumer knows of the beginning of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The body, or its beginning when it came in several frames.
    pub beginning: &'a [u8],
    /// Size of the whole body.
    pub length: usize,
    /// Whether the rest of a body in several frames was as it should be.
    pub is_rest_good: bool,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
}

/// Checks and counts for all consumers of a thread.
#[derive(Debug)]
pub struct Tally {
    seed: u64,
    pattern: Arc<Pattern>,
    plan: Arc<Plan>,
    verify_every: u64,
    are_checked: bool,
    /// By queue times publishers plus publisher; `None` where a publisher does not reach a queue, or it is not ours.
    streams: Vec<Option<Stream>>,
    latencies: Latencies,
    integrity: Integrity,
    fresh: u64,
}

/// Highest number that one consumer has had from each publisher through one queue, to see disorder.
#[derive(Clone, Debug)]
pub struct Order {
    /// By publisher, plus one; 0: none.
    highest: Vec<u64>,
}

impl Order {
    /// Nothing received yet from any of so many publishers.
    pub fn new(publishers: usize) -> Self {
        Self {
            highest: vec![0; publishers],
        }
    }

    /// Notes `number`, and tells whether a higher one came before.
    #[inline]
    fn is_behind(&mut self, publisher: usize, number: u64) -> bool {
        let highest = &mut self.highest[publisher];
        let is_behind = number < *highest;
        *highest = (*highest).max(number + 1);
        is_behind
    }
}

impl Tally {
    /// A tally for the queues of thread `thread`. Bodies are checked if all of the workload carry stamps.
    pub fn new(plan: Arc<Plan>, pattern: Arc<Pattern>, thread: usize, workload: &Workload) -> Self {
        let mut streams = vec![None; plan.queues.len() * plan.publishers.len()];
        let ours = plan.consumers.iter().filter(|consumer| consumer.thread == thread);
        for &queue in ours.flat_map(|consumer| &consumer.queues) {
            for publisher in 0..plan.publishers.len() {
                let numbers = plan.numbers_reaching(queue, publisher);
                streams[queue * plan.publishers.len() + publisher] =
                    numbers.map(|(first, stride)| Stream::new(first, stride));
            }
        }
        Self {
            seed: plan.seed,
            pattern,
            plan,
            verify_every: workload.verify_body_every,
            are_checked: workload
                .publishers
                .iter()
                .all(|group| group.body_bytes.are_checked()),
            streams,
            latencies: Latencies::default(),
            integrity: Integrity::default(),
            fresh: 0,
        }
    }

    /// Checks and counts a delivery out of `queue`.
    #[inline]
    pub fn accept(
        &mut self,
        received: &Received<'_>,
        queue: usize,
        order: &mut Order,
        reading: &Reading<'_>,
    ) {
        self.integrity.delivered += 1;
        self.integrity.redelivered += u64::from(received.redelivered);
        if !self.are_checked {
            self.fresh += 1;
            return;
        }
        let Some(stamp) = Stamp::read(self.seed, received.beginning) else {
            self.integrity.corrupted += 1;
            return;
        };
        self.count(&stamp, received, queue, order);
        if received.length < BODY_TIMED_MIN {
            return;
        }
        if let Some(latency) = reading.latency(stamp.intended) {
            self.latencies.record(latency);
        }
    }

    /// Whether the bytes of `body` from `offset` on (24 or more) are what the message with `stamp` was sent with.
    pub fn is_as_sent(&self, stamp: &Stamp, offset: usize, body: &[u8]) -> bool {
        let Some(publisher) = self.plan.publishers.get(stamp.publisher as usize) else {
            return false;
        };
        let size = publisher.sizes[(stamp.number % publisher.sizes.len() as u64) as usize] as usize;
        let slot = (stamp.number % publisher.slots as u64) as usize;
        offset + body.len() <= size && self.pattern.slice(slot, offset, body.len()) == body
    }

    /// The stamp of a body's beginning.
    pub fn stamp(&self, beginning: &[u8]) -> Option<Stamp> {
        Stamp::read(self.seed, beginning)
    }

    /// Adds what was counted so far.
    #[inline]
    pub fn add_counts(&self, counts: &mut Counts) {
        counts.delivered += self.integrity.delivered;
        counts.fresh += self.fresh;
    }

    /// What was found, the messages missing among those that each publisher `published` included, and the latencies.
    pub fn finish(mut self, published: &[u64]) -> (Integrity, Latencies) {
        for (index, stream) in self.streams.iter().enumerate() {
            let Some(stream) = stream else { continue };
            let of_publisher = published[index % published.len()];
            self.integrity.expected += stream.expected(of_publisher);
            self.integrity.lost += if self.are_checked {
                stream.missing(of_publisher)
            } else {
                0
            };
        }
        if !self.are_checked {
            self.integrity.lost = self.integrity.expected.saturating_sub(self.fresh);
            self.integrity.duplicated = self.fresh.saturating_sub(self.integrity.expected);
        }
        (self.integrity, self.latencies)
    }

    #[inline]
    fn count(&mut self, stamp: &Stamp, received: &Received<'_>, queue: usize, order: &mut Order) {
        let publisher = stamp.publisher as usize;
        let publishers = self.plan.publishers.len();
        let stream = if publisher < publishers {
            self.streams[queue * publishers + publisher].as_mut()
        } else {
            None
        };
        match stream.map_or(Arrived::Astray, |stream| stream.accept(stamp.number)) {
            Arrived::Fresh => self.fresh += 1,
            Arrived::Again => self.integrity.duplicated += 1,
            Arrived::Astray => {
                self.integrity.corrupted += 1;
                return;
            }
        }
        let is_behind = order.is_behind(publisher, stamp.number);
        self.integrity.disordered += u64::from(is_behind && !received.redelivered);
        self.integrity.corrupted += u64::from(!self.is_whole(stamp, received));
    }

    /// Whether the body has its size and, when it is this message's turn, its pattern.
    #[inline]
    fn is_whole(&self, stamp: &Stamp, received: &Received<'_>) -> bool {
        let sizes = &self.plan.publishers[stamp.publisher as usize].sizes;
        let size = if let [size] = sizes[..] {
            size
        } else {
            sizes[(stamp.number % sizes.len() as u64) as usize]
        };
        if size as usize != received.length || !received.is_rest_good {
            return false;
        }
        if received.beginning.len() <= BODY_TIMED_MIN || !stamp.number.is_multiple_of(self.verify_every) {
            return true;
        }
        self.is_as_sent(stamp, BODY_TIMED_MIN, &received.beginning[BODY_TIMED_MIN..])
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::{Clock, Phases, Timing};
    use super::*;

    fn tally(body_bytes: usize) -> Tally {
        let text = format!(
            "name = \"t\"\nverify_body_every = 1\n[[queue]]\ncount = 2\n[[publisher]]\nbody_bytes = {body_bytes}\n[[consumer]]\n"
        );
        let workload = Workload::parse(&text, "test", &[]).expect("the text is a workload");
        let plan = Arc::new(Plan::new(&workload, 1, 77));
        let pattern = Arc::new(Pattern::new(plan.seed, body_bytes, plan.slots_max()));
        Tally::new(plan, pattern, 0, &workload)
    }

    fn body(tally: &Tally, number: u64, length: usize) -> Vec<u8> {
        let slot = number as usize % tally.plan.publishers[0].slots;
        let mut body = tally.pattern.slice(slot, 0, length).to_vec();
        Stamp {
            publisher: 0,
            number,
            intended: 1_000,
        }
        .write(77, &mut body);
        body
    }

    fn accept(tally: &mut Tally, queue: usize, order: &mut Order, body: &[u8]) {
        let timing = Timing {
            clock: Clock::start(),
            phases: Phases::new(0, 0.0, 1.0, 1.0),
        };
        let received = Received {
            beginning: body,
            length: body.len(),
            is_rest_good: true,
            redelivered: false,
        };
        tally.accept(&received, queue, order, &timing.read());
    }

    #[test]
    fn messages_that_come_whole_and_in_order_raise_no_objection() {
        let mut tally = tally(100);
        let mut order = Order::new(1);
        for number in [0, 2, 4] {
            let body = body(&tally, number, 100);
            accept(&mut tally, 0, &mut order, &body);
        }
        let (integrity, latencies) = tally.finish(&[5]);
        assert_eq!(
            (integrity.delivered, integrity.expected, integrity.lost),
            (3, 5, 2)
        );
        assert_eq!(
            (integrity.disordered, integrity.duplicated, integrity.corrupted),
            (0, 0, 0)
        );
        assert_eq!(latencies.into_histogram().len(), 3);
    }

    #[test]
    fn disorder_duplicates_and_strays_are_told_apart() {
        let mut tally = tally(100);
        let mut order = Order::new(1);
        for number in [2, 0, 0, 1] {
            let body = body(&tally, number, 100);
            accept(&mut tally, 0, &mut order, &body);
        }
        let (integrity, _) = tally.finish(&[4]);
        assert_eq!(
            (integrity.disordered, integrity.duplicated, integrity.corrupted),
            (2, 1, 1)
        );
    }

    #[test]
    fn a_cut_or_damaged_body_is_corrupted() {
        let mut tally = tally(100);
        let mut order = Order::new(1);
        let whole = body(&tally, 0, 100);
        let mut damaged = body(&tally, 2, 100);
        damaged[60] ^= 1;
        accept(&mut tally, 0, &mut order, &whole[..90]);
        accept(&mut tally, 0, &mut order, &damaged);
        assert_eq!(tally.finish(&[4]).0.corrupted, 2);
    }

    #[test]
    fn bodies_too_small_for_a_stamp_are_only_counted() {
        let mut tally = tally(8);
        let mut order = Order::new(1);
        (0..3).for_each(|_| accept(&mut tally, 0, &mut order, &[0; 8]));
        let (integrity, _) = tally.finish(&[4]);
        assert_eq!((integrity.expected, integrity.lost), (4, 1));
    }
}
