//! `Change`: one step of what is declared, and its bytes in the log.
//!
//! ```text
//!  0      1      2
//!  ┌──────┬──────┬───────────┐      version 1
//!  │ v u8 │ k u8 │ fields ...│      all numbers big-endian
//!  └──────┴──────┴───────────┘
//!   k                      fields
//!   1  vhost declared      name
//!   2  vhost deleted       name
//!   3  exchange declared   vhost · name · type u8 · flags u8 · arguments
//!   4  exchange deleted    vhost · name
//!   5  queue declared      id u64 · vhost · name · vshard u16 · owner u16 · flags u8 · [connection] · arguments
//!   6  queue deleted       id u64
//!   7  bound               vhost · source · destination · routing key · arguments
//!   8  unbound             as bound
//!   9  vhost described     name · default queue type · description · tags
//!  10  vhost limited       name · most connections i64 · most queues i64, -1 for no limit
//!  11  policy set          vhost · operator's u8 · name · pattern · applies to u8 · priority i64 · definition
//!  12  policy cleared      vhost · name · operator's u8
//!
//!  name, vhost, source, routing key   length u8, bytes
//!  description, pattern               length u32, UTF-8
//!  tags                               count u16, each a name
//!  arguments, definition              length u32, entries of a field table
//!  type                               0 direct, 1 fanout, 2 topic, 3 headers, 4 x-consistent-hash, 5 x-modulus-hash, 6 x-random,
//!                                    7 x-local-random, 16 x-delayed-message, 17 x-recent-history
//!  flags                              1 durable, 2 auto-delete, 4 internal (exchange) or exclusive (queue)
//!  connection, if exclusive           shard u16 · slot u32 · generation u32
//!  destination                        0 u8, queue id u64   or   1 u8, exchange's name
//!  applies to                         0 all, 1 queues, 2 exchanges, 3 classic queues, 4 quorum queues, 5 streams
//! ```
//!
//! The fields end with the bytes: a record that is longer or shorter than its fields is refused, as is any value
//! not named above. The log's own checksum guards against torn and changed bytes.

use thiserror::Error;

use crate::model::record_fields::{Fields, FieldsError, put_bytes, put_limit, put_name, put_names};
use crate::model::{
    ConnectionId, FieldTable, Pattern, PatternError, QueueId, ShardId, ShortString, Usage, VshardId,
};

use super::{
    ApplyTo, Binding, Destination, Exchange, ExchangeFlags, ExchangeKind, Policy, PolicyKind,
    QueueDefinition, Topology, VhostLimits, VhostMetadata,
};

/// One change of what is declared, decided by the control shard and applied by every core in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A vhost begins, with the predeclared exchanges.
    VhostDeclared {
        /// Its name.
        name: ShortString,
        /// Where its connections on all cores are counted; not logged.
        connections: Usage,
    },
    /// A vhost ends, with everything in it.
    VhostDeleted {
        /// Its name.
        name: ShortString,
    },
    /// An exchange begins.
    ExchangeDeclared {
        /// The vhost it lives in.
        vhost: ShortString,
        /// The exchange.
        exchange: Exchange,
    },
    /// An exchange ends; its bindings were unbound before.
    ExchangeDeleted {
        /// The vhost it lived in.
        vhost: ShortString,
        /// Its name.
        name: ShortString,
    },
    /// A queue begins.
    QueueDeclared(QueueDefinition),
    /// A queue ends; its bindings were unbound before.
    QueueDeleted {
        /// Its incarnation.
        id: QueueId,
    },
    /// A binding begins.
    Bound(Binding),
    /// A binding ends.
    Unbound(Binding),
    /// This is said of a vhost from now on.
    VhostDescribed {
        /// Its name.
        name: ShortString,
        /// What is said.
        metadata: VhostMetadata,
    },
    /// This bounds a vhost from now on.
    VhostLimited {
        /// Its name.
        name: ShortString,
        /// The bounds.
        limits: VhostLimits,
    },
    /// A policy begins, in the place of one of its name and kind.
    PolicySet {
        /// The vhost.
        vhost: ShortString,
        /// Whose it is.
        kind: PolicyKind,
        /// The policy.
        policy: Policy,
    },
    /// A policy ends.
    PolicyCleared {
        /// The vhost.
        vhost: ShortString,
        /// Whose it was.
        kind: PolicyKind,
        /// Its name.
        name: ShortString,
    },
}

/// Why bytes are not a change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// A field cannot be read.
    #[error("a change: {0}")]
    Fields(#[from] FieldsError),
    /// Bytes are left behind the last field.
    #[error("a change has {0} bytes behind its last field")]
    TooLong(usize),
    /// A version this program does not know.
    #[error("a change of version {0}, but this program knows version 1")]
    UnknownVersion(u8),
    /// A field holds a value that the format does not name.
    #[error("a change has {found} as {field}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: u8,
    },
    /// The pattern of a policy cannot be compiled.
    #[error("a change has a pattern that is none: {0}")]
    Pattern(#[from] PatternError),
}

const VERSION: u8 = 1;

const VHOST_DECLARED: u8 = 1;
const VHOST_DELETED: u8 = 2;
const EXCHANGE_DECLARED: u8 = 3;
const EXCHANGE_DELETED: u8 = 4;
const QUEUE_DECLARED: u8 = 5;
const QUEUE_DELETED: u8 = 6;
const BOUND: u8 = 7;
const UNBOUND: u8 = 8;
const VHOST_DESCRIBED: u8 = 9;
const VHOST_LIMITED: u8 = 10;
const POLICY_SET: u8 = 11;
const POLICY_CLEARED: u8 = 12;

const DURABLE: u8 = 1;
const AUTO_DELETE: u8 = 2;
const INTERNAL_OR_EXCLUSIVE: u8 = 4;

const TO_QUEUE: u8 = 0;
const TO_EXCHANGE: u8 = 1;

impl Change {
    /// Whether the change must be logged, judged before it is applied to `topology`: what it concerns survives a
    /// restart. A binding does when both its ends do.
    pub fn is_durable(&self, topology: &Topology) -> bool {
        match self {
            Change::VhostDeclared { .. }
            | Change::VhostDeleted { .. }
            | Change::VhostDescribed { .. }
            | Change::VhostLimited { .. }
            | Change::PolicySet { .. }
            | Change::PolicyCleared { .. } => true,
            Change::ExchangeDeclared { exchange, .. } => exchange.durable,
            Change::ExchangeDeleted { vhost, name } => is_durable_exchange(topology, vhost, name),
            Change::QueueDeclared(queue) => queue.durable,
            Change::QueueDeleted { id } => topology.queue_by_id(*id).is_some_and(|queue| queue.durable),
            Change::Bound(binding) | Change::Unbound(binding) => is_durable_binding(topology, binding),
        }
    }

    /// Appends the change's bytes, as drawn at the head of this file.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Change::VhostDeclared { name, .. } => put_named(out, VHOST_DECLARED, &[name]),
            Change::VhostDeleted { name } => put_named(out, VHOST_DELETED, &[name]),
            Change::ExchangeDeclared { vhost, exchange } => put_exchange(out, vhost, exchange),
            Change::ExchangeDeleted { vhost, name } => put_named(out, EXCHANGE_DELETED, &[vhost, name]),
            Change::QueueDeclared(queue) => put_queue(out, queue),
            Change::QueueDeleted { id } => {
                out.push(QUEUE_DELETED);
                out.extend_from_slice(&id.0.to_be_bytes());
            }
            Change::Bound(binding) => put_binding(out, BOUND, binding),
            Change::Unbound(binding) => put_binding(out, UNBOUND, binding),
            Change::VhostDescribed { name, metadata } => {
                put_named(out, VHOST_DESCRIBED, &[name, &metadata.default_queue_type]);
                put_bytes(out, metadata.description.as_bytes());
                put_names(out, &metadata.tags);
            }
            Change::VhostLimited { name, limits } => {
                put_named(out, VHOST_LIMITED, &[name]);
                put_limit(out, limits.max_connections);
                put_limit(out, limits.max_queues);
            }
            Change::PolicySet { vhost, kind, policy } => put_policy(out, vhost, *kind, policy),
            Change::PolicyCleared { vhost, kind, name } => {
                put_named(out, POLICY_CLEARED, &[vhost, name]);
                out.push(u8::from(*kind == PolicyKind::Operator));
            }
        }
    }

    /// The change of these bytes, which are to hold nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChangeError> {
        let mut fields = Fields(bytes);
        match fields.byte()? {
            VERSION => {}
            unknown => return Err(ChangeError::UnknownVersion(unknown)),
        }
        let change = match fields.byte()? {
            VHOST_DECLARED => Change::VhostDeclared {
                name: fields.name()?,
                connections: Usage::default(),
            },
            VHOST_DELETED => Change::VhostDeleted { name: fields.name()? },
            EXCHANGE_DECLARED => Change::ExchangeDeclared {
                vhost: fields.name()?,
                exchange: fields.exchange()?,
            },
            EXCHANGE_DELETED => Change::ExchangeDeleted {
                vhost: fields.name()?,
                name: fields.name()?,
            },
            QUEUE_DECLARED => Change::QueueDeclared(fields.queue()?),
            QUEUE_DELETED => Change::QueueDeleted {
                id: QueueId(fields.u64()?),
            },
            BOUND => Change::Bound(fields.binding()?),
            UNBOUND => Change::Unbound(fields.binding()?),
            VHOST_DESCRIBED => Change::VhostDescribed {
                name: fields.name()?,
                metadata: fields.metadata()?,
            },
            VHOST_LIMITED => Change::VhostLimited {
                name: fields.name()?,
                limits: VhostLimits {
                    max_connections: fields.limit()?,
                    max_queues: fields.limit()?,
                },
            },
            POLICY_SET => Change::PolicySet {
                vhost: fields.name()?,
                kind: fields.policy_kind()?,
                policy: fields.policy()?,
            },
            POLICY_CLEARED => {
                let (vhost, name) = (fields.name()?, fields.name()?);
                let kind = fields.policy_kind()?;
                Change::PolicyCleared { vhost, kind, name }
            }
            found => {
                return Err(ChangeError::UnknownValue {
                    field: "kind of change",
                    found,
                });
            }
        };
        match fields.0.len() {
            0 => Ok(change),
            left => Err(ChangeError::TooLong(left)),
        }
    }
}

/// Whether both ends of `binding` are declared and survive a restart.
pub(super) fn is_durable_binding(topology: &Topology, binding: &Binding) -> bool {
    let destination = match &binding.destination {
        Destination::Queue(id) => topology.queue_by_id(*id).is_some_and(|queue| queue.durable),
        Destination::Exchange(name) => is_durable_exchange(topology, &binding.vhost, name),
    };
    destination && is_durable_exchange(topology, &binding.vhost, &binding.source)
}

fn is_durable_exchange(topology: &Topology, vhost: &ShortString, name: &ShortString) -> bool {
    topology
        .exchange(vhost.as_bytes(), name.as_bytes())
        .is_some_and(|exchange| exchange.durable)
}

fn put_named(out: &mut Vec<u8>, kind: u8, names: &[&ShortString]) {
    out.push(kind);
    names.iter().for_each(|name| put_name(out, name));
}

fn put_exchange(out: &mut Vec<u8>, vhost: &ShortString, exchange: &Exchange) {
    put_named(out, EXCHANGE_DECLARED, &[vhost, &exchange.name]);
    out.push(kind_code(exchange.kind));
    put_flags(out, exchange.durable, exchange.auto_delete, exchange.internal);
    put_table(out, &exchange.arguments);
}

fn kind_code(kind: ExchangeKind) -> u8 {
    match kind {
        ExchangeKind::Direct => 0,
        ExchangeKind::Fanout => 1,
        ExchangeKind::Topic => 2,
        ExchangeKind::Headers => 3,
        ExchangeKind::ConsistentHash => 4,
        ExchangeKind::ModulusHash => 5,
        ExchangeKind::Random => 6,
        ExchangeKind::LocalRandom => 7,
        ExchangeKind::Delayed => 16,
        ExchangeKind::RecentHistory => 17,
    }
}

fn put_queue(out: &mut Vec<u8>, queue: &QueueDefinition) {
    out.push(QUEUE_DECLARED);
    out.extend_from_slice(&queue.id.0.to_be_bytes());
    put_name(out, &queue.vhost);
    put_name(out, &queue.name);
    out.extend_from_slice(&queue.vshard.0.to_be_bytes());
    out.extend_from_slice(&queue.owner.0.to_be_bytes());
    put_flags(out, queue.durable, queue.auto_delete, queue.exclusive.is_some());
    if let Some(connection) = queue.exclusive {
        out.extend_from_slice(&connection.shard.0.to_be_bytes());
        out.extend_from_slice(&connection.slot.to_be_bytes());
        out.extend_from_slice(&connection.generation.to_be_bytes());
    }
    put_table(out, &queue.arguments);
}

fn put_binding(out: &mut Vec<u8>, kind: u8, binding: &Binding) {
    put_named(out, kind, &[&binding.vhost, &binding.source]);
    match &binding.destination {
        Destination::Queue(id) => {
            out.push(TO_QUEUE);
            out.extend_from_slice(&id.0.to_be_bytes());
        }
        Destination::Exchange(name) => {
            out.push(TO_EXCHANGE);
            put_name(out, name);
        }
    }
    put_name(out, &binding.routing_key);
    put_table(out, &binding.arguments);
}

fn put_policy(out: &mut Vec<u8>, vhost: &ShortString, kind: PolicyKind, policy: &Policy) {
    put_named(out, POLICY_SET, &[vhost]);
    out.push(u8::from(kind == PolicyKind::Operator));
    put_name(out, &policy.name);
    put_bytes(out, policy.pattern.text().as_bytes());
    out.push(policy.apply_to as u8);
    out.extend_from_slice(&policy.priority.to_be_bytes());
    put_table(out, &policy.definition);
}

fn put_flags(out: &mut Vec<u8>, durable: bool, auto_delete: bool, third: bool) {
    let flag = |set, flag| if set { flag } else { 0 };
    out.push(flag(durable, DURABLE) | flag(auto_delete, AUTO_DELETE) | flag(third, INTERNAL_OR_EXCLUSIVE));
}

fn put_table(out: &mut Vec<u8>, table: &FieldTable) {
    put_bytes(out, table.as_bytes());
}

/// Reads the parts of a change.
trait ReadChange {
    fn flags(&mut self) -> Result<(bool, bool, bool), ChangeError>;
    fn exchange(&mut self) -> Result<Exchange, ChangeError>;
    fn queue(&mut self) -> Result<QueueDefinition, ChangeError>;
    fn connection(&mut self) -> Result<ConnectionId, ChangeError>;
    fn binding(&mut self) -> Result<Binding, ChangeError>;
    fn metadata(&mut self) -> Result<VhostMetadata, ChangeError>;
    fn policy_kind(&mut self) -> Result<PolicyKind, ChangeError>;
    fn policy(&mut self) -> Result<Policy, ChangeError>;
}

impl ReadChange for Fields<'_> {
    /// Durable, auto-delete, and the third flag.
    fn flags(&mut self) -> Result<(bool, bool, bool), ChangeError> {
        match self.byte()? {
            flags @ 0..8 => Ok((
                flags & DURABLE != 0,
                flags & AUTO_DELETE != 0,
                flags & INTERNAL_OR_EXCLUSIVE != 0,
            )),
            found => Err(ChangeError::UnknownValue {
                field: "flags",
                found,
            }),
        }
    }

    fn exchange(&mut self) -> Result<Exchange, ChangeError> {
        let name = self.name()?;
        let found = self.byte()?;
        let mut kinds = ExchangeKind::ALL.into_iter();
        let kind = kinds
            .find(|&kind| kind_code(kind) == found)
            .ok_or(ChangeError::UnknownValue {
                field: "type of exchange",
                found,
            })?;
        let (durable, auto_delete, internal) = self.flags()?;
        Ok(Exchange::new(
            name,
            kind,
            ExchangeFlags {
                durable,
                auto_delete,
                internal,
            },
            self.table()?,
        ))
    }

    fn queue(&mut self) -> Result<QueueDefinition, ChangeError> {
        let (id, vhost, name) = (QueueId(self.u64()?), self.name()?, self.name()?);
        let (vshard, owner) = (VshardId(self.u16()?), ShardId(self.u16()?));
        let (durable, auto_delete, exclusive) = self.flags()?;
        let exclusive = if exclusive { Some(self.connection()?) } else { None };
        let arguments = self.table()?;
        Ok(QueueDefinition {
            id,
            vhost,
            name,
            vshard,
            owner,
            durable,
            exclusive,
            auto_delete,
            arguments,
        })
    }

    fn connection(&mut self) -> Result<ConnectionId, ChangeError> {
        Ok(ConnectionId {
            shard: ShardId(self.u16()?),
            slot: self.u32()?,
            generation: self.u32()?,
        })
    }

    fn binding(&mut self) -> Result<Binding, ChangeError> {
        let (vhost, source) = (self.name()?, self.name()?);
        let destination = match self.byte()? {
            TO_QUEUE => Destination::Queue(QueueId(self.u64()?)),
            TO_EXCHANGE => Destination::Exchange(self.name()?),
            found => {
                return Err(ChangeError::UnknownValue {
                    field: "kind of destination",
                    found,
                });
            }
        };
        Ok(Binding {
            vhost,
            source,
            destination,
            routing_key: self.name()?,
            arguments: self.table()?,
        })
    }

    fn metadata(&mut self) -> Result<VhostMetadata, ChangeError> {
        let default_queue_type = self.name()?;
        Ok(VhostMetadata {
            default_queue_type,
            description: self.text()?.to_owned(),
            tags: self.names()?,
        })
    }

    fn policy_kind(&mut self) -> Result<PolicyKind, ChangeError> {
        match self.byte()? {
            0 => Ok(PolicyKind::User),
            1 => Ok(PolicyKind::Operator),
            found => Err(ChangeError::UnknownValue {
                field: "kind of policy",
                found,
            }),
        }
    }

    fn policy(&mut self) -> Result<Policy, ChangeError> {
        let (name, pattern) = (self.name()?, Pattern::new(self.text()?)?);
        let apply_to = self.byte()?;
        let Some(&(apply_to, _)) = ApplyTo::ALL.get(usize::from(apply_to)) else {
            return Err(ChangeError::UnknownValue {
                field: "what a policy is for",
                found: apply_to,
            });
        };
        Ok(Policy {
            name,
            pattern,
            apply_to,
            priority: self.i64()?,
            definition: self.table()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::any_change;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_change_decodes_to_what_was_encoded(change in any_change()) {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            prop_assert_eq!(Change::decode(&bytes), Ok(change));
        }

        #[test]
        fn a_change_that_was_cut_or_lengthened_is_refused(change in any_change(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            prop_assert!(Change::decode(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert_eq!(Change::decode(&bytes), Err(ChangeError::TooLong(1)));
        }

        #[test]
        fn bytes_that_decode_are_what_their_change_encodes_to(
            kind in 0u8..10,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let bytes = [&[VERSION, kind], bytes.as_slice()].concat();
            if let Ok(change) = Change::decode(&bytes) {
                let mut again = Vec::new();
                change.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn the_format_of_version_1_stays() {
        let queue = QueueDefinition {
            id: QueueId(258),
            vhost: ShortString::from("/"),
            name: ShortString::from("q"),
            vshard: VshardId(3),
            owner: ShardId(1),
            durable: true,
            exclusive: None,
            auto_delete: true,
            arguments: FieldTable::builder().boolean("x", true).build(),
        };
        let mut bytes = Vec::new();
        Change::QueueDeclared(queue).encode(&mut bytes);
        assert_eq!(
            bytes,
            b"\x01\x05\0\0\0\0\0\0\x01\x02\x01/\x01q\0\x03\0\x01\x03\0\0\0\x04\x01xt\x01"
        );
    }
}
