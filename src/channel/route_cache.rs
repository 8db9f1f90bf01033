//! `RouteCache`: where the channel's last publish went, so that the next one of the same exchange and key costs no look-up.

use crate::model::{QueueId, ShardId};
use std::rc::Rc;

/// A queue that a publish goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The core that owns it.
    pub owner: ShardId,
    /// The queue.
    pub queue: QueueId,
    /// Its slot in the owner's table when the owner is this core.
    pub slot: u32,
}

/// The destinations of the channel's current publish target at one state of the topology.
#[derive(Clone, Debug, Default)]
pub struct RouteCache {
    epoch: u64,
    destinations: Option<Rc<[Destination]>>,
}

impl RouteCache {
    /// The destinations, if they were found at `epoch` for the target that is current still.
    #[inline]
    pub fn at(&self, epoch: u64) -> Option<Rc<[Destination]>> {
        if self.epoch == epoch {
            self.destinations.clone()
        } else {
            None
        }
    }

    /// Remembers the destinations of the current target at `epoch`.
    pub fn remember(&mut self, epoch: u64, destinations: Rc<[Destination]>) {
        *self = Self {
            epoch,
            destinations: Some(destinations),
        };
    }

    /// The target has changed.
    pub fn forget(&mut self) {
        self.destinations = None;
    }
}
