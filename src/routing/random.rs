//! The random exchange: one binding, by chance (RabbitMQ's plugin rabbitmq_random_exchange). A queue that is bound with
//! several keys or arguments has as many chances.

use super::Routed;
use super::binding_list::BindingList;
use super::hash::scale;

/// All bindings.
#[derive(Clone, Debug, Default)]
pub(super) struct RandomTable {
    pub(super) bindings: BindingList,
}

impl RandomTable {
    pub(super) fn route(&self, routed: &mut Routed) {
        routed.decided_for_message_alone();
        if !self.bindings.is_empty() {
            let at = scale(routed.draw(), self.bindings.len());
            routed.reach(self.bindings.at(at));
        }
    }
}
