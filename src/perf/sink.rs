//! `Sink`: a peer that does as little as a broker can, to measure the generator's own ceiling.
//!
//! It answers the handshake and every declaration, and reflects each publish to the consumers of the queue that the
//! routing key names. There are no queues, no limits and no checks: what the generator reaches against it is what it
//! could at most measure. Bodies are those that fit into one frame.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::time::Duration;

use super::connection::CHANNEL;
use super::error::PerfError;
use super::poller::{Poller, Socket};
use crate::model::{FieldTable, FieldTableRef};
use crate::protocol::deliver::DeliverTemplate;
use crate::protocol::frame::{Frame, FrameKind, decode_frame};
use crate::protocol::method::{
    BasicAck, BasicConsumeOk, BasicQosOk, ChannelOpenOk, ConfirmSelectOk, ConnectionCloseOk,
    ConnectionOpenOk, ConnectionStart, ConnectionTune, ExchangeDeclareOk, ExchangeDeleteOk, Method,
    QueueBindOk, QueueDeclareOk, QueueDeleteOk,
};
use crate::protocol::publish::{RecognisedPublish, recognise_publish};

/// A running sink.
#[derive(Debug)]
pub struct Sink {
    listener: TcpListener,
    poller: Poller,
    peers: Vec<Peer>,
    /// Consumers by queue name: peer and what its deliveries begin with.
    consumers: BTreeMap<Vec<u8>, (usize, DeliverTemplate)>,
    buffer: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
struct Peer {
    socket: Socket,
    output: Vec<u8>,
    written: usize,
    has_greeted: bool,
    is_gone: bool,
    /// The last basic.publish frame and the queue it names.
    publish: Vec<u8>,
    queue: Vec<u8>,
    publish_count: u64,
    is_confirming: bool,
    delivery_tag: u64,
}

/// What reading one connection found, beside publishes.
enum Step {
    /// So many bytes were used.
    Used(usize),
    /// The rest has not arrived.
    Wait,
}

impl Sink {
    /// A sink on `listener`.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            poller: Poller::new()?,
            peers: Vec::new(),
            consumers: BTreeMap::new(),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Serves until the listener fails.
    pub fn run(mut self) -> Result<(), PerfError> {
        loop {
            self.accept()
                .map_err(PerfError::system("accepting a connection"))?;
            let is_busy = self.turn();
            self.poll(if is_busy { Duration::ZERO } else { IDLE })
                .map_err(PerfError::system("waiting for sockets"))?;
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let peer = Peer::new(Socket::new(stream, Vec::new()));
                self.poller.add(&peer.socket, self.peers.len() as u64)?;
                self.peers.push(peer);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn poll(&mut self, timeout: Duration) -> io::Result<()> {
        for &ready in self.poller.wait(timeout)? {
            self.peers[ready.token as usize].socket.note(ready);
        }
        Ok(())
    }

    fn turn(&mut self) -> bool {
        let mut is_busy = false;
        let is_full = self
            .peers
            .iter()
            .any(|peer| peer.output.len() - peer.written > OUTPUT_MAX);
        for index in 0..self.peers.len() {
            let reads = !self.peers[index].is_gone && self.peers[index].socket.is_readable() && !is_full;
            if reads {
                is_busy = true;
                self.read(index);
            }
        }
        for peer in &mut self.peers {
            is_busy |= peer.flush();
        }
        is_busy
    }

    fn read(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        match self.peers[index].socket.fill(&mut buffer) {
            Ok(filled) => {
                let used = self.take_all(index, &buffer[..filled]);
                self.peers[index].socket.keep(&buffer[used..filled]);
            }
            Err(_) => self.forget(index),
        }
        self.buffer = buffer;
    }

    fn forget(&mut self, index: usize) {
        self.peers[index].is_gone = true;
        self.peers[index].socket.shut_down();
        self.peers[index].output.clear();
        self.peers[index].written = 0;
        self.consumers.retain(|_, (peer, _)| *peer != index);
    }

    fn take_all(&mut self, index: usize, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            at += self.reflect(index, &input[at..]);
            match self.take_one(index, &input[at..]) {
                Ok(Step::Used(used)) => at += used,
                Ok(Step::Wait) => break,
                Err(error) => {
                    eprintln!("connection {index} is given up: {error}");
                    self.forget(index);
                    return input.len();
                }
            }
        }
        self.peers[index].confirm();
        at
    }

    /// Reflects publishes that begin like the last one, and returns their bytes.
    fn reflect(&mut self, index: usize, input: &[u8]) -> usize {
        if self.peers[index].publish.is_empty() {
            return 0;
        }
        let publish = std::mem::take(&mut self.peers[index].publish);
        let consumer = self.consumers.get(&self.peers[index].queue);
        let mut at = 0;
        let mut count = 0;
        while let Some(found) = recognise_publish(&input[at..], &publish, FRAME_MAX) {
            if let Some((peer, template)) = consumer {
                self.peers[*peer].deliver(template, &input[at..], &found);
            }
            at += found.length as usize;
            count += 1;
        }
        let peer = &mut self.peers[index];
        peer.publish = publish;
        peer.publish_count += count;
        at
    }

    fn take_one(&mut self, index: usize, input: &[u8]) -> Result<Step, PerfError> {
        if !self.peers[index].has_greeted {
            return Ok(self.peers[index].greet(input));
        }
        let Some((frame, used)) = decode_frame(input, FRAME_MAX)? else {
            return Ok(Step::Wait);
        };
        if frame.kind != FrameKind::Method {
            return Ok(Step::Used(used));
        }
        let method = Method::decode(frame.payload)?;
        if let Method::BasicPublish(publish) = method {
            let peer = &mut self.peers[index];
            if peer.publish == input[..used] {
                return Ok(Step::Wait);
            }
            peer.publish = input[..used].to_vec();
            peer.queue = publish.routing_key.to_vec();
            return Ok(Step::Used(0));
        }
        self.answer(index, &method, &frame);
        Ok(Step::Used(used))
    }

    fn answer(&mut self, index: usize, method: &Method<'_>, frame: &Frame<'_>) {
        let empty: &[u8] = b"";
        let peer = &mut self.peers[index];
        let answer: Method<'_> = match method {
            Method::ConnectionStartOk(_) => ConnectionTune {
                channel_max: 2047,
                frame_max: FRAME_MAX,
                heartbeat: 0,
            }
            .into(),
            Method::ConnectionOpen(_) => ConnectionOpenOk { known_hosts: empty }.into(),
            Method::ConnectionClose(_) => ConnectionCloseOk {}.into(),
            Method::ChannelOpen(_) => ChannelOpenOk { channel_id: empty }.into(),
            Method::ExchangeDeclare(_) => ExchangeDeclareOk {}.into(),
            Method::ExchangeDelete(_) => ExchangeDeleteOk {}.into(),
            Method::QueueDeclare(declare) => QueueDeclareOk {
                queue: declare.queue,
                message_count: 0,
                consumer_count: 0,
            }
            .into(),
            Method::QueueBind(_) => QueueBindOk {}.into(),
            Method::QueueDelete(_) => QueueDeleteOk { message_count: 0 }.into(),
            Method::BasicQos(_) => BasicQosOk {}.into(),
            Method::ConfirmSelect(_) => {
                peer.is_confirming = true;
                ConfirmSelectOk {}.into()
            }
            Method::BasicConsume(consume) => {
                let template = DeliverTemplate::new(CHANNEL, consume.consumer_tag, b"", consume.queue);
                self.consumers.insert(consume.queue.to_vec(), (index, template));
                BasicConsumeOk {
                    consumer_tag: consume.consumer_tag,
                }
                .into()
            }
            _ => return,
        };
        answer.encode(frame.channel, &mut peer.output);
    }
}

impl Peer {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            output: Vec::new(),
            written: 0,
            has_greeted: false,
            is_gone: false,
            publish: Vec::new(),
            queue: Vec::new(),
            publish_count: 0,
            is_confirming: false,
            delivery_tag: 0,
        }
    }

    fn deliver(&mut self, template: &DeliverTemplate, input: &[u8], publish: &RecognisedPublish) {
        let slice = |range: &Range<u32>| &input[range.start as usize..range.end as usize];
        let (properties, body) = (slice(&publish.properties), slice(&publish.body));
        self.delivery_tag += 1;
        template.encode(
            self.delivery_tag,
            false,
            properties,
            body,
            FRAME_MAX,
            &mut self.output,
        );
    }

    fn greet(&mut self, input: &[u8]) -> Step {
        if input.len() < 8 {
            return Step::Wait;
        }
        self.has_greeted = true;
        let properties: FieldTable = FieldTable::builder()
            .string("product", "lanemq sink")
            .string("version", "0")
            .build();
        let server_properties: FieldTableRef<'_> = properties.as_ref();
        let start = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties,
            mechanisms: b"PLAIN",
            locales: b"en_US",
        };
        Method::from(start).encode(0, &mut self.output);
        Step::Used(8)
    }

    /// Confirms all that was published so far.
    fn confirm(&mut self) {
        if self.is_confirming && self.publish_count > 0 {
            Method::from(BasicAck {
                delivery_tag: self.publish_count,
                multiple: true,
            })
            .encode(CHANNEL, &mut self.output);
        }
    }

    fn flush(&mut self) -> bool {
        if self.is_gone || self.output.is_empty() || !self.socket.is_writable() {
            return false;
        }
        match self.socket.write(&self.output[self.written..]) {
            Ok(count) => self.written += count,
            Err(_) => self.is_gone = true,
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        self.socket.is_writable()
    }
}

const FRAME_MAX: u32 = 131_072;
const BUFFER_BYTES: usize = 384 << 10;
/// Bytes waiting for a peer at which publishers are no longer read.
const OUTPUT_MAX: usize = 512 << 10;
const IDLE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::generator::{GenerateOptions, generate};
    use super::super::uri::AmqpUri;
    use super::super::workload::Workload;
    use super::*;

    fn measure(text: &str) -> super::super::generator::Measured {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let sink = Sink::new(listener).expect("the listener can be made non-blocking");
        std::thread::spawn(|| sink.run());
        let workload =
            Workload::parse(text, &Path::new("test").display().to_string(), &[]).expect("a workload");
        let uri = AmqpUri::parse(&format!("amqp://127.0.0.1:{port}")).expect("the URI is valid");
        let options = GenerateOptions {
            uri,
            cores: Vec::new(),
            broker_pid: None,
            suffix: 3,
        };
        generate(&workload, &options).expect("the sink answers everything")
    }

    /// Without a warm-up everything is measured, however little of the time a busy machine leaves.
    const SHORT: &str = "name = \"t\"\nwarmup_seconds = 0\nduration_seconds = 0.5\ndrain_seconds = 30\n";

    #[test]
    fn everything_comes_back_once_and_in_order() {
        let measured = measure(&format!(
            "{SHORT}[[queue]]\n[[publisher]]\nbody_bytes = [16, 100]\n[[consumer]]\n"
        ));
        assert!(measured.integrity.is_good(1), "{:?}", measured.integrity);
        assert!(
            measured.integrity.delivered > 0 && measured.integrity.delivered == measured.integrity.published
        );
    }

    #[test]
    fn many_queues_with_confirms_and_acks_are_accounted_for() {
        let publisher = "[[publisher]]\ncount = 2\nbody_bytes = 64\nconfirm_window = 50\n";
        let consumer = "[[consumer]]\ncount = 2\nack = { multiple = 10 }\nprefetch = 20\n";
        let measured = measure(&format!("{SHORT}[[queue]]\ncount = 6\n{publisher}{consumer}"));
        assert!(measured.integrity.is_good(1), "{:?}", measured.integrity);
        assert_eq!(measured.integrity.confirmed, measured.integrity.published);
        assert!(!measured.confirm.is_empty() && !measured.end_to_end.is_empty());
    }

    #[test]
    fn an_open_loop_sends_and_measures_its_whole_schedule_however_late() {
        let measured = measure(&format!(
            "{SHORT}[[queue]]\n[[publisher]]\nbody_bytes = 24\nrate = 2000\n[[consumer]]\n"
        ));
        assert_eq!(
            (measured.integrity.published, measured.integrity.unsent),
            (1000, 0)
        );
        assert_eq!(
            (measured.end_to_end.len(), measured.send_delay.len()),
            (1000, 1000)
        );
        assert!(measured.integrity.is_good(1), "{:?}", measured.integrity);
    }
}
