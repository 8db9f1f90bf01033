//! The direct exchange: a binding matches when its routing key equals the message's (AMQP 0-9-1 §3.1.3.1).

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::model::ShortString;

use super::Routed;
use super::targets::{Target, Targets};

/// Targets by routing key. A route costs one hash for any number of bindings.
#[derive(Clone, Debug)]
pub(super) struct DirectTable {
    keys: HashMap<ShortString, Targets, FixedState>,
}

impl DirectTable {
    pub(super) fn new(hash: &FixedState) -> Self {
        Self {
            keys: HashMap::with_hasher(hash.clone()),
        }
    }

    pub(super) fn bind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        self.keys
            .entry(key.clone())
            .or_default()
            .insert(target, arguments)
    }

    pub(super) fn unbind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        let Some(targets) = self.keys.get_mut(key) else {
            return false;
        };
        let removed = targets.remove(target, arguments);
        if targets.is_empty() {
            self.keys.remove(key);
        }
        removed
    }

    #[inline]
    pub(super) fn route(&self, routing_key: &[u8], routed: &mut Routed) {
        if let Some(targets) = self.keys.get(routing_key) {
            targets.reach(routed);
        }
    }
}
