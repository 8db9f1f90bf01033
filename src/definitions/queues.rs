//! Queues.

use super::entry::Entry;
use super::problem::Place;
use crate::model::{FieldTable, ShortString};
use crate::topology::{ExchangeMemory, check_imported_queue};

/// A queue.
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// Where it stands.
    pub place: Place,
    /// The vhost.
    pub vhost: ShortString,
    /// Its name.
    pub name: ShortString,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Its arguments, checked.
    pub arguments: FieldTable,
}

pub(super) fn queue(entry: &mut Entry<'_>) -> Option<QueueEntry> {
    entry.know(&["vhost", "name", "durable", "auto_delete", "arguments", "type"]);
    let (vhost, name) = (entry.name("vhost"), entry.name("name"));
    let (durable, auto_delete) = (entry.boolean("durable"), entry.boolean("auto_delete"));
    let arguments = entry.table("arguments");
    let (vhost, name, arguments) = (vhost?, name?, arguments?);
    if name.is_empty() {
        let problem = "expected a name, found an empty one".to_owned();
        entry.refuse_with(Some("name"), problem, "give the queue a name");
        return None;
    }
    // It is made with its exchange.
    if ExchangeMemory::of_queue(name.as_bytes()).is_some() {
        return None;
    }
    if let Err(refusal) = check_imported_queue(&vhost, &name, arguments.as_ref()) {
        entry.refuse_as("arguments", &refusal, "give the argument a value that it allows");
        return None;
    }
    if arguments
        .as_ref()
        .get(b"x-queue-type")
        .and_then(|kind| kind.as_string())
        == Some(b"stream")
    {
        let told = "streams are kept as queues: a message goes when it is acknowledged";
        entry.warn(Some("arguments.x-queue-type"), told);
    }
    Some(QueueEntry {
        place: entry.place.clone(),
        vhost,
        name,
        durable: durable?,
        auto_delete: auto_delete?,
        arguments,
    })
}
