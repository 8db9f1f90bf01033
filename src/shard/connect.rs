//! The story of a connection's beginning and of its conversation: accept, greet, log in, open; then step after step.

use super::connections::{Hold, Peer};
use super::{Shard, mailbox};
use crate::auth::Mechanism;
use crate::connection::{Connection, ConnectionState, Pulled, Step};
use crate::model::{ChannelNumber, ConnectionId, Moment, ShortString};
use crate::protocol::publish::RecognisedPublish;
use tracing::{info, warn};

/// Class and method of connection.start-ok.
const START_OK: (u16, u16) = (10, 11);

/// What a step means for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next step may be pulled.
    Pull,
    /// The connection waits; what set its hold resumes it.
    Wait,
    /// The connection has ended.
    End,
}

impl Shard {
    pub(super) fn accept(&mut self, peer: Peer, now: Moment) -> ConnectionId {
        let connection = Connection::new(self.settings.tuning, self.settings.message_bytes_max, now);
        let id = self.connections.add(peer, connection);
        self.counters.connections_accepted += 1;
        id
    }

    /// Pulls and carries out a connection's steps until its bytes are used up, or it must wait, or it ends.
    pub(super) fn converse(&mut self, slot: u32, now: Moment) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.hold.is_some() {
            return;
        }
        let Some(mut input) = connection.input.take() else {
            return;
        };
        let mut run = std::mem::take(&mut self.scratch.run);
        let next = loop {
            if self.has_unread_replies(slot) {
                break self.wait_for_output(slot);
            }
            let (consumed, next) = self.step(slot, input.rest(), &mut run, now);
            input.consumed += consumed;
            match next {
                Some(Next::Pull) => {}
                Some(next) => break next,
                None => break Next::Pull,
            }
        };
        self.scratch.run = run;
        self.connections.note_output(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if next == Next::Pull {
            connection.input = Some(input);
            self.reads.push(slot);
        } else {
            connection.input = Some(input.keep());
        }
    }

    /// Whether the client has asked for more than it reads.
    #[inline]
    fn has_unread_replies(&mut self, slot: u32) -> bool {
        let limit = 2 * self.settings.output_bytes_max;
        self.connections
            .get_mut(slot)
            .is_some_and(|connection| connection.replied_bytes > limit)
    }

    /// Lets a connection wait until its client has read what it asked for; [`Shard::relieve`] resumes it.
    fn wait_for_output(&mut self, slot: u32) -> Next {
        let connection = self.connections.get_mut(slot).expect("it was just asked for");
        connection.hold = Some(Hold::Output);
        self.counters.congestions += 1;
        Next::Wait
    }

    /// One step. `None` when more bytes are needed.
    #[inline]
    fn step(
        &mut self,
        slot: u32,
        input: &[u8],
        run: &mut Vec<RecognisedPublish>,
        now: Moment,
    ) -> (usize, Option<Next>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return (0, Some(Next::End));
        };
        let (before, replied_before) = (connection.outbound.len(), connection.replied_bytes);
        let pulled = connection
            .connection
            .pull(input, now, run, connection.outbound.buffer());
        let (consumed, next) = self.take_step(slot, input, pulled, run);
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.replied_bytes = replied_before + connection.outbound.len().saturating_sub(before);
        }
        (consumed, next)
    }

    #[inline]
    fn take_step(
        &mut self,
        slot: u32,
        input: &[u8],
        pulled: Pulled<'_>,
        run: &[RecognisedPublish],
    ) -> (usize, Option<Next>) {
        if let Step::Run(channel) = pulled.step {
            let next = self.publish_run(slot, channel, input, run);
            // A run that must wait is pulled again as a whole.
            let consumed = if next == Next::Wait { 0 } else { pulled.consumed };
            return (consumed, Some(next));
        }
        if let Step::NeedMore = pulled.step {
            return (0, None);
        }
        (pulled.consumed, Some(self.carry_out(slot, pulled.step)))
    }

    fn carry_out(&mut self, slot: u32, step: Step<'_>) -> Next {
        match step {
            Step::Handled | Step::NeedMore | Step::Run(_) => Next::Pull,
            Step::Greeted => self.greet(slot),
            Step::Login { mechanism, response } => self.log_in(slot, mechanism, response),
            Step::Open { vhost } => self.open(slot, vhost),
            Step::Method(channel, method) => self.obey(slot, channel, method),
            Step::Begun(_) => self.begin_publish(slot),
            Step::Unfinished(channel) => self.count_unfinished(slot, channel),
            Step::Assembled(channel) => self.publish_assembled(slot, channel),
            Step::CloseChannel(channel) => self.close_channel(slot, channel),
            Step::RefuseChannel(channel, refusal, failed) => {
                self.refuse_channel(slot, channel, &refusal, failed)
            }
            Step::Refuse(refusal, failed) => self.refuse_connection(slot, &refusal, failed),
            Step::CloseConnection => self.close_connection(slot),
            Step::End => self.end(slot),
        }
    }

    fn greet(&mut self, slot: u32) -> Next {
        let connection = self.connections.get_mut(slot).expect("the step came from it");
        connection
            .connection
            .start(&self.identity, connection.outbound.buffer());
        Next::Pull
    }

    fn log_in(&mut self, slot: u32, mechanism: &[u8], response: &[u8]) -> Next {
        let mechanism = match Mechanism::parse(mechanism) {
            Ok(mechanism) => mechanism,
            Err(refusal) => return self.refuse_connection(slot, &refusal, START_OK),
        };
        let connection = self.connections.get_mut(slot).expect("the step came from it");
        let address = connection.peer.address;
        let out = connection.outbound.buffer();
        match self
            .users
            .authenticate(mechanism, response, address.ip().to_canonical().is_loopback())
        {
            Ok(user) => {
                info!(connection = %connection.id, peer = %address, user = %user.name, "authenticated");
                connection.connection.logged_in(user.name, out);
                Next::Pull
            }
            Err(refused) => {
                warn!(connection = %connection.id, peer = %address, reason = %refused, "login refused");
                self.counters.logins_refused += 1;
                connection.connection.login_refused(&refused.refusal(), out);
                match connection.connection.state() {
                    ConnectionState::Closed => self.end(slot),
                    _ => Next::Pull,
                }
            }
        }
    }

    fn open(&mut self, slot: u32, vhost: &[u8]) -> Next {
        let connection = self.connections.get_mut(slot).expect("the step came from it");
        let user = connection.connection.user().clone();
        let shares = match self.admit_connection(&user, vhost) {
            Ok(shares) => shares,
            Err(refusal) => return self.refuse_connection(slot, &refusal, (10, 40)),
        };
        let record = self
            .users
            .get(user.as_bytes())
            .expect("who may open a vhost is a user");
        let connection = self.connections.get_mut(slot).expect("the step came from it");
        connection.shares = Some(shares);
        connection
            .connection
            .count_channels(record.usage.channels.clone(), record.limits.max_channels);
        let vhost = ShortString::new(vhost).expect("the decoder bounds a shortstr");
        info!(connection = %connection.id, user = %user, vhost = %vhost, "connection open");
        connection.connection.opened(vhost, connection.outbound.buffer());
        self.connections.note_opened(slot);
        Next::Pull
    }

    /// Lets a connection go on that waited.
    pub(super) fn resume(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.hold = None;
            self.runnable.push(slot);
        }
    }

    /// The client's replies are encoded here, so the connection is listed for writing.
    pub(super) fn reply(
        &mut self,
        slot: u32,
        channel: ChannelNumber,
        method: &crate::protocol::method::Method<'_>,
    ) {
        if let Some(connection) = self.connections.get_mut(slot) {
            let before = connection.outbound.len();
            method.encode(channel.0, connection.outbound.buffer());
            connection.replied_bytes += connection.outbound.len() - before;
            self.connections.note_output(slot);
        }
    }

    /// Says `message` to the core `to`.
    pub(super) fn say(&mut self, to: crate::model::ShardId, message: mailbox::ShardMessage) {
        self.mailbox.send(to, message);
    }
}
