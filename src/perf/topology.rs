//! Declares what a run needs, and deletes it afterwards.

use super::connection::Client;
use super::error::PerfError;
use super::plan::{Plan, QueuePlan};
use super::workload::{ExchangeKind, Workload};
use crate::model::field_table::FieldArray;
use crate::model::{FieldTable, FieldTableRef, FieldValue};
use crate::protocol::method::{ExchangeDeclare, ExchangeDelete, QueueBind, QueueDeclare, QueueDelete};

/// Declares the plan's exchange and queues and binds them.
pub fn declare(client: &mut Client, workload: &Workload, plan: &Plan) -> Result<(), PerfError> {
    if plan.kind != ExchangeKind::Default {
        declare_exchange(client, workload, plan)?;
    }
    let tables: Vec<FieldTable> = workload
        .queues
        .iter()
        .map(|group| field_table(&group.arguments))
        .collect();
    for queue in &plan.queues {
        let group = &workload.queues[queue.group];
        declare_queue(client, queue, group.durable, &tables[queue.group])?;
        bind(client, plan, queue)?;
    }
    (0..workload.exchange.idle_bindings).try_for_each(|number| bind_idle(client, plan, number))
}

/// Deletes the plan's queues and exchange, with what is left in them.
pub fn delete(client: &mut Client, plan: &Plan) -> Result<(), PerfError> {
    for queue in &plan.queues {
        let delete = QueueDelete {
            queue: queue.name.as_bytes(),
            if_unused: false,
            if_empty: false,
            nowait: false,
        };
        client.request(delete, "queue.delete-ok")?;
    }
    if plan.kind == ExchangeKind::Default {
        return Ok(());
    }
    let delete = ExchangeDelete {
        exchange: plan.exchange.as_bytes(),
        if_unused: false,
        nowait: false,
    };
    client.request(delete, "exchange.delete-ok")
}

/// Headers that a message of `route` carries, or that a binding asks for.
pub fn route_headers(route: usize) -> FieldTable {
    FieldTable::builder().long("route", route as i64).build()
}

fn declare_exchange(client: &mut Client, workload: &Workload, plan: &Plan) -> Result<(), PerfError> {
    let declare = ExchangeDeclare {
        exchange: plan.exchange.as_bytes(),
        kind: kind_name(plan.kind).as_bytes(),
        passive: false,
        durable: workload.exchange.durable,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: FieldTableRef::default(),
    };
    client.request(declare, "exchange.declare-ok")
}

fn declare_queue(
    client: &mut Client,
    queue: &QueuePlan,
    durable: bool,
    arguments: &FieldTable,
) -> Result<(), PerfError> {
    let declare = QueueDeclare {
        queue: queue.name.as_bytes(),
        passive: false,
        durable,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    client.request(declare, "queue.declare-ok")
}

fn bind(client: &mut Client, plan: &Plan, queue: &QueuePlan) -> Result<(), PerfError> {
    if plan.kind == ExchangeKind::Default {
        return Ok(());
    }
    let key = &plan.routes[queue.route].binding_key;
    bind_key(
        client,
        plan,
        queue,
        key,
        &binding_arguments(plan.kind, queue.route),
    )
}

/// A binding that no message matches.
fn bind_idle(client: &mut Client, plan: &Plan, number: u32) -> Result<(), PerfError> {
    let queue = &plan.queues[number as usize % plan.queues.len()];
    let key = format!("idle.{number}.*");
    bind_key(
        client,
        plan,
        queue,
        &key,
        &binding_arguments(plan.kind, plan.routes.len() + number as usize),
    )
}

fn bind_key(
    client: &mut Client,
    plan: &Plan,
    queue: &QueuePlan,
    key: &str,
    arguments: &FieldTable,
) -> Result<(), PerfError> {
    let bind = QueueBind {
        queue: queue.name.as_bytes(),
        exchange: plan.exchange.as_bytes(),
        routing_key: key.as_bytes(),
        nowait: false,
        arguments: arguments.as_ref(),
    };
    client.request(bind, "queue.bind-ok")
}

fn binding_arguments(kind: ExchangeKind, route: usize) -> FieldTable {
    match kind {
        ExchangeKind::Headers => FieldTable::builder()
            .string("x-match", "all")
            .long("route", route as i64)
            .build(),
        _ => FieldTable::default(),
    }
}

fn kind_name(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Default | ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Headers => "headers",
    }
}

/// A TOML table as an AMQP one.
fn field_table(table: &toml::Table) -> FieldTable {
    let mut builder = FieldTable::builder();
    for (key, value) in table {
        with_value(value, &mut |value| {
            builder = std::mem::take(&mut builder).value(key, value)
        });
    }
    builder.build()
}

fn field_array(items: &[toml::Value]) -> FieldArray {
    let mut array = FieldArray::new();
    for item in items {
        with_value(item, &mut |value| array = std::mem::take(&mut array).with(value));
    }
    array
}

/// Gives `take` the AMQP form of a TOML value.
fn with_value(value: &toml::Value, take: &mut dyn FnMut(FieldValue<'_>)) {
    match value {
        toml::Value::String(text) => take(FieldValue::LongString(text.as_bytes())),
        toml::Value::Integer(number) => take(FieldValue::Int64(*number)),
        toml::Value::Float(number) => take(FieldValue::Double(*number)),
        toml::Value::Boolean(flag) => take(FieldValue::Boolean(*flag)),
        toml::Value::Datetime(time) => take(FieldValue::LongString(time.to_string().as_bytes())),
        toml::Value::Table(table) => take(FieldValue::Table(field_table(table).as_ref())),
        toml::Value::Array(items) => take(FieldValue::Array(field_array(items).as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_keep_their_types() {
        let table: toml::Table =
            toml::from_str("x-lane = 1\nx-queue-type = \"classic\"\ndeep = { list = [true, 2.5] }")
                .expect("valid");
        let encoded = field_table(&table);
        assert_eq!(encoded.as_ref().get(b"x-lane"), Some(FieldValue::Int64(1)));
        assert_eq!(
            encoded.as_ref().get(b"x-queue-type"),
            Some(FieldValue::LongString(b"classic"))
        );
        assert!(encoded.as_ref().validate().is_ok());
    }
}
