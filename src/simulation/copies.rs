//! `Copy`: one message in one queue, as its consumers know it.
//!
//! ```text
//!             delivered             ack, reject              the owner answered a later question
//!   Free ──────────────────▶ Held ─────────────▶ Settled ───────────────────────────────────────▶ Taken ─┐
//!    ▲  nack, recover, end of │                     │ orderly end of the session                         │ confirm of
//!    └──── the session ───────┘                     └──────▶ Gone        power loss: all but Durable     │ a publish
//!                                                             become Free; kill: Taken becomes Durable ▼ sent later
//!                                                                                                   Durable
//! ```
//!
//! **When is an ack durable?** A client is told nothing about its acks. But the words of one connection reach a
//! queue's owner in order, so once the owner has answered a question (here a passive queue.declare) that was sent
//! after the ack on the same channel, it has taken the ack, and the tick that answered has written it: it survives a
//! kill. And once a persistent publish to a durable queue of the same owner, sent after that answer, is confirmed, a
//! sync has covered the ack: it survives a power loss.
//!
//! What is rejected and dead-lettered stays in its queue until the dead letter has arrived, so after any crash it may be
//! there once more, or twice where it went.

/// Who had a message delivered; a channel from its opening to its end.
pub type SessionId = u32;

/// Where a copy stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// In the queue, on its way there, or nobody can know: it may be delivered.
    #[default]
    Free,
    /// A client has it and has not settled it.
    Held(SessionId),
    /// A client has settled it; if its connection breaks, perhaps nobody heard of it.
    Settled(SessionId),
    /// It was settled, or needed none, and the broker must remember while it lives.
    Gone,
    /// The owner has taken its settle.
    Taken,
    /// Its settle is durable.
    Durable,
}

/// One message in one queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copy {
    /// Where it stands.
    pub standing: Standing,
    /// Whether it came to a client without the redelivered flag: this happens once. (The delivery with the flag may be
    /// read before the one without, by another client.)
    pub came_first: bool,
    /// Whether a client has ever settled it: then it need not be there any more.
    pub was_settled: bool,
    /// Whether it was rejected and is on its way to where dead letters go.
    pub is_dying: bool,
}

/// What a delivery means for the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The client must settle it.
    ToSettle,
    /// It needed no ack.
    Automatic,
    /// The client has given back all it held, or closes its channel; this delivery was under way, and another client may
    /// have the message by now.
    Void,
}

impl Copy {
    /// A client receives it.
    ///
    /// # Errors
    /// Why it may not.
    pub fn receive(
        &mut self,
        session: SessionId,
        redelivered: bool,
        receipt: Receipt,
    ) -> Result<(), &'static str> {
        if self.came_first && !redelivered {
            return Err("was delivered twice without the redelivered flag");
        }
        self.came_first |= !redelivered;
        if receipt == Receipt::Void {
            return Ok(());
        }
        match self.standing {
            Standing::Free => {}
            Standing::Held(_) => return Err("was delivered though another client still holds it unacked"),
            Standing::Settled(_) => {
                return Err("was delivered again after its ack, over a connection that lives");
            }
            Standing::Gone | Standing::Taken => return Err("was delivered again after its ack was taken"),
            Standing::Durable => return Err("was delivered again after its ack was durable"),
        }
        match receipt {
            Receipt::ToSettle => self.standing = Standing::Held(session),
            Receipt::Automatic => {
                self.standing = Standing::Gone;
                self.was_settled = true;
            }
            Receipt::Void => {}
        }
        Ok(())
    }

    /// The client acks or rejects it.
    pub fn settle(&mut self, session: SessionId) {
        self.standing = Standing::Settled(session);
        self.was_settled = true;
        self.is_dying = false;
    }

    /// The client rejects it, and it goes where its queue's dead letters go.
    pub fn reject(&mut self, session: SessionId) {
        self.standing = Standing::Settled(session);
        self.is_dying = true;
    }

    /// The session's connection has broken: nobody knows what the broker heard.
    pub fn break_off(&mut self, session: SessionId) {
        if let Standing::Held(holder) | Standing::Settled(holder) = self.standing
            && holder == session
        {
            self.standing = Standing::Free;
        }
    }

    /// The session begins to end: what it holds may go back from now on.
    pub fn let_go(&mut self, session: SessionId) {
        if self.standing == Standing::Held(session) {
            self.standing = Standing::Free;
        }
    }

    /// The session has ended in order: its settles were heard, what it still held goes back.
    pub fn end(&mut self, session: SessionId) {
        match self.standing {
            Standing::Held(holder) if holder == session => self.standing = Standing::Free,
            Standing::Settled(holder) if holder == session => self.standing = Standing::Gone,
            _ => {}
        }
    }

    /// The broker dies; `keeps_written` unless the power is lost.
    pub fn survive(&mut self, keeps_written: bool) {
        self.standing = match self.standing {
            Standing::Durable => Standing::Durable,
            Standing::Taken if keeps_written && !self.is_dying => Standing::Durable,
            _ => Standing::Free,
        };
    }

    /// The broker begins to close all connections: it may miss what it has not heard yet.
    pub fn be_closed_on(&mut self) {
        if let Standing::Held(_) | Standing::Settled(_) = self.standing {
            self.standing = Standing::Free;
        }
    }

    /// Whether the queue may still have it.
    pub fn may_be_there(&self) -> bool {
        !matches!(
            self.standing,
            Standing::Gone | Standing::Taken | Standing::Durable
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled_by(session: SessionId) -> Copy {
        let mut copy = Copy::default();
        copy.receive(session, false, Receipt::ToSettle)
            .expect("it is free");
        copy.settle(session);
        copy
    }

    #[test]
    fn what_a_living_client_settled_may_not_come_again() {
        let mut copy = settled_by(1);
        assert!(copy.receive(2, true, Receipt::ToSettle).is_err());
    }

    #[test]
    fn a_broken_connection_leaves_a_settle_unknown() {
        let mut copy = settled_by(1);
        copy.break_off(1);
        assert_eq!(copy.receive(2, true, Receipt::ToSettle), Ok(()));
    }

    #[test]
    fn a_settle_that_was_taken_survives_a_kill_and_not_a_power_loss() {
        let taken = Copy {
            standing: Standing::Taken,
            ..settled_by(1)
        };
        for (keeps_written, comes_again) in [(true, false), (false, true)] {
            let mut copy = taken;
            copy.survive(keeps_written);
            assert_eq!(copy.receive(2, true, Receipt::ToSettle).is_ok(), comes_again);
        }
    }

    #[test]
    fn only_one_delivery_is_without_the_redelivered_flag() {
        let mut copy = Copy::default();
        copy.receive(1, false, Receipt::ToSettle).expect("it is free");
        copy.break_off(1);
        assert!(copy.receive(2, false, Receipt::ToSettle).is_err());
    }
}
