//! Routing: (exchange, routing key, headers) → queues. One file an exchange type.
//!
//! ```text
//!  publish ─▶ exchange ──matches──▶ queues ───────────────▶ Routed: each queue once, in order of ids
//!                 │  └─matches──▶ exchanges, each walked once ──▲
//!                 └─matches nothing──▶ its alternate exchange ──┘
//! ```
//!
//! A message walks from the exchange it was published to along exchange-to-exchange bindings; loops end because an
//! exchange is walked once. An exchange that matches nothing of its own, wherever on the walk, passes the message to
//! its alternate exchange; one that does not exist is passed over, and so is the default exchange there, which has
//! no bindings in RabbitMQ either.
//!
//! The `Router` keeps tables of its own, fed with the same changes as the topology, so that a route looks at the
//! topology only for the default exchange, where the routing key names the queue. The folder knows nothing of
//! consumers, owners and messages: it is given bytes and gives back ids. A returned id may be of a queue that is just
//! gone; whoever delivers drops that.

mod binding_list;
#[cfg(test)]
mod choice_tests;
mod consistent_hash;
mod delayed;
mod direct;
mod envelope;
mod fanout;
mod hash;
mod headers;
mod local_random;
mod modulus_hash;
mod random;
mod recent_history;
mod table;
mod targets;
#[cfg(test)]
mod tests;
mod topic;
mod vhost_routes;

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::model::{QueueId, Refusal, ReplyCode, ShortString};
use crate::topology::refusal::{Entity, not_found};
use crate::topology::{Binding, Change, DEFAULT_VHOST, Exchange, ExchangeMemory, Topology};

pub use delayed::{DELAY, delay_of};
pub use envelope::Envelope;

use targets::{ExchangeSlot, Target};
use topic::TopicScratch;
use vhost_routes::VhostRoutes;

/// The routing tables of one core.
#[derive(Clone, Debug)]
pub struct Router {
    vhosts: HashMap<ShortString, VhostRoutes, FixedState>,
}

/// Why a publish cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// There is no such exchange.
    NoExchange,
    /// The exchange takes messages from other exchanges only.
    Internal,
}

const TIDY_AT: usize = 4096;

/// The queues that a message goes to, and the memory to find them; one value serves all messages of a core.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// The queues, each once, in ascending order of ids.
    pub queues: Vec<QueueId>,
    /// Whether an exchange was met that decided by more than the routing keys: by headers, properties, chance, or where
    /// the publisher lives. If not, the route holds for every message of this exchange and routing key while the
    /// topology's epoch stays, and may be kept.
    pub is_for_message_alone: bool,
    /// Exchanges that the walk has entered, ascending.
    seen: Vec<ExchangeSlot>,
    /// Exchanges entered and not yet looked into.
    ahead: Vec<ExchangeSlot>,
    /// When there are so many queues, those that are there twice go.
    tidy_at: usize,
    /// Matches of the exchange that is looked into.
    matches: usize,
    topic: TopicScratch,
    /// Where the message's random numbers come from.
    chance: u64,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// The tables that belong to `Topology::new()`.
    pub fn new() -> Self {
        Self::with_hash_seed(0)
    }

    /// The same, with a seed for the hash of names and routing keys, so that clients cannot choose ones that collide.
    pub fn with_hash_seed(seed: u64) -> Self {
        let hash = FixedState::with_seed(seed);
        let mut vhosts = HashMap::with_hasher(hash.clone());
        vhosts.insert(ShortString::from(DEFAULT_VHOST), VhostRoutes::new(&hash));
        Self { vhosts }
    }

    /// Takes over `change`. It may come before or after `Topology::apply` of the same change, since nothing is asked
    /// of the topology; a core applies both before it routes again. A change that does not fit is passed over.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::VhostDeclared { name, .. } => {
                let hash = self.vhosts.hasher().clone();
                self.vhosts
                    .entry(name.clone())
                    .or_insert_with(|| VhostRoutes::new(&hash));
            }
            Change::VhostDeleted { name } => {
                self.vhosts.remove(name);
            }
            Change::ExchangeDeclared { vhost, exchange } => {
                if let Some(routes) = self.vhosts.get_mut(vhost) {
                    routes.declare(exchange);
                }
            }
            Change::ExchangeDeleted { vhost, name } => {
                if let Some(routes) = self.vhosts.get_mut(vhost) {
                    routes.delete(name);
                }
            }
            Change::Bound(binding) => self.change_bindings(binding, VhostRoutes::bind),
            Change::Unbound(binding) => self.change_bindings(binding, VhostRoutes::unbind),
            Change::QueueDeclared(queue) => {
                if let Some(memory) = ExchangeMemory::of_queue(queue.name.as_bytes())
                    && let Some(routes) = self.vhosts.get_mut(&queue.vhost)
                {
                    routes.remember_in(&memory, queue.id);
                }
            }
            // Other queues enter the tables by their bindings, which are unbound before a queue is deleted.
            Change::QueueDeleted { .. } => {}
            Change::VhostDescribed { .. } | Change::VhostLimited { .. } => {}
            // What policies say of exchanges, `choose_alternates` takes from the topology.
            Change::PolicySet { .. } | Change::PolicyCleared { .. } => {}
        }
    }

    /// Takes over the alternate exchanges that `change` may have changed, from a topology that has applied it already.
    pub fn choose_alternates(&mut self, change: &Change, topology: &Topology) {
        match change {
            Change::ExchangeDeclared { vhost, exchange } => {
                let exchange = topology.exchange(vhost.as_bytes(), exchange.name.as_bytes());
                self.choose_alternates_of(vhost, exchange.into_iter());
            }
            Change::PolicySet { vhost, .. } | Change::PolicyCleared { vhost, .. } => {
                self.choose_alternates_of(vhost, topology.exchanges(vhost.as_bytes()));
            }
            _ => {}
        }
    }

    fn choose_alternates_of<'a>(
        &mut self,
        vhost: &ShortString,
        exchanges: impl Iterator<Item = &'a Exchange>,
    ) {
        if let Some(routes) = self.vhosts.get_mut(vhost) {
            exchanges.for_each(|exchange| routes.set_alternate(&exchange.name, &exchange.alternate));
        }
    }

    /// Finds the queues of a message published to `exchange` and puts them into `routed`; none found is no error. It goes
    /// where any of its routing keys leads, and to an alternate exchange only when none leads anywhere.
    #[inline]
    pub fn route(
        &self,
        topology: &Topology,
        vhost: &[u8],
        exchange: &[u8],
        envelope: &Envelope<'_>,
        routed: &mut Routed,
    ) -> Result<(), RouteError> {
        routed.queues.clear();
        routed.tidy_at = TIDY_AT;
        routed.is_for_message_alone = false;
        let routes = self.vhosts.get(vhost).ok_or(RouteError::NoExchange)?;
        if exchange.is_empty() {
            // What an exchange remembers comes through the exchange, where permissions are asked for.
            let keys = envelope.routing_keys.iter();
            let keys = keys.filter(|key| ExchangeMemory::of_queue(key).is_none());
            routed
                .queues
                .extend(keys.filter_map(|key| topology.queue_id(vhost, key)));
        } else {
            let slot = routes.slot_of(exchange).ok_or(RouteError::NoExchange)?;
            routes.walk(slot, envelope, topology, routed);
        }
        if routed.queues.len() > 1 {
            routed.queues.sort_unstable();
            routed.queues.dedup();
        }
        Ok(())
    }

    /// Whether a client may publish to `exchange`, if it is there.
    pub fn check_published_to(&self, vhost: &[u8], exchange: &[u8]) -> Result<(), RouteError> {
        let routes = self.vhosts.get(vhost).ok_or(RouteError::NoExchange)?;
        match routes.slot_of(exchange) {
            Some(slot) if routes.is_internal(slot) => Err(RouteError::Internal),
            _ => Ok(()),
        }
    }

    fn change_bindings(&mut self, binding: &Binding, change: fn(&mut VhostRoutes, &Binding)) {
        if let Some(routes) = self.vhosts.get_mut(&binding.vhost) {
            change(routes, binding);
        }
    }
}

impl RouteError {
    /// What a publish to `exchange` is refused with: 404 or 403, RabbitMQ's texts.
    pub fn refusal(self, vhost: &[u8], exchange: &[u8]) -> Refusal {
        let entity = Entity::exchange(vhost, exchange);
        match self {
            RouteError::NoExchange => not_found(entity),
            RouteError::Internal => {
                let text = format!("cannot publish to internal {entity}");
                Refusal::new(ReplyCode::AccessRefused, text)
            }
        }
    }
}

impl Routed {
    /// Takes a match of the exchange that is looked into.
    #[inline]
    fn reach(&mut self, target: Target) {
        self.matches += 1;
        match target {
            Target::Queue(queue) => {
                self.queues.push(queue);
                if self.queues.len() >= self.tidy_at {
                    self.tidy();
                }
            }
            Target::Exchange(exchange) => self.enter(exchange),
        }
    }

    /// Many keys that lead to the same queues are to take no more room than the queues.
    #[cold]
    fn tidy(&mut self) {
        self.queues.sort_unstable();
        self.queues.dedup();
        self.tidy_at = TIDY_AT.max(2 * self.queues.len());
    }

    /// The route holds for no other message.
    #[inline]
    fn decided_for_message_alone(&mut self) {
        self.is_for_message_alone = true;
    }

    /// The next random number of this message.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(hash::STEP);
        hash::mix(self.chance)
    }

    /// Puts an exchange on the walk, unless it was there before.
    fn enter(&mut self, exchange: ExchangeSlot) {
        if let Err(at) = self.seen.binary_search(&exchange) {
            self.seen.insert(at, exchange);
            self.ahead.push(exchange);
        }
    }
}
