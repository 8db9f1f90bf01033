"""Lengths of queues, and what happens at the limit."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel


def limited(broker: Broker, suffix: str = "q", **arguments) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue(suffix)
    channel.declare(queue, arguments={name.replace("_", "-"): value for name, value in arguments.items()})
    return channel, queue


def left(channel: Channel, queue: str) -> str:
    return "".join(event.body.decode()[:1] for event in channel.get_all(queue))


@case("1.12", "a full queue drops its oldest messages")
def a_full_queue_drops_its_head(broker: Broker):
    channel, queue = limited(broker, x_max_length=3)
    channel.publish_confirmed("", queue, *"12345")
    expect("left", left(channel, queue), "345")


@case("1.12", "a queue full of bytes drops its oldest messages")
def a_queue_full_of_bytes_drops_its_head(broker: Broker):
    channel, queue = limited(broker, x_max_length_bytes=100)
    channel.publish_confirmed("", queue, "1" * 40, "2" * 40, "3" * 40)
    expect("left", left(channel, queue), "23")
    channel.publish_confirmed("", queue, "4" * 30, "5" * 101)
    expect("left", left(channel, queue), "")
    channel.publish_confirmed("", queue, "6" * 100)
    expect("left", left(channel, queue), "6")


@case("1.12", "of both limits the one that is reached first counts")
def both_limits_count(broker: Broker):
    channel, queue = limited(broker, x_max_length=2, x_max_length_bytes=100)
    channel.publish_confirmed("", queue, "1", "2", "3")
    expect("left", left(channel, queue), "23")
    channel.publish_confirmed("", queue, "4" * 60, "5" * 60)
    expect("left", left(channel, queue), "5")


@case(85, "only ready messages count")
def only_ready_messages_count(broker: Broker):
    channel, queue = limited(broker, x_max_length=2)
    channel.publish_confirmed("", queue, "1", "2")
    channel.get(queue, no_ack=False)
    channel.get(queue, no_ack=False)
    channel.publish_confirmed("", queue, "3", "4", "5")
    expect("ready", channel.count(queue), 2)
    channel.nack(2, multiple=True)
    channel.wait_for_count(queue, 2)
    expect("left", left(channel, queue), "45")


@case(85, "a queue of length 0 delivers to a consumer that waits, and keeps nothing")
def a_queue_of_length_0(broker: Broker):
    channel, queue = limited(broker, x_max_length=0)
    channel.publish_confirmed("", queue, "gone")
    channel.get(queue)
    channel.consume(queue, "tag", no_ack=True)
    channel.publish_confirmed("", queue, "direct")
    channel.expect("basic.deliver", body=b"direct")


@case(84, "1.12", "with reject-publish a full queue keeps what it has, and refuses what comes")
def reject_publish_refuses(broker: Broker):
    channel, queue = limited(broker, x_max_length=2, x_overflow="reject-publish")
    channel.confirm()
    for body in "1234":
        channel.publish("", queue, body)
    expect("confirms", channel.confirms(1, 2, 3, 4), {"acked": [1, 2], "nacked": [3, 4]})
    expect("left", left(channel, queue), "12")
    channel.publish("", queue, "5")
    expect("confirms", channel.confirms(5), {"acked": [5], "nacked": []})


@case("1.12", "without confirms reject-publish drops what comes in silence")
def reject_publish_without_confirms(broker: Broker):
    channel, queue = limited(broker, x_max_length=1, x_overflow="reject-publish")
    for body in "123":
        channel.publish("", queue, body, mandatory=True)
    channel.expect_nothing(queue)
    expect("left", left(channel, queue), "1")


@case("1.12", "reject-publish counts bytes before the message that comes")
def reject_publish_of_bytes(broker: Broker):
    channel, queue = limited(broker, x_max_length_bytes=100, x_overflow="reject-publish")
    channel.confirm()
    for body in ("1" * 60, "2" * 60, "3" * 10):
        channel.publish("", queue, body)
    channel.confirms(1, 2, 3)
    left(channel, queue)


@case("1.12", "reject-publish of a queue of length 0 refuses all, even with a consumer that waits")
def reject_publish_of_length_0(broker: Broker):
    channel, queue = limited(broker, x_max_length=0, x_overflow="reject-publish")
    consumer = broker.channel()
    consumer.consume(queue, "tag", no_ack=True)
    channel.confirm()
    channel.publish("", queue, "1")
    channel.confirms(1)
    consumer.note("delivered", count=len(consumer.client.connection.inboxes[1]))


@case("1.12", 121, "dropped messages are dead-lettered with the reason maxlen")
def dropped_messages_are_dead_lettered(broker: Broker):
    dead, letters = limited(broker, "dead")
    channel, queue = limited(broker, x_max_length=1, x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    channel.publish_confirmed("", queue, *"123")
    dead.wait_for_count(letters, 2)
    expect("dead letters", left(dead, letters), "12")


@case("1.12", "a longer queue is cut when messages come back to it")
def requeued_messages_are_cut(broker: Broker):
    channel, queue = limited(broker, x_max_length=1)
    channel.publish_confirmed("", queue, "1")
    channel.get(queue, no_ack=False)
    channel.publish_confirmed("", queue, "2")
    channel.reject(1)
    channel.wait_for_count(queue, 1)
    expect("left", left(channel, queue), "2")


@case("1.12", 84, "a requeued message is never refused")
def requeued_messages_are_not_refused(broker: Broker):
    channel, queue = limited(broker, x_max_length=1, x_overflow="reject-publish")
    channel.publish_confirmed("", queue, "1")
    channel.get(queue, no_ack=False)
    channel.publish_confirmed("", queue, "2")
    channel.reject(1)
    channel.wait_for_count(queue, 2)
    expect("left", left(channel, queue), "12")


@case("1.12", 84, "a quorum queue that refuses does so by a nack")
def quorum_queue_that_refuses(broker: Broker):
    channel = broker.channel().confirm()
    queue = broker.queue()
    arguments = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    channel.declare(queue, durable=True, arguments=arguments)
    refused = []
    tag = 0
    while not refused and tag < 20:  # it may take a few more than its length
        tag += 1
        channel.publish("", queue, str(tag))
        refused = channel.gather_confirms(tag)["nacked"]
    broker.note("a publish was refused", is_refused=bool(refused))
    expect("a publish was refused", bool(refused), True)


@case("1.12", "a quorum queue drops its oldest messages")
def a_full_quorum_queue_drops_its_head(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 2})
    channel.publish_confirmed("", queue, *"1234")
    channel.wait_for_count(queue, 2)
    expect("left", left(channel, queue), "34")
