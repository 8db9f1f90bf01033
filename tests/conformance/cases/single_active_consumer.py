"""Queues that serve one consumer at a time."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel

SINGLE = {"x-single-active-consumer": True}


def queue_of(broker: Broker, **arguments) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={**SINGLE, **arguments}, durable=bool(arguments))
    return channel, queue


@case(129, "only the first consumer is served, the others wait")
def the_first_consumer_is_served(broker: Broker):
    first, queue = queue_of(broker)
    second = broker.channel()
    first.consume(queue, "first", no_ack=True)
    second.consume(queue, "second", no_ack=True)
    first.publish_confirmed("", queue, *"1234")
    expect("bodies", [event.body for event in first.deliveries(4)], [b"1", b"2", b"3", b"4"])
    second.expect_nothing(queue)


@case(129, "when the active consumer is cancelled the next is served")
def the_next_is_served_after_a_cancel(broker: Broker):
    first, queue = queue_of(broker)
    second, third = broker.channel(), broker.channel()
    for channel, tag in ((first, "first"), (second, "second"), (third, "third")):
        channel.consume(queue, tag, no_ack=True)
    first.call("basic.cancel", consumer_tag="first")
    second.publish_confirmed("", queue, "1")
    second.expect("basic.deliver", body=b"1")
    second.client.abort()
    first.publish_confirmed("", queue, "2")
    third.receive()


@case(129, "what the cancelled one holds stays with it, and comes to the next consumer when it is returned")
def what_the_cancelled_consumer_holds(broker: Broker):
    first, queue = queue_of(broker)
    second = broker.channel()
    first.consume(queue, "first")
    second.consume(queue, "second")
    first.publish_confirmed("", queue, "1", "2")
    first.deliveries(2)
    first.call("basic.cancel", consumer_tag="first")
    second.expect_nothing(queue)
    first.ack(2)
    second.expect_nothing(queue)
    first.nack(1)
    second.expect("basic.deliver", body=b"1", redelivered=True)


@case(129, "what is ready when the active consumer is cancelled, which holds messages, comes to the next")
def what_is_ready_when_the_active_consumer_is_cancelled(broker: Broker):
    first, queue = queue_of(broker)
    second = broker.channel()
    first.qos(1)
    first.consume(queue, "first")
    second.consume(queue, "second")
    first.publish_confirmed("", queue, "1", "2")
    first.deliveries(1)
    first.call("basic.cancel", consumer_tag="first")
    first.nack(1)
    second.deliveries(2)


@case(129, "a prefetch of the active consumer holds the queue, though others have room")
def prefetch_of_the_active_consumer_holds_the_queue(broker: Broker):
    first, queue = queue_of(broker)
    second = broker.channel()
    first.qos(1)
    first.consume(queue, "first")
    second.consume(queue, "second", no_ack=True)
    first.publish_confirmed("", queue, "1", "2")
    first.expect("basic.deliver", body=b"1")
    second.expect_nothing(queue)
    first.ack(1)
    first.expect("basic.deliver", body=b"2")


@case(110, 129, "basic.get of a queue with a single active consumer")
def get_from_a_single_active_consumer_queue(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "1", "2")
    channel.call("basic.get", queue=queue, no_ack=True)
    consumer = broker.channel()
    consumer.consume(queue, "tag", no_ack=True)
    consumer.deliveries(1)
    other = broker.channel()
    other.call("basic.get", queue=queue, no_ack=True)


@case(129, "1.8", "an exclusive consumer is refused with 403")
def exclusive_consumer_of_a_single_active_consumer_queue(broker: Broker):
    channel, queue = queue_of(broker)
    channel.refuse(403, None, "basic.consume", queue=queue, exclusive=True)


@case(129, "of the waiting consumers the one of the highest priority is the next, though it came last")
def priorities_of_single_active_consumers(broker: Broker):
    first, queue = queue_of(broker)
    second, third = broker.channel(), broker.channel()
    first.consume(queue, "first", no_ack=True)
    second.consume(queue, "second", no_ack=True)
    third.consume(queue, "third", no_ack=True, arguments={"x-priority": 5})
    first.publish_confirmed("", queue, "1")
    first.expect("basic.deliver", body=b"1")
    first.call("basic.cancel", consumer_tag="first")
    first.publish_confirmed("", queue, "2")
    third.expect("basic.deliver", body=b"2")
    second.expect_nothing(queue)


@case(129, "1.6", "a quorum queue with a single active consumer")
def single_active_consumer_of_a_quorum_queue(broker: Broker):
    first, queue = queue_of(broker, **{"x-queue-type": "quorum"})
    second = broker.channel()
    first.consume(queue, "first", no_ack=True)
    second.consume(queue, "second", no_ack=True)
    first.publish_confirmed("", queue, "1")
    first.expect("basic.deliver", body=b"1")
    first.call("basic.cancel", consumer_tag="first")
    first.publish_confirmed("", queue, "2")
    second.expect("basic.deliver", body=b"2")
    first.send("basic.get", queue=queue)
    first.receive()


@case(129, "consumer_count counts those that wait as well")
def waiting_consumers_are_counted(broker: Broker):
    first, queue = queue_of(broker)
    second = broker.channel()
    first.consume(queue, "first")
    second.consume(queue, "second")
    expect("consumers", first.declare(queue, passive=True).consumer_count, 2)
    first.note("consumers", count=2)
