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

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::rc::Rc;

/// How many queues there are.
pub(super) const QUEUES: usize = 4;
/// How many channels consume.
pub(super) const CHANNELS: usize = 2;
/// Where publishes come from, among the numbers of queues.
const PUBLISHER: usize = usize::MAX;
/// As many orders are told apart; a case with more is given up.
const ORDERS_MAX: usize = 300;

pub(super) fn name(queue: usize) -> String {
    format!("q{queue}")
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Letter {
    pub body: u32,
    pub length: usize,
    pub exchange: String,
    pub key: String,
    /// The header `CC`.
    pub copies: Vec<String>,
    pub is_persistent: bool,
    pub priority: Option<u8>,
    pub expiration: Option<u64>,
    /// The header `x-death`.
    pub deaths: Vec<Death>,
    /// `x-first-death-exchange`, `-queue`, `-reason`.
    pub first: Option<[String; 3]>,
    /// The same of the last death.
    pub last: Option<[String; 3]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Death {
    pub queue: String,
    pub reason: String,
    pub count: i64,
    pub seconds: u64,
    pub exchange: String,
    pub keys: Vec<String>,
    pub expiration: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Overflow {
    DropHead,
    Reject,
    RejectDlx,
}

/// What a queue is declared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    pub is_durable: bool,
    /// Whether it is bound to the exchange `fan`.
    pub is_bound: bool,
    pub lane: u8,
    pub ttl: Option<u64>,
    pub max_length: Option<usize>,
    pub max_bytes: Option<usize>,
    pub overflow: Overflow,
    /// Exchange, and key if it is given.
    pub dead_letter: Option<(String, Option<String>)>,
    pub max_priority: u8,
    pub expires: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    letter: Rc<Letter>,
    deadline: Option<u64>,
    redelivered: bool,
    holder: Option<Holder>,
}

/// Who holds a message unacked: a channel, under a delivery tag, for a consumer unless it was got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    channel: usize,
    tag: u64,
    consumer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Consumer {
    pub channel: usize,
    pub tag: String,
    pub prefetch: usize,
    pub no_ack: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Queue {
    rules: Rules,
    /// In the order they came.
    messages: Vec<Message>,
    consumers: Vec<Consumer>,
    last_used: u64,
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
    now: u64,
    queues: [Option<Queue>; QUEUES],
    /// The last delivery tag of each channel.
    tags: [u64; CHANNELS],
    /// Every tag that is not settled, also those of queues that have gone.
    unacked: BTreeSet<(usize, u64)>,
    /// Messages between queues, by where they come from and where they go.
    under_way: BTreeMap<(usize, usize), VecDeque<Rc<Letter>>>,
    was_refused: bool,
    told: Vec<Told>,
    seen: VecDeque<Delivered>,
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

    fn targets(&self, letter: &Letter) -> Vec<usize> {
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
            self.expire(at);
            self.drop_heads(at);
        }
    }

    // What follows from it.

    /// Every order in which what is under way may arrive, `None` if there are too many.
    fn arrivals(self, fault: &mut String) -> Result<Option<HashSet<Self>>, String> {
        let (mut open, mut ends) = (self.beginnings(fault), HashSet::new());
        while !open.is_empty() {
            let mut next = HashSet::new();
            for world in open {
                if world.under_way.is_empty() {
                    ends.insert(world);
                    continue;
                }
                for (way, waits) in world.ways() {
                    let mut after = world.clone();
                    match after.arrive(way, waits) {
                        Ok(()) => drop(next.insert(after)),
                        Err(found) => *fault = found,
                    }
                }
            }
            if next.len() + ends.len() > ORDERS_MAX {
                return Ok(None);
            }
            open = next;
        }
        if ends.is_empty() {
            Err(fault.clone())
        } else {
            Ok(Some(ends))
        }
    }

    /// With what consumers get before anything arrives. Those of queues with priorities may have to wait for it.
    fn beginnings(self, fault: &mut String) -> HashSet<Self> {
        let has_priorities = |world: &Self, at| world.rules(at).is_some_and(|rules| rules.max_priority > 0);
        let delivered = |waits: bool| {
            let mut world = self.clone();
            let queues = (0..QUEUES).filter(|&at| !waits || !has_priorities(&self, at));
            queues.map(|at| world.deliver(at)).collect::<Result<(), _>>()?;
            Ok(world)
        };
        let mut begun = HashSet::new();
        for waits in [false, true]
            .into_iter()
            .take(1 + usize::from(!self.under_way.is_empty()))
        {
            match delivered(waits) {
                Ok(world) => drop(begun.insert(world)),
                Err(found) => *fault = found,
            }
        }
        begun
    }

    /// What may arrive next, and whether consumers may then have to wait for more to arrive: only messages with priorities
    /// show whether they did.
    fn ways(&self) -> Vec<((usize, usize), bool)> {
        let more: usize = self.under_way.values().map(VecDeque::len).sum();
        let may_wait = |at: usize| {
            let queue = self.queues[at]
                .as_ref()
                .filter(|queue| queue.rules.max_priority > 0);
            more > 1 && queue.is_some_and(|queue| !queue.consumers.is_empty())
        };
        let ways = self.under_way.keys();
        let both = |&way: &(usize, usize)| {
            [(way, false), (way, true)]
                .into_iter()
                .take(1 + usize::from(may_wait(way.1)))
        };
        ways.flat_map(both).collect()
    }

    /// The next message on its way from one queue to another.
    fn arrive(&mut self, way: (usize, usize), waits: bool) -> Result<(), String> {
        let letters = self.under_way.get_mut(&way).expect("something is under way");
        let letter = letters.pop_front().expect("it is not empty");
        if letters.is_empty() {
            self.under_way.remove(&way);
        }
        let (from, at) = way;
        if self
            .rules(at)
            .is_some_and(|rules| rules.overflow != Overflow::DropHead)
        {
            self.deliver(at)?;
        }
        let Some(queue) = self.queues[at].as_mut() else {
            return Ok(());
        };
        let (ready, bytes) = (queue.ready().len(), queue.ready_bytes());
        if queue.rules.overflow != Overflow::DropHead
            && queue.rules.are_exceeded_by(ready + 1, bytes + letter.length)
        {
            if queue.rules.overflow == Overflow::RejectDlx {
                self.die(at, &letter, "maxlen");
            }
            self.was_refused |= from == PUBLISHER;
            return Ok(());
        }
        let lives_for = letter.expiration.into_iter().chain(queue.rules.ttl).min();
        queue.messages.push(Message {
            letter,
            deadline: lives_for.map(|lives_for| self.now + lives_for),
            redelivered: false,
            holder: None,
        });
        if !waits || queue.has_to_let_go(self.now) {
            self.deliver(at)?;
        }
        self.drop_heads(at);
        self.expire(at);
        if self.under_way.is_empty() {
            (0..QUEUES).try_for_each(|at| self.deliver(at))?;
        }
        Ok(())
    }

    /// Gives messages to consumers who can have one, as it was seen.
    fn deliver(&mut self, at: usize) -> Result<(), String> {
        let Some(queue) = self.queues[at].as_mut() else {
            return Ok(());
        };
        while let Some(&first) = queue.ready().first() {
            let able = queue.able_consumers();
            if able.is_empty() {
                return Ok(());
            }
            let message = &queue.messages[first];
            let is_theirs = |delivered: &Delivered, consumer: &Consumer| {
                (delivered.channel, &delivered.consumer) == (consumer.channel, &consumer.tag)
            };
            let fits = |consumer: &&Consumer| {
                let next = self.seen.iter().find(|delivered| is_theirs(delivered, consumer));
                next.is_some_and(|next| {
                    next.redelivered == message.redelivered && next.letter == *message.letter
                })
            };
            let Some(consumer) = able.iter().find(fits) else {
                return Err(format!(
                    "{} should have given {message:?} to one of {able:?}, seen is {:?}",
                    name(at),
                    self.seen
                ));
            };
            let index = self
                .seen
                .iter()
                .position(|delivered| is_theirs(delivered, consumer));
            let delivered = self.seen.remove(index.expect("it fits")).expect("it is there");
            self.tags[consumer.channel] = self.tags[consumer.channel].max(delivered.tag);
            if consumer.no_ack {
                queue.messages.remove(first);
            } else {
                self.unacked.insert((consumer.channel, delivered.tag));
                queue.messages[first].holder = Some(Holder {
                    channel: consumer.channel,
                    tag: delivered.tag,
                    consumer: Some(consumer.tag.clone()),
                });
            }
        }
        Ok(())
    }

    /// Lets go what is first while too much is ready.
    fn drop_heads(&mut self, at: usize) {
        while let Some(queue) = self.queues[at].as_mut() {
            let ready = queue.ready();
            if queue.rules.overflow != Overflow::DropHead
                || !queue.rules.are_exceeded_by(ready.len(), queue.ready_bytes())
            {
                return;
            }
            let message = queue.messages.remove(ready[0]);
            self.die(at, &message.letter, "maxlen");
        }
    }

    /// Lets go what is ready and has run out, first what ran out first.
    fn expire(&mut self, at: usize) {
        while let Some(queue) = self.queues[at].as_mut() {
            let due = (0..queue.messages.len()).filter(|&index| {
                let message = &queue.messages[index];
                message.holder.is_none() && message.deadline.is_some_and(|deadline| deadline <= self.now)
            });
            let Some(index) = due.min_by_key(|&index| queue.messages[index].deadline) else {
                return;
            };
            let message = queue.messages.remove(index);
            self.die(at, &message.letter, "expired");
        }
    }

    /// A message dies in a queue, and goes where that says, unless it runs in a circle.
    fn die(&mut self, at: usize, letter: &Letter, reason: &str) {
        let queue = self.queues[at].as_ref().expect("the message was in it");
        let Some((exchange, key)) = queue.rules.dead_letter.clone() else {
            return;
        };
        let dead = letter.after_death(&name(at), reason, self.now / 1000, exchange, key);
        for target in self.targets(&dead) {
            if reason == "rejected" || !dead.is_cycle(&name(target)) {
                let way = self.under_way.entry((at, target)).or_default();
                way.push_back(Rc::new(dead.clone()));
            }
        }
    }
}

impl Queue {
    fn new(rules: Rules, now: u64) -> Self {
        Self {
            rules,
            messages: Vec::new(),
            consumers: Vec::new(),
            last_used: now,
        }
    }

    /// Where the ready messages are, in the order in which they would be taken.
    fn ready(&self) -> Vec<usize> {
        let is_ready = |&at: &usize| self.messages[at].holder.is_none();
        let mut ready: Vec<usize> = (0..self.messages.len()).filter(is_ready).collect();
        let level = |at: &usize| {
            self.messages[*at]
                .letter
                .priority
                .unwrap_or(0)
                .min(self.rules.max_priority)
        };
        ready.sort_by_key(|at| std::cmp::Reverse(level(at)));
        ready
    }

    fn ready_bytes(&self) -> usize {
        let lengths = self.ready().into_iter().map(|at| self.messages[at].letter.length);
        lengths.sum()
    }

    /// Whether too much is ready, or something has run out.
    fn has_to_let_go(&self, now: u64) -> bool {
        let has_run_out = |&at: &usize| self.messages[at].deadline.is_some_and(|deadline| deadline <= now);
        let ready = self.ready();
        ready.iter().any(has_run_out)
            || self.rules.overflow == Overflow::DropHead
                && self.rules.are_exceeded_by(ready.len(), self.ready_bytes())
    }

    fn able_consumers(&self) -> Vec<Consumer> {
        let held = |consumer: &Consumer| {
            let holders = self.messages.iter().filter_map(|message| message.holder.as_ref());
            holders
                .filter(|holder| {
                    holder.channel == consumer.channel && holder.consumer.as_ref() == Some(&consumer.tag)
                })
                .count()
        };
        let is_able = |consumer: &&Consumer| {
            consumer.no_ack || consumer.prefetch == 0 || held(consumer) < consumer.prefetch
        };
        self.consumers.iter().filter(is_able).cloned().collect()
    }

    /// When nobody will have used it for as long as it says.
    fn ends_at(&self) -> Option<u64> {
        let expires = self.rules.expires.filter(|_| self.consumers.is_empty());
        expires.map(|expires| self.last_used + expires)
    }
}

impl Rules {
    fn are_exceeded_by(&self, messages: usize, bytes: usize) -> bool {
        self.max_length.is_some_and(|most| messages > most) || self.max_bytes.is_some_and(|most| bytes > most)
    }
}

impl Letter {
    fn after_death(
        &self,
        queue: &str,
        reason: &str,
        seconds: u64,
        exchange: String,
        key: Option<String>,
    ) -> Letter {
        let mut deaths = self.deaths.clone();
        let is_same = |death: &Death| death.queue == queue && death.reason == reason;
        let newest = match deaths.iter().position(is_same) {
            Some(at) => {
                let former = deaths.remove(at);
                Death {
                    count: former.count + 1,
                    ..former
                }
            }
            None => Death {
                queue: queue.to_owned(),
                reason: reason.to_owned(),
                count: 1,
                seconds,
                exchange: self.exchange.clone(),
                keys: std::iter::once(&self.key).chain(&self.copies).cloned().collect(),
                expiration: self.expiration,
            },
        };
        deaths.insert(0, newest);
        let this = [self.exchange.clone(), queue.to_owned(), reason.to_owned()];
        Letter {
            exchange,
            copies: if key.is_some() {
                Vec::new()
            } else {
                self.copies.clone()
            },
            key: key.unwrap_or_else(|| self.key.clone()),
            expiration: None,
            deaths,
            first: self.first.clone().or_else(|| Some(this.clone())),
            last: Some(this),
            ..self.clone()
        }
    }

    /// Whether it died in the queue before, and was not rejected anywhere since.
    fn is_cycle(&self, queue: &str) -> bool {
        let since = self.deaths.iter().position(|death| death.queue == queue);
        since.is_some_and(|since| {
            self.deaths[..=since]
                .iter()
                .all(|death| death.reason != "rejected")
        })
    }
}
