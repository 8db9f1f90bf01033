//! What must hold when nobody is connected and nothing is under way: cores owe each other nothing, and no queue has a
//! consumer or an unacked message.

use super::broker::{Broker, CORES};
use super::core::Core;
use crate::model::ShardId;

/// Checks every core.
///
/// # Errors
/// What does not hold.
pub fn check_quiet(broker: &Broker) -> Result<(), String> {
    broker.cores().iter().try_for_each(check_core)
}

fn check_core(core: &Core) -> Result<(), String> {
    let id = core.shard.id();
    core.shard.check_invariants();
    for other in (0..CORES as u16).map(ShardId) {
        let bytes = core.shard.mailbox().unaccepted_bytes(other);
        if bytes > 0 {
            return Err(format!(
                "core {id} still counts {bytes} bytes under way to core {other}"
            ));
        }
    }
    for queue in core.shard.queues().iter() {
        let (unacked, consumers) = (queue.queue.unacked_count(), queue.queue.consumer_count());
        if unacked > 0 || consumers > 0 || queue.is_frozen {
            let (name, frozen) = (&queue.name, queue.is_frozen);
            return Err(format!(
                "queue {name} still has {unacked} unacked messages and {consumers} consumers, frozen: {frozen}"
            ));
        }
    }
    Ok(())
}
