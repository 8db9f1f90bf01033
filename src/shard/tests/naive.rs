//! Queues as the reference describes them, so plain that they are seen to be right: a queue is a list of messages, each
//! knows who holds it, and everything is looked at each time. No sequences, no indexes, no cores, no log.
//!
//! ```text
//!   Step ──▶ Naive ──after──▶ every Naive it may have become ──▶ those whose clients were told what was seen
//! ```
//!
//! What the reference leaves open is tried both ways: in which order messages from several queues reach one. Who of
//! several consumers gets a message is read from what was seen, so long as that consumer could have it.
//!
//! One difference from RabbitMQ is meant: an expired message goes exactly at its time, wherever it stands.

use super::naive_queue::{Consumer, Holder, Letter, Message, Queue, Rules};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// How many queues there are.
pub(super) const QUEUES: usize = 4;
/// How many channels consume.
pub(super) const CHANNELS: usize = 2;
/// Where publishes come from, among the numbers of queues.
pub(super) const PUBLISHER: usize = usize::MAX;

pub(super) fn name(queue: usize) -> String {
    format!("q{queue}")
}

/// A delivery that a client has seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Delivered {
    pub channel: usize,
    pub consumer: String,
    pub tag: u64,
    pub redelivered: bool,
    pub letter: Letter,
}

/// What a client is told, besides deliveries and plain oks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    /// basic.ack, or basic.nack.
    Confirmed(bool),
    Returned(Letter),
    /// Delivery tag, redelivered, message, messages left.
    Got(u64, bool, Letter, usize),
    Empty,
    /// queue.declare-ok: messages, consumers.
    Counts(usize, usize),
    /// queue.purge-ok, queue.delete-ok.
    Removed(usize),
    /// basic.cancel from the broker: channel and consumer.
    Cancelled(usize, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Ack,
    Drop,
    Requeue,
}

/// What happens. Queues, consumers and tags are ones that exist.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Declare(usize, Rules),
    /// queue.declare, or passive.
    Look(Vec<usize>),
    /// The exchange is the letter's.
    Publish(Letter, bool),
    Get {
        channel: usize,
        queue: usize,
        no_ack: bool,
    },
    Consume(usize, Consumer),
    Cancel(usize, String),
    Settle {
        channel: usize,
        tag: u64,
        multiple: bool,
        fate: Fate,
    },
    /// All that a channel holds goes back; it loses its consumers if it closes.
    Recover {
        channel: usize,
        closes: bool,
    },
    Purge(usize),
    Delete(usize),
    /// The time, in milliseconds since 1970.
    Time(u64),
    /// Whether the broker was stopped in order.
    Restart(bool),
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Naive {
    pub now: u64,
    pub queues: [Option<Queue>; QUEUES],
    /// The last delivery tag of each channel.
    pub tags: [u64; CHANNELS],
    /// Every tag that is not settled, also those of queues that have gone.
    pub unacked: BTreeSet<(usize, u64)>,
    /// Messages between queues, by where they come from and where they go.
    pub under_way: BTreeMap<(usize, usize), VecDeque<Rc<Letter>>>,
    pub was_refused: bool,
    pub told: Vec<Told>,
    pub seen: VecDeque<Delivered>,
}

impl Naive {
    pub(super) fn new(now: u64) -> Self {
        Self {
            now,
            queues: [const { None }; QUEUES],
            tags: [0; CHANNELS],
            unacked: BTreeSet::new(),
            under_way: BTreeMap::new(),
            was_refused: false,
            told: Vec::new(),
            seen: VecDeque::new(),
        }
    }

    // What a test may ask, to choose what happens next.

    pub(super) fn has(&self, queue: usize) -> bool {
        self.queues[queue].is_some()
    }

    /// Whether being looked at changes nothing for the queue.
    pub(super) fn is_leased(&self, queue: usize) -> bool {
        self.queues[queue]
            .as_ref()
            .is_some_and(|q| q.rules.expires.is_some())
    }

    pub(super) fn rules(&self, queue: usize) -> Option<&Rules> {
        self.queues[queue].as_ref().map(|queue| &queue.rules)
    }

    pub(super) fn consumers(&self, channel: usize) -> Vec<(usize, String)> {
        let of_queue = |(at, queue): (usize, &Option<Queue>)| {
            let consumers = queue.iter().flat_map(|queue| &queue.consumers);
            let theirs = consumers.filter(|consumer| consumer.channel == channel);
            theirs
                .map(|consumer| (at, consumer.tag.clone()))
                .collect::<Vec<_>>()
        };
        self.queues.iter().enumerate().flat_map(of_queue).collect()
    }

    pub(super) fn unacked(&self, channel: usize) -> Vec<u64> {
        let theirs = self.unacked.iter().filter(|(of, _)| *of == channel);
        theirs.map(|(_, tag)| *tag).collect()
    }

    pub(super) fn last_tag(&self, channel: usize) -> u64 {
        self.tags[channel]
    }

    /// Whether nothing is ready.
    pub(super) fn is_empty(&self, queue: usize) -> bool {
        self.queues[queue]
            .as_ref()
            .is_none_or(|queue| queue.ready().is_empty())
    }

    /// When something happens next though nobody does anything.
    pub(super) fn next_time(&self) -> Option<u64> {
        let times = self.queues.iter().flatten().flat_map(|queue| {
            let ready = queue.messages.iter().filter(|message| message.holder.is_none());
            ready
                .filter_map(|message| message.deadline)
                .chain(queue.ends_at())
        });
        times.min()
    }

    // What happens.

    /// Every way in which this may go on, of those in which clients see and are told just this; none if they are too many to
    /// tell. Else why it cannot be.
    pub(super) fn after(&self, step: &Step, seen: &[Delivered], told: &[Told]) -> Result<Vec<Self>, String> {
        let mut begun = self.clone();
        begun.seen = seen.iter().cloned().collect();
        begun.take(step)?;
        let mut fault = String::new();
        let mut ends = Vec::new();
        let Some(arrived) = begun.arrivals(&mut fault)? else {
            return Ok(Vec::new());
        };
        for mut end in arrived {
            if matches!(step, Step::Publish(..)) {
                let was_refused = std::mem::take(&mut end.was_refused);
                end.told.push(Told::Confirmed(!was_refused));
            }
            match end.finish(told) {
                Ok(()) => ends.push(end),
                Err(found) => fault = found,
            }
        }
        if ends.is_empty() { Err(fault) } else { Ok(ends) }
    }

    fn finish(&mut self, told: &[Told]) -> Result<(), String> {
        if let Some(delivered) = self.seen.front() {
            return Err(format!("nobody should have seen {delivered:?}"));
        }
        let mut expected = std::mem::take(&mut self.told);
        let mut told = told.to_vec();
        let order = |told: &Told| matches!(told, Told::Cancelled(..)).then(|| format!("{told:?}"));
        told.sort_by_key(order);
        expected.sort_by_key(order);
        if expected != told {
            return Err(format!("expected {expected:?}\n   found {told:?}"));
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Declare(at, rules) => {
                self.queues[*at] = Some(Queue::new(rules.clone(), self.now));
                self.told.push(Told::Counts(0, 0));
            }
            Step::Look(queues) => queues.iter().for_each(|&at| self.look(at)),
            Step::Publish(letter, mandatory) => self.publish(letter, *mandatory),
            &Step::Get {
                channel,
                queue,
                no_ack,
            } => self.get(channel, queue, no_ack),
            Step::Consume(at, consumer) => {
                let queue = self.queues[*at].as_mut().expect("it exists");
                queue.consumers.push(consumer.clone());
                queue.last_used = self.now;
                self.deliver(*at)?;
            }
            Step::Cancel(at, tag) => {
                let queue = self.queues[*at].as_mut().expect("it exists");
                queue.consumers.retain(|consumer| consumer.tag != *tag);
                queue.last_used = self.now;
            }
            &Step::Settle {
                channel,
                tag,
                multiple,
                fate,
            } => self.settle(
                |of, at| of == channel && (at == tag || multiple && at < tag),
                fate,
            ),
            &Step::Recover { channel, closes } => self.recover(channel, closes),
            Step::Purge(at) => {
                let queue = self.queues[*at].as_mut().expect("it exists");
                let count = queue.messages.len();
                queue.messages.retain(|message| message.holder.is_some());
                self.told.push(Told::Removed(count - queue.messages.len()));
            }
            Step::Delete(at) => {
                let queue = self.queues[*at].take().expect("it exists");
                self.told.push(Told::Removed(queue.ready().len()));
                let cancelled = queue.consumers.into_iter();
                self.told
                    .extend(cancelled.map(|consumer| Told::Cancelled(consumer.channel, consumer.tag)));
            }
            Step::Time(now) => self.pass(*now),
            Step::Restart(clean) => self.restart(*clean),
        }
        Ok(())
    }

    fn look(&mut self, at: usize) {
        let queue = self.queues[at].as_mut().expect("it exists");
        queue.last_used = self.now;
        self.told
            .push(Told::Counts(queue.ready().len(), queue.consumers.len()));
    }

    fn publish(&mut self, letter: &Letter, mandatory: bool) {
        let targets = self.targets(letter);
        if targets.is_empty() && mandatory {
            self.told.push(Told::Returned(letter.clone()));
        }
        let letter = Rc::new(letter.clone());
        for target in targets {
            self.under_way
                .insert((PUBLISHER, target), VecDeque::from([letter.clone()]));
        }
    }

    pub(super) fn targets(&self, letter: &Letter) -> Vec<usize> {
        let is_target = |&at: &usize| match (&self.queues[at], letter.exchange.as_str()) {
            (Some(_), "") => letter.key == name(at) || letter.copies.contains(&name(at)),
            (Some(queue), "fan") => queue.rules.is_bound,
            _ => false,
        };
        (0..QUEUES).filter(is_target).collect()
    }

    fn get(&mut self, channel: usize, at: usize, no_ack: bool) {
        let queue = self.queues[at].as_mut().expect("it exists");
        queue.last_used = self.now;
        let Some(&first) = queue.ready().first() else {
            return self.told.push(Told::Empty);
        };
        self.tags[channel] += 1;
        let tag = self.tags[channel];
        let left = queue.ready().len() - 1;
        let Message {
            letter, redelivered, ..
        } = queue.messages[first].clone();
        if no_ack {
            queue.messages.remove(first);
        } else {
            queue.messages[first].holder = Some(Holder {
                channel,
                tag,
                consumer: None,
            });
            self.unacked.insert((channel, tag));
        }
        self.told
            .push(Told::Got(tag, redelivered, Letter::clone(&letter), left));
    }

    /// Settles what `is_meant` says by channel and tag, queue by queue.
    fn settle(&mut self, is_meant: impl Fn(usize, u64) -> bool, fate: Fate) {
        self.unacked.retain(|&(channel, tag)| !is_meant(channel, tag));
        for at in 0..QUEUES {
            let Some(queue) = self.queues[at].as_mut() else {
                continue;
            };
            let is_meant = |message: &Message| {
                let holder = message.holder.as_ref();
                holder.is_some_and(|holder| is_meant(holder.channel, holder.tag))
            };
            if !queue.messages.iter().any(is_meant) {
                continue;
            }
            if fate == Fate::Requeue {
                for message in queue.messages.iter_mut().filter(|message| is_meant(message)) {
                    message.holder = None;
                    message.redelivered = true;
                }
                self.expire(at);
                self.drop_heads(at);
            } else {
                let (mut gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut queue.messages)
                    .into_iter()
                    .partition(is_meant);
                queue.messages = kept;
                if fate == Fate::Drop {
                    gone.sort_by_key(|message| message.holder.as_ref().map(|holder| holder.tag));
                    gone.into_iter()
                        .for_each(|message| self.die(at, &message.letter, "rejected"));
                }
            }
        }
    }

    fn recover(&mut self, channel: usize, closes: bool) {
        if closes {
            let now = self.now;
            for queue in self.queues.iter_mut().flatten() {
                let count = queue.consumers.len();
                queue.consumers.retain(|consumer| consumer.channel != channel);
                if queue.consumers.len() < count {
                    queue.last_used = now;
                }
            }
        }
        self.settle(|of, _| of == channel, Fate::Requeue);
        if closes {
            self.tags[channel] = 0;
        }
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
        for at in 0..QUEUES {
            let ends_at = self.queues[at].as_ref().and_then(Queue::ends_at);
            if ends_at.is_some_and(|ends_at| ends_at <= now) {
                self.queues[at] = None;
            }
            self.expire(at);
        }
    }

    fn restart(&mut self, clean: bool) {
        self.tags = [0; CHANNELS];
        self.unacked.clear();
        for at in 0..QUEUES {
            let is_lost = |queue: &mut Queue| !queue.rules.is_durable;
            if self.queues[at].take_if(is_lost).is_some() {
                continue;
            }
            let Some(queue) = self.queues[at].as_mut() else {
                continue;
            };
            queue.last_used = self.now;
            queue.consumers.clear();
            queue.messages.retain(|message| message.letter.is_persistent);
            for message in &mut queue.messages {
                message.redelivered |= !clean || message.holder.is_some();
                message.holder = None;
            }
            self.expire_in_any_order(at);
            self.drop_heads(at);
        }
    }
}
