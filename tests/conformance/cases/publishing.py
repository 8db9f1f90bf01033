"""Publishing: what is refused, what is returned, carbon copies, and properties that come back as they were sent."""

import base64

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel
from suite.settings import LIMITED
from wire.connection import BODY, HEADER, METHOD
from wire.methods import encode_header, encode_method
from wire.values import Typed


def queue_of(broker: Broker, **fields) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, **fields)
    return channel, queue


def not_found(exchange: str) -> str:
    return f"NOT_FOUND - no exchange '{exchange}' in vhost '/'"


@case(76, 77, "publishing to a missing exchange closes the channel, and what came before is delivered")
def publishing_to_a_missing_exchange(broker: Broker):
    channel, queue = queue_of(broker)
    missing = broker.exchange("missing")
    channel.publish("", queue, "before")
    channel.publish(missing, "k", "nowhere")
    channel.publish("", queue, "after")
    channel.expect_close(404, not_found(missing), "basic.publish")
    channel.reopen()
    channel.wait_for_count(queue, 1)
    expect("bodies", [event.body for event in channel.get_all(queue)], [b"before"])


@case(78, 79, "an unroutable mandatory message comes back with its content, before its ack")
def mandatory_messages_come_back_before_their_ack(broker: Broker):
    channel = broker.channel().confirm()
    exchange = broker.exchange()
    channel.declare_exchange(exchange)
    properties = {"content_type": "text/plain", "headers": {"a": 1}, "delivery_mode": 2, "message_id": "m"}
    channel.publish(exchange, "first", "come back", mandatory=True, **properties)
    returned = channel.expect(
        "basic.return", reply_code=312, reply_text="NO_ROUTE", exchange=exchange, routing_key="first", body=b"come back"
    )
    expect("message id", returned.properties["message_id"], "m")
    channel.confirms(1)


@case(79, 74, "a return names the first key, keeps CC and has lost BCC")
def returns_name_the_first_key(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange)
    channel.publish(exchange, "first", "b", mandatory=True, headers={"CC": ["second"], "BCC": ["third"], "kept": True})
    returned = channel.expect("basic.return", routing_key="first")
    expect("headers", sorted(returned.properties["headers"]), ["CC", "kept"])


@case(78, "a mandatory message that is routed does not come back")
def routed_mandatory_messages_stay(broker: Broker):
    channel, queue = queue_of(broker)
    channel.confirm()
    channel.publish("", queue, "fine", mandatory=True)
    channel.confirms(1)
    expect("body", channel.get(queue).body, b"fine")


@case(78, "returns come in the order of the publishes")
def returns_come_in_order(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange)
    for number in range(20):
        channel.publish(exchange, "k", str(number), mandatory=True)
    bodies = [channel.expect("basic.return").body for _ in range(20)]
    expect("bodies", bodies, [str(number).encode() for number in range(20)])


@case(89, "immediate closes the connection with 540")
def immediate_is_not_implemented(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish("", queue, "now", immediate=True)
    channel.expect_connection_close(540, "NOT_IMPLEMENTED - immediate=true", "basic.publish")


@case(89, "what consumers may not ask for closes the connection with 540")
def what_is_not_implemented(broker: Broker):
    channel = broker.channel()
    channel.send("basic.recover", requeue=False)
    channel.expect_connection_close(540, "NOT_IMPLEMENTED - requeue=false", "basic.recover")
    channel = broker.channel()
    channel.send("basic.recover-async", requeue=False)
    channel.expect_connection_close(540)
    channel = broker.channel()
    channel.send("channel.flow", active=False)
    channel.expect_connection_close(540, "NOT_IMPLEMENTED - active=false", "channel.flow")


@case("1.3", "channel.flow with active is answered")
def flow_with_active_is_answered(broker: Broker):
    channel = broker.channel()
    channel.send("channel.flow", active=True)
    channel.expect("channel.flow-ok", active=True)


@case(74, "CC copies to further keys and stays, BCC copies and goes")
def carbon_copies(broker: Broker):
    channel = broker.channel()
    names = ("to", "cc", "bcc")
    for name in names:
        channel.declare(broker.queue(name))
    headers = {"CC": [broker.queue("cc")], "BCC": [broker.queue("bcc")], "other": 1}
    channel.publish_confirmed("", broker.queue("to"), "copied", headers=headers)
    for name in names:
        found = channel.get(broker.queue(name))
        expect("routing key", found.routing_key, broker.queue("to"))
        expect("headers", sorted(found.properties["headers"]), ["CC", "other"])


@case(74, "BCC is taken out of what a consumer gets, too")
def blind_carbon_copies_are_not_delivered(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "tag", no_ack=True)
    channel.publish("", queue, "body", headers={"BCC": ["anything"]})
    channel.expect("basic.deliver")


@case(74, "CC and BCC that are no arrays of strings are refused with 406")
def carbon_copies_must_be_arrays(broker: Broker):
    channel, queue = queue_of(broker)
    for name in ("CC", "BCC"):
        for value in ("key", 1, None, [1], ["fine", 1], [b"bytes"], {"a": 1}, []):
            broker.note("publish", header=name, value=repr(value))
            channel.publish("", queue, "body", mandatory=True, headers={name: value})
            channel.send("basic.qos", prefetch_count=1)
            if channel.receive().name == "channel.close":
                channel.send("channel.close-ok")
                channel.reopen()


@case(74, "CC with a routing key of one's own through a topic exchange")
def carbon_copies_through_a_topic_exchange(broker: Broker):
    channel = broker.channel()
    exchange, one, two = broker.exchange(), broker.queue("one"), broker.queue("two")
    channel.declare_exchange(exchange, "topic")
    for queue, pattern in ((one, "a.*"), (two, "b.*")):
        channel.declare(queue)
        channel.bind(queue, exchange, pattern)
    channel.publish_confirmed(exchange, "a.x", "both", headers={"CC": ["b.x", "b.y", "a.y"]})
    expect("copies", [len(channel.get_all(queue)) for queue in (one, two)], [1, 1])


@case(90, "an expiration that is no decimal number is refused with 406")
def expirations_that_are_no_numbers(broker: Broker):
    channel, queue = queue_of(broker)
    for value in ("60000ms", "abc", "-1", "", " 5", "5 ", "1.5", "0x10", "315360000001", "99999999999999999999"):
        broker.note("publish", expiration=value)
        channel.publish("", queue, "body", expiration=value)
        channel.expect_close(406, None, "basic.publish")
        channel.reopen()
    for value in ("60000", "315360000000", "0060000", "+60000"):
        broker.note("publish", expiration=value)
        channel.publish("", queue, "body", expiration=value)
        expect("expiration", channel.get(queue).properties["expiration"], value)


@case(90, "the text of a wrong expiration shows it, and what is left over")
def texts_of_wrong_expirations(broker: Broker):
    channel, queue = queue_of(broker)
    text = "PRECONDITION_FAILED - invalid expiration '{}': {}"
    for value, reason in (("60000ms", '{leftover_string,"ms"}'), ("abc", "no_integer"), ("-1", "{value_negative,-1}")):
        channel.publish("", queue, "body", expiration=value)
        channel.expect_close(406, text.format(value, reason), "basic.publish")
        channel.reopen()


@case(90, "an expiration is judged before it is known whether the message is routed")
def expiration_of_an_unroutable_message(broker: Broker):
    channel = broker.channel()
    channel.publish("", broker.queue("missing"), "body", expiration="never")
    channel.expect_close(406, None, "basic.publish")


@case(91, "a user-id of somebody else is refused with 406")
def user_id_must_be_ones_own(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish("", queue, "fine", user_id="guest")
    expect("user id", channel.get(queue).properties["user_id"], "guest")
    for user in ("somebody", "", "Guest"):
        channel.publish("", queue, "spoofed", user_id=user)
        text = f"PRECONDITION_FAILED - user_id property set to '{user}' but authenticated user was 'guest'"
        channel.expect_close(406, text, "basic.publish")
        channel.reopen()


@case("1.7", "a delivery mode other than 1 and 2")
def delivery_modes(broker: Broker):
    channel, queue = queue_of(broker)
    for mode in (1, 2, 0, 3, 255):
        broker.note("publish", delivery_mode=mode)
        channel.publish("", queue, "body", delivery_mode=mode)
        channel.send("basic.get", queue=queue, no_ack=True)
        answer = channel.receive()
        if answer.name == "connection.close":
            channel = broker.channel()
        elif answer.name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()


@case(93, "a message larger than the broker takes is refused with 406, and the connection lives", settings=LIMITED)
def a_message_that_is_too_large(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish("", queue, bytes(65536))
    expect("size", len(channel.get(queue).body), 65536)
    channel.publish("", queue, bytes(65537))
    text = "PRECONDITION_FAILED - message size 65537 is larger than configured max size 65536"
    channel.expect_close(406, text, "basic.publish")
    channel.reopen()
    channel.expect_nothing(queue)


@case(93, "1.7", "a content header that announces half a gigabyte closes the connection")
def an_enormous_content_header(broker: Broker):
    channel, queue = queue_of(broker)
    channel.client.connection.send_frame(METHOD, 1, encode_method("basic.publish", {"routing_key": queue}))
    channel.client.connection.send_frame(HEADER, 1, encode_header({}, 536870913))
    channel.client.connection.send_frame(BODY, 1, b"start")
    channel.send("basic.qos", prefetch_count=1)
    channel.receive()


@case(94, "every property comes back as it was sent")
def properties_come_back(broker: Broker):
    channel, queue = queue_of(broker)
    properties = {
        "content_type": "text/plain", "content_encoding": "utf-8", "headers": {"a": 1}, "delivery_mode": 2,
        "priority": 7, "correlation_id": "c", "reply_to": "r", "expiration": "600000", "message_id": "m",
        "timestamp": 1234567890, "type": "t", "user_id": "guest", "app_id": "a", "cluster_id": "cl",
    }  # fmt: skip
    channel.publish("", queue, "body", **properties)
    got = channel.get(queue)
    expect("properties but headers", {**got.properties, "headers": {"a": 1}}, properties)


@case(94, "each property alone comes back alone")
def single_properties_come_back(broker: Broker):
    channel, queue = queue_of(broker)
    for name, value in (("content_type", "x"), ("headers", {}), ("delivery_mode", 1), ("priority", 0), ("timestamp", 0),
                        ("timestamp", 2**64 - 1), ("correlation_id", ""), ("reply_to", "\u00e9"), ("type", "t" * 255),
                        ("cluster_id", "c"), ("app_id", "a"), ("priority", 255), ("message_id", "m")):  # fmt: skip
        channel.publish("", queue, "body", **{name: value})
        expect(f"properties with {name}", channel.get(queue).properties, {name: value})


@case(94, "a message without properties comes back without")
def no_properties_come_back(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish("", queue, "body")
    expect("properties", channel.get(queue).properties, {})


@case(94, "headers come back byte for byte, in order and with names twice")
def headers_come_back_byte_for_byte(broker: Broker):
    channel, queue = queue_of(broker)
    table = bytes.fromhex("00000018") + b"\x01zt\x01\x01aI\x00\x00\x00\x05\x01aS\x00\x00\x00\x03xyz"
    table = (len(table) - 4).to_bytes(4, "big") + table[4:]
    payload = (60).to_bytes(2, "big") + bytes(2) + (2).to_bytes(8, "big") + (0x2000).to_bytes(2, "big") + table
    channel.client.connection.send_frame(METHOD, 1, encode_method("basic.publish", {"routing_key": queue}))
    channel.client.connection.send_frame(HEADER, 1, payload)
    channel.client.connection.send_frame(BODY, 1, b"ab")
    channel.get(queue)


@case(94, "a property that is no UTF-8 comes back as it was sent")
def properties_that_are_no_text(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish("", queue, "body", headers={"h": "\udcff\udcfe"})
    channel.get(queue)
    channel.publish("", queue, "body", correlation_id="\udcff\udcfe")
    channel.send("basic.get", queue=queue, no_ack=True)
    channel.receive()


@case(94, "bodies of any bytes come back")
def bodies_of_any_bytes(broker: Broker):
    channel, queue = queue_of(broker)
    for body in (b"\0", bytes(range(256)), b"\xce" * 100, b"AMQP\0\0\x09\x01"):
        channel.publish("", queue, body)
        expect("body", base64.b64encode(channel.get(queue).body), base64.b64encode(body))


@case("1.7", "nested headers of some depth come back")
def nested_headers_come_back(broker: Broker):
    channel, queue = queue_of(broker)
    nested = {"end": Typed("l", 1)}
    for _ in range(50):
        nested = {"t": nested, "a": [nested["end"] if "end" in nested else True]}
    channel.publish("", queue, "body", headers=nested)
    channel.get(queue)


@case("1.7", "the exchange and key of a delivery are those of the publish")
def deliveries_name_exchange_and_key(broker: Broker):
    channel, queue = queue_of(broker)
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "topic")
    channel.bind(queue, exchange, "#")
    channel.publish(exchange, "any.key \u00e9", "body")
    found = channel.get(queue)
    expect("exchange and key", (found.exchange, found.routing_key), (exchange, "any.key \u00e9"))
