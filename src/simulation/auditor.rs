//! `Auditor`: knows what was promised, and says so when the broker breaks it.
//!
//! - A confirmed persistent message in a durable queue is there until somebody settles it.
//! - None is delivered again after its ack was taken, while the broker lives, or durable, after any crash (`copies`).
//! - None is held by two clients, and whoever gets one that was received before is told by the redelivered flag.
//! - What one channel published reaches one consumer in that order, but for messages that were requeued.
//! - Confirms ascend and cover only what was published; basic.return comes before the ack, for just those messages
//!   that are mandatory and find no queue.
//! - Every content arrives as it was sent, in a queue that its route reaches.
//! - What was not committed comes to nobody; what was is there like any other message.
//! - What dies in a queue with a dead letter exchange is found where that leads, once or, after a crash, more than once.

use super::catalogue::{CatalogueQueue, QUEUES, QueueIndex, TARGETS, Target, takes_dead_letters};
use super::copies::{Copy, Receipt, SessionId, Standing};
use super::letter::Letter;
use super::tenancies::Tenancies;
use super::trace::Trace;
use crate::model::Moment;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Index of a message.
pub type MessageId = usize;

/// What is known of a message.
#[derive(Debug)]
struct Published {
    session: SessionId,
    /// Number of the event of its publishing, to compare with other events.
    event: u64,
    /// The broker's life it was published in.
    life: u32,
    target: usize,
    body_length: usize,
    is_persistent: bool,
    is_mandatory: bool,
    is_confirmed: bool,
    is_returned: bool,
    /// Whether it is in a transaction that was not committed: nobody may get it.
    is_unsaid: bool,
    copies: Vec<(QueueIndex, Copy)>,
}

/// A channel from its opening to its end.
#[derive(Debug, Default)]
struct Session {
    published: Vec<MessageId>,
    confirmed: usize,
    touched: Vec<(MessageId, QueueIndex)>,
    /// By publishing session: the last message that came for the first time.
    first_deliveries: BTreeMap<(QueueIndex, SessionId), MessageId>,
}

/// What a publisher does.
#[derive(Clone, Copy, Debug)]
pub struct Publishing {
    /// Index in `TARGETS`.
    pub target: usize,
    /// Length of the body.
    pub body_length: usize,
    /// Whether it is to survive a restart.
    pub is_persistent: bool,
    /// Whether it must come back when no queue takes it.
    pub is_mandatory: bool,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages confirmed.
    pub confirmed: u64,
    /// Deliveries with the redelivered flag.
    pub redelivered: u64,
    /// Dead letters that came to a client.
    pub dead_letters: u64,
    /// Lives of the broker that ended other than by an orderly stop.
    pub crashes: u64,
}

/// The oracle of a run.
#[derive(Default)]
pub struct Auditor {
    trace: Trace,
    now: Moment,
    messages: Vec<Published>,
    sessions: Vec<Session>,
    events: u64,
    life: u32,
    /// By lane: settles that the owner has taken, with the event of its answer.
    taken: Vec<VecDeque<(u64, MessageId, QueueIndex)>>,
    /// Who lives in which auto-delete queue.
    pub tenancies: Tenancies,
    violation: Option<String>,
    /// Confirms of persistent messages in durable queues.
    pub durable_confirms: u64,
    /// What was counted.
    pub tally: Tally,
}

impl Auditor {
    /// The auditor of a run that is told by `trace`.
    pub fn new(trace: Trace) -> Self {
        Self {
            trace,
            ..Self::default()
        }
    }

    /// What it hears from now on happens at `now`.
    pub fn set_time(&mut self, now: Moment) {
        self.now = now;
    }

    fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.say(self.now, what);
    }

    /// The first promise broken, if one was.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// A promise is broken.
    pub fn accuse(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    // ---- sessions and lives

    /// A channel opens.
    pub fn open_session(&mut self) -> SessionId {
        self.sessions.push(Session::default());
        self.sessions.len() as SessionId - 1
    }

    /// A channel's connection has broken.
    pub fn break_session(&mut self, session: SessionId) {
        self.tenancies.pull_down(session);
        self.for_touched(session, |copy| copy.break_off(session));
    }

    /// A client begins to close a channel in order.
    pub fn begin_end_of_session(&mut self, session: SessionId) {
        let touched = self.sessions[session as usize].touched.clone();
        self.for_touched(session, |copy| copy.let_go(session));
        self.sessions[session as usize].touched = touched;
    }

    /// A channel was closed in order, by its client.
    pub fn end_session(&mut self, session: SessionId) {
        self.tenancies.close(session);
        self.for_touched(session, |copy| copy.end(session));
    }

    /// The broker begins a life.
    pub fn begin_life(&mut self, life: u32) {
        self.life = life;
    }

    /// The broker has died; `keeps_written` unless the power was lost.
    pub fn end_life(&mut self, keeps_written: bool) {
        self.tenancies.pull_all_down();
        self.for_all(|copy| copy.survive(keeps_written));
        self.taken.clear();
    }

    /// The broker begins to close every connection.
    pub fn begin_drain(&mut self) {
        self.for_all(Copy::be_closed_on);
    }

    // ---- publishing

    /// A message is sent; returns its id.
    pub fn publish(&mut self, session: SessionId, publishing: Publishing) -> MessageId {
        self.events += 1;
        let id = self.messages.len();
        let queues = TARGETS[publishing.target].queues;
        self.messages.push(Published {
            session,
            event: self.events,
            life: self.life,
            target: publishing.target,
            body_length: publishing.body_length,
            is_persistent: publishing.is_persistent,
            is_mandatory: publishing.is_mandatory,
            is_confirmed: false,
            is_returned: false,
            is_unsaid: false,
            copies: queues.iter().map(|&queue| (queue, Copy::default())).collect(),
        });
        self.sessions[session as usize].published.push(id);
        self.note(format_args!(
            "session {session} publishes message {id}: {publishing:?}"
        ));
        id
    }

    /// A message is sent that counts when it is committed; returns its id.
    pub fn publish_unsaid(&mut self, session: SessionId, publishing: Publishing) -> MessageId {
        let id = self.publish(session, publishing);
        self.messages[id].is_unsaid = true;
        id
    }

    /// A client commits: what it sent may be there from now on.
    pub fn begin_commit(&mut self, session: SessionId) {
        self.note(format_args!("session {session} commits"));
        for &id in self.unconfirmed_of(session).to_vec().iter() {
            self.messages[id].is_unsaid = false;
        }
    }

    /// The broker has committed: what the client sent is as safe as if it had been confirmed.
    pub fn end_commit(&mut self, session: SessionId) {
        let count = self.sessions[session as usize].published.len();
        if self.unconfirmed(session) > 0 {
            self.confirm(session, count as u64, true);
        }
    }

    /// A client takes back what it sent and has not committed.
    pub fn roll_back(&mut self, session: SessionId) {
        self.note(format_args!("session {session} rolls back"));
        let session = &mut self.sessions[session as usize];
        session.published.truncate(session.confirmed);
    }

    fn unconfirmed_of(&self, session: SessionId) -> &[MessageId] {
        let session = &self.sessions[session as usize];
        &session.published[session.confirmed..]
    }

    /// Publishes of the session without a confirm.
    pub fn unconfirmed(&self, session: SessionId) -> usize {
        self.unconfirmed_of(session).len()
    }

    /// The broker confirms.
    pub fn confirm(&mut self, session: SessionId, tag: u64, multiple: bool) {
        let Session {
            published, confirmed, ..
        } = &self.sessions[session as usize];
        let (first, end) = (*confirmed, tag as usize);
        let is_next = if multiple { end > first } else { end == first + 1 };
        if !is_next || end > published.len() {
            let count = published.len();
            return self.accuse(format!(
                "confirm {tag} (multiple: {multiple}) after {first} were confirmed of {count} published"
            ));
        }
        self.note(format_args!("session {session} has {first}..{end} confirmed"));
        let messages = published[first..end].to_vec();
        self.sessions[session as usize].confirmed = end;
        for id in messages {
            self.confirm_message(id);
        }
    }

    fn confirm_message(&mut self, id: MessageId) {
        self.tally.confirmed += 1;
        let message = &mut self.messages[id];
        message.is_confirmed = true;
        let target = &TARGETS[message.target];
        if message.is_mandatory && target.is_unroutable() && !message.is_returned {
            return self.accuse(format!(
                "message {id} is mandatory and found no queue, but was confirmed before it was returned"
            ));
        }
        if !message.is_persistent {
            return;
        }
        let event = message.event;
        self.durable_confirms += u64::from(target.is_routable());
        for &queue in target.queues.iter().filter(|&&queue| QUEUES[queue].is_durable) {
            self.sync_taken(QUEUES[queue].lane, event);
        }
    }

    /// A sync of this lane has covered all that its owner took before `event`.
    fn sync_taken(&mut self, lane: usize, event: u64) {
        while let Some(&(taken, id, queue)) = self.taken.get(lane).and_then(VecDeque::front)
            && taken < event
        {
            self.taken[lane].pop_front();
            let copy = self.copy(id, queue);
            if copy.standing == Standing::Taken && !copy.is_dying {
                copy.standing = Standing::Durable;
            }
        }
    }

    /// The broker returns a message.
    pub fn take_back(&mut self, session: SessionId, letter: &Letter) {
        let Some(id) = self.recognise(letter, None) else {
            return;
        };
        let message = &mut self.messages[id];
        let is_right = message.session == session
            && message.is_mandatory
            && !message.is_confirmed
            && !message.is_returned;
        message.is_returned = true;
        if !is_right || TARGETS[message.target].is_routable() {
            self.accuse(format!(
                "message {id} was returned though it was not to be, or too late: {:?}",
                self.messages[id]
            ));
        }
    }

    // ---- consuming

    /// A client receives a message from a queue of the catalogue, or from another. Returns its id.
    pub fn deliver(
        &mut self,
        session: SessionId,
        queue: Option<QueueIndex>,
        letter: &Letter,
        receipt: Receipt,
    ) -> Option<MessageId> {
        self.tally.redelivered += u64::from(letter.redelivered);
        let source = queue.and_then(|queue| self.source_of(letter, queue));
        let id = self.recognise(letter, source)?;
        let name = queue.map_or("another queue", |queue| QUEUES[queue].name);
        let redelivered = letter.redelivered;
        self.note(format_args!(
            "session {session} gets message {id} of {name}, redelivered {redelivered}, {receipt:?}"
        ));
        let queue = queue?;
        if source.is_some() {
            self.tally.dead_letters += 1;
            return Some(id);
        }
        if !self.messages[id].copies.iter().any(|(of, _)| *of == queue) {
            let target = &TARGETS[self.messages[id].target];
            self.accuse(format!(
                "message {id} came from {name}, where its route does not lead: {target:?}"
            ));
            return None;
        }
        if !letter.redelivered {
            self.check_order(session, queue, id);
        }
        let received = self.copy(id, queue).receive(session, letter.redelivered, receipt);
        if let Err(fault) = received {
            self.accuse(format!("message {id} of {} {fault}", QUEUES[queue].name));
        }
        self.sessions[session as usize].touched.push((id, queue));
        Some(id)
    }

    fn check_order(&mut self, session: SessionId, queue: QueueIndex, id: MessageId) {
        let publisher = self.messages[id].session;
        let last = self.sessions[session as usize]
            .first_deliveries
            .insert((queue, publisher), id);
        if let Some(last) = last.filter(|&last| last >= id) {
            self.accuse(format!(
                "message {id} of {} came after {last} of the same channel",
                QUEUES[queue].name
            ));
        }
    }

    /// The session that published a message.
    pub fn publisher_of(&self, id: MessageId) -> SessionId {
        self.messages[id].session
    }

    /// A client acks or rejects a message.
    pub fn settle(&mut self, session: SessionId, queue: QueueIndex, id: MessageId) {
        self.note(format_args!(
            "session {session} settles message {id} of {}",
            QUEUES[queue].name
        ));
        match self.source_of_dead_letter(id, queue) {
            Some(source) => self.copy(id, source).was_settled = true,
            None => self.copy(id, queue).settle(session),
        }
    }

    /// A client rejects a message for good.
    pub fn reject(&mut self, session: SessionId, queue: QueueIndex, id: MessageId) {
        if QUEUES[queue].dead_letters.is_none() {
            return self.settle(session, queue, id);
        }
        self.note(format_args!(
            "session {session} rejects message {id} of {}",
            QUEUES[queue].name
        ));
        self.copy(id, queue).reject(session);
    }

    /// A client gives a message back.
    pub fn give_back(&mut self, queue: QueueIndex, id: MessageId) {
        self.note(format_args!(
            "message {id} is given back to {}",
            QUEUES[queue].name
        ));
        if !takes_dead_letters(queue) {
            self.copy(id, queue).standing = Standing::Free;
        }
    }

    /// The owner of `queue` has answered a question sent after these were settled.
    pub fn take_settles(&mut self, queue: QueueIndex, settled: &[MessageId]) {
        self.events += 1;
        if takes_dead_letters(queue) {
            return;
        }
        let (event, lane) = (self.events, QUEUES[queue].lane);
        if self.taken.len() <= lane {
            self.taken.resize_with(lane + 1, VecDeque::new);
        }
        for &id in settled {
            let copy = self.copy(id, queue);
            if let Standing::Settled(_) = copy.standing {
                copy.standing = Standing::Taken;
                self.taken[lane].push_back((event, id, queue));
            }
        }
    }

    /// A queue has so many messages ready, and nobody holds any. What has died need not be there any more, and nobody knows
    /// how often it is where it went.
    pub fn count(&mut self, queue: QueueIndex, counted: usize) {
        if takes_dead_letters(queue) {
            return;
        }
        let dies = QUEUES[queue].dead_letters.is_some();
        let of_queue = || {
            self.messages
                .iter()
                .flat_map(|message| message.copies.iter().map(move |copy| (message, copy)))
        };
        let of_queue = || of_queue().filter(|(_, (of, _))| *of == queue);
        let most = of_queue().filter(|(_, (_, copy))| copy.may_be_there()).count();
        let least = of_queue()
            .filter(|(message, (_, copy))| message.must_be_in(queue, self.life) && !copy.was_settled && !dies)
            .count();
        if counted < least || counted > most {
            let name = QUEUES[queue].name;
            self.accuse(format!(
                "{name} says it has {counted} messages; it must have {least} to {most}"
            ));
        }
    }

    /// Every queue was emptied: whatever must have been there was seen and settled.
    pub fn check_nothing_lost(&mut self) {
        let life = self.life;
        let lost = self.messages.iter().enumerate().find_map(|(id, message)| {
            let is_lost =
                |(queue, copy): &&(QueueIndex, Copy)| message.must_be_in(*queue, life) && !copy.was_settled;
            message.copies.iter().find(is_lost).map(|(queue, _)| (id, *queue))
        });
        if let Some((id, queue)) = lost {
            let message = &self.messages[id];
            self.accuse(format!(
                "message {id} was confirmed for {} and is lost: {message:?}",
                QUEUES[queue].name
            ));
        }
    }

    /// The queue where a message died that came from `queue`, if dead letters come there.
    fn source_of(&self, letter: &Letter, queue: QueueIndex) -> Option<QueueIndex> {
        let id = letter.id().filter(|&id| id < self.messages.len())?;
        self.source_of_dead_letter(id, queue)
    }

    fn source_of_dead_letter(&self, id: MessageId, queue: QueueIndex) -> Option<QueueIndex> {
        let mut copies = self.messages[id].copies.iter();
        copies.find_map(|&(source, _)| (QUEUES[source].dead_letters == Some(queue)).then_some(source))
    }

    /// The message that a content is, if it is as it was sent, or as it became when it died in `source`.
    fn recognise(&mut self, letter: &Letter, source: Option<QueueIndex>) -> Option<MessageId> {
        let id = letter.id().filter(|&id| id < self.messages.len());
        let Some(id) = id else {
            self.accuse(format!("a message came that nobody published: {letter:?}"));
            return None;
        };
        let message = &self.messages[id];
        if message.is_unsaid {
            self.accuse(format!(
                "message {id} came though it was not committed: {letter:?}"
            ));
            return None;
        }
        let target: &Target = &TARGETS[message.target];
        let (length, is_persistent) = (message.body_length, message.is_persistent);
        let is_right = match source {
            Some(source) => letter.is_dead_letter_of(source, id, length, is_persistent),
            None => letter.is_as_sent(id, target, length, is_persistent),
        };
        if !is_right {
            self.accuse(format!(
                "message {id} came otherwise than it was sent: {letter:?}"
            ));
        }
        Some(id)
    }

    fn copy(&mut self, id: MessageId, queue: QueueIndex) -> &mut Copy {
        let copies = &mut self.messages[id].copies;
        let copy = copies.iter_mut().find(|(of, _)| *of == queue);
        &mut copy.expect("only copies that are in the route are asked for").1
    }

    fn for_touched(&mut self, session: SessionId, change: impl Fn(&mut Copy)) {
        for (id, queue) in std::mem::take(&mut self.sessions[session as usize].touched) {
            change(self.copy(id, queue));
        }
    }

    fn for_all(&mut self, change: impl Fn(&mut Copy)) {
        let messages = self.messages.iter_mut();
        messages
            .flat_map(|message| &mut message.copies)
            .for_each(|(_, copy)| change(copy));
    }
}

impl Published {
    /// Whether the queue must have it in this life of the broker, if nobody settled it.
    fn must_be_in(&self, queue: QueueIndex, life: u32) -> bool {
        let is_kept = self.is_persistent || self.life == life;
        let CatalogueQueue {
            is_durable, is_lossy, ..
        } = QUEUES[queue];
        self.is_confirmed && is_kept && is_durable && !is_lossy
    }
}
