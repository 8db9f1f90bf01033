//! Definitions: the file in which RabbitMQ, LavinMQ and LaneMQ write down users, vhosts, permissions, policies, queues,
//! exchanges and bindings, as JSON.
//!
//! ```text
//!   text ── read ─▶ Definitions, each entry checked by itself ── import (shard) ─▶ changes, checked against what is there
//!             └─▶ every problem: list, index, entry, field, what was expected, what was found, what to do
//! ```
//!
//! A file that RabbitMQ 3.x or 4.x has exported is read unchanged. What LaneMQ does not have becomes a warning when the broker
//! serves without it (mirroring by `ha-*`, parameters of plug-ins, unknown fields), and a problem when clients would not find
//! what they ask for (an exchange of an unknown type, a pattern that cannot be matched).
//!
//! The folder reads text and reports; where the text comes from, what exists already and in which order things are made it
//! leaves to others.

mod entry;
mod exchanges;
mod policies;
mod problem;
mod queues;
mod tables;
mod users;
mod vhosts;

use serde_json::{Map, Value};

pub use exchanges::{BindingDefinition, End, ExchangeDefinition};
pub use policies::PolicyDefinition;
pub use problem::{Place, Problem};
pub use queues::QueueEntry;
pub use users::{PasswordDefinition, PermissionDefinition, TopicPermissionDefinition, UserDefinition};
pub use vhosts::VhostDefinition;

use entry::Entry;
use problem::Notes;

/// What a file of definitions holds. Every list is in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// Users.
    pub users: Vec<UserDefinition>,
    /// Vhosts, with their limits, which may also stand among the parameters.
    pub vhosts: Vec<VhostDefinition>,
    /// Permissions in vhosts.
    pub permissions: Vec<PermissionDefinition>,
    /// Permissions for topics.
    pub topic_permissions: Vec<TopicPermissionDefinition>,
    /// Policies and operator policies.
    pub policies: Vec<PolicyDefinition>,
    /// Queues.
    pub queues: Vec<QueueEntry>,
    /// Exchanges, without the predeclared ones.
    pub exchanges: Vec<ExchangeDefinition>,
    /// Bindings.
    pub bindings: Vec<BindingDefinition>,
    /// What is accepted and ignored.
    pub warnings: Vec<Problem>,
}

/// Top-level keys that say nothing of what there should be.
const REMARKS: &[&str] = &[
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "lavinmq_version",
    "lanemq_version",
    "original_cluster_name",
    "original_vhost_name",
    "explanation",
    "metadata",
];

/// Reads a file's text, or tells all that is wrong with it.
pub fn read(text: &str) -> Result<Definitions, Vec<Problem>> {
    let value = match serde_json::from_str(text) {
        Ok(Value::Object(value)) => value,
        Ok(other) => return Err(vec![problem::not_an_object(&other)]),
        Err(error) => return Err(vec![problem::not_json(&error)]),
    };
    let mut notes = Notes::default();
    let mut definitions = Definitions::default();
    for (key, value) in &value {
        read_key(key, value, &mut definitions, &mut notes);
    }
    definitions.warnings = notes.warnings;
    match notes.problems.is_empty() {
        true => Ok(definitions),
        false => Err(notes.problems),
    }
}

fn read_key(key: &str, value: &Value, definitions: &mut Definitions, notes: &mut Notes) {
    match key {
        "users" => definitions.users = list("users", value, notes, users::user),
        "vhosts" => {
            let vhosts = list("vhosts", value, notes, vhosts::vhost);
            definitions.vhosts.splice(0..0, vhosts);
        }
        "permissions" => {
            definitions.permissions = list("permissions", value, notes, users::permission);
        }
        "topic_permissions" => {
            definitions.topic_permissions = list("topic_permissions", value, notes, users::topic_permission);
        }
        "policies" => {
            let policies = list("policies", value, notes, policies::policy);
            definitions.policies.extend(policies);
        }
        "parameters" => {
            for parameter in list("parameters", value, notes, policies::parameter) {
                match parameter {
                    policies::Parameter::Policy(policy) => definitions.policies.push(policy),
                    policies::Parameter::Limits(vhost) => definitions.vhosts.push(vhost),
                }
            }
        }
        "global_parameters" => drop(list(
            "global_parameters",
            value,
            notes,
            policies::global_parameter,
        )),
        "queues" => definitions.queues = list("queues", value, notes, queues::queue),
        "exchanges" => definitions.exchanges = list("exchanges", value, notes, exchanges::exchange),
        "bindings" => definitions.bindings = list("bindings", value, notes, exchanges::binding),
        key if REMARKS.contains(&key) => {}
        key => notes.warn(problem::unknown_key(key)),
    }
}

/// The entries of a list that are right, or `None` where one has nothing to say.
fn list<T>(
    name: &'static str,
    value: &Value,
    notes: &mut Notes,
    read: impl Fn(&mut Entry<'_>) -> Option<T>,
) -> Vec<T> {
    let Value::Array(values) = value else {
        notes.refuse(problem::not_a_list(name, value));
        return Vec::new();
    };
    let mut entries = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let empty = Map::new();
        let object = value.as_object().unwrap_or(&empty);
        let mut entry = Entry::new(name, index, object, notes);
        if value.is_object() {
            entries.extend(read(&mut entry));
        } else {
            entry.refuse(
                None,
                "an object such as {\"name\": ...}",
                value,
                "write each entry in braces",
            );
        }
    }
    entries
}

#[cfg(test)]
mod tests;
