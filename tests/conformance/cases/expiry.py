"""Time to live of messages and queues."""

import time

from suite.broker import Broker
from suite.case import case, expect, wait_until
from suite.client import Channel


def queue_of(broker: Broker, suffix: str = "q", **arguments) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue(suffix)
    channel.declare(queue, arguments={name.replace("_", "-"): value for name, value in arguments.items()})
    return channel, queue


def let_pass(broker: Broker, milliseconds: int):
    """Waits for the broker's own clock: until a message has expired."""
    channel = broker.channel("clock")
    queue = broker.queue("clock")
    channel.declare(queue)
    channel.publish_confirmed("", queue, "tick", expiration=str(milliseconds))
    wait_until(f"{milliseconds} ms have passed", lambda: channel.count(queue) == 0)
    channel.client.close()


def is_there(broker: Broker, queue: str) -> bool:
    """Whether a message finds the queue; to declare it, even passively, would be to use it."""
    channel = broker.channel("watcher").confirm()
    channel.publish("", queue, "probe", mandatory=True)
    answer = channel.client.wait(channel.number, 15)
    channel.client.connection.close()
    return answer.name == "basic.ack"


def expect_expiry(broker: Broker, queue: str, after: float, within: float):
    """The queue goes, not sooner and not much later than said, in seconds from now."""
    began = time.monotonic()
    wait_until(f"{queue} expires", lambda: not is_there(broker, queue))
    took = time.monotonic() - began
    expect(f"{took} s is between {after} and {within}", after <= took <= within, True)
    broker.note("the queue is gone", queue=queue)


@case(118, "a message with an expiration of 0 goes to a consumer that waits, and is gone without one")
def expiration_0_needs_a_waiting_consumer(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "gone", expiration="0")
    channel.get(queue)
    channel.consume(queue, "tag", no_ack=True)
    channel.publish("", queue, "caught", expiration="0")
    channel.expect("basic.deliver", body=b"caught")


@case(118, "a queue with a message TTL of 0 delivers at once or not at all")
def ttl_0_needs_a_waiting_consumer(broker: Broker):
    channel, queue = queue_of(broker, x_message_ttl=0)
    channel.publish_confirmed("", queue, "gone")
    channel.get(queue)
    channel.consume(queue, "tag", no_ack=True)
    channel.publish("", queue, "caught")
    channel.expect("basic.deliver", body=b"caught")


@case(118, "an unroutable or expired message is confirmed all the same")
def expired_messages_are_confirmed(broker: Broker):
    channel, queue = queue_of(broker, x_message_ttl=0)
    channel.confirm()
    for _ in range(3):
        channel.publish("", queue, "gone", mandatory=True, delivery_mode=2)
    expect("confirms", channel.confirms(1, 2, 3)["nacked"], [])


@case(118, "an expired message is never delivered")
def expired_messages_are_not_delivered(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "expires", expiration="100")
    channel.publish_confirmed("", queue, "stays")
    channel.wait_for_count(queue, 1)
    expect("bodies", [event.body for event in channel.get_all(queue)], [b"stays"])


@case(118, "1.12", "an expired message behind one that stays is not delivered, and counts while it waits there")
def expired_messages_behind_others(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "stays")
    channel.publish_confirmed("", queue, "expires", expiration="50")
    let_pass(broker, 200)
    broker.note("ready messages", count=channel.count(queue))
    expect("bodies", [event.body for event in channel.get_all(queue)], [b"stays"])


@case(119, "the shorter of the queue's TTL and the message's expiration counts")
def the_shorter_time_counts(broker: Broker):
    channel, queue = queue_of(broker, x_message_ttl=100)
    channel.publish_confirmed("", queue, "queue's", expiration="600000")
    channel.wait_for_count(queue, 0)
    channel, queue = queue_of(broker, "long", x_message_ttl=600000)
    channel.publish_confirmed("", queue, "message's", expiration="100")
    channel.wait_for_count(queue, 0)


@case(119, "the time counts from the message's arrival in this queue")
def time_counts_from_the_arrival(broker: Broker):
    channel, queue = queue_of(broker, "second", x_message_ttl=600000)
    first, source = queue_of(
        broker, "first", x_message_ttl=100, x_dead_letter_exchange="", x_dead_letter_routing_key=queue
    )
    first.publish_confirmed("", source, "moves on")
    channel.wait_for_count(queue, 1)
    expect("body", channel.get(queue).body, b"moves on")


@case(119, "requeueing does not begin the time anew")
def requeueing_keeps_the_time(broker: Broker):
    channel, queue = queue_of(broker, x_message_ttl=1000)
    channel.publish_confirmed("", queue, "expires")
    began = time.monotonic()
    while (answer := channel.ask_either("basic.get", queue=queue)).name == "basic.get-ok":
        channel.reject(answer.delivery_tag)
        expect("gone within 3 s", time.monotonic() - began < 3, True)
    broker.note("the message expired")


@case(119, "a message that is out does not expire, and does when it comes back late")
def messages_that_are_out_do_not_expire(broker: Broker):
    channel, queue = queue_of(broker, x_message_ttl=200)
    channel.publish_confirmed("", queue, "held")
    channel.get(queue, no_ack=False)
    let_pass(broker, 500)
    channel.reject(1)
    channel.wait_for_count(queue, 0)
    channel.expect_nothing(queue)


@case(119, "messages of a queue with a TTL expire in order, and a consumer gets none of them late")
def many_messages_expire(broker: Broker):
    channel, queue = queue_of(broker, x_message_ttl=300)
    channel.publish_confirmed("", queue, *[str(number) for number in range(50)])
    expect("messages", channel.count(queue), 50)
    channel.wait_for_count(queue, 0)
    channel.consume(queue, "tag", no_ack=True)
    channel.expect_nothing(queue)


@case(127, "a queue that nobody uses goes when its time is over")
def unused_queues_expire(broker: Broker):
    _, queue = queue_of(broker, x_expires=300)
    expect_expiry(broker, queue, 0.1, 3)


@case(127, 124, "messages do not keep a queue, and are not dead-lettered with it")
def messages_do_not_keep_a_queue(broker: Broker):
    dead, letters = queue_of(broker, "dead")
    channel, queue = queue_of(broker, x_expires=300, x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    channel.publish_confirmed("", queue, "goes along")
    expect_expiry(broker, queue, 0.1, 3)
    expect("dead letters", dead.count(letters), 0)


@case(127, "a queue with a consumer stays, and its time begins when the last one leaves")
def consumers_keep_a_queue(broker: Broker):
    channel, queue = queue_of(broker, x_expires=300)
    channel.consume(queue, "tag")
    let_pass(broker, 900)
    expect("is there", is_there(broker, queue), True)
    channel.call("basic.cancel", consumer_tag="tag")
    expect_expiry(broker, queue, 0.1, 3)


@case(127, "declaring a queue again, passively too, and getting from it begin its time anew")
def use_begins_the_time_anew(broker: Broker):
    channel, queue = queue_of(broker, x_expires=700)
    for use in ("declare", "get", "declare passively") * 2:
        if use == "get":
            channel.ask("basic.get", "basic.get-empty", queue=queue)
        else:
            channel.declare(queue, arguments={"x-expires": 700}, passive=use != "declare")
        let_pass(broker, 400)
    broker.note("the queue is there", is_there=is_there(broker, queue))
    expect("is there", is_there(broker, queue), True)


@case(127, "a durable queue expires as others do")
def durable_queues_expire(broker: Broker):
    channel = broker.channel()
    channel.declare(broker.queue(), durable=True, arguments={"x-expires": 300})
    expect_expiry(broker, broker.queue(), 0.1, 3)


@case("1.7", "a message's expiration stays in its properties while it lives")
def expiration_stays_while_the_message_lives(broker: Broker):
    channel, queue = queue_of(broker, x_message_ttl=600000)
    channel.publish("", queue, "body", expiration="500000")
    expect("expiration", channel.get(queue).properties["expiration"], "500000")
