"""Deliveries that are not acknowledged in time."""

from suite.broker import Broker
from suite.case import case, expect
from suite.settings import LIMITED

from .consuming import queue_of


@case("1.8", "a delivery that is not acknowledged in time closes the channel with 406", settings=LIMITED)
def consumer_timeout_closes_the_channel(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "slow")
    channel.consume(queue, "tag")
    channel.deliveries(1)
    channel.expect_close(
        406,
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1000 ms. "
        "This timeout value can be configured, see consumers doc guide to learn more",
        "",
    )
    channel.reopen()
    channel.wait_for_count(queue, 1)
    expect("redelivered", channel.get(queue).redelivered, True)


@case("1.8", "what is got and not acknowledged in time closes the channel as well", settings=LIMITED)
def consumer_timeout_of_a_get(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "slow")
    channel.get(queue, no_ack=False)
    channel.receive()


@case("1.8", "consumers that acknowledge or need not are not timed out", settings=LIMITED)
def consumer_timeout_of_others(broker: Broker):
    slow, quick, deaf = broker.channel(), broker.channel(), broker.channel()
    queue, other = broker.queue(), broker.queue("other")
    slow.declare(queue)
    slow.declare(other)
    deaf.consume(other, "deaf", no_ack=True)
    slow.publish_confirmed("", other, "1")
    deaf.deliveries(1)
    slow.publish_confirmed("", queue, "1")
    slow.publish_confirmed("", queue, "2")
    quick.ack(quick.get(queue, no_ack=False).delivery_tag)
    slow.get(queue, no_ack=False)
    slow.expect_close(406)
    quick.expect_nothing()
    deaf.expect_nothing()
