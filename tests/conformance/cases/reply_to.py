"""Direct reply-to: the pseudo-queue amq.rabbitmq.reply-to."""

from suite.broker import Broker
from suite.case import case, expect, wait_until
from suite.client import Channel

NAME = "amq.rabbitmq.reply-to"


def requester(broker: Broker, label: str | None = None) -> Channel:
    channel = broker.channel(label)
    channel.consume(NAME, "replies", no_ack=True)
    return channel


def requested(broker: Broker, channel: Channel) -> tuple[Channel, str]:
    """Sends a request; returns who got it, and the address to which the reply is to go."""
    server = broker.channel()
    queue = broker.queue("requests")
    server.declare(queue)
    channel.publish("", queue, "request", reply_to=NAME, correlation_id="1")
    server.wait_for_count(queue, 1)
    return server, server.get(queue).properties["reply_to"]


@case(128, "1.11", "a request carries an address of its own, and a reply to it comes to the consumer")
def a_request_is_answered(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    expect("prefix", address.startswith(NAME + "."), True)
    server.publish("", address, "reply", correlation_id="1")
    channel.expect("basic.deliver", consumer_tag="replies", delivery_tag=1, redelivered=False, exchange="", body=b"reply")


@case(128, "1.11", "every request of a channel carries the same address")
def requests_carry_the_same_address(broker: Broker):
    channel = requester(broker)
    _, first = requested(broker, channel)
    _, second = requested(broker, channel)
    expect("addresses are equal", first == second, True)


@case(128, "publishing with the pseudo-queue as reply-to, but no consumer on it, closes the channel with 406")
def a_request_without_a_consumer(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish("", queue, "request", reply_to=NAME)
    channel.expect_close(406, "PRECONDITION_FAILED - fast reply consumer does not exist", "basic.publish")


@case(128, "a consumer on another channel does not count")
def a_consumer_on_another_channel(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    one.consume(NAME, "replies", no_ack=True)
    two.publish("", broker.queue(), "request", reply_to=NAME)
    two.expect_close(406, None, "basic.publish")


@case("1.11", "a consumer that would acknowledge is refused with 406")
def reply_consumers_cannot_acknowledge(broker: Broker):
    channel = broker.channel()
    channel.refuse(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge", "basic.consume", queue=NAME)


@case("1.11", "a second consumer of a channel is refused with 406")
def a_channel_has_one_reply_consumer(broker: Broker):
    channel = requester(broker)
    text = "PRECONDITION_FAILED - reply consumer already set"
    channel.refuse(406, text, "basic.consume", queue=NAME, no_ack=True)


@case("1.11", "two channels of a connection may each have a consumer")
def each_channel_may_have_a_reply_consumer(broker: Broker):
    client = broker.connect()
    channels = [client.channel(), client.channel()]
    for channel in channels:
        channel.consume(NAME, "replies", no_ack=True)
    for channel in channels:
        server, address = requested(broker, channel)
        server.publish("", address, "reply")
        channel.expect("basic.deliver", body=b"reply")


@case("1.11", "after a cancel the address is dead, and another consumer may come")
def cancelling_the_reply_consumer(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    channel.call("basic.cancel", consumer_tag="replies")
    server.publish("", address, "too late", mandatory=True)
    server.receive()
    channel.expect_nothing()
    channel.consume(NAME, "again", no_ack=True)


@case(128, "passively declaring an address tells that the requester lives")
def declaring_a_live_address(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    answer = server.call("queue.declare", queue=address, passive=True)
    expect("answer", answer.name, "queue.declare-ok")


@case(128, "passively declaring an address whose requester has left is refused with 404")
def declaring_a_dead_address(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    channel.client.close()
    server.send("queue.declare", queue=address, passive=True)
    server.expect_close(404, None, "queue.declare")


@case("1.11", "the pseudo-queue itself can be declared, by anybody and to no effect")
def declaring_the_pseudo_queue(broker: Broker):
    channel = broker.channel()
    channel.call("queue.declare", queue=NAME, passive=True)
    channel = broker.channel()
    channel.call("queue.declare", queue=NAME)


@case("1.11", "a reply to a requester that has left is dropped, and comes back if it is mandatory")
def a_reply_to_a_requester_that_left(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    channel.client.close()

    def comes_back() -> bool:
        server.publish("", address, "late", mandatory=True)
        answer = server.ask_either("basic.qos", prefetch_count=0)
        if answer.name == "basic.return":
            server.client.demand(1, "basic.qos-ok")
        return answer.name == "basic.return"

    wait_until("replies come back", comes_back)
    broker.note("replies come back")


@case("1.11", "a reply is confirmed")
def replies_are_confirmed(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    server.confirm()
    server.publish("", address, "reply")
    channel.expect("basic.deliver", body=b"reply")
    expect("confirms", server.confirms(1), {"acked": [1], "nacked": []})


@case("1.11", 78, "a mandatory reply that arrives")
def mandatory_replies(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    server.publish("", address, "reply", mandatory=True)
    channel.expect("basic.deliver", body=b"reply")
    server.call("basic.qos", prefetch_count=1)


@case("1.11", "addresses that nobody has")
def made_up_addresses(broker: Broker):
    channel = broker.channel().confirm()
    for number, address in enumerate((f"{NAME}.abc", f"{NAME}.")):
        channel.publish("", address, "nowhere", mandatory=True)
        channel.expect("basic.return", reply_code=312)
        channel.confirms(number + 1)


@case("1.11", "an address with another key is nobody's")
def an_address_with_another_key(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    forged = address[:-6] + ("AAAA" if not address.endswith("AAAA==") else "BBBB") + address[-2:]
    server.publish("", forged, "forged", mandatory=True)
    server.publish("", address, "true")
    channel.expect("basic.deliver", body=b"true")
    channel.expect_nothing()


@case("1.11", "the pseudo-queue cannot be bound, got from, purged or deleted")
def what_the_pseudo_queue_is_not_for(broker: Broker):
    for method, fields in (
        ("queue.bind", {"exchange": "amq.direct", "routing_key": "k"}),
        ("queue.unbind", {"exchange": "amq.direct", "routing_key": "k"}),
        ("basic.get", {}),
        ("queue.purge", {}),
        ("queue.delete", {}),
    ):
        channel = requester(broker)
        channel.call(method, queue=NAME, **fields)


@case("1.11", "a reply that passes through an exchange of the requester's does not arrive by its key")
def replies_go_by_the_default_exchange(broker: Broker):
    channel = requester(broker)
    server, address = requested(broker, channel)
    server.publish("amq.direct", address, "by another way", mandatory=True)
    server.expect("basic.return", reply_code=312)
    channel.expect_nothing()


@case("1.11", "a reply-to of one's own is left as it is")
def other_reply_tos_are_left(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    for reply_to in ("my.queue", "amq.rabbitmq.reply-to.mine", "amq.rabbitmq.reply-to.x.y", ""):
        channel.publish("", queue, "request", reply_to=reply_to)
        expect("reply-to", channel.get(queue).properties["reply_to"], reply_to)


@case("1.11", "consuming exclusively or with arguments from the pseudo-queue")
def odd_reply_consumers(broker: Broker):
    for fields in ({"exclusive": True}, {"arguments": {"x-priority": 1}}, {"no_local": True}):
        broker.channel().call("basic.consume", queue=NAME, no_ack=True, consumer_tag="t", **fields)
    broker.channel().call("basic.consume", queue=NAME + ".x", no_ack=True, consumer_tag="t")
