//! A session as a client would have it, all of it sent without waiting for answers; and every method that a
//! client may send.
//!
//! What it declares goes with its connection, or has the same name in every session, so that a million of them
//! leave nothing behind that the broker must remember.

use crate::wire::{BODY, HEADER, METHOD, PROTOCOL_HEADER, Payload};

/// The exchange of every session; it is deleted with its last binding.
const EXCHANGE: &str = "hostile";

/// Class and method of queue.declare, as a frame's payload begins with them.
pub const QUEUE_DECLARE: [u8; 4] = [0, 50, 0, 10];

/// The steps up to an open channel: header, start-ok, tune-ok, open, channel.open.
pub fn handshake() -> Vec<Vec<u8>> {
    vec![
        PROTOCOL_HEADER.to_vec(),
        start_ok(),
        tune_ok(),
        connection_open(),
        channel_open(1),
    ]
}

/// The frames of a valid session; the first is the protocol header.
pub fn frames() -> Vec<Vec<u8>> {
    let ends = vec![channel_close(), connection_close()];
    [handshake(), declarations(), messages(), removals(), ends].concat()
}

/// What is mutated: the frames of a valid session and of a transaction, which some brokers refuse.
pub fn frames_to_mutate() -> Vec<Vec<u8>> {
    [handshake(), declarations(), messages(), transaction(), removals()].concat()
}

/// Whether a frame declares something that would outlive the connection, did the frame give it another name.
pub fn is_lasting(frame: &[u8]) -> bool {
    frame == exchange_declare()
}

/// `queue.declare` with these arguments: a field table without its length.
pub fn queue_declare_with(arguments: &[u8]) -> Vec<u8> {
    const EXCLUSIVE: u8 = 0b100;
    on_channel(queue(10).short_string("").octet(EXCLUSIVE).long_string(arguments))
}

/// A message with these headers: a field table without its length.
pub fn publish_with(headers: &[u8]) -> Vec<Vec<u8>> {
    const HEADERS: u16 = 1 << 13;
    let publish = basic(40)
        .short(0)
        .short_string("amq.headers")
        .short_string("")
        .octet(0);
    let header = Payload::new()
        .short(60)
        .short(0)
        .long_long(0)
        .short(HEADERS)
        .long_string(headers);
    vec![on_channel(publish), header.frame(HEADER, 1)]
}

/// `connection.start-ok` with these client properties: a field table without its length.
pub fn start_ok_with(properties: &[u8]) -> Vec<u8> {
    let answer = connection(11)
        .long_string(properties)
        .short_string("PLAIN")
        .long_string(b"\0guest\0guest");
    on_connection(answer.short_string("en_US"))
}

fn declarations() -> Vec<Vec<u8>> {
    vec![
        exchange_declare(),
        on_channel(
            exchange(10)
                .short_string("amq.headers")
                .short_string("headers")
                .octet(1)
                .long_string(&table()),
        ),
        queue_declare_with(&table()),
        queue_declare(),
        queue_bind(),
        exchange_bind(),
        basic_qos(),
        on_channel(Payload::method(85, 10).octet(0)),
    ]
}

fn messages() -> Vec<Vec<u8>> {
    let mut frames = publish(b"first").to_vec();
    frames.extend(publish(b"second"));
    frames.push(basic_get());
    frames.push(on_channel(basic(80).long_long(1).octet(0)));
    frames.push(basic_consume());
    frames.extend(publish(b"third"));
    frames.push(on_channel(basic(120).long_long(0).octet(0b11)));
    frames.push(on_channel(basic(110).octet(1)));
    frames.push(on_channel(basic(30).short_string("tag").octet(0)));
    frames
}

fn removals() -> Vec<Vec<u8>> {
    vec![
        queue_unbind(),
        on_channel(queue(30).short_string("").octet(0)),
        exchange_unbind(),
        on_channel(queue(40).short_string("").octet(0)),
        on_channel(exchange(20).short_string(EXCHANGE).octet(0)),
    ]
}

/// On a channel of its own, because the other one is in confirm mode.
fn transaction() -> Vec<Vec<u8>> {
    let transactional = |method| Payload::method(90, method).frame(METHOD, 2);
    let mut frames = vec![channel_open(2), transactional(10)];
    frames.extend(publish_on(2, b"undone"));
    frames.extend([transactional(30), transactional(20)]);
    frames
}

/// Every method that the tables of AMQP 0-9-1 and of RabbitMQ's extensions let a client send; basic.publish with
/// its content.
pub fn client_methods() -> Vec<Vec<u8>> {
    [
        connection_methods(),
        channel_methods(),
        declaring_methods(),
        basic_methods(),
    ]
    .concat()
}

fn connection_methods() -> Vec<Vec<u8>> {
    let (start_ok, tune_ok, open, close) = (start_ok(), tune_ok(), connection_open(), connection_close());
    let secure_ok = on_connection(connection(21).long_string(b"\0guest\0guest"));
    let close_ok = on_connection(connection(51));
    let update_secret = on_connection(connection(70).long_string(b"guest").short_string("it was due"));
    vec![start_ok, secure_ok, tune_ok, open, close, close_ok, update_secret]
}

fn channel_methods() -> Vec<Vec<u8>> {
    let flow = on_channel(Payload::method(20, 20).octet(1));
    let flow_ok = on_channel(Payload::method(20, 21).octet(1));
    let close_ok = on_channel(Payload::method(20, 41));
    let access_request = on_channel(Payload::method(30, 10).short_string("/data").octet(0b11111));
    let confirm_select = on_channel(Payload::method(85, 10).octet(0));
    let [select, commit, rollback] = [10, 20, 30].map(|method| on_channel(Payload::method(90, method)));
    let channels = vec![
        channel_open(3),
        flow,
        flow_ok,
        channel_close(),
        close_ok,
        access_request,
    ];
    [channels, vec![confirm_select, select, commit, rollback]].concat()
}

fn declaring_methods() -> Vec<Vec<u8>> {
    let exchange_delete = on_channel(exchange(20).short_string(EXCHANGE).octet(0));
    let purge = on_channel(queue(30).short_string("").octet(0));
    let queue_delete = on_channel(queue(40).short_string("").octet(0));
    let exchanges = vec![
        exchange_declare(),
        exchange_delete,
        exchange_bind(),
        exchange_unbind(),
    ];
    [
        exchanges,
        vec![queue_declare(), queue_bind(), queue_unbind(), purge, queue_delete],
    ]
    .concat()
}

fn basic_methods() -> Vec<Vec<u8>> {
    let cancel = on_channel(basic(30).short_string("tag").octet(0));
    let cancel_ok = on_channel(basic(31).short_string("tag"));
    let ack = on_channel(basic(80).long_long(0).octet(1));
    let reject = on_channel(basic(90).long_long(1).octet(1));
    let nack = on_channel(basic(120).long_long(0).octet(0b11));
    let [recover_async, recover] = [100, 110].map(|method| on_channel(basic(method).octet(1)));
    let publish = publish(b"a body in one frame").concat();
    let consuming = vec![
        basic_qos(),
        basic_consume(),
        cancel,
        cancel_ok,
        publish,
        basic_get(),
    ];
    [consuming, vec![ack, reject, recover_async, recover, nack]].concat()
}

/// A channel with unacknowledged deliveries, ready messages and confirms, after the handshake.
pub fn busy_channel() -> Vec<Vec<u8>> {
    let mut frames = handshake();
    frames.extend([
        exchange_declare(),
        queue_declare(),
        queue_bind(),
        basic_qos(),
        basic_consume(),
    ]);
    frames.push(on_channel(Payload::method(85, 10).octet(0)));
    for _ in 0..15 {
        frames.extend(publish(b"one of fifteen, of which ten are delivered"));
    }
    frames
}

/// An open channel on which the header and the body of a message are due.
pub fn before_content_header() -> Vec<Vec<u8>> {
    let [publish, ..] = publish(b"");
    [handshake(), vec![publish]].concat()
}

/// An open channel on which the body of a message is due.
pub fn before_body() -> Vec<Vec<u8>> {
    let [publish, header, _] = publish(b"a body");
    [handshake(), vec![publish, header]].concat()
}

/// An open channel in a transaction that has a publish to undo.
pub fn within_transaction() -> Vec<Vec<u8>> {
    let [publish, header, body] = publish(b"undone");
    [
        handshake(),
        vec![on_channel(Payload::method(90, 10)), publish, header, body],
    ]
    .concat()
}

/// A connection that has asked to be closed.
pub fn closing() -> Vec<Vec<u8>> {
    [handshake(), vec![connection_close()]].concat()
}

/// A field table with a field of every type, without its length.
pub fn table() -> Vec<u8> {
    let nested = Payload::new().short_string("deeper").bytes(b"t\x01").into_bytes();
    let array = Payload::new()
        .bytes(b"I")
        .long(7)
        .bytes(b"S")
        .long_string(b"text")
        .into_bytes();
    let field = |table: Payload, name, kind| table.short_string(name).octet(kind);
    let mut table = Payload::new();
    table = field(table, "x-match", b'S').long_string(b"all");
    table = field(table, "boolean", b't').octet(1);
    table = field(table, "octet", b'b').octet(0x80);
    table = field(table, "unsigned-octet", b'B').octet(0xff);
    table = field(table, "short", b's').short(0x8000);
    table = field(table, "unsigned-short", b'u').short(0xffff);
    table = field(table, "int", b'I').long(0x8000_0000);
    table = field(table, "unsigned-int", b'i').long(0xffff_ffff);
    table = field(table, "long", b'l').long_long(1 << 63);
    table = field(table, "float", b'f').long(0x3fc0_0000);
    table = field(table, "double", b'd').long_long(0x3ff8_0000_0000_0000);
    table = field(table, "decimal", b'D').octet(255).long(1);
    table = field(table, "timestamp", b'T').long_long(1_700_000_000);
    table = field(table, "void", b'V');
    table = field(table, "bytes", b'x').long_string(&[0, 255]);
    table = field(table, "table", b'F').long_string(&nested);
    field(table, "array", b'A').long_string(&array).into_bytes()
}

fn on_connection(payload: Payload) -> Vec<u8> {
    payload.frame(METHOD, 0)
}

fn on_channel(payload: Payload) -> Vec<u8> {
    payload.frame(METHOD, 1)
}

fn connection(method: u16) -> Payload {
    Payload::method(10, method)
}

/// A method of class exchange with its reserved field.
fn exchange(method: u16) -> Payload {
    Payload::method(40, method).short(0)
}

/// A method of class queue with its reserved field.
fn queue(method: u16) -> Payload {
    Payload::method(50, method).short(0)
}

fn basic(method: u16) -> Payload {
    Payload::method(60, method)
}

fn start_ok() -> Vec<u8> {
    start_ok_with(
        &Payload::new()
            .short_string("product")
            .octet(b'S')
            .long_string(b"hostile")
            .into_bytes(),
    )
}

fn tune_ok() -> Vec<u8> {
    on_connection(connection(31).short(2047).long(131_072).short(60))
}

fn connection_open() -> Vec<u8> {
    on_connection(connection(40).short_string("/").short_string("").octet(0))
}

fn connection_close() -> Vec<u8> {
    on_connection(connection(50).short(200).short_string("bye").short(0).short(0))
}

fn channel_open(channel: u16) -> Vec<u8> {
    Payload::method(20, 10).short_string("").frame(METHOD, channel)
}

fn channel_close() -> Vec<u8> {
    on_channel(
        Payload::method(20, 40)
            .short(200)
            .short_string("bye")
            .short(0)
            .short(0),
    )
}

fn exchange_declare() -> Vec<u8> {
    const AUTO_DELETE: u8 = 0b100;
    on_channel(
        exchange(10)
            .short_string(EXCHANGE)
            .short_string("topic")
            .octet(AUTO_DELETE)
            .long_string(b""),
    )
}

/// Exclusive, and named by the broker; the empty name in later methods means it.
fn queue_declare() -> Vec<u8> {
    queue_declare_with(
        &Payload::new()
            .short_string("x-max-length")
            .octet(b'I')
            .long(1000)
            .into_bytes(),
    )
}

fn queue_bind() -> Vec<u8> {
    let binding = queue(20)
        .short_string("")
        .short_string(EXCHANGE)
        .short_string("a.*.#");
    on_channel(binding.octet(0).long_string(&table()))
}

fn queue_unbind() -> Vec<u8> {
    on_channel(
        queue(50)
            .short_string("")
            .short_string(EXCHANGE)
            .short_string("a.*.#")
            .long_string(&table()),
    )
}

fn exchange_bind() -> Vec<u8> {
    let binding = exchange(30)
        .short_string(EXCHANGE)
        .short_string("amq.topic")
        .short_string("b.#");
    on_channel(binding.octet(0).long_string(b""))
}

fn exchange_unbind() -> Vec<u8> {
    let binding = exchange(40)
        .short_string(EXCHANGE)
        .short_string("amq.topic")
        .short_string("b.#");
    on_channel(binding.octet(0).long_string(b""))
}

fn basic_qos() -> Vec<u8> {
    on_channel(basic(10).long(0).short(10).octet(0))
}

fn basic_consume() -> Vec<u8> {
    on_channel(
        basic(20)
            .short(0)
            .short_string("")
            .short_string("tag")
            .octet(0)
            .long_string(b""),
    )
}

fn basic_get() -> Vec<u8> {
    on_channel(basic(70).short(0).short_string("").octet(0))
}

fn publish(body: &[u8]) -> [Vec<u8>; 3] {
    publish_on(1, body)
}

/// Publish, header with every property, and body.
fn publish_on(channel: u16, body: &[u8]) -> [Vec<u8>; 3] {
    let publish = basic(40)
        .short(0)
        .short_string(EXCHANGE)
        .short_string("a.b.c")
        .octet(0);
    let header = Payload::new()
        .short(60)
        .short(0)
        .long_long(body.len() as u64)
        .short(0xfffc);
    let properties = header
        .short_string("text/plain")
        .short_string("identity")
        .long_string(&table())
        .octet(1)
        .octet(5)
        .short_string("call")
        .short_string("reply")
        .short_string("60000")
        .short_string("message")
        .long_long(1_700_000_000)
        .short_string("kind")
        .short_string("guest")
        .short_string("hostile")
        .short_string("");
    let body = Payload::new().bytes(body);
    [
        publish.frame(METHOD, channel),
        properties.frame(HEADER, channel),
        body.frame(BODY, channel),
    ]
}
