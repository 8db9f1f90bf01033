"""Dead letters of quorum queues."""

from suite.broker import Broker
from suite.case import case, expect

from .dead_lettering import Morgue, get_and_reject, in_short


@case("1.12", "1.6", "a quorum queue gives a message up after its delivery limit")
def the_delivery_limit_of_a_quorum_queue(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue(x_queue_type="quorum", x_delivery_limit=2)
    morgue.channel.publish_confirmed("", queue, "fails")
    morgue.channel.consume(queue, "tag")
    for _ in range(3):
        delivered = morgue.channel.expect("basic.deliver")
        morgue.channel.nack(delivered.delivery_tag)
    expect("deaths", in_short(morgue.collect()), [("q", "delivery_limit", 1)])


@case("1.12", 121, "a quorum queue dead-letters what is rejected, expired and dropped")
def dead_letters_of_a_quorum_queue(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue(x_queue_type="quorum", x_max_length=1)
    morgue.channel.publish_confirmed("", queue, "dropped", "stays")
    expect("deaths", in_short(morgue.collect()), [("q", "maxlen", 1)])
    get_and_reject(morgue.channel, queue)
    expect("deaths", in_short(morgue.collect()), [("q", "rejected", 1)])
    morgue.channel.publish("", queue, "expires", expiration="50")
    expect("deaths", in_short(morgue.collect()), [("q", "expired", 1)])


@case("1.12", "a quorum queue that dead-letters at least once")
def dead_letters_at_least_once(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue(x_queue_type="quorum", x_dead_letter_strategy="at-least-once", x_overflow="reject-publish")
    morgue.channel.publish_confirmed("", queue, "dies")
    get_and_reject(morgue.channel, queue)
    expect("deaths", in_short(morgue.collect()), [("q", "rejected", 1)])
