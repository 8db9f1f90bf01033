//! The bindings of one vhost, in order of source and in order of destination.
//!
//! Two sets share each binding: what leaves an exchange is asked when it is deleted or auto-deleted, what leads to
//! a queue or exchange when that goes. A set costs a lookup of logarithmic length for any number of bindings, and
//! nothing for a queue without one. Routing has tables of its own.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{FieldTable, QueueId, ShortString};

use super::{Binding, Destination};

/// A binding ordered by source, routing key, destination and arguments, which together are its identity.
#[derive(Clone, Debug)]
pub(super) struct BySource(pub(super) Arc<Binding>);

/// A binding ordered by destination first.
#[derive(Clone, Debug)]
struct ByDestination(Arc<Binding>);

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(super) struct BindingTable {
    by_source: BTreeSet<BySource>,
    by_destination: BTreeSet<ByDestination>,
}

impl BindingTable {
    /// Adds `binding`, unless it is there.
    pub(super) fn insert(&mut self, binding: Binding) {
        let binding = Arc::new(binding);
        if self.by_source.insert(BySource(Arc::clone(&binding))) {
            self.by_destination.insert(ByDestination(binding));
        }
    }

    /// Removes `binding`, if it is there.
    pub(super) fn remove(&mut self, binding: &Binding) {
        let binding = Arc::new(binding.clone());
        self.by_source.remove(&BySource(Arc::clone(&binding)));
        self.by_destination.remove(&ByDestination(binding));
        debug_assert_eq!(
            self.by_source.len(),
            self.by_destination.len(),
            "each binding lies in both sets"
        );
    }

    /// The binding of this identity.
    pub(super) fn get(&self, binding: Binding) -> Option<&Arc<Binding>> {
        self.by_source
            .get(&BySource(Arc::new(binding)))
            .map(|found| &found.0)
    }

    /// Every binding, by source.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_source.iter().map(|binding| &binding.0)
    }

    /// The bindings that leave this exchange.
    pub(super) fn leaving<'a>(
        &'a self,
        source: &ShortString,
    ) -> impl Iterator<Item = &'a Arc<Binding>> + use<'a> {
        let (first, source) = (
            first_binding(source.clone(), Destination::Queue(QueueId(0))),
            source.clone(),
        );
        let bindings = self.by_source.range(BySource(first)..).map(|binding| &binding.0);
        bindings.take_while(move |binding| binding.source == source)
    }

    /// The bindings that lead to this queue or exchange.
    pub(super) fn leading_to<'a>(
        &'a self,
        destination: &Destination,
    ) -> impl Iterator<Item = &'a Arc<Binding>> + use<'a> {
        let (first, destination) = (
            first_binding(ShortString::default(), destination.clone()),
            destination.clone(),
        );
        let bindings = self
            .by_destination
            .range(ByDestination(first)..)
            .map(|binding| &binding.0);
        bindings.take_while(move |binding| binding.destination == destination)
    }

    /// Removes all bindings that leave this exchange.
    pub(super) fn remove_leaving(&mut self, source: &ShortString) {
        let bindings: Vec<_> = self.leaving(source).cloned().collect();
        bindings.iter().for_each(|binding| self.remove(binding));
    }

    /// Removes all bindings that lead to this queue or exchange.
    pub(super) fn remove_leading_to(&mut self, destination: &Destination) {
        let bindings: Vec<_> = self.leading_to(destination).cloned().collect();
        bindings.iter().for_each(|binding| self.remove(binding));
    }
}

/// A binding that no other of this source, or of this destination, comes before.
fn first_binding(source: ShortString, destination: Destination) -> Arc<Binding> {
    let (vhost, routing_key) = (ShortString::default(), ShortString::default());
    Arc::new(Binding {
        vhost,
        source,
        destination,
        routing_key,
        arguments: FieldTable::default(),
    })
}

impl BySource {
    fn key(&self) -> (&ShortString, &ShortString, &Destination, &[u8]) {
        (
            &self.0.source,
            &self.0.routing_key,
            &self.0.destination,
            self.0.arguments.as_bytes(),
        )
    }
}

impl ByDestination {
    fn key(&self) -> (&Destination, &ShortString, &ShortString, &[u8]) {
        (
            &self.0.destination,
            &self.0.source,
            &self.0.routing_key,
            self.0.arguments.as_bytes(),
        )
    }
}

macro_rules! ordered_by_key {
    ($($name:ident)*) => {$(
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.key().cmp(&other.key())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $name {}
    )*};
}

ordered_by_key!(BySource ByDestination);
