//! Exchanges, and bindings from them.

use super::entry::Entry;
use super::problem::Place;
use crate::model::{FieldTable, ShortString};
use crate::topology::{
    Exchange, ExchangeFlags, ExchangeKind, PREDECLARED_EXCHANGES, check_imported_exchange,
};

/// An exchange.
#[derive(Clone, Debug)]
pub struct ExchangeDefinition {
    /// Where it stands.
    pub place: Place,
    /// The vhost.
    pub vhost: ShortString,
    /// The exchange, its arguments checked.
    pub exchange: Exchange,
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A queue.
    Queue(ShortString),
    /// An exchange.
    Exchange(ShortString),
}

/// A binding.
#[derive(Clone, Debug)]
pub struct BindingDefinition {
    /// Where it stands.
    pub place: Place,
    /// The vhost.
    pub vhost: ShortString,
    /// The exchange it leaves.
    pub source: ShortString,
    /// Where it leads.
    pub destination: End,
    /// The routing key.
    pub routing_key: ShortString,
    /// The arguments.
    pub arguments: FieldTable,
}

pub(super) fn exchange(entry: &mut Entry<'_>) -> Option<ExchangeDefinition> {
    entry.know(&[
        "vhost",
        "name",
        "type",
        "durable",
        "auto_delete",
        "internal",
        "arguments",
        "policy",
    ]);
    let (vhost, name, kind) = (entry.name("vhost"), entry.name("name"), entry.text("type"));
    let (durable, auto_delete) = (entry.boolean("durable"), entry.boolean("auto_delete"));
    let (internal, arguments) = (entry.optional_boolean("internal"), entry.table("arguments"));
    let name = name?;
    if PREDECLARED_EXCHANGES
        .iter()
        .any(|(known, _)| known.as_bytes() == name.as_bytes())
    {
        return None;
    }
    let kind = match ExchangeKind::parse(kind?.as_bytes()) {
        Ok(kind) => kind,
        Err(refusal) => {
            let fix = "use a type that LaneMQ has, or take the exchange and its bindings out of the file";
            entry.refuse_as("type", &refusal, fix);
            return None;
        }
    };
    let (vhost, arguments) = (vhost?, arguments?);
    let flags = ExchangeFlags {
        durable: durable?,
        auto_delete: auto_delete?,
        internal: internal?,
    };
    let exchange = Exchange::new(name, kind, flags, arguments);
    if let Err(refusal) = check_imported_exchange(&vhost, &exchange) {
        let fix = "give the argument a value that it allows";
        entry.refuse_as("arguments", &refusal, fix);
        return None;
    }
    Some(ExchangeDefinition {
        place: entry.place.clone(),
        vhost,
        exchange,
    })
}

pub(super) fn binding(entry: &mut Entry<'_>) -> Option<BindingDefinition> {
    entry.know(&[
        "vhost",
        "source",
        "destination",
        "destination_type",
        "routing_key",
        "arguments",
        "properties_key",
    ]);
    let (vhost, source, destination) = (
        entry.name("vhost"),
        entry.name("source"),
        entry.name("destination"),
    );
    let (routing_key, arguments) = (entry.name("routing_key"), entry.table("arguments"));
    let destination = end(entry, destination?)?;
    let source = source?;
    // From the default exchange a binding leads to each queue anyway.
    if source.is_empty() {
        return None;
    }
    Some(BindingDefinition {
        place: entry.place.clone(),
        vhost: vhost?,
        source,
        destination,
        routing_key: routing_key?,
        arguments: arguments?,
    })
}

fn end(entry: &mut Entry<'_>, destination: ShortString) -> Option<End> {
    match entry.text("destination_type")? {
        "queue" => Some(End::Queue(destination)),
        "exchange" => Some(End::Exchange(destination)),
        other => {
            let problem = format!("expected \"queue\" or \"exchange\", found {other:?}");
            entry.refuse_with(Some("destination_type"), problem, "write one of the two");
            None
        }
    }
}
