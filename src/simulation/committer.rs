//! `Committer`: publishes in transactions (AMQP 0-9-1 §1.9). What it has not committed, nobody may ever get; what it has is
//! there like any confirmed message.

use super::actor::{Actor, Replies, Talk, Wish};
use super::catalogue::TARGETS;
use super::letter::{Letter, encode_publish};
use super::manner::Manner;
use crate::protocol::method::{Method, TxCommit, TxCommitOk, TxRollback, TxRollbackOk, TxSelect, TxSelectOk};

/// A publisher on a transactional channel.
#[derive(Debug, Default)]
pub struct Committer {
    replies: Replies,
    favourite: usize,
    /// Messages of the transaction that is open.
    kept: usize,
}

impl Committer {
    /// A publisher that likes one target more than the others.
    pub fn new(favourite: usize) -> Self {
        Self {
            favourite: favourite % TARGETS.len(),
            ..Self::default()
        }
    }

    fn publish(&mut self, talk: &mut Talk<'_>) {
        for publishing in Manner::Ordinary.burst(self.favourite, talk.dice) {
            let id = talk.auditor.publish_unsaid(talk.session, publishing);
            encode_publish(
                (talk.channel, talk.frame_max),
                id,
                &TARGETS[publishing.target],
                publishing.is_mandatory,
                (publishing.body_length, publishing.is_persistent),
                talk.out,
            );
            self.kept += 1;
        }
    }

    fn commit(&mut self, talk: &mut Talk<'_>) {
        talk.auditor.begin_commit(talk.session);
        talk.say(TxCommit {});
        self.replies.expect(TxCommitOk::IDS);
        self.kept = 0;
    }

    fn roll_back(&mut self, talk: &mut Talk<'_>) {
        talk.auditor.roll_back(talk.session);
        talk.say(TxRollback {});
        self.replies.expect(TxRollbackOk::IDS);
        self.kept = 0;
    }
}

impl Actor for Committer {
    fn open(&mut self, talk: &mut Talk<'_>) {
        talk.say(TxSelect {});
        self.replies.expect(TxSelectOk::IDS);
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        self.replies.take(method, talk);
        if let Method::TxCommitOk(_) = method {
            talk.auditor.end_commit(talk.session);
        }
    }

    fn receive(&mut self, letter: Letter, _is_void: bool, talk: &mut Talk<'_>) {
        talk.auditor.take_back(talk.session, &letter);
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if !self.replies.is_empty() {
            return Wish::GoOn;
        }
        if talk.is_winding_down {
            if self.kept > 0 {
                self.commit(talk);
            }
            return Wish::GoOn;
        }
        match talk.dice.below(100) {
            0..55 => self.publish(talk),
            55..80 => self.commit(talk),
            80..90 => self.roll_back(talk),
            90 => return Wish::Reopen,
            _ => {}
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.replies.is_empty() && self.kept == 0
    }

    fn describe(&self) -> String {
        format!("committer, {} kept, waits for {:?}", self.kept, self.replies)
    }
}
