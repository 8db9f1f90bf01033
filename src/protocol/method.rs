//! `Method`: every method of AMQP 0-9-1 and of RabbitMQ's extensions to it, one row each.
//!
//! A row names the method's type, its ids, its name on paper, and its fields in the order of the wire with the
//! specification's types (AMQP 0-9-1 §4.2.5). `kind` stands for the field `type`.

use crate::model::FieldTableRef;
use crate::protocol::field_reader::{FieldFault, FieldReader};
use crate::protocol::field_writer::FieldWriter;
use crate::protocol::frame::Snippet;
use crate::protocol::method_error::FieldBytes;
use crate::protocol::method_table::{field_type, has_option, methods};

pub use crate::protocol::method_error::MethodError;

methods! {
    // Class 10.
    /// The server's first method: its properties, and its mechanisms and locales, each a list separated by spaces.
    ConnectionStart<'a> = (10, 10, "connection.start") {
        version_major: octet, version_minor: octet, server_properties: table, mechanisms: longstr, locales:
        longstr,
    }
    /// The client's properties, and the mechanism and locale it chose, with the mechanism's first answer.
    ConnectionStartOk<'a> = (10, 11, "connection.start-ok") {
        client_properties: table, mechanism: shortstr, response: longstr, locale: shortstr,
    }
    /// Another challenge of the mechanism.
    ConnectionSecure<'a> = (10, 20, "connection.secure") { challenge: longstr }
    /// The answer to a challenge.
    ConnectionSecureOk<'a> = (10, 21, "connection.secure-ok") { response: longstr }
    /// What the server proposes: most channels, most bytes of a frame, seconds between heartbeats; 0 is no limit.
    ConnectionTune = (10, 30, "connection.tune") { channel_max: short, frame_max: long, heartbeat: short }
    /// What the client takes of the proposal.
    ConnectionTuneOk = (10, 31, "connection.tune-ok") {
        channel_max: short, frame_max: long, heartbeat: short,
    }
    /// The virtual host the client wants.
    ConnectionOpen<'a> = (10, 40, "connection.open") {
        virtual_host: shortstr, capabilities: shortstr, insist: bit,
    }
    /// The virtual host is open.
    ConnectionOpenOk<'a> = (10, 41, "connection.open-ok") { known_hosts: shortstr }
    /// Either side closes the connection; the ids are those of the method at fault, or 0.
    ConnectionClose<'a> = (10, 50, "connection.close") {
        reply_code: short, reply_text: shortstr, class_id: short, method_id: short,
    }
    /// The connection is closed.
    ConnectionCloseOk = (10, 51, "connection.close-ok") {}
    /// The server reads no more from a publishing connection, because it is short of something. An extension of RabbitMQ.
    ConnectionBlocked<'a> = (10, 60, "connection.blocked") { reason: shortstr }
    /// The server reads again.
    ConnectionUnblocked = (10, 61, "connection.unblocked") {}
    /// The client's new secret, in place of one that expires. An extension of RabbitMQ.
    ConnectionUpdateSecret<'a> = (10, 70, "connection.update-secret") {
        new_secret: longstr, reason: shortstr,
    }
    /// The new secret is in force.
    ConnectionUpdateSecretOk = (10, 71, "connection.update-secret-ok") {}

    // Class 20.
    /// The client opens the channel that the frame names.
    ChannelOpen<'a> = (20, 10, "channel.open") { out_of_band: shortstr }
    /// The channel is open.
    ChannelOpenOk<'a> = (20, 11, "channel.open-ok") { channel_id: longstr }
    /// Asks the other side to stop or to go on sending contents.
    ChannelFlow = (20, 20, "channel.flow") { active: bit }
    /// Tells whether contents are sent now.
    ChannelFlowOk = (20, 21, "channel.flow-ok") { active: bit }
    /// Either side closes the channel; the ids are those of the method at fault, or 0.
    ChannelClose<'a> = (20, 40, "channel.close") {
        reply_code: short, reply_text: shortstr, class_id: short, method_id: short,
    }
    /// The channel is closed, and its number is free.
    ChannelCloseOk = (20, 41, "channel.close-ok") {}

    // Class 30.
    /// Asks for a ticket, which AMQP 0-9-1 no longer has.
    AccessRequest<'a> = (30, 10, "access.request") {
        realm: shortstr, exclusive: bit, passive: bit, active: bit, write: bit, read: bit,
    }
    /// A ticket, which nobody looks at.
    AccessRequestOk = (30, 11, "access.request-ok") { ticket: short }

    // Class 40.
    /// Declares an exchange, or asks whether it is there.
    ExchangeDeclare<'a> = (40, 10, "exchange.declare", ticket) {
        exchange: shortstr, kind: shortstr, passive: bit, durable: bit, auto_delete: bit, internal: bit,
        nowait: bit, arguments: table,
    }
    /// The exchange is there.
    ExchangeDeclareOk = (40, 11, "exchange.declare-ok") {}
    /// Deletes an exchange.
    ExchangeDelete<'a> = (40, 20, "exchange.delete", ticket) {
        exchange: shortstr, if_unused: bit, nowait: bit,
    }
    /// The exchange is gone.
    ExchangeDeleteOk = (40, 21, "exchange.delete-ok") {}
    /// Binds an exchange to another one. An extension of RabbitMQ.
    ExchangeBind<'a> = (40, 30, "exchange.bind", ticket) {
        destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit, arguments: table,
    }
    /// The exchange is bound.
    ExchangeBindOk = (40, 31, "exchange.bind-ok") {}
    /// Takes a binding between exchanges away.
    ExchangeUnbind<'a> = (40, 40, "exchange.unbind", ticket) {
        destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit, arguments: table,
    }
    /// The binding is gone. Its id is 51, out of the usual row.
    ExchangeUnbindOk = (40, 51, "exchange.unbind-ok") {}

    // Class 50.
    /// Declares a queue, or asks whether it is there; an empty name asks the server for one.
    QueueDeclare<'a> = (50, 10, "queue.declare", ticket) {
        queue: shortstr, passive: bit, durable: bit, exclusive: bit, auto_delete: bit, nowait: bit, arguments:
        table,
    }
    /// The queue is there, with so many ready messages and consumers.
    QueueDeclareOk<'a> = (50, 11, "queue.declare-ok") {
        queue: shortstr, message_count: long, consumer_count: long,
    }
    /// Binds a queue to an exchange.
    QueueBind<'a> = (50, 20, "queue.bind", ticket) {
        queue: shortstr, exchange: shortstr, routing_key: shortstr, nowait: bit, arguments: table,
    }
    /// The queue is bound.
    QueueBindOk = (50, 21, "queue.bind-ok") {}
    /// Drops the ready messages of a queue.
    QueuePurge<'a> = (50, 30, "queue.purge", ticket) { queue: shortstr, nowait: bit }
    /// So many messages were dropped.
    QueuePurgeOk = (50, 31, "queue.purge-ok") { message_count: long }
    /// Deletes a queue.
    QueueDelete<'a> = (50, 40, "queue.delete", ticket) {
        queue: shortstr, if_unused: bit, if_empty: bit, nowait: bit,
    }
    /// The queue is gone, with so many ready messages.
    QueueDeleteOk = (50, 41, "queue.delete-ok") { message_count: long }
    /// Takes a binding of a queue away.
    QueueUnbind<'a> = (50, 50, "queue.unbind", ticket) {
        queue: shortstr, exchange: shortstr, routing_key: shortstr, arguments: table,
    }
    /// The binding is gone.
    QueueUnbindOk = (50, 51, "queue.unbind-ok") {}

    // Class 60.
    /// How many messages may be unacked at a time; with `global`, on the whole channel.
    BasicQos = (60, 10, "basic.qos") { prefetch_size: long, prefetch_count: short, global: bit }
    /// The limits hold from now on.
    BasicQosOk = (60, 11, "basic.qos-ok") {}
    /// Starts a consumer; an empty tag asks the server for one.
    BasicConsume<'a> = (60, 20, "basic.consume", ticket) {
        queue: shortstr, consumer_tag: shortstr, no_local: bit, no_ack: bit, exclusive: bit, nowait: bit,
        arguments: table,
    }
    /// The consumer has started.
    BasicConsumeOk<'a> = (60, 21, "basic.consume-ok") { consumer_tag: shortstr }
    /// Ends a consumer; sent by the server when the queue is gone.
    BasicCancel<'a> = (60, 30, "basic.cancel") { consumer_tag: shortstr, nowait: bit }
    /// The consumer has ended.
    BasicCancelOk<'a> = (60, 31, "basic.cancel-ok") { consumer_tag: shortstr }
    /// A message for an exchange.
    BasicPublish<'a> = (60, 40, "basic.publish", content, ticket) {
        exchange: shortstr, routing_key: shortstr, mandatory: bit, immediate: bit,
    }
    /// A message that could not be routed, given back to its publisher.
    BasicReturn<'a> = (60, 50, "basic.return", content) {
        reply_code: short, reply_text: shortstr, exchange: shortstr, routing_key: shortstr,
    }
    /// A message for a consumer.
    BasicDeliver<'a> = (60, 60, "basic.deliver", content) {
        consumer_tag: shortstr, delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key:
        shortstr,
    }
    /// Asks for one message.
    BasicGet<'a> = (60, 70, "basic.get", ticket) { queue: shortstr, no_ack: bit }
    /// One message, and how many are ready behind it.
    BasicGetOk<'a> = (60, 71, "basic.get-ok", content) {
        delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr, message_count:
        long,
    }
    /// There is no message.
    BasicGetEmpty<'a> = (60, 72, "basic.get-empty") { cluster_id: shortstr }
    /// A delivery is done with; with `multiple`, all up to it. From the server: a publish is confirmed.
    BasicAck = (60, 80, "basic.ack") { delivery_tag: longlong, multiple: bit }
    /// A delivery is refused.
    BasicReject = (60, 90, "basic.reject") { delivery_tag: longlong, requeue: bit }
    /// As basic.recover, without an answer.
    BasicRecoverAsync = (60, 100, "basic.recover-async") { requeue: bit }
    /// Asks for all unacked messages to be requeued.
    BasicRecover = (60, 110, "basic.recover") { requeue: bit }
    /// The unacked messages are requeued.
    BasicRecoverOk = (60, 111, "basic.recover-ok") {}
    /// As basic.reject, for many; from the server: a publish is lost. An extension of RabbitMQ.
    BasicNack = (60, 120, "basic.nack") { delivery_tag: longlong, multiple: bit, requeue: bit }

    // Class 85.
    /// Asks for publishes on this channel to be confirmed. An extension of RabbitMQ.
    ConfirmSelect = (85, 10, "confirm.select") { nowait: bit }
    /// Publishes are confirmed from now on.
    ConfirmSelectOk = (85, 11, "confirm.select-ok") {}

    // Class 90.
    /// Starts a transaction on this channel.
    TxSelect = (90, 10, "tx.select") {}
    /// A transaction has started.
    TxSelectOk = (90, 11, "tx.select-ok") {}
    /// Makes the publishes and acks of the transaction effective, and starts the next.
    TxCommit = (90, 20, "tx.commit") {}
    /// They are effective.
    TxCommitOk = (90, 21, "tx.commit-ok") {}
    /// Forgets the publishes and acks of the transaction, and starts the next.
    TxRollback = (90, 30, "tx.rollback") {}
    /// They are forgotten.
    TxRollbackOk = (90, 31, "tx.rollback-ok") {}
}

impl Method<'_> {
    /// Id of the class.
    #[inline]
    pub fn class_id(&self) -> u16 {
        self.ids().0
    }

    /// Id of the method within its class.
    #[inline]
    pub fn method_id(&self) -> u16 {
        self.ids().1
    }
}

/// Ids of class and method at the head of a method frame's payload, without reading further.
#[inline]
pub fn method_ids(payload: &[u8]) -> Option<(u16, u16)> {
    let &[c0, c1, m0, m1] = payload.first_chunk()?;
    Some((u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1])))
}

#[cold]
fn malformed(ids: (u16, u16), field: &'static str, fault: FieldFault, fields: &[u8]) -> MethodError {
    MethodError::Malformed {
        class: ids.0,
        method: ids.1,
        field,
        fault,
        fields: FieldBytes::of(fields),
    }
}

#[cold]
fn trailing(ids: (u16, u16), count: usize, fields: &[u8]) -> MethodError {
    MethodError::Trailing {
        class: ids.0,
        method: ids.1,
        count,
        fields: FieldBytes::of(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(payload: &[u8]) -> String {
        Method::decode(payload)
            .expect_err("the payload is refused")
            .refusal()
            .to_string()
    }

    #[test]
    fn neighbouring_bits_share_a_byte_and_the_ticket_is_skipped() {
        let payload = b"\x00\x28\x00\x0a\xff\xff\x01x\x05topic\x12\x00\x00\x00\x00";
        let declare = ExchangeDeclare {
            exchange: b"x",
            kind: b"topic",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: true,
            arguments: FieldTableRef::default(),
        };
        assert_eq!(Method::decode(payload), Ok(declare.into()));
        let mut frame = Vec::new();
        Method::from(declare).encode(3, &mut frame);
        assert_eq!(
            &frame[..13],
            b"\x01\x00\x03\x00\x00\x00\x13\x00\x28\x00\x0a\x00\x00"
        );
    }

    #[test]
    fn a_method_knows_its_ids_and_its_name() {
        let unbind_ok = Method::from(ExchangeUnbindOk {});
        assert_eq!((unbind_ok.class_id(), unbind_ok.method_id()), (40, 51));
        assert_eq!(unbind_ok.name(), "exchange.unbind-ok");
        assert!(!unbind_ok.has_content());
        assert_eq!(method_ids(b"\x00\x3c\x00\x28rest"), Some(BasicPublish::IDS));
        assert_eq!(method_ids(b"\x00\x3c\x00"), None);
    }

    #[test]
    fn malformed_fields_are_refused_with_the_text_of_rabbitmq() {
        assert_eq!(
            refused(b"\x002"),
            "501 FRAME_ERROR - type 1, all octets = <<0,50>>: unknown_frame"
        );
        assert_eq!(
            refused(b"\x002\x00\x0a\0\0\x05ab"),
            "501 FRAME_ERROR - cannot decode <<0,0,5,97,98>>"
        );
        let trailing = b"\x002\x00\x0a\0\0\0\0\0\0\0\0xx";
        assert_eq!(
            refused(trailing),
            "501 FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,0,120,120>>"
        );
        let bad_table = b"\x002\x00\x0a\0\0\0\0\0\0\0\x03\x01aZ";
        assert_eq!(
            refused(bad_table),
            "501 FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,3,1,97,90>>"
        );
        assert_eq!(
            refused(b"\x00\x63\x00\x0a"),
            "503 COMMAND_INVALID - unimplemented method"
        );
    }

    #[test]
    fn names_are_utf8_except_in_methods_with_content() {
        let declare = b"\x002\x00\x0a\0\0\x02\xff\xfe\0\0\0\0\0";
        assert_eq!(refused(declare), "501 FRAME_ERROR - Malformed UTF-8 in shortstr");
        assert!(Method::decode(b"\0\x3c\0\x28\0\0\x01\xff\x01\xfe\0").is_ok());
    }

    #[test]
    fn a_long_reply_text_is_cut_at_a_character() {
        let text = "é".repeat(200);
        let close = ChannelClose {
            reply_code: 404,
            reply_text: text.as_bytes(),
            class_id: 50,
            method_id: 10,
        };
        let mut frame = Vec::new();
        Method::ChannelClose(close).encode(1, &mut frame);
        let cut = ChannelClose {
            reply_text: &text.as_bytes()[..254],
            ..close
        };
        assert_eq!(
            Method::decode(&frame[7..frame.len() - 1]),
            Ok(Method::ChannelClose(cut))
        );
    }
}
