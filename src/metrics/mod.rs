//! Counters: what one core has done since it started.
//!
//! A `ShardCounters` belongs to one core, which adds to its fields as it works. Nothing here is shared or atomic:
//! whoever wants the sum asks each core for a copy and merges them. Counters only grow, so two readings give a rate;
//! what goes up and down (open connections, ready messages) is told by the folder that holds it.
//!
//! The folder knows nothing of who reads the counters and in which format.

/// Declares the counters once: their fields, their names and their sum.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one core has done since it started, or several cores once merged.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ShardCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ShardCounters {
            /// How many counters there are.
            pub const COUNT: usize = [$(stringify!($name)),*].len();

            /// Adds another core's counters to these.
            pub fn merge(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// What was added since `earlier`, an older copy of the same counters.
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name - earlier.$name,)* }
            }

            /// Each counter by its name, in the order of their declaration.
            pub fn named(&self) -> [(&'static str, u64); Self::COUNT] {
                [$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Sockets accepted, before any byte was read.
    connections_accepted,
    /// Connections opened: connection.open-ok was sent.
    connections_opened,
    /// Connections closed, opened before or not.
    connections_closed,
    /// Connections refused by a limit.
    connections_refused,
    /// Logins refused.
    logins_refused,
    /// Channels opened.
    channels_opened,
    /// Channels closed, with their connection or alone.
    channels_closed,
    /// Queues created on this core: declared, and not there before.
    queues_created,
    /// Queues of this core deleted, for whatever reason.
    queues_deleted,

    /// Bytes read from sockets.
    received_bytes,
    /// Bytes written to sockets.
    sent_bytes,
    /// Reads from sockets that brought bytes.
    socket_reads,
    /// Writes to sockets.
    socket_writes,

    /// Messages published by clients of this core, whatever became of them.
    messages_published,
    /// Bytes of their bodies.
    published_bytes,
    /// Entries of messages in queues of this core: one message counts once for each queue.
    messages_enqueued,
    /// Messages that found no queue and were not mandatory.
    messages_unroutable_dropped,
    /// Mandatory messages that found no queue: basic.return was sent.
    messages_unroutable_returned,
    /// Confirms due to publishers, one a message, however many an ack covered.
    messages_confirmed,
    /// Negative confirms, one a message.
    messages_nacked,
    /// Transactions committed: tx.commit-ok was sent.
    transactions_committed,

    /// Messages delivered to consumers.
    messages_delivered,
    /// Bytes of their bodies.
    delivered_bytes,
    /// Messages fetched with basic.get.
    messages_got,
    /// basic.get on an empty queue.
    gets_empty,
    /// Deliveries and fetches marked redelivered.
    messages_redelivered,
    /// Replies for requesters that do not read them.
    replies_dropped,
    /// Messages acknowledged by clients.
    messages_acked,
    /// Messages rejected or nacked without requeue.
    messages_rejected,
    /// Messages put back into their queue.
    messages_requeued,
    /// Messages that left a queue by queue.purge or with the queue.
    messages_purged,
    /// Messages whose time to live ran out.
    messages_expired,
    /// Messages dropped because their value had been seen (`x-message-deduplication`).
    messages_deduplicated,
    /// Messages that a queue's length limit dropped or refused.
    messages_over_length,
    /// Messages that came back more often than their queue allows.
    messages_over_delivery_limit,
    /// Messages handed to a dead letter exchange, whether it has queues for them or not.
    messages_dead_lettered,

    /// Messages sent to another core.
    messages_forwarded_out,
    /// Messages that came from another core.
    messages_forwarded_in,
    /// Batches sent to another core.
    batches_forwarded_out,
    /// Batches that came from another core.
    batches_forwarded_in,
    /// Times the reading of sockets paused because another core gave no credit.
    credit_pauses,
    /// Times a queue stopped pushing to a connection because too much waited for its socket.
    congestions,

    /// Records appended to the log.
    log_records,
    /// Bytes appended to the log.
    log_bytes,
    /// Writes to the log's files.
    log_writes,
    /// Syncs of the log that finished.
    log_syncs,
    /// Nanoseconds from asking for a sync to hearing of its end, summed.
    log_sync_nanoseconds,

    /// Turns of the core's loop.
    ticks,
    /// Turns that found nothing to do.
    ticks_idle,
    /// Times the core slept.
    sleeps,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_counters_are_the_sum_of_two_cores() {
        let mut sum = ShardCounters {
            messages_published: 3,
            ticks: 1,
            ..ShardCounters::default()
        };
        let other = ShardCounters {
            messages_published: 4,
            log_syncs: 2,
            ..ShardCounters::default()
        };
        sum.merge(&other);
        assert_eq!((sum.messages_published, sum.ticks, sum.log_syncs), (7, 1, 2));
        assert_eq!(
            sum.since(&other),
            ShardCounters {
                messages_published: 3,
                ticks: 1,
                ..ShardCounters::default()
            }
        );
    }

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let named = ShardCounters {
            sleeps: 9,
            ..ShardCounters::default()
        }
        .named();
        assert_eq!(named.last(), Some(&("sleeps", 9)));
        let names: std::collections::BTreeSet<_> = named.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), ShardCounters::COUNT);
    }
}
