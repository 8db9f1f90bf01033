//! The story of a message at its queue: handed to a consumer that waits for it, kept in memory, or appended to the log.

use super::Shard;
use super::admit::Wishes;
use super::forward::{counted, is_large};
use super::publish::Run;
use crate::model::{Content, QueueSequence};
use crate::queue::Locator;
use crate::storage::{ENTRIES_MAX, EntryHeader};

impl Shard {
    /// Gives the run to one queue of this core. Returns whether a confirm must wait for the log.
    #[inline]
    pub(super) fn enqueue(&mut self, queue_slot: u32, run: &Run<'_>) -> bool {
        let Some(queue) = self.queues.get_mut(queue_slot).filter(|queue| !queue.is_frozen) else {
            return false;
        };
        if queue.has_rules || run.has_expiring() {
            return self.admit(&[queue_slot], run);
        }
        let is_durable = queue.durable;
        let mut must_sync = false;
        let mut at = 0;
        while at < run.places.len() {
            if is_durable && run.places[at].is_persistent {
                must_sync = true;
                self.store_logged(&[queue_slot], run.content(at), Wishes::NONE);
                at += 1;
            } else {
                at += self.hand_over_or_store(queue_slot, run, at);
            }
        }
        self.list_deliverable(queue_slot);
        must_sync
    }

    /// Gives the run to several queues of this core. A persistent message is logged once for all durable ones.
    pub(super) fn enqueue_to_all(&mut self, queue_slots: &[u32], run: &Run<'_>) -> bool {
        let has_rules =
            |shard: &mut Shard, slot| shard.queues.get_mut(slot).is_some_and(|queue| queue.has_rules);
        if run.has_expiring() || queue_slots.iter().any(|&slot| has_rules(self, slot)) {
            return self.admit(queue_slots, run);
        }
        let is_durable = |shard: &mut Shard, slot| {
            shard
                .queues
                .get_mut(slot)
                .is_some_and(|queue| queue.durable && !queue.is_frozen)
        };
        let (durable, transient): (Vec<u32>, Vec<u32>) =
            queue_slots.iter().partition(|&&slot| is_durable(self, slot));
        if durable.len() < 2 || !run.places.iter().any(|place| place.is_persistent) {
            return self.enqueue_to_each(queue_slots, run);
        }
        for slot in transient {
            self.enqueue(slot, run);
        }
        for at in 0..run.places.len() {
            if run.places[at].is_persistent {
                self.store_logged(&durable, run.content(at), Wishes::NONE);
            } else {
                for &slot in &durable {
                    self.store_transient(slot, run.content(at), None, 0);
                }
            }
        }
        durable.iter().for_each(|&slot| self.list_deliverable(slot));
        true
    }

    /// Gives the run to one queue after the other; a large message is held once for all.
    fn enqueue_to_each(&mut self, queue_slots: &[u32], run: &Run<'_>) -> bool {
        let mut must_sync = false;
        if !run.places.iter().any(is_large) {
            for &slot in queue_slots {
                must_sync |= self.enqueue(slot, run);
            }
            return must_sync;
        }
        for at in 0..run.places.len() {
            let mut one = run.part(at..at + 1);
            let is_worth_it = one.shared.is_none() && is_large(&run.places[at]);
            let made = is_worth_it.then(|| self.shared.add(counted(&one.content(0))));
            one.shared = one.shared.or(made);
            for &slot in queue_slots {
                must_sync |= self.enqueue(slot, &one);
            }
            if let Some(held_meanwhile) = made {
                self.shared.remove(held_meanwhile);
            }
        }
        must_sync
    }

    /// Hands messages from `at` on to a waiting consumer, or stores the one at `at`. Returns how many were taken care of.
    #[inline]
    fn hand_over_or_store(&mut self, queue_slot: u32, run: &Run<'_>, at: usize) -> usize {
        let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
        let is_durable = queue.durable;
        let transient = run.places[at..]
            .iter()
            .take_while(|place| !(is_durable && place.is_persistent))
            .count();
        // What crosses to a consumer of another core needs credit; without it the message waits in its queue.
        let next = queue.queue.next_consumer();
        let may_cross = next.is_some_and(|next| self.mailbox.has_credit(next.connection.shard));
        match queue.queue.hand_off(if may_cross { transient as u32 } else { 0 }) {
            Some(hand_off) => {
                let end = at + hand_off.count as usize;
                self.hand_over(
                    queue_slot,
                    hand_off.consumer,
                    hand_off.first_sequence,
                    &run.part(at..end),
                );
                hand_off.count as usize
            }
            None => {
                self.store_transient(queue_slot, run.content(at), run.shared, 0);
                1
            }
        }
    }

    /// Keeps a message that is not logged.
    #[inline]
    pub(super) fn store_transient(
        &mut self,
        queue_slot: u32,
        content: Content<'_>,
        shared: Option<u32>,
        priority: u8,
    ) -> QueueSequence {
        let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
        match shared {
            Some(slot) => queue.push_shared(slot, content.body.len(), priority, &mut self.shared),
            None => queue.push_transient(content, priority, &mut self.shared),
        }
    }

    /// Appends one record for all of `queue_slots`, more when they are very many, and makes the message ready in each, at the
    /// end of its queue.
    pub(super) fn store_logged(&mut self, queue_slots: &[u32], content: Content<'_>, wishes: Wishes) {
        let expires_at = wishes
            .expiration
            .map(|expiration| self.unix_milliseconds + expiration);
        for queue_slots in queue_slots.chunks(ENTRIES_MAX) {
            let appended = match queue_slots {
                [only] => {
                    let header = self
                        .queues
                        .get_mut(*only)
                        .expect("the caller found it")
                        .entry_header();
                    self.log.append_message(&[header], content, expires_at)
                }
                _ => {
                    let header = |&slot| {
                        self.queues
                            .get_mut(slot)
                            .expect("the caller found it")
                            .entry_header()
                    };
                    let headers: Vec<EntryHeader> = queue_slots.iter().map(header).collect();
                    self.log.append_message(&headers, content, expires_at)
                }
            };
            let locator = Locator::Log {
                position: appended.position,
                length: appended.length,
            };
            for &slot in queue_slots {
                let queue = self.queues.get_mut(slot).expect("the caller found it");
                queue.push_logged(locator, content.body.len(), wishes.priority);
            }
        }
    }
}
