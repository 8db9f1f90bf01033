//! `Consumers`: who takes messages from a queue, whose turn it is, and how many unacked messages each holds.
//!
//! Everybody who consumes, and everybody else who holds unacked messages, is a holder in one table: a cancelled
//! consumer and a channel that used `basic.get` stay there until their last message is settled. An unacked message
//! names its holder by index, so settling it looks nothing up. Holders that can be served stand in `Turns`:
//!
//! ```text
//!             add                        unacked = prefetch, or pause
//!   (nobody) ─────► standing in Turns ◄──────────────────────────────► waiting
//!                            │            settle, or resume               │
//!                            └──────────────────┬─────────────────────────┘
//!                                               ▼ remove
//!   (nobody) ─ basic.get ─► only holds unacked messages ── the last is settled ──► (nobody)
//! ```
//!
//! Where a queue serves one consumer at a time (`SingleActive`), the others have one more reason to wait.

use super::single_active::{SingleActive, Succession};
use super::turns::Turns;
use crate::model::ConsumerId;
use std::collections::BTreeMap;

/// A consumer, as basic.consume asks for it (AMQP 0-9-1 §1.8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Who it is; its number is above 0, which stands for basic.get.
    pub id: ConsumerId,
    /// Whether messages are settled by being sent.
    pub no_ack: bool,
    /// Unacked messages it may hold at a time, 0 for any number. Means nothing with `no_ack`.
    pub prefetch_count: u16,
    /// Whether it wants to be the queue's only consumer.
    pub exclusive: bool,
    /// The argument `x-priority`: higher is served first, 0 if absent.
    pub priority: i64,
    /// Why it is not served yet.
    pub pauses: Pauses,
    /// Messages to be acked that it is served until it is granted more, `u32::MAX` for any number.
    pub grant: u32,
}

/// Why a consumer is not served for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Its connection's output is full.
    Output,
    /// Its channel holds as many unacked messages as basic.qos allows the whole channel.
    ChannelPrefetch,
}

/// Reasons not to serve a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses(u8);

impl Pauses {
    /// These, with or without one more.
    pub fn and(self, reason: Pause, paused: bool) -> Self {
        match paused {
            true => Self(self.0 | reason.bit()),
            false => Self(self.0 & !reason.bit()),
        }
    }

    /// Whether `reason` is one of them.
    pub fn has(self, reason: Pause) -> bool {
        self.0 & reason.bit() != 0
    }

    /// With or without another consumer's being the queue's single active one, a reason that only the queue knows.
    fn and_waiting(self, waits: bool) -> Self {
        match waits {
            true => Self(self.0 | WAITING),
            false => Self(self.0 & !WAITING),
        }
    }

    fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }
}

const WAITING: u8 = 4;

/// What removing a consumer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Whether none is left, which ends an auto-delete queue.
    pub was_last: bool,
}

/// Why a queue does not take a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeRefused {
    /// The queue has an exclusive consumer; or this one wants to be exclusive, and the queue has another, or a single active
    /// one: 403 ACCESS_REFUSED, closing the channel (AMQP 0-9-1 §1.8.3.3, `exclusive`).
    #[error("in exclusive use")]
    InExclusiveUse,
}

/// A holder that was given its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) holder: u32,
    pub(super) consumer: ConsumerId,
    pub(super) needs_ack: bool,
    /// Whether it was the last of its grant: it is paused for its channel's prefetch now.
    pub(super) spends_grant: bool,
}

/// A queue's holders.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    holders: Vec<Holder>,
    /// Indexes of holders that are nobody.
    free: Vec<u32>,
    by_id: BTreeMap<ConsumerId, u32>,
    turns: Turns,
    /// Where one is served at a time.
    single_active: Option<SingleActive>,
    consumer_count: u32,
    has_exclusive: bool,
    has_had_consumer: bool,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    id: ConsumerId,
    role: Role,
    pauses: Pauses,
    priority: i64,
    unacked: u32,
    /// Unacked messages at which it waits.
    unacked_max: u32,
    /// What is left of its grant, `u32::MAX` without one.
    grant: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A consumer that acks.
    NeedsAck,
    /// A consumer whose messages are settled by being sent.
    NoAck,
    /// A consumer that was removed, or the gets of a channel: takes no turn.
    OnlyHolds,
    /// A free place in the table.
    Nobody,
}

impl Consumers {
    /// Serves one consumer at a time from now on.
    pub(super) fn serve_one(&mut self, succession: Succession) {
        assert_eq!(self.consumer_count, 0, "nobody consumes yet");
        self.single_active = Some(SingleActive::new(succession));
    }

    pub(super) fn count(&self) -> u32 {
        self.consumer_count
    }

    pub(super) fn has_had_consumer(&self) -> bool {
        self.has_had_consumer
    }

    /// All consumers, ascending by id.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConsumerId> {
        self.by_id
            .iter()
            .filter(|&(_, &index)| self.holders[index as usize].is_consumer())
            .map(|(id, _)| *id)
    }

    pub(super) fn add(&mut self, consumer: Consumer) -> Result<(), ConsumeRefused> {
        assert!(consumer.id.number > 0, "number 0 stands for basic.get");
        let is_shared = self.consumer_count > 0 || self.single_active.is_some();
        if self.has_exclusive || (consumer.exclusive && is_shared) {
            return Err(ConsumeRefused::InExclusiveUse);
        }
        let index = self.occupy(Holder::consumer(&consumer));
        if let Some(single) = &mut self.single_active {
            let waits = single.add(index, consumer.priority);
            let holder = &mut self.holders[index as usize];
            holder.pauses = holder.pauses.and_waiting(waits);
        }
        self.consumer_count += 1;
        self.has_exclusive = consumer.exclusive;
        self.has_had_consumer = true;
        self.sort_in(index);
        Ok(())
    }

    /// Removes a consumer, `None` if it is gone.
    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<Removed> {
        let &index = self.by_id.get(&id)?;
        let holder = &mut self.holders[index as usize];
        if !holder.is_consumer() {
            return None;
        }
        holder.role = Role::OnlyHolds;
        self.sort_in(index);
        self.pass_on(index);
        self.free_if_done(index);
        self.consumer_count -= 1;
        self.has_exclusive &= self.consumer_count > 0;
        Some(Removed {
            was_last: self.consumer_count == 0,
        })
    }

    /// Stops serving a consumer; nothing if it is gone.
    pub(super) fn pause(&mut self, id: ConsumerId, reason: Pause) {
        if let Some(&index) = self.by_id.get(&id) {
            self.set_pause(index, reason, true);
        }
    }

    /// Takes back one reason not to serve a consumer; nothing if it is gone.
    pub(super) fn resume(&mut self, id: ConsumerId, reason: Pause) {
        match (reason, self.by_id.get(&id)) {
            (Pause::ChannelPrefetch, _) => self.grant(id, u32::MAX),
            (Pause::Output, Some(&index)) => self.set_pause(index, reason, false),
            (Pause::Output, None) => {}
        }
    }

    /// Serves a consumer again whose channel's prefetch was used up, at most `most` messages; nothing if it is gone.
    pub(super) fn grant(&mut self, id: ConsumerId, most: u32) {
        if let Some(&index) = self.by_id.get(&id) {
            self.holders[index as usize].grant = most;
            self.set_pause(index, Pause::ChannelPrefetch, false);
        }
    }

    fn set_pause(&mut self, index: u32, reason: Pause, paused: bool) {
        let holder = &mut self.holders[index as usize];
        holder.pauses = holder.pauses.and(reason, paused);
        self.sort_in(index);
    }

    /// Whether somebody can be served.
    #[inline]
    pub(super) fn can_serve(&self) -> bool {
        self.turns.next().is_some()
    }

    /// Whether `id` is a consumer here.
    pub(super) fn has(&self, id: ConsumerId) -> bool {
        let index = self.by_id.get(&id);
        index.is_some_and(|&index| self.holders[index as usize].is_consumer())
    }

    /// Who would take the next turn.
    #[inline]
    pub(super) fn next(&self) -> Option<ConsumerId> {
        self.turns.next().map(|index| self.holders[index as usize].id)
    }

    /// Gives the next consumer its turn, for one message. If it acks, it holds that message from now on.
    #[inline]
    pub(super) fn take_turn(&mut self) -> Option<Turn> {
        let index = self.turns.next()?;
        let holder = &mut self.holders[index as usize];
        let needs_ack = holder.role == Role::NeedsAck;
        holder.unacked += u32::from(needs_ack);
        let spends_grant = needs_ack && holder.spend_grant();
        if holder.can_be_served() {
            self.turns.pass();
        } else {
            self.turns.leave(index, holder.priority);
        }
        Some(Turn {
            holder: index,
            consumer: holder.id,
            needs_ack,
            spends_grant,
        })
    }

    /// Gives the next consumer its turn if it does not ack: for `count` messages if it is the only one to be served,
    /// else for one. Tells for how many.
    #[inline]
    pub(super) fn take_turn_without_ack(&mut self, count: u32) -> Option<(ConsumerId, u32)> {
        let holder = &self.holders[self.turns.next()? as usize];
        if holder.role != Role::NoAck {
            return None;
        }
        let count = if self.turns.is_next_alone() { count } else { 1 };
        self.turns.pass();
        Some((holder.id, count))
    }

    /// Notes that basic.get on this channel (with number 0) holds one more message.
    pub(super) fn hold(&mut self, getter: ConsumerId) -> u32 {
        debug_assert_eq!(getter.number, 0, "number 0 stands for basic.get");
        let index = match self.by_id.get(&getter) {
            Some(&index) => index,
            None => self.occupy(Holder::getter(getter)),
        };
        self.holders[index as usize].unacked += 1;
        index
    }

    /// Notes that a holder holds one message less.
    #[inline]
    pub(super) fn settle(&mut self, index: u32) {
        self.holders[index as usize].unacked -= 1;
        if !self.turns.contains(index) {
            self.settle_waiting(index);
        }
    }

    /// Who a holder is.
    pub(super) fn id_of(&self, index: u32) -> ConsumerId {
        self.holders[index as usize].id
    }

    /// Panics when the table contradicts itself, or differs from the messages that name each holder.
    pub(super) fn check_invariants(&self, unacked_by_holder: &BTreeMap<u32, u32>) {
        for (index, holder) in (0..).zip(&self.holders) {
            assert_eq!(
                holder.unacked,
                unacked_by_holder.get(&index).copied().unwrap_or(0),
                "unacked of {index}"
            );
            assert!(
                !holder.is_consumer() || holder.unacked <= holder.unacked_max,
                "prefetch is kept by {index}"
            );
            assert_eq!(
                self.turns.contains(index),
                holder.can_be_served(),
                "who can be served stands in a ring"
            );
            assert!(
                holder.role != Role::OnlyHolds || holder.unacked > 0,
                "who only holds holds something"
            );
            let is_known = self.by_id.get(&holder.id) == Some(&index);
            assert_eq!(
                is_known,
                holder.role != Role::Nobody,
                "who is somebody is found by id"
            );
        }
        assert_eq!(
            self.by_id.len() + self.free.len(),
            self.holders.len(),
            "everybody else is free"
        );
        assert_eq!(
            self.ids().count(),
            self.consumer_count as usize,
            "the count is that of consumers"
        );
        assert!(
            !self.has_exclusive || self.consumer_count == 1,
            "an exclusive consumer is alone"
        );
        self.turns
            .check_invariants(|index| Some(self.holders[index as usize].priority));
        self.check_single_active();
    }

    fn check_single_active(&self) {
        let is_served = |holder: &&Holder| holder.is_consumer() && !holder.pauses.is_waiting();
        let served = self.holders.iter().filter(is_served).count();
        let Some(single) = &self.single_active else {
            return assert_eq!(served, self.consumer_count as usize, "nobody waits for another");
        };
        let waiting = single.waiting_count() as u32;
        assert_eq!(served, usize::from(self.consumer_count > 0), "one is active");
        assert_eq!(waiting + served as u32, self.consumer_count, "the others wait");
        if let Some(active) = single.active() {
            let holder = &self.holders[active as usize];
            assert!(is_served(&holder), "the active one is served");
        }
    }

    fn occupy(&mut self, holder: Holder) -> u32 {
        let index = self.free.pop().unwrap_or(self.holders.len() as u32);
        match self.holders.get_mut(index as usize) {
            Some(place) => *place = holder,
            None => self.holders.push(holder),
        }
        let before = self.by_id.insert(holder.id, index);
        assert!(
            before.is_none(),
            "a channel does not use a consumer's number again"
        );
        index
    }

    /// Lets the next consumer be active where one is at a time and this one, that has gone, was it.
    fn pass_on(&mut self, gone: u32) {
        let single = self.single_active.as_mut();
        if let Some(next) = single.and_then(|single| single.remove(gone)) {
            let holder = &mut self.holders[next as usize];
            holder.pauses = holder.pauses.and_waiting(false);
            self.sort_in(next);
        }
    }

    fn settle_waiting(&mut self, index: u32) {
        self.sort_in(index);
        self.free_if_done(index);
    }

    /// Lets a holder join or leave the rings, as it can be served or not.
    fn sort_in(&mut self, index: u32) {
        let holder = &self.holders[index as usize];
        match (self.turns.contains(index), holder.can_be_served()) {
            (false, true) => self.turns.join(index, holder.priority),
            (true, false) => self.turns.leave(index, holder.priority),
            (true, true) | (false, false) => {}
        }
    }

    fn free_if_done(&mut self, index: u32) {
        let holder = &mut self.holders[index as usize];
        if holder.role == Role::OnlyHolds && holder.unacked == 0 {
            holder.role = Role::Nobody;
            self.by_id.remove(&holder.id);
            self.free.push(index);
        }
    }
}

impl Holder {
    fn consumer(consumer: &Consumer) -> Self {
        let (role, unacked_max) = match (consumer.no_ack, consumer.prefetch_count) {
            (true, _) => (Role::NoAck, u32::MAX),
            (false, 0) => (Role::NeedsAck, u32::MAX),
            (false, prefetch_count) => (Role::NeedsAck, u32::from(prefetch_count)),
        };
        Self {
            id: consumer.id,
            role,
            pauses: consumer.pauses,
            grant: consumer.grant,
            priority: consumer.priority,
            unacked: 0,
            unacked_max,
        }
    }

    fn getter(id: ConsumerId) -> Self {
        Self {
            id,
            role: Role::OnlyHolds,
            pauses: Pauses::default(),
            priority: 0,
            unacked: 0,
            unacked_max: u32::MAX,
            grant: u32::MAX,
        }
    }

    /// Takes one message off its grant. Returns whether that was the last.
    #[inline]
    fn spend_grant(&mut self) -> bool {
        if self.grant == u32::MAX {
            return false;
        }
        self.grant -= 1;
        let is_spent = self.grant == 0;
        self.pauses = self.pauses.and(Pause::ChannelPrefetch, is_spent);
        is_spent
    }

    fn is_consumer(&self) -> bool {
        matches!(self.role, Role::NeedsAck | Role::NoAck)
    }

    fn can_be_served(&self) -> bool {
        self.is_consumer() && self.pauses == Pauses::default() && self.unacked < self.unacked_max
    }
}

impl Pause {
    fn bit(self) -> u8 {
        match self {
            Pause::Output => 1,
            Pause::ChannelPrefetch => 2,
        }
    }
}
