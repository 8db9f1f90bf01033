//! `Targets`: where the bindings of one routing key, pattern or exchange lead.

use std::collections::BTreeSet;

use crate::model::{QueueId, ShortString};

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

/// A target, and the rest of its binding's identity: the part that does not decide here whether the binding matches.
type Bound = (Target, Box<[u8]>);

/// A sorted set of targets; one stays until the last of its bindings goes.
#[derive(Clone, Debug)]
pub(super) struct Targets(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Close together, and walked the quickest.
    Few(Vec<Bound>),
    /// Where one goes without moving all that follow: 100,000 queues of one key would take half a minute to go.
    Many(BTreeSet<Bound>),
}

impl Default for Targets {
    fn default() -> Self {
        Self(Form::Few(Vec::new()))
    }
}

impl Targets {
    /// Adds a binding; `false` when it is there already.
    pub(super) fn insert(&mut self, target: Target, identity: &[u8]) -> bool {
        let few = match &mut self.0 {
            Form::Few(few) => few,
            Form::Many(many) => return many.insert((target, identity.into())),
        };
        let Err(at) = find(few, target, identity) else {
            return false;
        };
        // Most keys lead to one queue: room for one, not for the four that a growing list begins with.
        if few.is_empty() {
            few.reserve_exact(1);
        }
        few.insert(at, (target, identity.into()));
        if few.len() > FEW_MAX {
            self.0 = Form::Many(std::mem::take(few).into_iter().collect());
        }
        true
    }

    /// Removes a binding; `false` when it is not there.
    pub(super) fn remove(&mut self, target: Target, identity: &[u8]) -> bool {
        match &mut self.0 {
            Form::Few(few) => {
                let found = find(few, target, identity);
                found.map(|at| few.remove(at)).is_ok()
            }
            Form::Many(many) => {
                let was_there = many.remove(&(target, identity.into()));
                if many.len() <= FEW_MAX / 2 {
                    self.0 = Form::Few(std::mem::take(many).into_iter().collect());
                }
                was_there
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Few(few) => few.is_empty(),
            Form::Many(many) => many.is_empty(),
        }
    }

    /// Reports every target.
    #[inline]
    pub(super) fn reach(&self, routed: &mut Routed) {
        match &self.0 {
            Form::Few(few) => few.iter().for_each(|&(target, _)| routed.reach(target)),
            Form::Many(many) => many.iter().for_each(|&(target, _)| routed.reach(target)),
        }
    }
}

/// Where a binding is in a sorted list of them, or would be.
fn find(bindings: &[Bound], target: Target, identity: &[u8]) -> Result<usize, usize> {
    bindings.binary_search_by(|(found, found_identity)| (*found, &**found_identity).cmp(&(target, identity)))
}

/// Key and arguments in one, where neither decides whether the binding matches; no bytes at all for the common binding
/// that has none.
pub(super) fn whole_identity(key: &ShortString, arguments: &[u8]) -> Vec<u8> {
    if key.is_empty() && arguments.is_empty() {
        return Vec::new();
    }
    [&[key.as_bytes().len() as u8], key.as_bytes(), arguments].concat()
}

/// Above so many a list becomes a tree; at half of it, a list again.
const FEW_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(targets: &Targets) -> Vec<u64> {
        let mut routed = Routed::default();
        targets.reach(&mut routed);
        routed.queues.iter().map(|queue| queue.0).collect()
    }

    #[test]
    fn few_targets_and_many_are_the_same_set() {
        let count = 3 * FEW_MAX as u64;
        let mut targets = Targets::default();
        for queue in (0..count).rev() {
            let target = Target::Queue(QueueId(queue));
            assert!(targets.insert(target, b"") && !targets.insert(target, b""));
        }
        assert_eq!(queues(&targets), (0..count).collect::<Vec<_>>());
        for queue in 0..count {
            let target = Target::Queue(QueueId(queue));
            assert!(
                targets.insert(target, b"other"),
                "another binding of the same queue"
            );
            assert!(targets.remove(target, b"") && !targets.remove(target, b""));
            assert!(targets.remove(target, b"other"));
            assert_eq!(
                queues(&targets).first().copied(),
                Some(queue + 1).filter(|next| *next < count)
            );
            assert_eq!(targets.is_empty(), queue + 1 == count);
        }
    }
}
