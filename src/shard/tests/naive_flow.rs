//! What follows from a step among naive queues: messages arrive, are delivered, are too many, run out, and die.

use super::naive::{Delivered, Naive, PUBLISHER, QUEUES, name};
use super::naive_queue::{Consumer, Holder, Letter, Message, Overflow, Queue};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// As many orders are told apart; a case with more is given up.
const ORDERS_MAX: usize = 300;
/// Messages of queue `n` that have no order among them are under way from `(n + 1) * ONE_BY_ONE` and the numbers after it.
const ONE_BY_ONE: usize = 1000;
/// Messages that queue `n` refused are under way from `REFUSED + n`.
const REFUSED: usize = (QUEUES + 1) * ONE_BY_ONE;

impl Naive {
    /// Every order in which what is under way may arrive, `None` if there are too many.
    pub(super) fn arrivals(self, fault: &mut String) -> Result<Option<HashSet<Self>>, String> {
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
            let mut queues = (0..QUEUES).filter(|&at| !waits || !has_priorities(&self, at));
            queues.try_for_each(|at| world.deliver(at))?;
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
        self.deliver_while(at, |queue| queue.is_full_for(letter.length))?;
        if self.queues[at]
            .as_ref()
            .is_some_and(|queue| queue.is_full_for(letter.length))
        {
            if self
                .rules(at)
                .is_some_and(|rules| rules.overflow == Overflow::RejectDlx)
            {
                // What a queue never had may overtake what it gave up before.
                self.die_from(REFUSED + at, at, &letter, "maxlen");
            }
            self.was_refused |= from == PUBLISHER;
            return Ok(());
        }
        let Some(queue) = self.queues[at].as_mut() else {
            return Ok(());
        };
        let lives_for = letter.expiration.into_iter().chain(queue.rules.ttl).min();
        queue.messages.push(Message {
            letter,
            deadline: lives_for.map(|lives_for| self.now + lives_for),
            redelivered: false,
            holder: None,
        });
        let now = self.now;
        self.deliver_while(at, |queue| !waits || queue.has_to_let_go(now))?;
        self.drop_heads(at);
        self.expire(at);
        if self.under_way.is_empty() {
            (0..QUEUES).try_for_each(|at| self.deliver(at))?;
        }
        Ok(())
    }

    /// Gives messages to consumers who can have one, as it was seen.
    pub(super) fn deliver(&mut self, at: usize) -> Result<(), String> {
        self.deliver_while(at, |_| true)
    }

    /// The same, while the queue says so.
    fn deliver_while(&mut self, at: usize, is_needed: impl Fn(&Queue) -> bool) -> Result<(), String> {
        let Some(queue) = self.queues[at].as_mut() else {
            return Ok(());
        };
        while let Some(&first) = queue.ready().first() {
            let able = queue.able_consumers();
            if able.is_empty() || !is_needed(queue) {
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
    pub(super) fn drop_heads(&mut self, at: usize) {
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

    /// Lets go what is ready and has run out, in its order.
    pub(super) fn expire(&mut self, at: usize) {
        for message in self.take_expired(at) {
            self.die(at, &message.letter, "expired");
        }
    }

    /// Lets go what ran out while the broker was down, or unacked before: all at once, and in any order.
    pub(super) fn expire_in_any_order(&mut self, at: usize) {
        for (number, message) in self.take_expired(at).into_iter().enumerate() {
            let from = (at + 1) * ONE_BY_ONE + number;
            self.die_from(from, at, &message.letter, "expired");
        }
    }

    fn take_expired(&mut self, at: usize) -> Vec<Message> {
        let now = self.now;
        let has_run_out = |message: &mut Message| {
            message.holder.is_none() && message.deadline.is_some_and(|deadline| deadline <= now)
        };
        let queue = self.queues[at].as_mut();
        queue.map_or(Vec::new(), |queue| {
            queue.messages.extract_if(.., has_run_out).collect()
        })
    }

    /// A message dies in a queue, and goes where that says, unless it runs in a circle.
    pub(super) fn die(&mut self, at: usize, letter: &Letter, reason: &str) {
        self.die_from(at, at, letter, reason);
    }

    /// The same; what is under way from one place arrives in its order.
    fn die_from(&mut self, from: usize, at: usize, letter: &Letter, reason: &str) {
        let queue = self.queues[at].as_ref().expect("the message was in it");
        let Some((exchange, key)) = queue.rules.dead_letter.clone() else {
            return;
        };
        let dead = letter.after_death(&name(at), reason, self.now / 1000, exchange, key);
        for target in self.targets(&dead) {
            if reason == "rejected" || !dead.is_cycle(&name(target)) {
                let way = self.under_way.entry((from, target)).or_default();
                way.push_back(Rc::new(dead.clone()));
            }
        }
    }
}
