"""Priorities of messages."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel


def prioritised(broker: Broker, maximum: int = 10, **fields) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-max-priority": maximum, **fields})
    return channel, queue


def publish_all(channel: Channel, queue: str, *messages: tuple):
    for body, *priority in messages:
        channel.publish_confirmed("", queue, body, **({"priority": priority[0]} if priority else {}))


def order(channel: Channel, queue: str) -> str:
    return "".join(event.body.decode() for event in channel.get_all(queue))


@case(116, "higher priorities come first, and the first of equals")
def higher_priorities_come_first(broker: Broker):
    channel, queue = prioritised(broker)
    publish_all(channel, queue, ("a", 1), ("b", 5), ("c", 1), ("d", 10), ("e", 5), ("f", 0))
    expect("order", order(channel, queue), "dbeacf")


@case(116, "no priority is 0, and one above the maximum is the maximum")
def priorities_are_clamped(broker: Broker):
    channel, queue = prioritised(broker, 5)
    publish_all(channel, queue, ("a",), ("b", 5), ("c", 200), ("d", 0), ("e", 1), ("f", 6), ("g",))
    expect("order", order(channel, queue), "bcfeadg")


@case(116, "a message keeps the priority it was published with")
def the_priority_property_is_kept(broker: Broker):
    channel, queue = prioritised(broker, 5)
    channel.publish("", queue, "body", priority=200)
    expect("priority", channel.get(queue).properties["priority"], 200)


@case(116, "a queue without priorities takes no notice of them")
def priorities_in_an_ordinary_queue(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    publish_all(channel, queue, ("a", 1), ("b", 9), ("c",))
    expect("order", order(channel, queue), "abc")


@case(117, "a requeued message goes back among those of its priority")
def requeued_messages_keep_their_priority(broker: Broker):
    channel, queue = prioritised(broker)
    publish_all(channel, queue, ("a", 1), ("b", 1), ("c", 5))
    for _ in range(2):
        channel.get(queue, no_ack=False)
    publish_all(channel, queue, ("d", 9), ("e", 1), ("f", 5))
    channel.nack(2, multiple=True)
    channel.wait_for_count(queue, 6)
    expect("order", order(channel, queue), "dcfabe")


@case(116, "a consumer with a prefetch gets the highest that is there when it has room")
def a_consumer_gets_the_highest_there_is(broker: Broker):
    channel, queue = prioritised(broker)
    publish_all(channel, queue, ("a", 1), ("b", 2))
    channel.qos(1)
    channel.consume(queue, "tag")
    channel.expect("basic.deliver", body=b"b")
    publish_all(channel, queue, ("c", 3))
    channel.ack(1)
    channel.expect("basic.deliver", body=b"c")
    channel.ack(2)
    channel.expect("basic.deliver", body=b"a")


@case(116, "1.6", "a maximum of 0 makes no difference between priorities")
def a_maximum_of_0(broker: Broker):
    channel, queue = prioritised(broker, 0)
    publish_all(channel, queue, ("a", 1), ("b", 9), ("c",))
    expect("order", order(channel, queue), "abc")


@case(116, "1.12", "a full queue with priorities drops")
def a_full_queue_with_priorities(broker: Broker):
    channel, queue = prioritised(broker, 10, **{"x-max-length": 3})
    publish_all(channel, queue, ("a", 1), ("b", 5), ("c", 9), ("d", 9), ("e", 0))
    order(channel, queue)


@case(116, 118, "an expired message of any priority is not delivered")
def expiry_in_a_queue_with_priorities(broker: Broker):
    channel, queue = prioritised(broker)
    witness = broker.queue("witness")
    channel.declare(witness)
    channel.publish_confirmed("", queue, "low", priority=1, expiration="50")
    channel.publish_confirmed("", queue, "high", priority=9)
    channel.publish_confirmed("", queue, "low and long", priority=1)
    channel.publish_confirmed("", witness, "expires later", expiration="100")
    channel.wait_for_count(witness, 0)
    expect("bodies", [event.body for event in channel.get_all(queue)], [b"high", b"low and long"])


@case(116, "purge and counts take all priorities together")
def purging_a_queue_with_priorities(broker: Broker):
    channel, queue = prioritised(broker)
    publish_all(channel, queue, ("a", 1), ("b", 5), ("c", 9))
    expect("messages", channel.count(queue), 3)
    channel.send("queue.purge", queue=queue)
    channel.expect("queue.purge-ok", message_count=3)


@case(116, "1.6", "a quorum queue takes no notice of priorities")
def priorities_in_a_quorum_queue(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    publish_all(channel, queue, ("a", 1), ("b", 9), ("c",))
    order(channel, queue)
