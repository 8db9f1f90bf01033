"""When queues go by themselves: auto-delete and exclusive ones."""

from suite.broker import Broker
from suite.case import case, expect, wait_until


def expect_soon_missing(broker: Broker, queue: str):
    """The queue goes in its own time."""

    def is_missing() -> bool:
        channel = broker.channel("watcher")
        channel.send("queue.declare", queue=queue, passive=True)
        return channel.client.wait(1, 15).name == "channel.close"

    wait_until(f"{queue} is gone", is_missing)
    broker.note("the queue is gone", queue=queue)


@case(63, "an auto-delete queue goes when its last consumer is cancelled")
def auto_delete_after_the_last_cancel(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, auto_delete=True)
    channel.consume(queue, "one")
    channel.consume(queue, "two")
    channel.call("basic.cancel", consumer_tag="one")
    channel.call("queue.declare", queue=queue, passive=True)
    channel.call("basic.cancel", consumer_tag="two")
    expect_soon_missing(broker, queue)


@case(63, "an auto-delete queue goes when the channel of its last consumer closes")
def auto_delete_after_the_channel(broker: Broker):
    client = broker.connect()
    channel = client.channel()
    queue = broker.queue()
    channel.declare(queue, auto_delete=True)
    channel.consume(queue)
    channel.close()
    expect_soon_missing(broker, queue)


@case(63, "an auto-delete queue goes when the connection of its last consumer is lost")
def auto_delete_after_the_connection(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, auto_delete=True)
    channel.consume(queue)
    channel.client.abort()
    expect_soon_missing(broker, queue)


@case(63, 64, "an auto-delete queue that never had a consumer stays, and basic.get is none")
def auto_delete_without_a_consumer(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, auto_delete=True)
    channel.publish("", queue, "body")
    channel.get(queue)
    channel.client.close()
    expect("answer", broker.channel().call("queue.declare", queue=queue, passive=True).name, "queue.declare-ok")


@case(66, "exclusive queues are gone when close-ok comes")
def exclusive_queues_go_before_close_ok(broker: Broker):
    for _ in range(5):
        channel = broker.channel()
        queue = broker.queue()
        answer = channel.call("queue.declare", queue=queue, exclusive=True)
        expect("answer", answer.name, "queue.declare-ok")
        channel.client.close()


@case(66, "exclusive queues go with a connection that is lost")
def exclusive_queues_go_with_a_lost_connection(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, exclusive=True)
    channel.client.abort()
    expect_soon_missing(broker, queue)


@case(66, "exclusive queues outlive the channel that declared them")
def exclusive_queues_outlive_their_channel(broker: Broker):
    client = broker.connect()
    channel = client.channel()
    queue = broker.queue()
    channel.declare(queue, exclusive=True)
    channel.close()
    expect("answer", client.channel().call("queue.declare", queue=queue, exclusive=True).name, "queue.declare-ok")
