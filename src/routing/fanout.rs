//! The fanout exchange: every binding matches, whatever its routing key (AMQP 0-9-1 §3.1.3.2).

use crate::model::ShortString;

use super::Routed;
use super::targets::{Target, Targets, whole_identity};

/// The targets of all bindings, each binding told apart by its key and arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct FanoutTable {
    targets: Targets,
}

impl FanoutTable {
    pub(super) fn bind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        self.targets.insert(target, &whole_identity(key, arguments))
    }

    pub(super) fn unbind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        self.targets.remove(target, &whole_identity(key, arguments))
    }

    #[inline]
    pub(super) fn route(&self, routed: &mut Routed) {
        self.targets.reach(routed);
    }
}
