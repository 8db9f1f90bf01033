//! `Targets`: where the bindings of one routing key, pattern or exchange lead.

use crate::model::QueueId;

use super::Routed;

/// What a binding leads to, as routing names it: an exchange by its slot in the vhost's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A queue.
    Queue(QueueId),
    /// An exchange of the same vhost.
    Exchange(ExchangeSlot),
}

/// An exchange's place in its vhost's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExchangeSlot(pub(super) u32);

/// A sorted list of targets, each with the rest of its binding's identity (the part that does not decide here
/// whether the binding matches): a target stays until the last of its bindings goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets(Vec<(Target, Box<[u8]>)>);

impl Targets {
    /// Adds a binding; `false` when it is there already.
    pub(super) fn insert(&mut self, target: Target, identity: &[u8]) -> bool {
        match self.find(target, identity) {
            Ok(_) => false,
            Err(at) => {
                // Most keys lead to one queue: room for one, not for the four that a growing list begins with.
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (target, identity.into()));
                true
            }
        }
    }

    /// Removes a binding; `false` when it is not there.
    pub(super) fn remove(&mut self, target: Target, identity: &[u8]) -> bool {
        let found = self.find(target, identity);
        if let Ok(at) = found {
            self.0.remove(at);
        }
        found.is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reports every target.
    #[inline]
    pub(super) fn reach(&self, routed: &mut Routed) {
        for &(target, _) in &self.0 {
            routed.reach(target);
        }
    }

    fn find(&self, target: Target, identity: &[u8]) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(found, found_identity)| (*found, &**found_identity).cmp(&(target, identity)))
    }
}
