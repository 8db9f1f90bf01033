//! Our decoders and encoders against those of the crate `amq-protocol`, which other people wrote from the same
//! specification.

use std::collections::BTreeMap;
use std::io::Cursor;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, exchange, queue};
use amq_protocol::types::{
    AMQPValue, DecimalValue, FieldArray as TheirArray, FieldTable as TheirTable, ShortString,
};
use proptest::prelude::*;

use lanemq::model::field_table::{FieldArray, FieldTableBuilder};
use lanemq::model::{FieldTable, FieldTableRef, FieldValue};
use lanemq::protocol::content::{ContentHeader, encode_body_frames, encode_content_header};
use lanemq::protocol::frame::{FrameKind, decode_frame, encode_heartbeat};
use lanemq::protocol::method::{BasicPublish, ExchangeBind, Method, QueueDeclare};
use lanemq::protocol::properties::{Properties, PropertiesBuilder};

/// Ids, name and fields of each method: octet, short, long, longlong (`q`), bit, shortstr (`n` for name), longstr (`S`),
/// table (`F`); `k` a ticket. In brackets what the other crate always writes as empty, false or 1.
const METHODS: [(u16, u16, &str, &str); 66] = [
    (10, 10, "connection.start", "ooFSS"),
    (10, 11, "connection.start-ok", "FnSn"),
    (10, 20, "connection.secure", "S"),
    (10, 21, "connection.secure-ok", "S"),
    (10, 30, "connection.tune", "sls"),
    (10, 31, "connection.tune-ok", "sls"),
    (10, 40, "connection.open", "n[nb]"),
    (10, 41, "connection.open-ok", "[n]"),
    (10, 50, "connection.close", "snss"),
    (10, 51, "connection.close-ok", ""),
    (10, 60, "connection.blocked", "n"),
    (10, 61, "connection.unblocked", ""),
    (10, 70, "connection.update-secret", "Sn"),
    (10, 71, "connection.update-secret-ok", ""),
    (20, 10, "channel.open", "[n]"),
    (20, 11, "channel.open-ok", "[S]"),
    (20, 20, "channel.flow", "b"),
    (20, 21, "channel.flow-ok", "b"),
    (20, 40, "channel.close", "snss"),
    (20, 41, "channel.close-ok", ""),
    (30, 10, "access.request", "nbbbbb"),
    (30, 11, "access.request-ok", "[s]"),
    (40, 10, "exchange.declare", "knnbbbbbF"),
    (40, 11, "exchange.declare-ok", ""),
    (40, 20, "exchange.delete", "knbb"),
    (40, 21, "exchange.delete-ok", ""),
    (40, 30, "exchange.bind", "knnnbF"),
    (40, 31, "exchange.bind-ok", ""),
    (40, 40, "exchange.unbind", "knnnbF"),
    (40, 51, "exchange.unbind-ok", ""),
    (50, 10, "queue.declare", "knbbbbbF"),
    (50, 11, "queue.declare-ok", "nll"),
    (50, 20, "queue.bind", "knnnbF"),
    (50, 21, "queue.bind-ok", ""),
    (50, 30, "queue.purge", "knb"),
    (50, 31, "queue.purge-ok", "l"),
    (50, 40, "queue.delete", "knbbb"),
    (50, 41, "queue.delete-ok", "l"),
    (50, 50, "queue.unbind", "knnnF"),
    (50, 51, "queue.unbind-ok", ""),
    (60, 10, "basic.qos", "[l]sb"),
    (60, 11, "basic.qos-ok", ""),
    (60, 20, "basic.consume", "knnbbbbF"),
    (60, 21, "basic.consume-ok", "n"),
    (60, 30, "basic.cancel", "nb"),
    (60, 31, "basic.cancel-ok", "n"),
    (60, 40, "basic.publish", "knnbb"),
    (60, 50, "basic.return", "snnn"),
    (60, 60, "basic.deliver", "nqbnn"),
    (60, 70, "basic.get", "knb"),
    (60, 71, "basic.get-ok", "qbnnl"),
    (60, 72, "basic.get-empty", "[n]"),
    (60, 80, "basic.ack", "qb"),
    (60, 90, "basic.reject", "qb"),
    (60, 100, "basic.recover-async", "b"),
    (60, 110, "basic.recover", "b"),
    (60, 111, "basic.recover-ok", ""),
    (60, 120, "basic.nack", "qbb"),
    (85, 10, "confirm.select", "b"),
    (85, 11, "confirm.select-ok", ""),
    (90, 10, "tx.select", ""),
    (90, 11, "tx.select-ok", ""),
    (90, 20, "tx.commit", ""),
    (90, 21, "tx.commit-ok", ""),
    (90, 30, "tx.rollback", ""),
    (90, 31, "tx.rollback-ok", ""),
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[ -~]{0,12}", 1 => "\\PC{0,60}", 1 => Just("n".repeat(255))]
}

fn value() -> impl Strategy<Value = AMQPValue> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f32>().prop_map(AMQPValue::Float),
        any::<f64>().prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        bytes().prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        bytes().prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..5)
            .prop_map(|values| AMQPValue::FieldArray(values.into()));
        let table = prop::collection::btree_map(name(), inner, 0..5)
            .prop_map(|map| AMQPValue::FieldTable(their_table(map)));
        prop_oneof![array, table]
    })
}

fn their_table(entries: BTreeMap<String, AMQPValue>) -> TheirTable {
    let entries = entries
        .into_iter()
        .map(|(name, value)| (ShortString::from(name), value));
    TheirTable::from(entries.collect::<BTreeMap<_, _>>())
}

fn table() -> impl Strategy<Value = TheirTable> {
    prop::collection::btree_map(name(), value(), 0..6).prop_map(their_table)
}

fn our_table(table: &TheirTable) -> FieldTable {
    let add = |builder: FieldTableBuilder, (name, value): (&ShortString, &AMQPValue)| match value {
        AMQPValue::FieldTable(inner) => builder.table(name.as_str(), &our_table(inner)),
        AMQPValue::FieldArray(inner) => builder.array(name.as_str(), &our_array(inner)),
        leaf => builder.value(name.as_str(), our_leaf(leaf)),
    };
    table.into_iter().fold(FieldTable::builder(), add).build()
}

fn our_array(array: &TheirArray) -> FieldArray {
    array
        .as_slice()
        .iter()
        .fold(FieldArray::new(), |array, value| match value {
            AMQPValue::FieldTable(inner) => array.with(FieldValue::Table(our_table(inner).as_ref())),
            AMQPValue::FieldArray(inner) => array.with(FieldValue::Array(our_array(inner).as_ref())),
            leaf => array.with(our_leaf(leaf)),
        })
}

fn our_leaf(value: &AMQPValue) -> FieldValue<'_> {
    match value {
        AMQPValue::Boolean(value) => FieldValue::Boolean(*value),
        AMQPValue::ShortShortInt(value) => FieldValue::Int8(*value),
        AMQPValue::ShortShortUInt(value) => FieldValue::Uint8(*value),
        AMQPValue::ShortInt(value) => FieldValue::Int16(*value),
        AMQPValue::ShortUInt(value) => FieldValue::Uint16(*value),
        AMQPValue::LongInt(value) => FieldValue::Int32(*value),
        AMQPValue::LongUInt(value) => FieldValue::Uint32(*value),
        AMQPValue::LongLongInt(value) => FieldValue::Int64(*value),
        AMQPValue::Float(value) => FieldValue::Float(*value),
        AMQPValue::Double(value) => FieldValue::Double(*value),
        AMQPValue::DecimalValue(decimal) => FieldValue::Decimal {
            scale: decimal.scale,
            value: decimal.value,
        },
        AMQPValue::LongString(bytes) => FieldValue::LongString(bytes.as_bytes()),
        AMQPValue::ByteArray(bytes) => FieldValue::ByteArray(bytes.as_slice()),
        AMQPValue::Timestamp(seconds) => FieldValue::Timestamp(*seconds),
        AMQPValue::Void => FieldValue::Void,
        other => panic!("{other:?} is no leaf"),
    }
}

fn back(value: FieldValue<'_>) -> AMQPValue {
    match value {
        FieldValue::Boolean(value) => AMQPValue::Boolean(value),
        FieldValue::Int8(value) => AMQPValue::ShortShortInt(value),
        FieldValue::Uint8(value) => AMQPValue::ShortShortUInt(value),
        FieldValue::Int16(value) => AMQPValue::ShortInt(value),
        FieldValue::Uint16(value) => AMQPValue::ShortUInt(value),
        FieldValue::Int32(value) => AMQPValue::LongInt(value),
        FieldValue::Uint32(value) => AMQPValue::LongUInt(value),
        FieldValue::Int64(value) => AMQPValue::LongLongInt(value),
        FieldValue::Float(value) => AMQPValue::Float(value),
        FieldValue::Double(value) => AMQPValue::Double(value),
        FieldValue::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue { scale, value }),
        FieldValue::LongString(bytes) => AMQPValue::LongString(bytes.into()),
        FieldValue::ByteArray(bytes) => AMQPValue::ByteArray(bytes.into()),
        FieldValue::Timestamp(seconds) => AMQPValue::Timestamp(seconds),
        FieldValue::Array(array) => {
            let values = array
                .iter()
                .map(|value| back(value.expect("the array is well formed")));
            AMQPValue::FieldArray(values.collect::<Vec<_>>().into())
        }
        FieldValue::Table(table) => AMQPValue::FieldTable(table_back(table)),
        FieldValue::Void => AMQPValue::Void,
    }
}

fn table_back(table: FieldTableRef<'_>) -> TheirTable {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).expect("names are UTF-8");
    let entries = table.iter().map(|entry| entry.expect("the table is well formed"));
    their_table(entries.map(|(name, value)| (text(name), back(value))).collect())
}

/// The bytes that a method's fields may have, by the letters in the table of methods.
fn fields(letters: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let mut strategies = Vec::new();
    let (mut bits, mut is_fixed) = (0, false);
    for letter in letters.chars().chain(['.']) {
        if letter != 'b' && bits > 0 {
            let limit = 1_u16 << bits;
            strategies.push((0..limit).prop_map(|bits| vec![bits as u8]).boxed());
            bits = 0;
        }
        match letter {
            '[' | ']' => is_fixed = letter == '[',
            'b' if is_fixed => strategies.push(Just(vec![0]).boxed()),
            'b' => bits += 1,
            '.' => {}
            letter => strategies.push(field(letter, is_fixed)),
        }
    }
    strategies.prop_map(|fields| fields.concat())
}

fn field(letter: char, is_fixed: bool) -> BoxedStrategy<Vec<u8>> {
    let long_string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    match letter {
        'n' if is_fixed => Just(vec![0]).boxed(),
        's' if is_fixed => Just(vec![0, 1]).boxed(),
        'S' | 'l' if is_fixed => Just(vec![0; 4]).boxed(),
        'k' => Just(vec![0, 0]).boxed(),
        'o' => any::<u8>().prop_map(|value| vec![value]).boxed(),
        's' => any::<u16>()
            .prop_map(|value| value.to_be_bytes().to_vec())
            .boxed(),
        'l' => any::<u32>()
            .prop_map(|value| value.to_be_bytes().to_vec())
            .boxed(),
        'q' => any::<u64>()
            .prop_map(|value| value.to_be_bytes().to_vec())
            .boxed(),
        'n' => name()
            .prop_map(|name| [&[name.len() as u8], name.as_bytes()].concat())
            .boxed(),
        'S' => prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(move |bytes| long_string(&bytes))
            .boxed(),
        'F' => table()
            .prop_map(move |table| long_string(our_table(&table).as_bytes()))
            .boxed(),
        other => panic!("{other} stands for no field"),
    }
}

fn method() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    prop::sample::select(&METHODS[..]).prop_flat_map(|(class, method, name, letters)| {
        let ids = [class.to_be_bytes(), method.to_be_bytes()].concat();
        fields(letters).prop_map(move |fields| (name, [&ids[..], &fields].concat()))
    })
}

/// The only frame in `bytes`, as the other crate reads it.
fn their_frame(bytes: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(bytes).expect("the other crate reads the frame");
    assert!(rest.is_empty(), "one frame, no more");
    frame
}

fn their_bytes(frame: &AMQPFrame) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 17];
    let context = WriteContext::from(Cursor::new(&mut buffer[..]));
    let (_, length) = gen_frame(frame)(context)
        .expect("the frame fits the buffer")
        .into_inner();
    buffer.truncate(length as usize);
    buffer
}

fn properties() -> impl Strategy<Value = BasicProperties> {
    let text = || prop::option::of(name().prop_map(ShortString::from));
    let first = (
        text(),
        text(),
        prop::option::of(table()),
        prop::option::of(any::<u8>()),
        prop::option::of(any::<u8>()),
    );
    let second = (
        text(),
        text(),
        text(),
        text(),
        prop::option::of(any::<u64>()),
        text(),
        text(),
        text(),
        text(),
    );
    (first, second).prop_map(|(first, second)| {
        let all = BasicProperties::default();
        let all = first.0.into_iter().fold(all, BasicProperties::with_content_type);
        let all = first
            .1
            .into_iter()
            .fold(all, BasicProperties::with_content_encoding);
        let all = first.2.into_iter().fold(all, BasicProperties::with_headers);
        let all = first.3.into_iter().fold(all, BasicProperties::with_delivery_mode);
        let all = first.4.into_iter().fold(all, BasicProperties::with_priority);
        let all = second
            .0
            .into_iter()
            .fold(all, BasicProperties::with_correlation_id);
        let all = second.1.into_iter().fold(all, BasicProperties::with_reply_to);
        let all = second.2.into_iter().fold(all, BasicProperties::with_expiration);
        let all = second.3.into_iter().fold(all, BasicProperties::with_message_id);
        let all = second.4.into_iter().fold(all, BasicProperties::with_timestamp);
        let all = second.5.into_iter().fold(all, BasicProperties::with_type);
        let all = second.6.into_iter().fold(all, BasicProperties::with_user_id);
        let all = second.7.into_iter().fold(all, BasicProperties::with_app_id);
        second.8.into_iter().fold(all, BasicProperties::with_cluster_id)
    })
}

fn text(bytes: Option<&[u8]>) -> Option<ShortString> {
    bytes.map(|bytes| ShortString::from(std::str::from_utf8(bytes).expect("names are UTF-8")))
}

fn check_values(ours: Properties<'_>, theirs: &BasicProperties) {
    assert_eq!(&text(ours.content_type()), theirs.content_type());
    assert_eq!(&text(ours.content_encoding()), theirs.content_encoding());
    assert_eq!(&ours.headers().map(table_back), theirs.headers());
    assert_eq!(&ours.delivery_mode(), theirs.delivery_mode());
    assert_eq!(&ours.priority(), theirs.priority());
    assert_eq!(&text(ours.correlation_id()), theirs.correlation_id());
    assert_eq!(&text(ours.reply_to()), theirs.reply_to());
    assert_eq!(&text(ours.expiration()), theirs.expiration());
    assert_eq!(&text(ours.message_id()), theirs.message_id());
    assert_eq!(&ours.timestamp(), theirs.timestamp());
    assert_eq!(&text(ours.kind()), theirs.kind());
    assert_eq!(&text(ours.user_id()), theirs.user_id());
    assert_eq!(&text(ours.app_id()), theirs.app_id());
    assert_eq!(&text(ours.cluster_id()), theirs.cluster_id());
    assert_eq!(ours.is_persistent(), *theirs.delivery_mode() == Some(2));
}

#[test]
fn the_table_of_methods_is_complete() {
    for class in 0..=100 {
        for method in 0..=200 {
            let payload = [u16::to_be_bytes(class), u16::to_be_bytes(method)].concat();
            let is_known = METHODS.iter().any(|row| (row.0, row.1) == (class, method));
            let is_ours = !matches!(Method::decode(&payload), Err(error) if error.refusal().explanation == "unimplemented method");
            assert_eq!(is_known, is_ours, "method {class}.{method}");
        }
    }
}

#[test]
fn a_heartbeat_is_the_same() {
    let mut bytes = Vec::new();
    encode_heartbeat(&mut bytes);
    assert_eq!(their_frame(&bytes), AMQPFrame::Heartbeat);
    assert_eq!(their_bytes(&AMQPFrame::Heartbeat), bytes);
}

proptest! {
    #[test]
    fn methods_are_read_and_written_the_same((name, payload) in method(), channel in any::<u16>()) {
        let ours = Method::decode(&payload).expect("the payload is a method");
        prop_assert_eq!(ours.name(), name);
        let mut bytes = Vec::new();
        ours.encode(channel, &mut bytes);
        prop_assert_eq!(&bytes[7..bytes.len() - 1], &payload);
        let theirs = their_frame(&bytes);
        prop_assert_eq!(theirs.channel_id(), channel);
        prop_assert_eq!(their_bytes(&theirs), bytes);
    }

    #[test]
    fn queue_declare_has_the_same_fields(
        queue in name(), bits in any::<[bool; 5]>(), arguments in table(),
    ) {
        let [passive, durable, exclusive, auto_delete, nowait] = bits;
        let theirs = queue::Declare { queue: queue.into(), passive, durable, exclusive, auto_delete, nowait, arguments };
        let bytes = their_bytes(&AMQPFrame::Method(7, AMQPClass::Queue(queue::AMQPMethod::Declare(theirs.clone()))));
        let arguments = our_table(&theirs.arguments);
        let ours = QueueDeclare {
            queue: theirs.queue.as_str().as_bytes(),
            passive, durable, exclusive, auto_delete, nowait,
            arguments: arguments.as_ref(),
        };
        let (frame, _) = decode_frame(&bytes, 0).unwrap().unwrap();
        prop_assert_eq!(Method::decode(frame.payload), Ok(Method::QueueDeclare(ours)));
    }

    #[test]
    fn exchange_bind_has_the_same_fields(
        destination in name(), source in name(), key in name(), nowait in any::<bool>(), arguments in table(),
    ) {
        let (destination, source, routing_key) = (destination.into(), source.into(), key.into());
        let theirs = exchange::Bind { destination, source, routing_key, nowait, arguments };
        let bytes = their_bytes(&AMQPFrame::Method(7, AMQPClass::Exchange(exchange::AMQPMethod::Bind(theirs.clone()))));
        let arguments = our_table(&theirs.arguments);
        let ours = ExchangeBind {
            destination: theirs.destination.as_str().as_bytes(),
            source: theirs.source.as_str().as_bytes(),
            routing_key: theirs.routing_key.as_str().as_bytes(),
            nowait,
            arguments: arguments.as_ref(),
        };
        let (frame, _) = decode_frame(&bytes, 0).unwrap().unwrap();
        prop_assert_eq!(Method::decode(frame.payload), Ok(Method::ExchangeBind(ours)));
    }

    #[test]
    fn basic_publish_has_the_same_fields(
        exchange in name(), key in name(), mandatory in any::<bool>(), immediate in any::<bool>(),
    ) {
        let theirs = basic::Publish { exchange: exchange.clone().into(), routing_key: key.clone().into(), mandatory, immediate };
        let bytes = their_bytes(&AMQPFrame::Method(7, AMQPClass::Basic(basic::AMQPMethod::Publish(theirs))));
        let (frame, _) = decode_frame(&bytes, 0).unwrap().unwrap();
        let ours = BasicPublish { exchange: exchange.as_bytes(), routing_key: key.as_bytes(), mandatory, immediate };
        prop_assert_eq!(Method::decode(frame.payload), Ok(Method::BasicPublish(ours)));
    }

    #[test]
    fn tables_are_read_and_written_the_same(table in table()) {
        let ours = our_table(&table);
        prop_assert_eq!(FieldTableRef(ours.as_bytes()).validate(), Ok(()));
        prop_assert_eq!(table_back(ours.as_ref()), table);
        for (name, value) in &ours_by_name(&ours) {
            prop_assert_eq!(ours.as_ref().get(name), Some(*value));
        }
    }

    #[test]
    fn content_headers_are_read_and_written_the_same(properties in properties(), channel in any::<u16>(), body_size in any::<u64>()) {
        let theirs = AMQPContentHeader { class_id: 60, body_size, properties };
        let theirs_encoded = their_bytes(&AMQPFrame::Header(channel, theirs.clone()));
        let (frame, _) = decode_frame(&theirs_encoded, 0).unwrap().unwrap();
        let header = ContentHeader::decode(frame.payload).unwrap();
        prop_assert_eq!((header.class_id, header.body_size), (60, body_size));
        let checked = Properties::new_checked(header.properties).unwrap();
        check_values(checked, &theirs.properties);

        let mut rebuilt = Vec::new();
        PropertiesBuilder::from(checked).encode(&mut rebuilt);
        prop_assert_eq!(&rebuilt[..], header.properties);
        let mut ours_encoded = Vec::new();
        encode_content_header(channel, &rebuilt, body_size, &mut ours_encoded);
        prop_assert_eq!(ours_encoded, theirs_encoded);
    }

    #[test]
    fn bodies_are_cut_into_the_same_frames(body in prop::collection::vec(any::<u8>(), 0..300), frame_max in 9..100_u32) {
        let mut bytes = Vec::new();
        encode_body_frames(3, &body, frame_max, &mut bytes);
        let (mut rest, mut joined) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (frame, length) = decode_frame(rest, frame_max).unwrap().unwrap();
            prop_assert_eq!(frame.kind, FrameKind::Body);
            prop_assert!(length as u32 <= frame_max);
            prop_assert_eq!(their_bytes(&AMQPFrame::Body(3, frame.payload.to_vec())), &rest[..length]);
            joined.extend_from_slice(frame.payload);
            rest = &rest[length..];
        }
        prop_assert_eq!(joined, body);
    }
}

fn ours_by_name(table: &FieldTable) -> Vec<(&[u8], FieldValue<'_>)> {
    table
        .as_ref()
        .iter()
        .map(|entry| entry.expect("the table is well formed"))
        .collect()
}
