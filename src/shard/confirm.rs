//! Confirms and everything else that waits for the log: its write at the tick's end (`write_log`), and who is told when
//! which sync has ended.
//!
//! ```text
//!                promise              serve_waiters             tell_served            confirmed
//!   published ──────────▶ waiting ───────────────▶ in flight ─────────────▶ told ─────────────▶ answered
//!                own, forwarded    a sync begins     in_flight    it ended    here, or at the     basic.ack, by
//!                                                                             publisher's core    answer_confirms
//! ```
//!
//! What need not wait is told at once. A channel is listed once however many of its publishes wait; what is told is a
//! watermark, and the channel's confirm point is the lowest of those its owners have told.

use super::mailbox::{Publisher, ShardMessage};
use super::{Outputs, Shard};
use crate::config::Durability;
use crate::model::{ChannelNumber, ConnectionId, Moment, PublishSequence, ShardId};
use crate::storage::{StorageError, SyncRequest};
use std::collections::BTreeMap;

/// Who waits for the log.
#[derive(Default)]
pub struct SyncWaiters {
    /// Channels of this core whose publishes wait for the next sync; the flag in `Confirms` keeps each here once.
    own: Vec<(ConnectionId, ChannelNumber)>,
    /// Channels of other cores, with the last publish that waits.
    forwarded: BTreeMap<(ConnectionId, ChannelNumber), PublishSequence>,
    /// Those whom the sync under way will serve, with the watermark it gives them.
    in_flight: Vec<Publisher>,
    /// Channels of this core with answers to write.
    answering: Vec<(ConnectionId, ChannelNumber)>,
}

impl SyncWaiters {
    /// Whether somebody waits for a sync that has not begun.
    pub fn is_waiting(&self) -> bool {
        !self.own.is_empty() || !self.forwarded.is_empty()
    }
}

impl Shard {
    /// The publishes of a channel of this core up to `last` were taken; those that went to this core's log wait for it
    /// when `must_sync`, or when earlier ones do.
    #[inline]
    pub(super) fn promise(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        last: PublishSequence,
        must_sync: bool,
    ) {
        let id = self.id;
        let Some(confirms) = self.confirms_of(connection, number) else {
            return;
        };
        if must_sync || confirms.owes(id) {
            confirms.sent_to(id, last);
            if !std::mem::replace(&mut confirms.awaits_sync, true) {
                self.sync_waiters.own.push((connection, number));
            }
        }
        self.list_answering(connection, number);
    }

    /// The same for a forwarded run: `must_sync` says whether it went to this core's log.
    pub(super) fn promise_forwarded(&mut self, publisher: Publisher, must_sync: bool) {
        let Publisher {
            connection,
            channel,
            last,
        } = publisher;
        let key = (connection, channel);
        let waits = self.sync_waiters.forwarded.contains_key(&key)
            || self
                .sync_waiters
                .in_flight
                .iter()
                .any(|p| (p.connection, p.channel) == key);
        if must_sync || waits {
            self.sync_waiters.forwarded.insert(key, last);
        } else {
            self.tell(publisher);
        }
    }

    pub(super) fn list_answering(&mut self, connection: ConnectionId, number: ChannelNumber) {
        if let Some(confirms) = self
            .connections
            .channel(connection, number)
            .and_then(|c| c.confirms.as_mut())
            && !std::mem::replace(&mut confirms.has_answers, true)
        {
            self.sync_waiters.answering.push((connection, number));
        }
    }

    /// Writes the tick's records, and asks for a sync if someone waits for one or the interval has passed.
    pub(super) fn write_log(&mut self, now: Moment, outputs: &mut Outputs) -> Result<(), StorageError> {
        self.append_settles();
        self.keep_log()?;
        self.log.flush()?;
        if self.settings.durability == Durability::Write {
            self.serve_waiters();
            self.tell_served();
            self.announce();
        }
        let is_due = now.milliseconds_since(self.last_sync) >= self.settings.sync_interval_max_milliseconds;
        let is_wanted = match self.settings.durability {
            Durability::Fsync => self.sync_waiters.is_waiting() || self.awaits_announcement(),
            Durability::Write => false,
        };
        if is_wanted && self.log.durable_lsn() == self.log.appended_lsn() {
            // Who came while the last sync ran, with nothing to be logged: no further sync will come for them.
            self.serve_waiters();
            self.tell_served();
        }
        if (is_wanted || is_due)
            && let Some(request) = self.log.sync_request()
        {
            self.last_sync = now;
            self.counters.log_syncs += 1;
            self.serve_waiters();
            outputs.sync = Some(request);
        }
        outputs.prepare = self.log.maintenance_request();
        Ok(())
    }

    /// Moves the waiting to those whom the sync that begins now will serve.
    fn serve_waiters(&mut self) {
        let id = self.id;
        for (connection, channel) in std::mem::take(&mut self.sync_waiters.own) {
            let Some(confirms) = self.confirms_of(connection, channel) else {
                continue;
            };
            confirms.awaits_sync = false;
            let last = confirms.sent(id);
            self.sync_waiters.in_flight.push(Publisher {
                connection,
                channel,
                last,
            });
        }
        for ((connection, channel), last) in std::mem::take(&mut self.sync_waiters.forwarded) {
            self.sync_waiters.in_flight.push(Publisher {
                connection,
                channel,
                last,
            });
        }
    }

    /// A sync has ended: what was written before it is durable.
    ///
    /// # Errors
    /// The sync failed. What the kernel still holds is unknown, so nothing is retried.
    pub(super) fn synced(
        &mut self,
        request: SyncRequest,
        result: std::io::Result<()>,
    ) -> Result<(), StorageError> {
        self.log.synced(request, result)?;
        self.tell_served();
        self.announce();
        Ok(())
    }

    fn tell_served(&mut self) {
        for publisher in std::mem::take(&mut self.sync_waiters.in_flight) {
            self.tell(publisher);
        }
    }

    fn tell(&mut self, publisher: Publisher) {
        let Publisher {
            connection,
            channel,
            last,
        } = publisher;
        if connection.shard == self.id {
            self.confirmed(connection, channel, self.id, last);
        } else {
            self.say(
                connection.shard,
                ShardMessage::Confirmed {
                    connection,
                    channel,
                    through: last,
                },
            );
        }
    }

    /// `owner` has all that the channel sent it up to `through`.
    pub(super) fn confirmed(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        owner: ShardId,
        through: PublishSequence,
    ) {
        if self.is_itself(connection) {
            self.confirm_transfers(owner, through);
        } else if let Some(confirms) = self.confirms_of(connection, number) {
            confirms.safe_at(owner, through);
            self.list_answering(connection, number);
        }
    }

    /// Tells the publisher's core which of a run's `count` messages this core's queues refused.
    pub(super) fn tell_refused(&mut self, publisher: Publisher, count: usize, refused: &[u32]) {
        if refused.is_empty() {
            return;
        }
        let first = publisher.last.0 + 1 - count as u64;
        let sequences = refused.iter().map(|&at| PublishSequence(first + u64::from(at)));
        let Publisher {
            connection, channel, ..
        } = publisher;
        self.say(
            connection.shard,
            ShardMessage::Refused {
                connection,
                channel,
                sequences: sequences.collect(),
            },
        );
    }

    /// Queues refused these publishes: they will be nacked in their turn.
    pub(super) fn note_refused(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        sequences: &[PublishSequence],
    ) {
        if self.is_itself(connection) {
            return self.note_refused_transfers(sequences);
        }
        if let Some(confirms) = self.confirms_of(connection, number) {
            sequences.iter().for_each(|&sequence| confirms.refuse(sequence));
        }
    }

    /// Writes basic.ack and basic.nack for what has become safe.
    pub(super) fn answer_confirms(&mut self) {
        let mut answering = std::mem::take(&mut self.sync_waiters.answering);
        for (id, number) in answering.drain(..) {
            let Some(connection) = self.connections.find(id) else {
                continue;
            };
            let Some(channel) = connection.connection.channel_mut(number) else {
                continue;
            };
            let Some(confirms) = channel.confirms.as_mut() else {
                continue;
            };
            confirms.has_answers = false;
            if channel.transaction.is_some() {
                self.committing.push((id, number));
                continue;
            }
            let (before, bytes_before) = (confirms.outstanding(), connection.outbound.len());
            while let Some(answer) = confirms.next_answer() {
                answer.encode(number, connection.outbound.buffer());
            }
            self.counters.messages_confirmed += before - confirms.outstanding();
            connection.replied_bytes += connection.outbound.len() - bytes_before;
            self.connections.note_output(id.slot);
        }
        self.sync_waiters.answering = answering;
    }
}
