//! The story of a permission: may this user open the vhost, and do this to that queue or exchange?
//!
//! | method | configure | write | read |
//! |---|---|---|---|
//! | exchange.declare, exchange.delete | the exchange | | |
//! | exchange.declare of a new one with an alternate exchange | | the alternate | the exchange |
//! | queue.declare, queue.delete | the queue | | |
//! | queue.declare of a new one with a dead letter exchange | | that exchange | the queue |
//! | queue.bind, queue.unbind | | the queue | the exchange, and its topics |
//! | exchange.bind, exchange.unbind | | the destination | the source, and its topics |
//! | basic.publish | | the exchange, and its topics | |
//! | basic.get, basic.consume, queue.purge | | | the queue |
//!
//! Permissions are judged before it is looked whether there is such a queue or exchange, passive declarations not at all, as
//! in RabbitMQ 3.10. A change of permissions holds for the next method; a publish to the same exchange and key as the one
//! before asks again only when users or what is declared have changed.

use super::Shard;
use super::connections::ConnectionSlot;
use super::obey::At;
use crate::auth::{Access, Resource};
use crate::model::{ChannelNumber, Refusal, ReplyCode, Share, ShortString};
use crate::topology::{ExchangeKind, refusal::no_vhost};

impl Shard {
    /// Whether `user` may open `vhost` now, and the shares that its connection takes of the limits. Refused with 530.
    pub(super) fn admit_connection(&self, user: &ShortString, vhost: &[u8]) -> Result<[Share; 2], Refusal> {
        let refuse = |text: String| Err(Refusal::new(ReplyCode::NotAllowed, text));
        let (Some(limits), Some(connections)) = (
            self.topology.vhost_limits(vhost),
            self.topology.vhost_connections(vhost),
        ) else {
            return Err(no_vhost(vhost));
        };
        let Some(of_vhost) = connections.take(limits.max_connections) else {
            let (shown, limit) = (
                String::from_utf8_lossy(vhost),
                limits.max_connections.unwrap_or(0),
            );
            return refuse(format!(
                "access to vhost '{shown}' refused for user '{user}': connection limit ({limit}) is reached"
            ));
        };
        let record = self.users.get(user.as_bytes());
        let limit = record.and_then(|record| record.limits.max_connections);
        let usage = record
            .map(|record| record.usage.connections.clone())
            .unwrap_or_default();
        let Some(of_user) = usage.take(limit) else {
            let limit = limit.unwrap_or(0);
            return refuse(format!(
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            ));
        };
        self.users.may_open_vhost(user, vhost)?;
        Ok([of_vhost, of_user])
    }

    /// 403 unless the connection's user may have `access` to `resource`.
    pub(super) fn permit(&mut self, at: At, access: Access, resource: Resource<'_>) -> Result<(), Refusal> {
        let connection = &self.connection_at(at.slot).connection;
        let (user, vhost) = (connection.user().clone(), connection.vhost().clone());
        self.users.check_access(&user, vhost.as_bytes(), access, resource)
    }

    /// 403 unless the connection's user may write to `destination` and read from `source`, with `routing_key` if that is a
    /// topic exchange. The default exchange, which nothing can be bound to, is left to who decides about bindings.
    pub(super) fn permit_binding(
        &mut self,
        at: At,
        destination: Resource<'_>,
        source: &[u8],
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        self.permit(at, Access::Write, destination)?;
        if source.is_empty() || destination == Resource::Exchange(b"") {
            return Ok(());
        }
        self.permit(at, Access::Read, Resource::Exchange(source))?;
        self.permit_topics(at.slot, Access::Read, source, &[routing_key])
    }

    /// 403 unless the user of the channel's connection may write to the exchange of the channel's target. What was allowed
    /// once needs no look at patterns until users change.
    pub(super) fn permit_publish(&mut self, slot: u32, number: ChannelNumber) -> Result<(), Refusal> {
        let revision = self.users.revision();
        let connection = &mut self.connections.get_mut(slot).expect("it publishes").connection;
        let (user, vhost) = (connection.user().clone(), connection.vhost().clone());
        let channel = connection.channel_mut(number).expect("it publishes");
        let exchange = channel.assembly.target().exchange.clone();
        if channel.route.is_allowed(&exchange, revision) {
            return Ok(());
        }
        let resource = Resource::Exchange(exchange.as_bytes());
        self.users
            .check_access(&user, vhost.as_bytes(), Access::Write, resource)?;
        let channel = self.channel_at(slot, number).expect("it publishes");
        channel.route.allow(exchange, revision);
        Ok(())
    }

    /// 403 unless the connection's user may have `access` to `exchange` with each of these keys, should it be a topic
    /// exchange.
    pub(super) fn permit_topics(
        &mut self,
        slot: u32,
        access: Access,
        exchange: &[u8],
        routing_keys: &[&[u8]],
    ) -> Result<(), Refusal> {
        let connection = &self
            .connections
            .get_mut(slot)
            .expect("a method came on it")
            .connection;
        let (user, vhost) = (connection.user(), connection.vhost());
        let exchange = match self.topology.exchange(vhost.as_bytes(), exchange) {
            Some(exchange) if exchange.kind == ExchangeKind::Topic => &exchange.name,
            _ => return Ok(()),
        };
        routing_keys
            .iter()
            .try_for_each(|key| self.users.check_topic(user, vhost, access, exchange, key))
    }

    fn connection_at(&mut self, slot: u32) -> &mut ConnectionSlot {
        self.connections.get_mut(slot).expect("a method came on it")
    }
}
