//! The story of time for messages and queues: what falls due is taken from the core's time index, and leaves.
//!
//! A tick begins with what has fallen due by then, so no delivery of that tick is of an expired message. Messages that stay
//! as long as their queue says run out in their order, and only the first of them stands in the index; the others stand
//! there each. What has left its queue by then, or is unacked, is passed over: an unacked message is looked at when it comes
//! back.

use super::Shard;
use super::transfer::Cause;
use crate::model::QueueSequence;
use crate::queue::dead_letter::DeathReason;
use crate::queue::{Due, Occasion};

/// Messages that one tick lets expire.
const EXPIRIES_A_TICK: usize = 4096;
/// Messages that may expire in front of one that is delivered.
const EXPIRIES_A_DELIVERY: usize = 1024;
/// Items of the time index that one tick brings nearer.
const ADVANCE_A_TICK: usize = 4096;
/// Items of the time index that one tick looks at to throw out the dead.
const SWEEP_A_TICK: usize = 16_384;

impl Shard {
    /// Lets expire what has fallen due. Returns whether there is more of it than a tick may take.
    pub(super) fn expire_due(&mut self) -> bool {
        if self.time_index.is_empty() {
            return false;
        }
        let now = self.unix_milliseconds;
        self.time_index.advance(now, ADVANCE_A_TICK);
        let mut budget = EXPIRIES_A_TICK;
        while budget > 0 {
            let Some(due) = self.time_index.pop_due(now) else {
                self.is_expiry_behind = false;
                return false;
            };
            budget = budget.saturating_sub(self.take_due(due, now, budget).max(1));
        }
        self.is_expiry_behind = true;
        true
    }

    /// When more has fallen due than this tick could take: lets the first ready messages of a queue expire before one is
    /// delivered, as many as may be. Returns whether the first that is left may be delivered.
    pub(super) fn expire_front(&mut self, queue_slot: u32) -> bool {
        let now = self.unix_milliseconds;
        for _ in 0..EXPIRIES_A_DELIVERY {
            let Some(queue) = self.queues.get_mut(queue_slot) else {
                return true;
            };
            let Some((first, _)) = queue.queue.front() else {
                return true;
            };
            if queue.queue.deadline(first).is_none_or(|at| at > now) {
                return true;
            }
            self.expire_if_due(queue_slot, first);
        }
        false
    }

    /// When the next thing falls due, in milliseconds since 1970.
    pub fn next_due(&self) -> Option<u64> {
        self.time_index.next_due()
    }

    /// Takes what is due, at most `most` messages, and tells how many.
    fn take_due(&mut self, due: Due, now: u64, most: usize) -> usize {
        let slot = due.queue_slot;
        let Some(queue) = self
            .queues
            .get_mut(slot)
            .filter(|queue| queue.stamp() == due.queue_stamp)
        else {
            return 0;
        };
        match due.occasion {
            Occasion::Message(sequence) => self.expire_if_due(slot, QueueSequence(sequence)),
            Occasion::CommonDeadline => {
                queue.is_deadline_armed = false;
                return self.expire_common(slot, now, most);
            }
            Occasion::QueueLease => self.end_lease(slot, now),
            Occasion::RememberedValue => return self.forget_due(slot, most),
        }
        1
    }

    fn expire_common(&mut self, queue_slot: u32, now: u64, most: usize) -> usize {
        let mut count = 0;
        while count < most
            && let Some(queue) = self.queues.get_mut(queue_slot)
            && let Some((sequence, entry)) = queue.queue.take_expired(now)
        {
            self.give_up(queue_slot, sequence, entry, Cause::Death(DeathReason::Expired));
            count += 1;
        }
        self.arm_common_deadline(queue_slot);
        count
    }

    /// Lets a message expire if it is ready and its time has come.
    pub(super) fn expire_if_due(&mut self, queue_slot: u32, sequence: QueueSequence) {
        let now = self.unix_milliseconds;
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return;
        };
        let cause = match queue.delays() {
            true => Cause::Due,
            false => Cause::Death(DeathReason::Expired),
        };
        if let Some(entry) = queue.queue.take_if_expired(sequence, now) {
            self.give_up(queue_slot, sequence, entry, cause);
        }
    }

    /// Sees to it that the time index knows the queue's next common deadline.
    pub(super) fn arm_common_deadline(&mut self, queue_slot: u32) {
        if let Some(queue) = self.queues.get_mut(queue_slot)
            && !queue.is_deadline_armed
            && let Some(at) = queue.queue.first_common_deadline()
        {
            queue.is_deadline_armed = true;
            self.time_index
                .insert(queue.due(queue_slot, at, Occasion::CommonDeadline));
        }
    }

    /// Somebody uses the queue: the time after which it goes unused begins anew (`x-expires`).
    pub(super) fn renew_lease(&mut self, queue_slot: u32) {
        if let Some(queue) = self.queues.get_mut(queue_slot) {
            queue.last_used = self.unix_milliseconds;
        }
    }

    /// Begins to watch for the end of a queue's use.
    pub(super) fn arm_lease(&mut self, queue_slot: u32) {
        if let Some(queue) = self.queues.get_mut(queue_slot)
            && let Some(expires) = queue.settings.expires
        {
            let at = queue.last_used.saturating_add(expires);
            self.time_index
                .insert(queue.due(queue_slot, at, Occasion::QueueLease));
        }
    }

    /// Deletes a queue that nobody has used for as long as it says, or looks again later.
    fn end_lease(&mut self, queue_slot: u32, now: u64) {
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return;
        };
        let Some(expires) = queue.settings.expires else {
            return;
        };
        if queue.queue.consumer_count() > 0 {
            queue.last_used = now;
        }
        if queue.is_frozen {
            return;
        }
        if queue.last_used.saturating_add(expires) <= now {
            let id = queue.id;
            return self.delete_unasked(id);
        }
        self.arm_lease(queue_slot);
    }

    /// Tells the time index of all that recovery has found.
    pub(super) fn arm_recovered(&mut self) {
        for slot in self.queues.slots_in_use() {
            let queue = self.queues.get_mut(slot).expect("just listed");
            for (sequence, at) in queue.queue.own_deadlines() {
                self.time_index
                    .insert(queue.due(slot, at, Occasion::Message(sequence.0)));
            }
            self.arm_common_deadline(slot);
            self.arm_lease(slot);
            self.watch_values(slot);
        }
    }

    /// Begins to throw out of the time index what is dead, when that is most of it.
    pub(super) fn judge_time_index(&mut self) {
        let living: usize = self
            .queues
            .iter()
            .map(|queue| queue.queue.own_deadline_count() + 3)
            .sum();
        self.is_sweeping = self.time_index.wants_sweep(living);
    }

    /// Throws out some of what is dead. Returns whether there is more to look at.
    pub(super) fn sweep_time_index(&mut self) -> bool {
        if !self.is_sweeping {
            return false;
        }
        let queues = &mut self.queues;
        let is_alive = |due: &Due| {
            let queue = queues
                .get_mut(due.queue_slot)
                .filter(|queue| queue.stamp() == due.queue_stamp);
            queue.is_some_and(|queue| match due.occasion {
                Occasion::Message(sequence) => queue.queue.deadline(QueueSequence(sequence)) == Some(due.at),
                Occasion::CommonDeadline | Occasion::QueueLease | Occasion::RememberedValue => true,
            })
        };
        self.is_sweeping = self.time_index.sweep(SWEEP_A_TICK, is_alive);
        self.is_sweeping
    }
}
