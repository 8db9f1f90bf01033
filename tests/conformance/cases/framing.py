"""Frames: ends, types, sizes, order within a channel, bodies in parts, heartbeats."""

import struct
import time

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel
from wire.connection import BODY, HEADER, HEARTBEAT, METHOD, encode_frame
from wire.methods import encode_header, encode_method
from wire.values import Typed


def publish_method(queue: str) -> bytes:
    return encode_method("basic.publish", {"routing_key": queue})


def channel_with_queue(broker: Broker, **opening) -> tuple[Channel, str]:
    channel = broker.channel(**opening)
    queue = broker.queue()
    channel.declare(queue)
    return channel, queue


@case(32, "a frame of more than frame_max and eight bytes closes the connection with 501")
def a_frame_that_is_too_large(broker: Broker):
    channel, queue = channel_with_queue(broker, frame_max=4096)
    connection = channel.client.connection
    connection.send_frame(METHOD, 1, publish_method(queue))
    connection.send_frame(HEADER, 1, encode_header({}, 10000))
    connection.send_frame(BODY, 1, bytes(10000))
    channel.expect_connection_close(501)


@case(32, "a body frame of frame_max with its head and end, and of eight bytes more")
def frames_about_frame_max(broker: Broker):
    for size in (4096 - 8, 4096, 4097):
        channel, queue = channel_with_queue(broker, frame_max=4096)
        connection = channel.client.connection
        connection.send_frame(METHOD, 1, publish_method(queue))
        connection.send_frame(HEADER, 1, encode_header({}, size))
        connection.send_frame(BODY, 1, bytes(size))
        channel.call("basic.get", queue=queue, no_ack=True)
        channel.client.connection.close()


@case(33, "a frame without its end closes the connection with 501")
def a_frame_without_its_end(broker: Broker):
    client = broker.connect()
    client.channel()
    client.connection.send_frame(METHOD, 1, encode_method("basic.qos", {}), end=0xCD)
    client.expect("connection.close", reply_code=501)


@case(33, "a frame of an unknown type closes the connection with 501")
def a_frame_of_an_unknown_type(broker: Broker):
    for kind in (0, 4, 5, 9, 255):
        client = broker.connect()
        client.channel()
        client.connection.send_frame(kind, 1, b"payload")
        client.expect_connection_close(501)


@case(34, "a content header without its method closes the connection with 505")
def a_header_without_its_method(broker: Broker):
    channel = broker.channel()
    channel.client.connection.send_frame(HEADER, 1, encode_header({}, 3))
    channel.expect_connection_close(
        505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", ""
    )


@case(34, "a body without its method closes the connection with 505")
def a_body_without_its_method(broker: Broker):
    channel = broker.channel()
    channel.client.connection.send_frame(BODY, 1, b"abc")
    channel.expect_connection_close(
        505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", ""
    )


@case(34, "a method in place of a content header closes the connection with 505")
def a_method_in_place_of_a_header(broker: Broker):
    channel = broker.channel()
    channel.send("basic.publish", routing_key="k")
    channel.send("basic.qos")
    channel.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
        "basic.publish",
    )


@case(34, "a method in place of a body closes the connection with 505")
def a_method_in_place_of_a_body(broker: Broker):
    channel = broker.channel()
    channel.send("basic.publish", routing_key="k")
    channel.client.connection.send_frame(HEADER, 1, encode_header({}, 3))
    channel.send("basic.qos")
    channel.expect_connection_close(
        505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead", "basic.publish"
    )


@case(34, "a body in place of the content header closes the connection with 505")
def a_body_in_place_of_a_header(broker: Broker):
    channel = broker.channel()
    channel.send("basic.publish", routing_key="k")
    channel.client.connection.send_frame(BODY, 1, b"abc")
    channel.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
        "basic.publish",
    )


@case(34, "a content header of another class closes the connection with 505")
def a_header_of_another_class(broker: Broker):
    channel = broker.channel()
    channel.send("basic.publish", routing_key="k")
    channel.client.connection.send_frame(HEADER, 1, encode_header({}, 3, class_id=50))
    channel.expect_connection_close(505, None, "basic.publish")


@case(34, "a content header whose properties cannot be read closes the connection")
def a_header_that_cannot_be_read(broker: Broker):
    for rest in (b"\x80\x00\x05ab", b"\xff\xff", b"\x20\x00\x00\x00\x00\x07\x01aI\x00\x00\x00"):
        channel = broker.channel()
        channel.send("basic.publish", routing_key="k")
        channel.client.connection.send_frame(HEADER, 1, struct.pack(">HHQ", 60, 0, 0) + rest)
        channel.receive()


@case(34, "a heartbeat on a channel closes the connection")
def a_heartbeat_on_a_channel(broker: Broker):
    channel = broker.channel()
    channel.client.connection.send_frame(HEARTBEAT, 1, b"")
    channel.client.receive()


@case(34, "a heartbeat with a payload")
def a_heartbeat_with_a_payload(broker: Broker):
    client = broker.connect()
    client.connection.send_frame(HEARTBEAT, 0, b"abc")
    client.receive()


@case(34, "content on channel 0 closes the connection")
def content_on_channel_0(broker: Broker):
    for kind in (HEADER, BODY):
        client = broker.connect()
        client.connection.send_frame(kind, 0, encode_header({}, 0))
        client.receive()


@case(35, "a body longer than announced closes the connection")
def a_body_longer_than_announced(broker: Broker):
    channel, queue = channel_with_queue(broker)
    connection = channel.client.connection
    connection.send_frame(METHOD, 1, publish_method(queue))
    connection.send_frame(HEADER, 1, encode_header({}, 3))
    connection.send_frame(BODY, 1, b"abcd")
    channel.send("basic.qos", prefetch_count=1)
    expect("answer", channel.receive().name, "connection.close")


@case(35, "after the body's announced end a further body frame is unexpected")
def a_body_frame_after_the_end(broker: Broker):
    channel, queue = channel_with_queue(broker)
    connection = channel.client.connection
    connection.send_frame(METHOD, 1, publish_method(queue))
    connection.send_frame(HEADER, 1, encode_header({}, 3))
    connection.send_frame(BODY, 1, b"abc")
    connection.send_frame(BODY, 1, b"d")
    channel.expect_connection_close(505)


@case(36, "an empty body has no body frame")
def an_empty_body_has_no_frame(broker: Broker):
    channel, queue = channel_with_queue(broker)
    channel.consume(queue, "tag", no_ack=True)
    channel.publish("", queue, b"")
    channel.expect("basic.deliver", body=b"", properties={})
    broker.note("frames", body_frames=[size for kind, _, size in channel.client.connection.frame_sizes if kind == BODY])
    channel.expect_nothing(queue)


@case(36, "body frames of no bytes are accepted among others")
def empty_body_frames_are_accepted(broker: Broker):
    channel, queue = channel_with_queue(broker)
    connection = channel.client.connection
    connection.send_frame(METHOD, 1, publish_method(queue))
    connection.send_frame(HEADER, 1, encode_header({}, 2))
    for part in (b"", b"a", b"", b"b"):
        connection.send_frame(BODY, 1, part)
    expect("body", channel.get(queue).body, b"ab")


@case(36, "a body frame of no bytes after an empty content header")
def an_empty_body_frame_of_an_empty_message(broker: Broker):
    channel, queue = channel_with_queue(broker)
    connection = channel.client.connection
    connection.send_frame(METHOD, 1, publish_method(queue))
    connection.send_frame(HEADER, 1, encode_header({}, 0))
    connection.send_frame(BODY, 1, b"")
    channel.receive()


@case(37, "a delivery is cut into frames of at most frame_max")
def deliveries_keep_to_frame_max(broker: Broker):
    channel, queue = channel_with_queue(broker, frame_max=70000)
    publisher = broker.channel()
    body = bytes(range(256)) * 560
    publisher.publish_confirmed("", queue, body)
    got = channel.get(queue)
    expect("body", got.body, body)
    sizes = [size for kind, _, size in channel.client.connection.frame_sizes if kind == BODY]
    expect("frames larger than agreed", [size for size in sizes if size > 70000], [])
    broker.note("body frames", sizes=sizes)


@case(37, "a body that fills frames exactly")
def a_body_of_whole_frames(broker: Broker):
    channel, queue = channel_with_queue(broker, frame_max=4096)
    for size in (4088, 4089, 8176, 8177):
        channel.publish("", queue, bytes(size))
        got = channel.get(queue)
        broker.note("body frames", size=size, frames=got.body_frames)


@case(38, "content of two channels may be mixed by the client")
def content_of_two_channels_is_mixed(broker: Broker):
    client = broker.connect()
    first, second = client.channel(), client.channel()
    queue = broker.queue()
    first.declare(queue)
    connection = client.connection
    for number in (1, 2):
        connection.send_frame(METHOD, number, publish_method(queue))
    for number in (1, 2):
        connection.send_frame(HEADER, number, encode_header({}, 4))
    for part in (b"ab", b"cd"):
        for number in (2, 1):
            connection.send_frame(BODY, number, part)
    expect("bodies", [event.body for event in first.get_all(queue)], [b"abcd", b"abcd"])


@case(38, "deliveries of one channel are not mixed with its other frames")
def deliveries_are_not_mixed_within_a_channel(broker: Broker):
    channel, queue = channel_with_queue(broker, frame_max=4096)
    channel.consume(queue, "tag", no_ack=True)
    for round in range(5):
        channel.publish("", queue, bytes([round]) * 20000)
        channel.send("basic.qos", prefetch_count=1)
    seen = [channel.client.wait(1, 15) for _ in range(10)]
    bodies = [event.body[:1] for event in seen if event.name == "basic.deliver"]
    broker.note("order of bodies", bodies=[repr(body) for body in bodies])
    expect("answers", [event.name for event in seen].count("basic.qos-ok"), 5)


@case(40, "the broker sends heartbeats to a client that asked for them")
def the_broker_sends_heartbeats(broker: Broker):
    client = broker.connect(heartbeat=1)
    deadline = time.monotonic() + 10
    while client.connection.heartbeats < 3:
        client.connection.send_frame(HEARTBEAT, 0, b"")
        client.connection.read_frame(deadline)
    broker.note("heartbeats came")


@case(40, "a client that falls silent is left after two to three heartbeats, without a close")
def a_silent_client_is_left_after_its_heartbeats(broker: Broker):
    client = broker.connect(heartbeat=1)
    began = time.monotonic()
    client.expect_end()
    expect("it took seconds", 1.5 < time.monotonic() - began < 10, True)


@case(40, "any byte from the client counts as its heartbeat")
def any_frame_counts_as_a_heartbeat(broker: Broker):
    channel = broker.channel(heartbeat=1)
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        channel.round_trip("channel.flow", "channel.flow-ok", active=True)
        time.sleep(0.2)
    broker.note("the connection lives")


@case(40, "without heartbeats a silent client stays")
def without_heartbeats_a_silent_client_stays(broker: Broker):
    silent, lively = broker.channel(heartbeat=0), broker.connect(heartbeat=1)
    lively.expect_end()
    silent.expect_nothing()
    expect("heartbeats", silent.client.connection.heartbeats, 0)


@case(42, "every type of a field table comes back as it was sent")
def field_types_come_back(broker: Broker):
    channel, queue = channel_with_queue(broker)
    headers = {
        "S": "text", "empty": "", "I": Typed("I", -5), "i": Typed("i", 4000000000), "l": Typed("l", -(2**40)),
        "L": Typed("L", 2**40), "s": Typed("s", -300), "u": Typed("u", 65000), "b": Typed("b", -7),
        "B": Typed("B", 250), "t": True, "f": Typed("f", 0.5), "d": Typed("d", -2.25), "D": Typed("D", (2, 314)),
        "T": Typed("T", 1000000000), "x": Typed("x", b"\x00\xff"), "V": None,
        "F": {"inner": 1, "deeper": {"deepest": True}}, "A": [1, "two", [3], {"four": None}], "no entries": {},
        "no items": [],
    }  # fmt: skip
    channel.publish("", queue, "body", headers=headers)
    got = channel.get(queue)
    expect("names in order", list(got.properties["headers"]), list(headers))


@case(42, "a field of a type nobody knows ends the connection")
def an_unknown_field_type_is_refused(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", queue=broker.queue(), arguments={"x": Typed("Z", b"ab")})
    channel.receive()


@case(43, "exchange.unbind is answered with method 51")
def exchange_unbind_ok_is_method_51(broker: Broker):
    channel = broker.channel()
    source, destination = broker.exchange("source"), broker.exchange("destination")
    channel.declare_exchange(source)
    channel.declare_exchange(destination)
    channel.bind_exchange(destination, source, "k")
    answer = channel.call("exchange.unbind", destination=destination, source=source, routing_key="k")
    expect("answer", answer.name, "exchange.unbind-ok")


@case(44, "access.request is answered with ticket 1, and tickets of other methods say nothing")
def access_request_gets_ticket_1(broker: Broker):
    channel = broker.channel()
    expect("ticket", channel.call("access.request", realm="/data", active=True).ticket, 1)
    channel.call("queue.declare", queue=broker.queue(), ticket=4711)


@case(49, "a method with nowait is not answered")
def nowait_methods_are_not_answered(broker: Broker):
    channel = broker.channel()
    queue, exchange, other = broker.queue(), broker.exchange(), broker.exchange("other")
    channel.send("queue.declare", queue=queue, nowait=True)
    channel.send("exchange.declare", exchange=exchange, type="direct", nowait=True)
    channel.send("exchange.declare", exchange=other, type="direct", nowait=True)
    channel.send("queue.bind", queue=queue, exchange=exchange, routing_key="k", nowait=True)
    channel.send("exchange.bind", destination=exchange, source=other, routing_key="k", nowait=True)
    channel.publish(other, "k", "routed")
    channel.send("basic.consume", queue=queue, consumer_tag="tag", no_ack=True, nowait=True)
    channel.expect("basic.deliver", consumer_tag="tag", body=b"routed")
    channel.send("basic.cancel", consumer_tag="tag", nowait=True)
    channel.send("exchange.unbind", destination=exchange, source=other, routing_key="k", nowait=True)
    channel.send("queue.purge", queue=queue, nowait=True)
    channel.send("confirm.select", nowait=True)
    channel.send("queue.delete", queue=queue, nowait=True)
    channel.send("exchange.delete", exchange=exchange, nowait=True)
    channel.expect_nothing()
    channel.refuse(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", "queue.declare", queue=queue, passive=True)
    channel.refuse(404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", "exchange.declare", exchange=exchange,
                   type="direct", passive=True)  # fmt: skip


@case(49, "a method with nowait that fails closes the channel")
def nowait_methods_fail_aloud(broker: Broker):
    channel = broker.channel()
    missing = broker.queue("missing")
    channel.refuse(404, None, "queue.declare", queue=missing, passive=True, nowait=True)
    channel.refuse(404, None, "queue.bind", queue=missing, exchange="amq.direct", nowait=True)
    channel.refuse(404, None, "basic.consume", queue=missing, nowait=True)
    channel.refuse(404, None, "queue.purge", queue=missing, nowait=True)


@case(33, "a frame in many small pieces is put together")
def a_frame_in_pieces(broker: Broker):
    channel, queue = channel_with_queue(broker)
    connection = channel.client.connection
    data = encode_frame(METHOD, 1, publish_method(queue)) + connection.encode_content(1, {"type": "t"}, b"in pieces")
    for byte in data:
        connection.send_bytes(bytes([byte]))
    expect("body", channel.get(queue).body, b"in pieces")
