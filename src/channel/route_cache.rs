//! `RouteCache`: where the channel's last publish went, so that the next one of the same exchange and key costs no look-up.

use crate::model::{QueueId, ShardId, ShortString};
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

/// The destinations of the channel's current publish target at one state of the topology and of permissions.
#[derive(Clone, Debug, Default)]
pub struct RouteCache {
    epoch: u64,
    destinations: Option<Rc<[Destination]>>,
    /// The exchange that was allowed last, and the state of permissions that allowed it.
    allowed: Option<(ShortString, u64)>,
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
        (self.epoch, self.destinations) = (epoch, Some(destinations));
    }

    /// Whether publishing to `exchange` was allowed last, at this revision of the permissions.
    pub fn is_allowed(&self, exchange: &ShortString, revision: u64) -> bool {
        let allowed = self.allowed.as_ref();
        allowed.is_some_and(|(allowed, at)| *at == revision && allowed == exchange)
    }

    /// Publishing to `exchange` is allowed at this revision of the permissions.
    pub fn allow(&mut self, exchange: ShortString, revision: u64) {
        self.allowed = Some((exchange, revision));
    }

    /// The target has changed.
    pub fn forget(&mut self) {
        self.destinations = None;
    }
}
