//! One naive queue: its rules, its messages as a list, who holds them, and what a message says of its deaths.

use std::rc::Rc;

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Letter {
    pub body: u32,
    pub length: usize,
    pub exchange: String,
    pub key: String,
    /// The header `CC`.
    pub copies: Vec<String>,
    pub is_persistent: bool,
    pub priority: Option<u8>,
    pub expiration: Option<u64>,
    /// The header `x-death`.
    pub deaths: Vec<Death>,
    /// `x-first-death-exchange`, `-queue`, `-reason`.
    pub first: Option<[String; 3]>,
    /// The same of the last death.
    pub last: Option<[String; 3]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Death {
    pub queue: String,
    pub reason: String,
    pub count: i64,
    pub seconds: u64,
    pub exchange: String,
    pub keys: Vec<String>,
    pub expiration: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Overflow {
    DropHead,
    Reject,
    RejectDlx,
}

/// What a queue is declared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    pub is_durable: bool,
    /// Whether it is bound to the exchange `fan`.
    pub is_bound: bool,
    pub lane: u8,
    pub ttl: Option<u64>,
    pub max_length: Option<usize>,
    pub max_bytes: Option<usize>,
    pub overflow: Overflow,
    /// Exchange, and key if it is given.
    pub dead_letter: Option<(String, Option<String>)>,
    pub max_priority: u8,
    pub expires: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub letter: Rc<Letter>,
    pub deadline: Option<u64>,
    pub redelivered: bool,
    pub holder: Option<Holder>,
}

/// Who holds a message unacked: a channel, under a delivery tag, for a consumer unless it was got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    pub channel: usize,
    pub tag: u64,
    pub consumer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Consumer {
    pub channel: usize,
    pub tag: String,
    pub prefetch: usize,
    pub no_ack: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub rules: Rules,
    /// In the order they came.
    pub messages: Vec<Message>,
    pub consumers: Vec<Consumer>,
    pub last_used: u64,
}

impl Queue {
    pub(super) fn new(rules: Rules, now: u64) -> Self {
        Self {
            rules,
            messages: Vec::new(),
            consumers: Vec::new(),
            last_used: now,
        }
    }

    /// Where the ready messages are, in the order in which they would be taken.
    pub(super) fn ready(&self) -> Vec<usize> {
        let is_ready = |&at: &usize| self.messages[at].holder.is_none();
        let mut ready: Vec<usize> = (0..self.messages.len()).filter(is_ready).collect();
        let level = |at: &usize| {
            self.messages[*at]
                .letter
                .priority
                .unwrap_or(0)
                .min(self.rules.max_priority)
        };
        ready.sort_by_key(|at| std::cmp::Reverse(level(at)));
        ready
    }

    pub(super) fn ready_bytes(&self) -> usize {
        let lengths = self.ready().into_iter().map(|at| self.messages[at].letter.length);
        lengths.sum()
    }

    /// Whether it refuses one more message.
    pub(super) fn is_full_for(&self, length: usize) -> bool {
        let (messages, bytes) = (self.ready().len() + 1, self.ready_bytes() + length);
        self.rules.overflow != Overflow::DropHead && self.rules.are_exceeded_by(messages, bytes)
    }

    /// Whether too much is ready, or something has run out.
    pub(super) fn has_to_let_go(&self, now: u64) -> bool {
        let has_run_out = |&at: &usize| self.messages[at].deadline.is_some_and(|deadline| deadline <= now);
        let ready = self.ready();
        ready.iter().any(has_run_out)
            || self.rules.overflow == Overflow::DropHead
                && self.rules.are_exceeded_by(ready.len(), self.ready_bytes())
    }

    pub(super) fn able_consumers(&self) -> Vec<Consumer> {
        let held = |consumer: &Consumer| {
            let holders = self.messages.iter().filter_map(|message| message.holder.as_ref());
            holders
                .filter(|holder| {
                    holder.channel == consumer.channel && holder.consumer.as_ref() == Some(&consumer.tag)
                })
                .count()
        };
        let is_able = |consumer: &&Consumer| {
            consumer.no_ack || consumer.prefetch == 0 || held(consumer) < consumer.prefetch
        };
        self.consumers.iter().filter(is_able).cloned().collect()
    }

    /// When nobody will have used it for as long as it says.
    pub(super) fn ends_at(&self) -> Option<u64> {
        let expires = self.rules.expires.filter(|_| self.consumers.is_empty());
        expires.map(|expires| self.last_used + expires)
    }
}

impl Rules {
    pub(super) fn are_exceeded_by(&self, messages: usize, bytes: usize) -> bool {
        self.max_length.is_some_and(|most| messages > most) || self.max_bytes.is_some_and(|most| bytes > most)
    }
}

impl Letter {
    pub(super) fn after_death(
        &self,
        queue: &str,
        reason: &str,
        seconds: u64,
        exchange: String,
        key: Option<String>,
    ) -> Letter {
        let mut deaths = self.deaths.clone();
        let is_same = |death: &Death| death.queue == queue && death.reason == reason;
        let newest = match deaths.iter().position(is_same) {
            Some(at) => {
                let former = deaths.remove(at);
                Death {
                    count: former.count + 1,
                    ..former
                }
            }
            None => Death {
                queue: queue.to_owned(),
                reason: reason.to_owned(),
                count: 1,
                seconds,
                exchange: self.exchange.clone(),
                keys: std::iter::once(&self.key).chain(&self.copies).cloned().collect(),
                expiration: self.expiration,
            },
        };
        deaths.insert(0, newest);
        let this = [self.exchange.clone(), queue.to_owned(), reason.to_owned()];
        Letter {
            exchange,
            copies: if key.is_some() {
                Vec::new()
            } else {
                self.copies.clone()
            },
            key: key.unwrap_or_else(|| self.key.clone()),
            expiration: None,
            deaths,
            first: self.first.clone().or_else(|| Some(this.clone())),
            last: Some(this),
            ..self.clone()
        }
    }

    /// Whether it died in the queue before, and was not rejected anywhere since.
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        let since = self.deaths.iter().position(|death| death.queue == queue);
        since.is_some_and(|since| {
            self.deaths[..=since]
                .iter()
                .all(|death| death.reason != "rejected")
        })
    }
}
