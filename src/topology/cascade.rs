//! What goes when something goes: bindings with their ends, and auto-delete exchanges with their last binding.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::ShortString;

use super::binding_table::{BindingTable, BySource};
use super::vhost::Vhost;
use super::{Binding, Change, Destination, Exchange, ExchangeMemory, QueueDefinition};

/// Collects the changes of one deletion or unbinding in one vhost, in an order in which each can be applied: every
/// binding goes before the exchange or queue at its end.
///
/// An auto-delete exchange goes with the last binding whose source it is, whichever way that binding went, and
/// takes the bindings to itself along, so a whole chain may fall. One that never was bound stays.
pub(super) struct Cascade<'a> {
    vhost: &'a Vhost,
    changes: Vec<Change>,
    removed: BTreeSet<BySource>,
    deleted: BTreeSet<ShortString>,
    sources_to_judge: BTreeSet<ShortString>,
}

impl<'a> Cascade<'a> {
    pub(super) fn new(vhost: &'a Vhost) -> Self {
        let (removed, deleted, sources_to_judge) = Default::default();
        Self {
            vhost,
            changes: Vec::new(),
            removed,
            deleted,
            sources_to_judge,
        }
    }

    /// The changes by which `exchange` goes.
    pub(super) fn deleting_exchange(mut self, exchange: &Exchange) -> Vec<Change> {
        self.delete_exchange(exchange);
        self.finish()
    }

    /// The changes by which `queue` goes, its own last.
    pub(super) fn deleting_queue(mut self, queue: &QueueDefinition) -> Vec<Change> {
        self.unbind_all_to(&Destination::Queue(queue.id));
        let mut changes = self.finish();
        changes.push(Change::QueueDeleted { id: queue.id });
        changes
    }

    /// The changes by which `binding` goes.
    pub(super) fn unbinding(mut self, binding: &Arc<Binding>) -> Vec<Change> {
        self.unbind(binding);
        self.finish()
    }

    fn delete_exchange(&mut self, exchange: &Exchange) {
        self.deleted.insert(exchange.name.clone());
        for binding in self.bindings().leaving(&exchange.name) {
            self.unbind(binding);
        }
        self.unbind_all_to(&Destination::Exchange(exchange.name.clone()));
        self.delete_memory(exchange);
        self.changes.push(Change::ExchangeDeleted {
            vhost: self.vhost.name.clone(),
            name: exchange.name.clone(),
        });
    }

    /// What the exchange remembers goes with it.
    fn delete_memory(&mut self, exchange: &Exchange) {
        let memory = ExchangeMemory::queue_of(self.vhost.name.as_bytes(), exchange);
        if let Ok(Some((name, _))) = memory
            && let Some(&id) = self.vhost.queues.get(name.as_bytes())
        {
            self.unbind_all_to(&Destination::Queue(id));
            self.changes.push(Change::QueueDeleted { id });
        }
    }

    fn unbind_all_to(&mut self, destination: &Destination) {
        for binding in self.bindings().leading_to(destination) {
            self.unbind(binding);
        }
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        if self.removed.insert(BySource(Arc::clone(binding))) {
            self.changes.push(Change::Unbound(Binding::clone(binding)));
            self.sources_to_judge.insert(binding.source.clone());
        }
    }

    fn finish(mut self) -> Vec<Change> {
        while let Some(source) = self.sources_to_judge.pop_first() {
            if self.deleted.contains(&source) {
                continue;
            }
            let exchange = self.vhost.exchanges.get(&source);
            if let Some(exchange) =
                exchange.filter(|exchange| exchange.auto_delete && self.is_unbound(exchange))
            {
                self.delete_exchange(exchange);
            }
        }
        self.changes
    }

    /// Whether every binding with `exchange` as source is among those removed.
    fn is_unbound(&self, exchange: &Exchange) -> bool {
        let mut bindings = self.bindings().leaving(&exchange.name);
        bindings.all(|binding| self.removed.contains(&BySource(Arc::clone(binding))))
    }

    fn bindings(&self) -> &'a BindingTable {
        &self.vhost.bindings
    }
}
