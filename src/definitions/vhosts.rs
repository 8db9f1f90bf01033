//! Vhosts, and what bounds them.

use serde_json::Value;

use super::entry::Entry;
use super::problem::Place;
use crate::model::ShortString;
use crate::topology::{VhostLimits, VhostMetadata};

/// A vhost, or limits of one.
#[derive(Clone, Debug)]
pub struct VhostDefinition {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: ShortString,
    /// What is said of it; nothing when it only gets limits.
    pub metadata: Option<VhostMetadata>,
    /// What bounds it, when the file says so.
    pub limits: Option<VhostLimits>,
}

const LIMITS: [&str; 2] = ["max-connections", "max-queues"];

pub(super) fn vhost(entry: &mut Entry<'_>) -> Option<VhostDefinition> {
    entry.know(&[
        "name",
        "description",
        "tags",
        "default_queue_type",
        "metadata",
        "limits",
        "tracing",
        "protected_from_deletion",
        "cluster_state",
    ]);
    let (name, metadata, limits) = (entry.name("name"), metadata(entry), limits(entry, "limits"));
    let limits = limits?;
    Some(VhostDefinition {
        place: entry.place.clone(),
        name: name?,
        metadata: Some(metadata?),
        limits: entry.get("limits").is_some_and(has_entries).then_some(limits),
    })
}

/// What a parameter of the component `vhost-limits` says, under `value`.
pub(super) fn vhost_limits(entry: &mut Entry<'_>) -> Option<VhostDefinition> {
    let (name, limits) = (entry.name("vhost"), limits(entry, "value"));
    Some(VhostDefinition {
        place: entry.place.clone(),
        name: name?,
        metadata: None,
        limits: Some(limits?),
    })
}

fn has_entries(value: &Value) -> bool {
    value.as_object().is_some_and(|object| !object.is_empty())
}

fn limits(entry: &mut Entry<'_>, field: &str) -> Option<VhostLimits> {
    let [max_connections, max_queues] = entry.limits(field, LIMITS)?;
    Some(VhostLimits {
        max_connections,
        max_queues,
    })
}

/// What is said of it, by itself or under `metadata`.
fn metadata(entry: &mut Entry<'_>) -> Option<VhostMetadata> {
    let inner = entry.get("metadata").cloned().unwrap_or(Value::Null);
    let text = |entry: &mut Entry<'_>, field: &str| {
        let outer = entry.optional_text(field).map(str::to_owned);
        outer
            .or_else(|| Some(inner.get(field)?.as_str()?.to_owned()))
            .unwrap_or_default()
    };
    let description = text(entry, "description");
    let kind = text(entry, "default_queue_type");
    if !matches!(kind.as_str(), "" | "undefined" | "classic" | "quorum") {
        let told = format!("{kind:?} is kept, without effect: queues without x-queue-type are classic");
        entry.warn(Some("default_queue_type"), told);
    }
    let mut tags = entry.tags("tags")?;
    if tags.is_empty()
        && let Some(Value::Array(texts)) = inner.get("tags")
    {
        let texts = texts.iter().filter_map(Value::as_str);
        tags = texts
            .filter_map(|text| ShortString::new(text.as_bytes()))
            .take(255)
            .collect();
    }
    Some(VhostMetadata {
        description: description.chars().take(1024).collect(),
        tags,
        default_queue_type: match kind.as_str() {
            "undefined" => ShortString::default(),
            kind => ShortString::truncated(kind),
        },
    })
}
