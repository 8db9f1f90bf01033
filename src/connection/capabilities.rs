//! `ClientCapabilities`: what a client said in start-ok that it understands.

use crate::model::{FieldTableRef, FieldValue};

/// Extensions that change what the server may send (RabbitMQ, "Client Capabilities").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCapabilities {
    /// A failed login is answered with connection.close.
    pub authentication_failure_close: bool,
    /// connection.blocked and connection.unblocked are understood.
    pub connection_blocked: bool,
    /// basic.cancel from the server is understood.
    pub consumer_cancel_notify: bool,
}

impl ClientCapabilities {
    /// Reads the table `capabilities` among the client's properties; what is absent or of another type is false.
    pub fn read(client_properties: FieldTableRef<'_>) -> Self {
        let Some(FieldValue::Table(table)) = client_properties.get(b"capabilities") else {
            return Self::default();
        };
        let has = |name: &[u8]| matches!(table.get(name), Some(FieldValue::Boolean(true)));
        Self {
            authentication_failure_close: has(b"authentication_failure_close"),
            connection_blocked: has(b"connection.blocked"),
            consumer_cancel_notify: has(b"consumer_cancel_notify"),
        }
    }
}
