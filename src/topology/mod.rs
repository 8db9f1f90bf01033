//! What is declared: vhosts, exchanges, queues and bindings, and the changes to them.
//!
//! Every core holds a `Topology` and answers from it without asking anybody. One of them, the control shard, also
//! decides: a declaration is judged against its copy (`decide_…`, `check_…`) and becomes a list of `Change`s or a
//! refusal in RabbitMQ's words. Durable changes are logged, then every core applies all of them in the same order:
//!
//! ```text
//!  request ─▶ decide_… ─▶ [Change] ─▶ log ─▶ apply on every core      snapshot_durable ─▶ [Change] ─▶ apply on new()
//!                 └─▶ Refusal
//! ```
//!
//! Decisions change nothing, and `apply` judges nothing: it is the only place that changes a topology, and gives
//! the same result on each core. A change that does not fit (a binding without its exchange, a deletion of what is
//! gone) is passed over, so that a log may be replayed over a state that already contains a part of it.
//!
//! The folder knows nothing of messages, consumers, permissions and cores' loads: who may ask is judged before, where
//! a new queue lives is chosen by the control shard, whether a queue is unused or empty only its owner knows.
//! Routing has its own tables, built from the same changes.

mod arguments;
mod binding;
mod binding_table;
mod cascade;
mod change;
#[cfg(test)]
mod decision_tests;
mod deduplication;
pub mod erlang_term;
mod exchange;
mod hash_on;
mod memory;
pub mod policy;
pub mod policy_keys;
mod queue;
mod queue_arguments;
mod queue_settings;
pub mod refusal;
#[cfg(test)]
pub(crate) mod tests;
mod vhost;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use foldhash::fast::FixedState;

use crate::model::{ConnectionId, QueueId, Refusal, ReplyCode, ShortString, Usage};

pub use binding::{Binding, Destination};
pub use change::{Change, ChangeError};
pub use deduplication::Deduplicating;
pub use exchange::{
    Exchange, ExchangeDeclare, ExchangeFlags, ExchangeKind, PREDECLARED_EXCHANGES, check_imported_exchange,
    check_not_default, is_internal_from_the_start,
};
pub use hash_on::{HashOn, binding_weight};
pub use memory::{ExchangeMemory, MemoryKind, delayed_kind};
pub use queue::{DeclareVerdict, QueueDeclare, QueueDefinition};
pub use queue_arguments::{check_imported_queue, lane_argument};
pub use queue_settings::{DeadLetterTarget, Overflow, QueueSettings, QueueType};

pub use policy::{ApplyTo, Policies, Policy, PolicyKind};
pub use vhost::{VhostLimits, VhostMetadata};

use policy::Target;
use vhost::Vhost;

/// A virtual host's name.
pub type VhostName = ShortString;

/// The vhost that exists from the beginning.
pub const DEFAULT_VHOST: &str = "/";

/// All that is declared. See the folder's description.
#[derive(Clone, Debug)]
pub struct Topology {
    vhosts: BTreeMap<VhostName, Vhost>,
    queues: BTreeMap<QueueId, QueueDefinition>,
    exclusive: BTreeSet<(ConnectionId, QueueId)>,
    epoch: u64,
    hash: FixedState,
}

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

impl Topology {
    /// The vhost `/` with the predeclared exchanges.
    pub fn new() -> Self {
        Self::with_hash_seed(0)
    }

    /// The same, with a seed for the hash of queue names, so that clients cannot choose names that collide. The seed
    /// changes nothing that can be seen.
    pub fn with_hash_seed(seed: u64) -> Self {
        let hash = FixedState::with_seed(seed);
        let (vhosts, queues, exclusive) = Default::default();
        let mut topology = Self {
            vhosts,
            queues,
            exclusive,
            epoch: 0,
            hash,
        };
        topology.declare_vhost(&ShortString::from(DEFAULT_VHOST), &Usage::default());
        topology
    }

    /// Number of changes applied, those that did not fit included.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Makes `change` true. One that does not fit is passed over.
    pub fn apply(&mut self, change: &Change) {
        self.epoch += 1;
        match change {
            Change::VhostDeclared { name, connections } => self.declare_vhost(name, connections),
            Change::VhostDeleted { name } => self.delete_vhost(name),
            Change::ExchangeDeclared { vhost, exchange } => {
                if let Some(vhost) = self.vhosts.get_mut(vhost)
                    && !vhost.exchanges.contains_key(&exchange.name)
                {
                    let mut exchange = exchange.clone();
                    exchange.alternate = vhost.alternate_of(&exchange);
                    vhost.exchanges.insert(exchange.name.clone(), exchange);
                }
            }
            Change::ExchangeDeleted { vhost, name } => {
                if let Some(vhost) = self.vhosts.get_mut(vhost) {
                    vhost.remove_exchange(name);
                }
            }
            Change::QueueDeclared(queue) => self.declare_queue(queue),
            Change::QueueDeleted { id } => self.delete_queue(*id),
            Change::Bound(binding) => self.bind(binding),
            Change::Unbound(binding) => {
                if let Some(vhost) = self.vhosts.get_mut(&binding.vhost) {
                    vhost.bindings.remove(binding);
                }
            }
            Change::VhostDescribed { name, metadata } => {
                if let Some(vhost) = self.vhosts.get_mut(name) {
                    vhost.metadata = metadata.clone();
                }
            }
            Change::VhostLimited { name, limits } => {
                if let Some(vhost) = self.vhosts.get_mut(name) {
                    vhost.limits = *limits;
                }
            }
            Change::PolicySet { vhost, kind, policy } => {
                if let Some(vhost) = self.vhosts.get_mut(vhost) {
                    vhost.policies_of_mut(*kind).set(policy);
                    vhost.choose_alternates();
                }
            }
            Change::PolicyCleared { vhost, kind, name } => {
                if let Some(vhost) = self.vhosts.get_mut(vhost) {
                    vhost.policies_of_mut(*kind).clear(name);
                    vhost.choose_alternates();
                }
            }
        }
    }

    /// Changes that lead from `Topology::new()` to everything in this one that survives a restart, in an order in
    /// which they fit.
    pub fn snapshot_durable(&self) -> impl Iterator<Item = Change> {
        self.snapshot(true)
    }

    /// The same of everything that is declared, transient queues and exchanges too.
    pub fn snapshot_all(&self) -> impl Iterator<Item = Change> {
        self.snapshot(false)
    }

    fn snapshot(&self, only_durable: bool) -> impl Iterator<Item = Change> {
        let lost_default =
            (!self.vhosts.contains_key(DEFAULT_VHOST.as_bytes())).then(|| Change::VhostDeleted {
                name: ShortString::from(DEFAULT_VHOST),
            });
        let vhosts = self
            .vhosts()
            .filter(|name| name.as_bytes() != DEFAULT_VHOST.as_bytes());
        let vhosts = vhosts.map(|name| Change::VhostDeclared {
            name: name.clone(),
            connections: self.vhosts[name].connections.clone(),
        });
        let queues = self
            .queues()
            .filter(move |queue| queue.durable || !only_durable)
            .cloned()
            .map(Change::QueueDeclared);
        let bindings = self.vhosts.values().flat_map(|vhost| vhost.bindings.iter());
        let bindings =
            bindings.filter(move |binding| !only_durable || change::is_durable_binding(self, binding));
        let bindings = bindings.map(|binding| Change::Bound(Binding::clone(binding)));
        lost_default
            .into_iter()
            .chain(vhosts)
            .chain(self.vhosts.values().flat_map(vhost_settings))
            .chain(self.declared_exchanges(only_durable))
            .chain(queues)
            .chain(bindings)
    }

    /// The vhosts' names, in order.
    pub fn vhosts(&self) -> impl Iterator<Item = &VhostName> {
        self.vhosts.keys()
    }

    /// Whether there is a vhost of this name.
    pub fn has_vhost(&self, name: &[u8]) -> bool {
        self.vhosts.contains_key(name)
    }

    /// What is said of a vhost.
    pub fn vhost_metadata(&self, name: &[u8]) -> Option<&VhostMetadata> {
        Some(&self.vhost(name)?.metadata)
    }

    /// What bounds a vhost.
    pub fn vhost_limits(&self, name: &[u8]) -> Option<VhostLimits> {
        Some(self.vhost(name)?.limits)
    }

    /// The connections of a vhost on all cores.
    pub fn vhost_connections(&self, name: &[u8]) -> Option<&Usage> {
        Some(&self.vhost(name)?.connections)
    }

    /// How many queues a vhost has.
    pub fn queue_count(&self, vhost: &[u8]) -> usize {
        self.vhost(vhost).map_or(0, |vhost| vhost.queues.len())
    }

    /// The policies of a vhost, in order of their names.
    pub fn policies(&self, vhost: &[u8], kind: PolicyKind) -> impl Iterator<Item = &Policy> {
        self.vhost(vhost)
            .into_iter()
            .flat_map(move |vhost| vhost.policies_of(kind).iter())
    }

    /// The policy of this name.
    pub fn policy(&self, vhost: &[u8], kind: PolicyKind, name: &[u8]) -> Option<&Policy> {
        self.vhost(vhost)?.policies_of(kind).get(name)
    }

    /// The policies in force for a queue.
    pub fn policies_for(&self, queue: &QueueDefinition) -> Policies<'_> {
        let target = Target::queue(queue.arguments.as_ref());
        let vhost = self.vhosts.get(&queue.vhost);
        vhost.map_or_else(Policies::default, |vhost| {
            vhost.policies_for(queue.name.as_bytes(), target)
        })
    }

    /// What is in force for a queue, by its arguments and the policies; policies are not for what exchanges remember in.
    pub fn queue_settings(&self, queue: &QueueDefinition) -> QueueSettings {
        if ExchangeMemory::of_queue(queue.name.as_bytes()).is_some() {
            return QueueSettings::of(queue);
        }
        QueueSettings::in_force(queue.arguments.as_ref(), self.policies_for(queue))
    }

    /// The exchange of this name.
    pub fn exchange(&self, vhost: &[u8], name: &[u8]) -> Option<&Exchange> {
        self.vhost(vhost)?.exchanges.get(name)
    }

    /// The exchanges of a vhost by name, predeclared ones and the default exchange included.
    pub fn exchanges(&self, vhost: &[u8]) -> impl Iterator<Item = &Exchange> {
        self.vhost(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.exchanges.values())
    }

    /// The queue of this name. Costs a hash, a walk down the tree of ids, and no allocation.
    #[inline]
    pub fn queue(&self, vhost: &[u8], name: &[u8]) -> Option<&QueueDefinition> {
        self.queues.get(&self.queue_id(vhost, name)?)
    }

    /// The current incarnation of the queue of this name. Costs a hash and no allocation.
    #[inline]
    pub fn queue_id(&self, vhost: &[u8], name: &[u8]) -> Option<QueueId> {
        self.vhost(vhost)?.queues.get(name).copied()
    }

    /// The queue of this incarnation, while it exists.
    #[inline]
    pub fn queue_by_id(&self, id: QueueId) -> Option<&QueueDefinition> {
        self.queues.get(&id)
    }

    /// All queues of all vhosts, in order of their ids.
    pub fn queues(&self) -> impl Iterator<Item = &QueueDefinition> {
        self.queues.values()
    }

    /// The exclusive queues of a connection, which go when it does.
    pub fn exclusive_queues_of(&self, connection: ConnectionId) -> Vec<QueueId> {
        let all = (connection, QueueId(0))..=(connection, QueueId(u64::MAX));
        self.exclusive.range(all).map(|&(_, queue)| queue).collect()
    }

    /// The bindings of a vhost, by source. Those that lead from the default exchange to each queue are not among them.
    pub fn bindings(&self, vhost: &[u8]) -> impl Iterator<Item = &Binding> {
        self.vhost(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.bindings.iter())
            .map(AsRef::as_ref)
    }

    /// The bindings that leave an exchange.
    pub fn bindings_from(&self, vhost: &[u8], exchange: &[u8]) -> impl Iterator<Item = &Binding> {
        let found = self
            .vhost(vhost)
            .and_then(|vhost| Some((vhost, vhost.exchanges.get(exchange)?)));
        let bindings = found
            .into_iter()
            .flat_map(|(vhost, exchange)| vhost.bindings.leaving(&exchange.name));
        bindings.map(AsRef::as_ref)
    }

    /// The bindings that lead to a queue or an exchange.
    pub fn bindings_to(&self, vhost: &[u8], destination: &Destination) -> impl Iterator<Item = &Binding> {
        let bindings = self
            .vhost(vhost)
            .map(|vhost| vhost.bindings.leading_to(destination));
        bindings.into_iter().flatten().map(AsRef::as_ref)
    }

    fn vhost(&self, name: &[u8]) -> Option<&Vhost> {
        self.vhosts.get(name)
    }

    fn declared_exchanges(&self, only_durable: bool) -> impl Iterator<Item = Change> {
        let is_predeclared = |name: &[u8]| {
            PREDECLARED_EXCHANGES
                .iter()
                .any(|(known, _)| known.as_bytes() == name)
        };
        self.vhosts.values().flat_map(move |vhost| {
            let exchanges = vhost
                .exchanges
                .values()
                .filter(move |exchange| exchange.durable || !only_durable);
            let exchanges = exchanges.filter(move |exchange| !is_predeclared(exchange.name.as_bytes()));
            exchanges.map(|exchange| Change::ExchangeDeclared {
                vhost: vhost.name.clone(),
                exchange: exchange.clone(),
            })
        })
    }

    fn declare_vhost(&mut self, name: &VhostName, connections: &Usage) {
        let hash = &self.hash;
        self.vhosts
            .entry(name.clone())
            .or_insert_with(|| Vhost::new(name.clone(), connections.clone(), hash));
    }

    fn delete_vhost(&mut self, name: &VhostName) {
        if let Some(vhost) = self.vhosts.remove(name) {
            vhost.queues.values().for_each(|&id| self.forget_queue(id));
        }
    }

    fn declare_queue(&mut self, queue: &QueueDefinition) {
        let Some(vhost) = self.vhosts.get_mut(&queue.vhost) else {
            return;
        };
        if vhost.queues.contains_key(&queue.name) || self.queues.contains_key(&queue.id) {
            return;
        }
        vhost.queues.insert(queue.name.clone(), queue.id);
        if let Some(connection) = queue.exclusive {
            self.exclusive.insert((connection, queue.id));
        }
        let mut queue = queue.clone();
        // All queues of a vhost share the bytes of its name.
        queue.vhost = vhost.name.clone();
        self.queues.insert(queue.id, queue);
    }

    fn delete_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(&id) else { return };
        if let Some(vhost) = self.vhosts.get_mut(&queue.vhost) {
            vhost.queues.remove(&queue.name);
            vhost.bindings.remove_leading_to(&Destination::Queue(id));
        }
        self.forget_queue(id);
    }

    fn forget_queue(&mut self, id: QueueId) {
        let connection = self.queues.remove(&id).and_then(|queue| queue.exclusive);
        if let Some(connection) = connection {
            self.exclusive.remove(&(connection, id));
        }
    }

    fn bind(&mut self, binding: &Binding) {
        if let Destination::Queue(id) = binding.destination
            && self
                .queues
                .get(&id)
                .is_none_or(|queue| queue.vhost != binding.vhost)
        {
            return;
        }
        if let Some(vhost) = self.vhosts.get_mut(&binding.vhost)
            && vhost.has_exchanges_of(binding)
        {
            vhost.bindings.insert(binding.clone());
        }
    }
}

/// The changes that make a new vhost what this one is, apart from what is declared in it.
fn vhost_settings(vhost: &Vhost) -> impl Iterator<Item = Change> {
    let described = (vhost.metadata != VhostMetadata::default()).then(|| Change::VhostDescribed {
        name: vhost.name.clone(),
        metadata: vhost.metadata.clone(),
    });
    let limited = (vhost.limits != VhostLimits::default()).then(|| Change::VhostLimited {
        name: vhost.name.clone(),
        limits: vhost.limits,
    });
    let kinds = [PolicyKind::User, PolicyKind::Operator].into_iter();
    let policies = kinds.flat_map(move |kind| {
        let policies = vhost.policies_of(kind).iter();
        policies.map(move |policy| Change::PolicySet {
            vhost: vhost.name.clone(),
            kind,
            policy: policy.clone(),
        })
    });
    described.into_iter().chain(limited).chain(policies)
}

/// A name without the carriage returns and line feeds that RabbitMQ takes out of names in declare, delete, bind
/// and unbind, though not in publish and consume.
pub fn strip_cr_lf(name: &[u8]) -> Cow<'_, [u8]> {
    let is_kept = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    if name.iter().all(is_kept) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.iter().copied().filter(is_kept).collect())
    }
}

/// A name from the wire, whose decoder bounds it; 502 all the same if it is longer than a shortstr.
fn short(name: &[u8]) -> Result<ShortString, Refusal> {
    ShortString::new(name)
        .ok_or_else(|| Refusal::new(ReplyCode::SyntaxError, "a name is longer than 255 bytes"))
}
