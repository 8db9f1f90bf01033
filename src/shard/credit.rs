//! Credit: a publish is taken only if every core that owns one of its queues may be sent more ([`mailbox`](super::mailbox)
//! counts). A connection whose publish lacks it waits, and is not read, until a batch brings credit back.

use super::Shard;
use super::connect::Next;
use super::connections::Hold;
use crate::channel::Destination;
use crate::channel::reply_to::ReplyAddress;
use crate::model::ChannelNumber;

impl Shard {
    /// Whether every owner of `destinations` may be sent publishes.
    #[inline]
    pub(super) fn has_credit_for(&self, destinations: &[Destination]) -> bool {
        destinations
            .iter()
            .all(|destination| self.mailbox.has_credit(destination.owner))
    }

    /// The same for a message that goes to requesters as well.
    pub(super) fn has_credit_for_all(&self, destinations: &[Destination], replies: &[ReplyAddress]) -> bool {
        let mut requesters = replies.iter().map(|address| address.consumer.connection.shard);
        self.has_credit_for(destinations) && requesters.all(|shard| self.mailbox.has_credit(shard))
    }

    /// Lets a connection wait until the lanes it publishes to have credit again.
    pub(super) fn wait_for_credit(&mut self, slot: u32, assembled: Option<ChannelNumber>) -> Next {
        let connection = self.connections.get_mut(slot).expect("it publishes");
        connection.hold = Some(Hold::Publish { assembled });
        self.waiting_for_credit.push(slot);
        self.counters.credit_pauses += 1;
        Next::Wait
    }

    /// Lets connections go on that waited for credit. Those that still lack it will wait again.
    pub(super) fn resume_publishers(&mut self) {
        for slot in std::mem::take(&mut self.waiting_for_credit) {
            self.resume_publisher(slot);
        }
    }

    /// Lets a connection go on that waited with a publish. A message complete in its channel goes first.
    pub(super) fn resume_publisher(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let id = connection.id;
        match connection.hold {
            Some(Hold::Publish { assembled }) => {
                self.resume(slot);
                if let Some(channel) = assembled {
                    self.publish_assembled(slot, channel);
                }
            }
            Some(Hold::Commit { channel }) => self.carry_commit(id, channel),
            _ => {}
        }
    }
}
