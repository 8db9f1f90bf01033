//! A client that speaks frames over a blocking socket, for tests that count what comes.

use lanemq::model::FieldTable;
use lanemq::protocol::content::encode_content;
use lanemq::protocol::frame::{FrameKind, decode_frame};
use lanemq::protocol::method::*;
use lanemq::protocol::properties::PropertiesBuilder;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const FRAME_MAX: u32 = 131_072;

/// A frame that was received, owned.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "what a method says is for the message of a failing test")]
pub enum Received {
    /// A delivery with its whole body.
    Delivery {
        /// Its tag.
        tag: u64,
        /// Whether it may have been delivered before.
        redelivered: bool,
        /// Its body.
        body: Vec<u8>,
    },
    /// Publishes confirmed.
    Ack {
        /// The sequence up to which they are.
        tag: u64,
    },
    /// Any other method: its ids and what it says.
    Method((u16, u16), String),
}

fn closed(ids: (u16, u16), code: u16, text: &[u8]) -> Received {
    let text = String::from_utf8_lossy(text);
    Received::Method(ids, format!("reply_code: {code} {text}"))
}

/// An open connection with channel 1 open.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    consumed: usize,
    out: Vec<u8>,
    persistent: Vec<u8>,
}

impl Client {
    /// Connects as guest to `/` and opens channel 1.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with_heartbeat(address, 0)
    }

    /// Connects as another user, whose password is the name, to another vhost.
    pub fn connect_as(address: SocketAddr, user: &str, vhost: &str) -> io::Result<Self> {
        Self::connect_with(address, 0, user, vhost)
    }

    /// The same with a heartbeat every so many seconds, 0 for none. It sends none itself.
    pub fn connect_with_heartbeat(address: SocketAddr, seconds: u16) -> io::Result<Self> {
        Self::connect_with(address, seconds, "guest", "/")
    }

    fn connect_with(address: SocketAddr, seconds: u16, user: &str, vhost: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut persistent = Vec::new();
        PropertiesBuilder {
            delivery_mode: Some(2),
            ..Default::default()
        }
        .encode(&mut persistent);
        let mut client = Self {
            stream,
            input: Vec::new(),
            consumed: 0,
            out: Vec::new(),
            persistent,
        };
        client.shake_hands(seconds, user, vhost)?;
        Ok(client)
    }

    fn shake_hands(&mut self, heartbeat: u16, user: &str, vhost: &str) -> io::Result<()> {
        self.stream.write_all(b"AMQP\0\0\x09\x01")?;
        self.expect((10, 10))?;
        let properties = FieldTable::default();
        self.call(Method::ConnectionStartOk(ConnectionStartOk {
            client_properties: properties.as_ref(),
            mechanism: b"PLAIN",
            response: format!("\0{user}\0{user}").as_bytes(),
            locale: b"en_US",
        }))?;
        self.expect((10, 30))?;
        self.call(Method::ConnectionTuneOk(ConnectionTuneOk {
            channel_max: 2047,
            frame_max: FRAME_MAX,
            heartbeat,
        }))?;
        self.call(Method::ConnectionOpen(ConnectionOpen {
            virtual_host: vhost.as_bytes(),
            capabilities: b"",
            insist: false,
        }))?;
        self.expect((10, 41))?;
        self.on_channel(Method::ChannelOpen(ChannelOpen { out_of_band: b"" }))?;
        self.expect((20, 11))
    }

    fn call(&mut self, method: Method<'_>) -> io::Result<()> {
        method.encode(0, &mut self.out);
        self.flush()
    }

    /// Sends a method on channel 1.
    pub fn on_channel(&mut self, method: Method<'_>) -> io::Result<()> {
        method.encode(1, &mut self.out);
        self.flush()
    }

    /// Declares a durable queue, with the argument `x-lane` if a lane is given. Returns its ready messages.
    pub fn declare_durable(&mut self, queue: &str, lane: Option<i32>) -> io::Result<()> {
        let arguments = lane.map_or_else(FieldTable::default, |lane| {
            FieldTable::builder().int("x-lane", lane).build()
        });
        self.on_channel(Method::QueueDeclare(QueueDeclare {
            queue: queue.as_bytes(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: arguments.as_ref(),
        }))?;
        self.expect((50, 11))
    }

    /// Declares a transient queue, or an exclusive one.
    pub fn declare_transient(&mut self, queue: &str, exclusive: bool) -> io::Result<()> {
        self.declare(queue, exclusive, false)?;
        self.expect((50, 11))
    }

    /// Whether the queue is there, whoever it belongs to. The channel is closed after that.
    pub fn finds_queue(&mut self, queue: &str) -> io::Result<bool> {
        self.declare(queue, false, true)?;
        match self.receive()? {
            Received::Method((20, 40), close) => {
                self.on_channel(Method::ChannelCloseOk(ChannelCloseOk {}))?;
                self.on_channel(Method::ChannelOpen(ChannelOpen { out_of_band: b"" }))?;
                self.expect((20, 11))?;
                Ok(!close.contains("reply_code: 404"))
            }
            other => panic!("a passive declare of a stranger's queue is refused: {other:?}"),
        }
    }

    fn declare(&mut self, queue: &str, exclusive: bool, passive: bool) -> io::Result<()> {
        let arguments = FieldTable::default();
        self.on_channel(Method::QueueDeclare(QueueDeclare {
            queue: queue.as_bytes(),
            passive,
            durable: false,
            exclusive,
            auto_delete: false,
            nowait: false,
            arguments: arguments.as_ref(),
        }))
    }

    /// Turns confirms on.
    pub fn select_confirms(&mut self) -> io::Result<()> {
        self.on_channel(Method::ConfirmSelect(ConfirmSelect { nowait: false }))?;
        self.expect((85, 11))
    }

    /// Encodes a persistent publish to `queue`; `flush` sends it.
    pub fn publish(&mut self, queue: &str, body: &[u8]) {
        let publish = BasicPublish {
            exchange: b"",
            routing_key: queue.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        Method::BasicPublish(publish).encode(1, &mut self.out);
        encode_content(1, &self.persistent, &[body], FRAME_MAX, &mut self.out);
    }

    /// Encodes a transient publish to `queue`; `flush` sends it.
    pub fn publish_transient(&mut self, queue: &str, body: &[u8]) {
        let publish = BasicPublish {
            exchange: b"",
            routing_key: queue.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        Method::BasicPublish(publish).encode(1, &mut self.out);
        encode_content(1, &[0, 0], &[body], FRAME_MAX, &mut self.out);
    }

    /// Lets `encode` write frames; `flush` sends them.
    pub fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.out);
    }

    /// Consumes from `queue`, to be acknowledged.
    pub fn consume(&mut self, queue: &str) -> io::Result<()> {
        let arguments = FieldTable::default();
        self.on_channel(Method::BasicConsume(BasicConsume {
            queue: queue.as_bytes(),
            consumer_tag: b"",
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: arguments.as_ref(),
        }))?;
        self.expect((60, 21))
    }

    /// Consumes from `queue`, nothing to be acknowledged.
    pub fn consume_without_ack(&mut self, queue: &str) -> io::Result<()> {
        let arguments = FieldTable::default();
        self.on_channel(Method::BasicConsume(BasicConsume {
            queue: queue.as_bytes(),
            consumer_tag: b"",
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: arguments.as_ref(),
        }))?;
        self.expect((60, 21))
    }

    /// Reads once, and counts the deliveries that begin in what has come.
    pub fn count_deliveries(&mut self) -> io::Result<u64> {
        let mut count = 0;
        let (kind, payload) = self.frame()?;
        count += u64::from(kind == FrameKind::Method && payload.starts_with(&[0, 60, 0, 60]));
        while let Some((frame, length)) =
            decode_frame(&self.input[self.consumed..], FRAME_MAX).expect("the broker sends frames")
        {
            count += u64::from(frame.kind == FrameKind::Method && frame.payload.starts_with(&[0, 60, 0, 60]));
            self.consumed += length;
        }
        Ok(count)
    }

    /// Acknowledges all up to `tag`.
    pub fn ack_up_to(&mut self, tag: u64) -> io::Result<()> {
        self.on_channel(Method::BasicAck(BasicAck {
            delivery_tag: tag,
            multiple: true,
        }))
    }

    /// Sends what was encoded.
    pub fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        sent
    }

    /// Bytes that have come and were not read.
    pub fn unread_bytes(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.stream)?)
    }

    /// Waits at most `limit` for the next read.
    pub fn set_patience(&mut self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))
    }

    fn expect(&mut self, ids: (u16, u16)) -> io::Result<()> {
        match self.receive()? {
            Received::Method(found, _) if found == ids => Ok(()),
            other => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("expected method {ids:?}, found {other:?}"),
            )),
        }
    }

    /// The next method, with its content if it is a delivery.
    pub fn receive(&mut self) -> io::Result<Received> {
        let mut delivery = None;
        let mut missing = 0u64;
        loop {
            let (kind, payload) = self.frame()?;
            match (kind, &mut delivery) {
                (FrameKind::Heartbeat, _) => {}
                (FrameKind::Method, _) => match Method::decode(&payload).expect("the broker sends methods") {
                    Method::BasicDeliver(deliver) => {
                        delivery = Some((deliver.delivery_tag, deliver.redelivered, Vec::new()));
                    }
                    Method::BasicAck(ack) => {
                        return Ok(Received::Ack {
                            tag: ack.delivery_tag,
                        });
                    }
                    Method::ChannelClose(close) => {
                        return Ok(closed((20, 40), close.reply_code, close.reply_text));
                    }
                    Method::ConnectionClose(close) => {
                        return Ok(closed((10, 50), close.reply_code, close.reply_text));
                    }
                    method => {
                        return Ok(Received::Method(method.ids(), format!("{method:?}")));
                    }
                },
                (FrameKind::Header, Some(_)) => {
                    missing = u64::from_be_bytes(payload[4..12].try_into().expect("eight bytes"))
                }
                (FrameKind::Body, Some((_, _, body))) => {
                    body.extend_from_slice(&payload);
                    missing -= payload.len() as u64;
                }
                (kind, None) => panic!("a {kind:?} frame without a delivery"),
            }
            let is_complete = kind != FrameKind::Method && missing == 0;
            if is_complete && let Some((tag, redelivered, body)) = delivery.take() {
                return Ok(Received::Delivery {
                    tag,
                    redelivered,
                    body,
                });
            }
        }
    }

    fn frame(&mut self) -> io::Result<(FrameKind, Vec<u8>)> {
        loop {
            let input = &self.input[self.consumed..];
            if let Some((frame, length)) = decode_frame(input, FRAME_MAX).expect("the broker sends frames") {
                let found = (frame.kind, frame.payload.to_vec());
                self.consumed += length;
                return Ok(found);
            }
            self.input.drain(..self.consumed);
            self.consumed = 0;
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }
}
