//! Closing, from either side, of channels and of the connection; each close frame is written here and nowhere else.

use super::{Connection, ConnectionState};
use crate::model::{ChannelNumber, Refusal};
use crate::protocol::method::{ChannelClose, ChannelCloseOk, ConnectionClose, ConnectionCloseOk, Method};

/// Class and method that failed, zeros for none.
pub type FailedMethod = (u16, u16);

impl Connection {
    /// Closes the connection with `refusal`: connection.close goes out, everything but its answer is discarded.
    pub fn refuse(&mut self, refusal: &Refusal, (class_id, method_id): FailedMethod, out: &mut Vec<u8>) {
        if matches!(self.state, ConnectionState::Closing | ConnectionState::Closed) {
            return;
        }
        let reply_text = refusal.reply_text();
        let reply_code = refusal.code.number();
        let close = ConnectionClose {
            reply_code,
            reply_text: reply_text.as_bytes(),
            class_id,
            method_id,
        };
        Method::ConnectionClose(close).encode(0, out);
        self.state = ConnectionState::Closing;
        self.opened_at = self.received_at;
    }

    /// Closes a channel with `refusal`: channel.close goes out, everything but its answer is discarded.
    pub fn refuse_channel(
        &mut self,
        number: ChannelNumber,
        refusal: &Refusal,
        failed: FailedMethod,
        out: &mut Vec<u8>,
    ) {
        let Some(channel) = self.channel_mut(number) else {
            return;
        };
        channel.begin_closing();
        let reply_text = refusal.reply_text();
        let (class_id, method_id) = failed;
        let reply_code = refusal.code.number();
        let close = ChannelClose {
            reply_code,
            reply_text: reply_text.as_bytes(),
            class_id,
            method_id,
        };
        Method::ChannelClose(close).encode(number.0, out);
    }

    /// The channel's story has ended after the peer's channel.close: close-ok goes out and the number is free.
    pub fn channel_closed(&mut self, number: ChannelNumber, out: &mut Vec<u8>) {
        self.drop_channel(number);
        Method::ChannelCloseOk(ChannelCloseOk {}).encode(number.0, out);
    }

    /// The connection's story has ended after the peer's connection.close: close-ok goes out.
    pub fn closed(&mut self, out: &mut Vec<u8>) {
        Method::ConnectionCloseOk(ConnectionCloseOk {}).encode(0, out);
        self.end();
    }

    /// Nothing more is read or answered.
    pub fn end(&mut self) {
        self.state = ConnectionState::Closed;
    }
}
