//! The handshake: start, tune, open (AMQP 0-9-1 §2.2.4), with RabbitMQ's limits and texts.

use super::{ClientCapabilities, Connection, ConnectionState};
use crate::model::{FieldTable, Refusal, ReplyCode, ShortString};
use crate::protocol::method::{
    ConnectionOpenOk, ConnectionStart, ConnectionStartOk, ConnectionTune, ConnectionTuneOk, Method,
};

/// Smallest frame a client may ask for. RabbitMQ asks for 8192 since 4.1; older clients ask for the specification's 4096.
const FRAME_MAX_MIN: u32 = 4096;

/// What both sides may use, proposed by tune and settled by tune-ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Highest channel number and most channels at once, 0 for no limit.
    pub channel_max: u16,
    /// Largest frame in bytes with its 8 bytes around the payload, 0 for no limit.
    pub frame_max: u32,
    /// Interval of heartbeats, 0 for none.
    pub heartbeat_seconds: u16,
}

/// What the server says of itself in connection.start.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    properties: FieldTable,
    mechanisms: Vec<u8>,
}

impl ServerIdentity {
    /// The identity of this broker. Clients branch on `product` and `version` (kombu reads from them that prefetch is
    /// counted a consumer), so these name the broker whose behaviour they get; `platform` names this one. `durability`
    /// tells load generators in which mode confirms are given, and `lane` which core has accepted the connection.
    pub fn new(cluster_name: &str, durability: &str, lane: u16, mechanisms: &str) -> Self {
        let capabilities = [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ];
        let capabilities = capabilities
            .iter()
            .fold(FieldTable::builder(), |table, name| table.boolean(name, true))
            .build();
        let properties = FieldTable::builder()
            .table("capabilities", &capabilities)
            .string("cluster_name", cluster_name)
            .string("copyright", "The LaneMQ authors")
            .string("durability", durability)
            .string("information", "Licensed under the Apache License 2.0")
            .int("lane", i32::from(lane))
            .string("platform", concat!("LaneMQ ", env!("CARGO_PKG_VERSION")))
            .string("product", "RabbitMQ")
            .string("version", "3.13.7")
            .build();
        Self {
            properties,
            mechanisms: mechanisms.as_bytes().to_vec(),
        }
    }
}

impl Connection {
    /// The protocol header was right: connection.start goes out.
    pub fn start(&mut self, identity: &ServerIdentity, out: &mut Vec<u8>) {
        debug_assert!(
            self.state == ConnectionState::AwaitHeader,
            "start follows the protocol header"
        );
        let start = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: identity.properties.as_ref(),
            mechanisms: &identity.mechanisms,
            locales: b"en_US",
        };
        Method::ConnectionStart(start).encode(0, out);
        self.state = ConnectionState::AwaitStartOk;
    }

    pub(super) fn start_ok(&mut self, start_ok: &ConnectionStartOk<'_>) {
        self.capabilities = ClientCapabilities::read(start_ok.client_properties);
        self.state = ConnectionState::LoggingIn;
    }

    /// The login was accepted for `user`: connection.tune goes out.
    pub fn logged_in(&mut self, user: ShortString, out: &mut Vec<u8>) {
        debug_assert!(
            self.state == ConnectionState::LoggingIn,
            "a login was being judged"
        );
        self.user = user;
        let Tuning {
            channel_max,
            frame_max,
            heartbeat_seconds,
        } = self.tuning;
        Method::ConnectionTune(ConnectionTune {
            channel_max,
            frame_max,
            heartbeat: heartbeat_seconds,
        })
        .encode(0, out);
        self.state = ConnectionState::AwaitTuneOk;
    }

    /// The login was refused: said with `refusal` to a client that understands it, else the socket just closes.
    pub fn login_refused(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        if refusal.code == ReplyCode::AccessRefused && !self.capabilities.authentication_failure_close {
            self.state = ConnectionState::Closed;
            return;
        }
        self.refuse(refusal, (0, 0), out);
    }

    pub(super) fn tune_ok(&mut self, tune_ok: &ConnectionTuneOk) -> Result<(), Refusal> {
        let channel_max = u32::from(tune_ok.channel_max);
        check_negotiated(
            "frame_max",
            tune_ok.frame_max,
            self.tuning.frame_max,
            FRAME_MAX_MIN,
        )?;
        check_negotiated("channel_max", channel_max, u32::from(self.tuning.channel_max), 1)?;
        self.tuning = Tuning {
            channel_max: tune_ok.channel_max,
            frame_max: tune_ok.frame_max,
            heartbeat_seconds: tune_ok.heartbeat,
        };
        self.state = ConnectionState::AwaitOpen;
        Ok(())
    }

    /// The vhost may be used: open-ok goes out.
    pub fn opened(&mut self, vhost: ShortString, out: &mut Vec<u8>) {
        debug_assert!(self.state == ConnectionState::Opening, "a vhost was being judged");
        self.vhost = vhost;
        Method::ConnectionOpenOk(ConnectionOpenOk { known_hosts: b"" }).encode(0, out);
        self.state = ConnectionState::Running;
    }
}

/// RabbitMQ's check of a number in tune-ok: 0 means no limit, which is refused when the server has one.
fn check_negotiated(name: &str, asked: u32, offered: u32, lowest: u32) -> Result<(), Refusal> {
    let refuse = |text: String| {
        Err(Refusal::new(
            ReplyCode::NotAllowed,
            format!("negotiated {name} = {text}"),
        ))
    };
    if asked != 0 && asked < lowest {
        return refuse(format!(
            "{asked} is lower than the minimum allowed value ({lowest})"
        ));
    }
    if offered != 0 && asked == 0 {
        return refuse(format!(
            "0 (no limit) is higher than the maximum allowed value ({offered})"
        ));
    }
    if offered != 0 && asked > offered {
        return refuse(format!(
            "{asked} is higher than the maximum allowed value ({offered})"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tune_ok_asks_beyond_the_offer_is_refused_with_rabbitmqs_words() {
        let text = |asked, offered, lowest| {
            check_negotiated("frame_max", asked, offered, lowest)
                .unwrap_err()
                .explanation
        };
        assert_eq!(
            text(200_000, 131_072, 8192),
            "negotiated frame_max = 200000 is higher than the maximum allowed value (131072)"
        );
        assert_eq!(
            text(100, 131_072, 8192),
            "negotiated frame_max = 100 is lower than the minimum allowed value (8192)"
        );
        assert!(text(0, 131_072, 8192).contains("(no limit)"));
        assert_eq!(check_negotiated("frame_max", 0, 0, 8192), Ok(()));
        assert_eq!(check_negotiated("frame_max", 8192, 131_072, 8192), Ok(()));
    }
}
