//! `BindingList`: the bindings of an exchange that chooses one of them by number.

use crate::model::ShortString;

use super::targets::{Bound, Target, find, whole_identity};

/// All bindings, sorted, so that their numbers are the same on every core and after a restart. Each has a chance of its
/// own, also where several lead to one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct BindingList(Vec<Bound>);

impl BindingList {
    /// Adds a binding; `false` when it is there already.
    pub(super) fn bind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        let identity = whole_identity(key, arguments);
        let place = find(&self.0, target, &identity);
        if let Err(at) = place {
            self.0.insert(at, (target, identity.into()));
        }
        place.is_err()
    }

    /// Removes a binding; `false` when it is not there.
    pub(super) fn unbind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        let found = find(&self.0, target, &whole_identity(key, arguments));
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
        self.0[index].0
    }

    /// Where each binding leads.
    pub(super) fn iter(&self) -> impl Iterator<Item = Target> {
        self.0.iter().map(|&(target, _)| target)
    }
}
