//! `Client`: a connection with one channel, opened and used step by step, before the load begins and after it.
//!
//! It waits for each answer. Once everything is declared, `into_parts` hands the socket to the thread that drives it
//! without waiting.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::PerfError;
use super::uri::AmqpUri;
use crate::model::{FieldTable, FieldTableRef, FieldValue};
use crate::protocol::frame::{FrameKind, PROTOCOL_HEADER, decode_frame};
use crate::protocol::method::{
    ChannelOpen, ConnectionClose, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, Method,
};

/// The one channel of each connection.
pub const CHANNEL: u16 = 1;

/// What the broker says of itself in its server properties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// `product`, as `RabbitMQ`; `LaneMQ` where `platform` says so.
    pub product: String,
    /// `version`.
    pub version: String,
    /// `platform`, as `Erlang/OTP 25`.
    #[serde(default)]
    pub platform: String,
    /// `durability`, which LaneMQ sends: `fsync` or `write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<String>,
    /// `lane`, the core that accepted this connection, which LaneMQ sends.
    #[serde(skip)]
    pub lane: Option<u16>,
}

/// An open connection with channel 1 open.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    address: String,
    input: Vec<u8>,
    output: Vec<u8>,
    frame_max: u32,
    server: ServerFacts,
}

impl Client {
    /// Connects to `uri`, opens the vhost and channel 1. `name` is shown in the broker's list of connections.
    pub fn connect(uri: &AmqpUri, name: &str) -> Result<Self, PerfError> {
        let address = format!("{}:{}", uri.host, uri.port);
        let stream = open_socket(uri).map_err(|source| PerfError::Connection {
            address: address.clone(),
            doing: "being opened",
            source,
        })?;
        let mut client = Self {
            stream,
            address,
            input: Vec::new(),
            output: Vec::new(),
            frame_max: FRAME_MAX,
            server: ServerFacts::default(),
        };
        client.log_in(uri, name)?;
        client.open_vhost(uri)?;
        client.call(CHANNEL, ChannelOpen { out_of_band: b"" }, "channel.open-ok")?;
        Ok(client)
    }

    /// Like `connect`, until the broker's core `lane` has accepted, if one is asked for: which one does is the kernel's
    /// choice.
    pub fn connect_on(uri: &AmqpUri, name: &str, lane: Option<u16>) -> Result<Self, PerfError> {
        let Some(wanted) = lane else {
            return Self::connect(uri, name);
        };
        for _ in 0..LANE_ATTEMPTS_MAX {
            let client = Self::connect(uri, name)?;
            match client.server.lane {
                Some(lane) if lane == wanted => return Ok(client),
                Some(_) => client.close()?,
                None => {
                    return Err(PerfError::Argument(format!(
                        "{name} asks for lane {wanted}, but this broker does not tell its lanes: take `lane` out of the workload"
                    )));
                }
            }
        }
        Err(PerfError::Argument(format!(
            "{name} asks for lane {wanted}, which accepted none of {LANE_ATTEMPTS_MAX} connections: has the broker so many cores?"
        )))
    }

    /// Sends `request` on channel 1 and waits for `answer` (a method's name, such as `queue.declare-ok`).
    pub fn request<'m>(
        &mut self,
        request: impl Into<Method<'m>>,
        answer: &'static str,
    ) -> Result<(), PerfError> {
        self.call(CHANNEL, request, answer)
    }

    /// What the broker says of itself.
    pub fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// Largest frame that both sides take.
    pub fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// The socket, switched to non-blocking, and what was read from it and not used yet.
    pub fn into_parts(self) -> Result<(TcpStream, Vec<u8>), PerfError> {
        let switched = self.stream.set_nonblocking(true);
        switched.map_err(PerfError::system("making a socket non-blocking"))?;
        Ok((self.stream, self.input))
    }

    /// Closes the connection in both directions.
    pub fn close(mut self) -> Result<(), PerfError> {
        let close = ConnectionClose {
            reply_code: 200,
            reply_text: b"done",
            class_id: 0,
            method_id: 0,
        };
        self.call(0, close, "connection.close-ok")
    }

    fn log_in(&mut self, uri: &AmqpUri, name: &str) -> Result<(), PerfError> {
        self.output.extend_from_slice(&PROTOCOL_HEADER);
        self.write()?;
        let mut facts = ServerFacts::default();
        self.receive("waiting for connection.start", |method| match method {
            Method::ConnectionStart(start) => {
                facts = server_facts(start.server_properties);
                true
            }
            _ => false,
        })?;
        self.server = facts;
        let properties = client_properties(name);
        let response = format!("\0{}\0{}", uri.user, uri.password);
        let start_ok = ConnectionStartOk {
            client_properties: properties.as_ref(),
            mechanism: b"PLAIN",
            response: response.as_bytes(),
            locale: b"en_US",
        };
        self.send(0, start_ok)
    }

    fn open_vhost(&mut self, uri: &AmqpUri) -> Result<(), PerfError> {
        let mut tune_ok = ConnectionTuneOk {
            channel_max: 0,
            frame_max: FRAME_MAX,
            heartbeat: 0,
        };
        self.receive("logging in", |method| match method {
            Method::ConnectionTune(tune) => {
                tune_ok.channel_max = tune.channel_max;
                tune_ok.frame_max = if tune.frame_max == 0 {
                    FRAME_MAX
                } else {
                    tune.frame_max.min(FRAME_MAX)
                };
                true
            }
            _ => false,
        })?;
        self.frame_max = tune_ok.frame_max;
        self.send(0, tune_ok)?;
        let open = ConnectionOpen {
            virtual_host: uri.vhost.as_bytes(),
            capabilities: b"",
            insist: false,
        };
        self.call(0, open, "connection.open-ok")
    }

    fn call<'m>(
        &mut self,
        channel: u16,
        request: impl Into<Method<'m>>,
        answer: &'static str,
    ) -> Result<(), PerfError> {
        self.send(channel, request)?;
        self.receive(answer, |method| method.name() == answer)
    }

    fn send<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) -> Result<(), PerfError> {
        method.into().encode(channel, &mut self.output);
        self.write()
    }

    fn write(&mut self) -> Result<(), PerfError> {
        let written = self.stream.write_all(&self.output);
        self.output.clear();
        written.map_err(|source| self.broken("while sending", source))
    }

    /// Reads methods until `accept` takes one; closes are errors, other methods out of place too.
    fn receive(&mut self, doing: &str, mut accept: impl FnMut(&Method<'_>) -> bool) -> Result<(), PerfError> {
        loop {
            let Some((frame, used)) = decode_frame(&self.input, self.frame_max)? else {
                self.read_more()?;
                continue;
            };
            if frame.kind == FrameKind::Method {
                let method = Method::decode(frame.payload)?;
                refuse_close(&method, doing)?;
                if !accept(&method) {
                    return Err(PerfError::Unexpected {
                        found: method.name().to_owned(),
                        doing: doing.to_owned(),
                    });
                }
                self.input.drain(..used);
                return Ok(());
            }
            self.input.drain(..used);
        }
    }

    fn read_more(&mut self) -> Result<(), PerfError> {
        let mut chunk = [0; 8192];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            other => other,
        };
        let count = count.map_err(|source| self.broken("while waiting for an answer", source))?;
        self.input.extend_from_slice(&chunk[..count]);
        Ok(())
    }

    fn broken(&self, doing: &'static str, source: io::Error) -> PerfError {
        PerfError::Connection {
            address: self.address.clone(),
            doing,
            source,
        }
    }
}

/// An error if `method` closes the connection or channel.
pub fn refuse_close(method: &Method<'_>, doing: &str) -> Result<(), PerfError> {
    let (what, code, text) = match method {
        Method::ConnectionClose(close) => ("connection", close.reply_code, close.reply_text),
        Method::ChannelClose(close) => ("channel", close.reply_code, close.reply_text),
        _ => return Ok(()),
    };
    let text = String::from_utf8_lossy(text).into_owned();
    Err(PerfError::Closed {
        what,
        code,
        text,
        doing: doing.to_owned(),
    })
}

fn open_socket(uri: &AmqpUri) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (uri.host.as_str(), uri.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn server_facts(properties: FieldTableRef<'_>) -> ServerFacts {
    let text = |key: &str| match properties.get(key.as_bytes()) {
        Some(FieldValue::LongString(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    let platform = text("platform").unwrap_or_default();
    let own_name = platform
        .strip_prefix(OWN_NAME)
        .map(|version| (OWN_NAME.trim_end().to_owned(), version.to_owned()));
    let claimed = || {
        (
            text("product").unwrap_or_default(),
            text("version").unwrap_or_default(),
        )
    };
    let (product, version) = own_name.unwrap_or_else(claimed);
    ServerFacts {
        product,
        version,
        platform,
        durability: text("durability"),
        lane: properties
            .get(b"lane")
            .and_then(|value| value.as_integer())
            .and_then(|lane| u16::try_from(lane).ok()),
    }
}

fn client_properties(name: &str) -> FieldTable {
    let capabilities = FieldTable::builder()
        .boolean("publisher_confirms", true)
        .boolean("basic.nack", true)
        .boolean("consumer_cancel_notify", true)
        .boolean("authentication_failure_close", true)
        .build();
    FieldTable::builder()
        .string("product", "lanemq perf")
        .string("version", env!("CARGO_PKG_VERSION"))
        .string("connection_name", name)
        .table("capabilities", &capabilities)
        .build()
}

/// How `platform` begins where LaneMQ took RabbitMQ's `product` and `version` for its clients' sake.
const OWN_NAME: &str = "LaneMQ ";
const FRAME_MAX: u32 = 131_072;
/// Connections made at most to meet a lane.
const LANE_ATTEMPTS_MAX: u32 = 256;
/// A broker may take its time to declare a durable queue, but not for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_called_by_its_own_name() {
        let properties = |platform: &str| {
            FieldTable::builder()
                .string("product", "RabbitMQ")
                .string("version", "3.13.7")
                .string("platform", platform)
                .build()
        };
        let rabbit = server_facts(properties("Erlang/OTP 25").as_ref());
        assert_eq!(
            (rabbit.product.as_str(), rabbit.version.as_str()),
            ("RabbitMQ", "3.13.7")
        );
        let lane = server_facts(properties("LaneMQ 0.1.0").as_ref());
        assert_eq!(
            (lane.product.as_str(), lane.version.as_str()),
            ("LaneMQ", "0.1.0")
        );
    }
}
