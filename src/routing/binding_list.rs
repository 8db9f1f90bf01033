//! `BindingList`: the bindings of an exchange that chooses one of them by number.

use crate::topology::{Binding, Destination};

use super::targets::{Target, whole_identity};

/// All bindings, in an order that is the same on every core and after a restart, unlike the exchanges' slots. Each has
/// a chance of its own, also where several lead to one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct BindingList(Vec<Listed>);

#[derive(Clone, Debug)]
struct Listed {
    destination: Destination,
    /// Its key and arguments.
    identity: Box<[u8]>,
    target: Target,
}

impl BindingList {
    /// Adds a binding to `target`; `false` when it is there already.
    pub(super) fn bind(&mut self, binding: &Binding, target: Target) -> bool {
        let place = self.find(binding);
        if let Err(at) = place {
            let listed = Listed {
                destination: binding.destination.clone(),
                identity: identity(binding).into(),
                target,
            };
            self.0.insert(at, listed);
        }
        place.is_err()
    }

    /// Removes a binding; `false` when it is not there.
    pub(super) fn unbind(&mut self, binding: &Binding) -> bool {
        let found = self.find(binding);
        found.map(|at| self.0.remove(at)).is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of bindings.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where the binding leads that is `index`th of `0..len()`.
    pub(super) fn at(&self, index: usize) -> Target {
        self.0[index].target
    }

    /// Where each binding leads.
    pub(super) fn iter(&self) -> impl Iterator<Item = Target> {
        self.0.iter().map(|listed| listed.target)
    }

    fn find(&self, binding: &Binding) -> Result<usize, usize> {
        let identity = identity(binding);
        let wanted = (&binding.destination, identity.as_slice());
        self.0
            .binary_search_by(|listed| (&listed.destination, &*listed.identity).cmp(&wanted))
    }
}

fn identity(binding: &Binding) -> Vec<u8> {
    whole_identity(&binding.routing_key, binding.arguments.as_bytes())
}
