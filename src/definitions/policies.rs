//! Policies, and the parameters among which operator policies and limits of vhosts stand.

use super::entry::Entry;
use super::problem::Place;
use super::vhosts::{VhostDefinition, vhost_limits};
use crate::model::{FieldTable, Pattern, ShortString};
use crate::topology::policy_keys::{PolicyFault, check_policy, is_without_effect};
use crate::topology::{ApplyTo, Policy, PolicyKind};

/// A policy of a vhost.
#[derive(Clone, Debug)]
pub struct PolicyDefinition {
    /// Where it stands.
    pub place: Place,
    /// The vhost.
    pub vhost: ShortString,
    /// Whose it is.
    pub kind: PolicyKind,
    /// The policy.
    pub policy: Policy,
}

/// What a parameter is, when it has an effect.
pub(super) enum Parameter {
    /// An operator policy.
    Policy(PolicyDefinition),
    /// Limits of a vhost.
    Limits(VhostDefinition),
}

const POLICY_FIELDS: &[&str] = &["vhost", "name", "pattern", "apply-to", "priority", "definition"];

pub(super) fn policy(entry: &mut Entry<'_>) -> Option<PolicyDefinition> {
    entry.know(POLICY_FIELDS);
    let (vhost, name) = (entry.name("vhost"), entry.name("name"));
    let policy = body(entry, PolicyKind::User, name.clone());
    definition_of(entry.place.clone(), vhost, PolicyKind::User, policy)
}

pub(super) fn parameter(entry: &mut Entry<'_>) -> Option<Parameter> {
    entry.know(&["vhost", "component", "name", "value"]);
    match entry.text("component")? {
        "operator_policy" => operator_policy(entry).map(Parameter::Policy),
        "vhost-limits" => vhost_limits(entry).map(Parameter::Limits),
        other => {
            let told = format!("{other:?} is not there, the parameter is ignored");
            entry.warn(Some("component"), told);
            None
        }
    }
}

/// Parameters of a whole cluster have no effect; those that say nothing of what the broker should do need no warning.
pub(super) fn global_parameter(entry: &mut Entry<'_>) -> Option<()> {
    let name = entry.name("name")?;
    let is_remark = [
        &b"cluster_name"[..],
        b"internal_cluster_id",
        b"imported_definition_hash_value",
    ];
    if !is_remark.contains(&name.as_bytes()) {
        entry.warn(None, "global parameters have no effect, ignored");
    }
    None
}

fn operator_policy(entry: &mut Entry<'_>) -> Option<PolicyDefinition> {
    let (vhost, name) = (entry.name("vhost"), entry.name("name"));
    let value = entry.get("value").and_then(|value| value.as_object()).cloned();
    let Some(value) = value else {
        let problem = "expected an object with pattern and definition".to_owned();
        entry.refuse_with(Some("value"), problem, "write it in braces");
        return None;
    };
    let policy = entry.within(&value, |inner| {
        inner.know(&POLICY_FIELDS[2..]);
        body(inner, PolicyKind::Operator, name)
    });
    definition_of(entry.place.clone(), vhost, PolicyKind::Operator, policy)
}

fn definition_of(
    place: Place,
    vhost: Option<ShortString>,
    kind: PolicyKind,
    policy: Option<Policy>,
) -> Option<PolicyDefinition> {
    Some(PolicyDefinition {
        place,
        vhost: vhost?,
        kind,
        policy: policy?,
    })
}

fn body(entry: &mut Entry<'_>, kind: PolicyKind, name: Option<ShortString>) -> Option<Policy> {
    let (pattern, apply_to) = (pattern(entry), apply_to(entry, kind));
    let (priority, definition) = (entry.optional_integer("priority"), definition(entry, kind));
    Some(Policy {
        name: name?,
        pattern: pattern?,
        apply_to: apply_to?,
        priority: priority?,
        definition: definition?,
    })
}

fn pattern(entry: &mut Entry<'_>) -> Option<Pattern> {
    let text = entry.text("pattern")?;
    match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let problem = format!("expected a regular expression, found {text:?}: {error}");
            let fix = "write a regular expression that an automaton can match";
            entry.refuse_with(Some("pattern"), problem, fix);
            None
        }
    }
}

fn apply_to(entry: &mut Entry<'_>, kind: PolicyKind) -> Option<ApplyTo> {
    let Some(value) = entry.get("apply-to") else {
        return Some(ApplyTo::All);
    };
    let is_right = |apply_to: &ApplyTo| kind == PolicyKind::User || *apply_to != ApplyTo::Exchanges;
    let apply_to = value.as_str().and_then(ApplyTo::parse).filter(is_right);
    if apply_to.is_none() {
        let names = ApplyTo::ALL.iter().filter(|(apply_to, _)| is_right(apply_to));
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        entry.refuse(Some("apply-to"), &expected, value, "write one of these names");
    }
    apply_to
}

/// The settings. Keys that nobody knows are left out with a warning, so that files of later brokers can be read.
fn definition(entry: &mut Entry<'_>, kind: PolicyKind) -> Option<FieldTable> {
    let definition = entry.table("definition")?;
    let faults = check_policy(kind, definition.as_ref()).err().unwrap_or_default();
    let mut unknown = Vec::new();
    let mut is_right = true;
    for fault in faults {
        let told = fault.to_string();
        match fault {
            PolicyFault::Unknown { key, .. } => {
                entry.warn(Some(&format!("definition.{key}")), format!("{told}, ignored"));
                unknown.push(key);
            }
            PolicyFault::Value { key, .. } => {
                let fix = "give the key a value that it allows";
                entry.refuse_with(Some(&format!("definition.{key}")), told, fix);
                is_right = false;
            }
            PolicyFault::Empty => {
                entry.refuse_with(
                    Some("definition"),
                    told,
                    "give it a setting, or leave the policy out",
                );
                is_right = false;
            }
        }
    }
    is_right.then(|| known_part(entry, &definition, &unknown))
}

fn known_part(entry: &mut Entry<'_>, definition: &FieldTable, unknown: &[String]) -> FieldTable {
    let mut known = FieldTable::builder();
    for (key, value) in definition.as_ref().iter().map_while(Result::ok) {
        if unknown.iter().any(|unknown| unknown.as_bytes() == key) {
            continue;
        }
        if is_without_effect(key) {
            let path = format!("definition.{}", String::from_utf8_lossy(key));
            entry.warn(Some(&path), "has no effect, ignored");
        }
        known = known.value(key, value);
    }
    known.build()
}
