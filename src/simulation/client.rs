//! `Client`: connects, plays its roles until its connection breaks, and connects again.

use super::auditor::Auditor;
use super::catalogue::QueueIndex;
use super::manner::Manner;
use super::network::{End, LinkId};
use super::scheduler::Scheduler;
use super::session::{Outside, Session};

/// Turns of a hundred at which a client that may vanish does.
const VANISH_PERCENT: u64 = 4;

/// What a client does on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Declares the catalogue.
    Found,
    /// Publishes, in this manner.
    Publish(Manner),
    /// Publishes in transactions.
    Commit,
    /// Consumes from a queue.
    Consume(QueueIndex),
    /// Consumes from many queues with a prefetch for all.
    Share,
    /// Lives in auto-delete queues.
    Rent,
    /// Declares and deletes what others declare and delete.
    Fight,
    /// Asks for much and reads nothing for a while.
    Flood,
    /// Gets.
    Get,
    /// Declares and deletes.
    Declare,
    /// Takes what there is while the others end.
    Sweep,
    /// Empties all queues.
    Drain,
}

/// A client of the broker.
pub struct Client {
    number: usize,
    roles: Vec<Role>,
    sessions: u32,
    session: Option<Session>,
    /// Percentage of turns at which its connection breaks.
    break_percent: u64,
}

impl Client {
    /// A client that has not connected.
    pub fn new(number: usize, roles: Vec<Role>, break_percent: u64) -> Self {
        Self {
            number,
            roles,
            sessions: 0,
            session: None,
            break_percent,
        }
    }

    /// Its connection.
    pub fn link(&self) -> Option<LinkId> {
        self.session.as_ref().map(Session::link)
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// Whether it has ever been connected.
    pub fn has_been_connected(&self) -> bool {
        self.sessions > 0
    }

    /// Whether it plays `role`.
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether it reads what comes.
    pub fn is_listening(&self) -> bool {
        self.session.as_ref().is_none_or(Session::is_listening)
    }

    /// What it is doing.
    pub fn describe(&self) -> String {
        let doing = self.session.as_ref().map(Session::describe);
        format!(
            "client {} {}",
            self.number,
            doing.as_deref().unwrap_or("is not connected")
        )
    }

    /// It has connected by `link`.
    pub fn connect(&mut self, link: LinkId, scheduler: &mut Scheduler) {
        self.sessions += 1;
        let mut session = Session::new(self.number, link, &self.roles, scheduler);
        session.send(scheduler);
        self.session = Some(session);
        scheduler.arrange_turn(self.number, self.sessions);
    }

    /// It reads `bytes`.
    pub fn read(&mut self, bytes: &[u8], outside: &mut Outside<'_>) {
        if let Some(session) = &mut self.session {
            session.read(bytes, &self.roles, outside);
        }
    }

    /// Its turn, if it is still in its session of this number.
    pub fn act(&mut self, number: u32, outside: &mut Outside<'_>) {
        let Some(session) = self.session.as_mut().filter(|_| self.sessions == number) else {
            return;
        };
        if !outside.is_winding_down && outside.scheduler.dice.chance(self.break_percent) {
            self.leave(outside);
        } else if outside.may_vanish && outside.scheduler.dice.chance(VANISH_PERCENT) {
            self.break_link(End::Reset, outside);
        } else {
            session.act(outside);
        }
        if self.is_connected() {
            outside.scheduler.arrange_turn(self.number, number);
        }
    }

    /// The broker has ended the connection, and everything was read.
    pub fn meet_end(&mut self, outside: &mut Outside<'_>) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        if session.is_closing() {
            return session.end(outside.auditor);
        }
        if !outside.is_draining {
            let doing = session.describe();
            let number = self.number;
            outside.auditor.accuse(format!(
                "the broker ended the connection of client {number} without a word: {doing}"
            ));
        }
        session.break_off(outside.auditor);
    }

    /// Its connection has broken.
    pub fn break_off(&mut self, auditor: &mut Auditor) {
        if let Some(mut session) = self.session.take() {
            session.break_off(auditor);
        }
    }

    /// Closes its connection, or breaks it: the broker meets the end of the stream, or a reset.
    fn leave(&mut self, outside: &mut Outside<'_>) {
        let Some(session) = &mut self.session else { return };
        let Outside {
            auditor, scheduler, ..
        } = outside;
        if session.is_running() && scheduler.dice.chance(40) {
            let (id, number) = (session.link(), self.number);
            scheduler.say(format_args!("client {number} closes link {id}"));
            session.close(auditor);
            return session.send(scheduler);
        }
        let end = match scheduler.dice.chance(50) {
            true => End::Reset,
            false => End::Finished,
        };
        self.break_link(end, outside);
    }

    /// Its connection breaks, and it knows nothing of what becomes of it.
    fn break_link(&mut self, end: End, outside: &mut Outside<'_>) {
        let Some(id) = self.link() else { return };
        let Outside {
            auditor, scheduler, ..
        } = outside;
        let number = self.number;
        scheduler.say(format_args!("client {number} breaks link {id}: {end:?}"));
        if let Some(link) = scheduler.network.link(id) {
            link.end_by_client(end);
        }
        scheduler.arrange_reach(id);
        scheduler.arrange_late_read(id);
        self.break_off(auditor);
    }
}
