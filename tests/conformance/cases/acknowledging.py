"""Acknowledging, rejecting, requeueing and recovering."""

from suite.broker import Broker
from suite.case import case, expect, wait_until
from suite.client import Channel


def with_messages(broker: Broker, *messages: str) -> tuple[Channel, str]:
    """A channel, and a queue that holds these messages."""
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish_confirmed("", queue, *messages)
    return channel, queue


def bodies(events) -> str:
    return "".join(event.body.decode() for event in events)


def unknown(tag: int) -> str:
    return f"PRECONDITION_FAILED - unknown delivery tag {tag}"


@case(103, "acknowledging twice closes the channel with 406")
def acknowledging_twice(broker: Broker):
    for method in ("basic.ack", "basic.nack", "basic.reject"):
        channel, queue = with_messages(broker, "1")
        channel.get(queue, no_ack=False)
        channel.ack(1)
        channel.send(method, delivery_tag=1)
        channel.expect_close(406, unknown(1), method)


@case(103, "acknowledging what came on another channel closes the channel with 406")
def acknowledging_on_another_channel(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    queue = broker.queue()
    one.declare(queue)
    one.publish_confirmed("", queue, "1")
    one.get(queue, no_ack=False)
    two.ack(1)
    two.expect_close(406, unknown(1), "basic.ack")
    one.ack(1)
    one.expect_nothing(queue)


@case(103, "acknowledging after a requeue closes the channel with 406")
def acknowledging_after_a_requeue(broker: Broker):
    channel, queue = with_messages(broker, "1")
    channel.get(queue, no_ack=False)
    channel.reject(1)
    channel.ack(1)
    channel.expect_close(406, unknown(1), "basic.ack")


@case(103, "a tag that was never given closes the channel with 406")
def acknowledging_a_tag_never_given(broker: Broker):
    channel = broker.channel()
    for method, tag in (("basic.ack", 1), ("basic.ack", 0), ("basic.nack", 2**63), ("basic.reject", 7)):
        channel.send(method, delivery_tag=tag)
        channel.expect_close(406, unknown(tag), method)
        channel.reopen()


@case(104, "acknowledging all that is out is fine when nothing is")
def acknowledging_all_of_nothing(broker: Broker):
    channel, queue = with_messages(broker, "1", "2")
    channel.ack(0, multiple=True)
    channel.nack(0, multiple=True)
    channel.expect_nothing()
    channel.get(queue, no_ack=False)
    channel.get(queue, no_ack=False)
    channel.ack(0, multiple=True)
    channel.expect_nothing(queue)
    channel.close()
    channel.reopen()
    expect("messages", channel.count(queue), 0)


@case(104, "acknowledging several up to a tag that is not out closes the channel with 406")
def acknowledging_several_up_to_an_unknown_tag(broker: Broker):
    channel, queue = with_messages(broker, "1", "2")
    channel.get(queue, no_ack=False)
    channel.ack(2, multiple=True)
    channel.expect_close(406, unknown(2), "basic.ack")
    channel.reopen()
    channel.wait_for_count(queue, 2)


@case(104, "acknowledging several up to a tag that is settled already")
def acknowledging_several_up_to_a_settled_tag(broker: Broker):
    channel, queue = with_messages(broker, "1", "2", "3")
    for _ in range(3):
        channel.get(queue, no_ack=False)
    channel.ack(2)
    channel.ack(2, multiple=True)
    channel.receive()


@case(105, "acknowledging a delivery that needs none closes the channel with 406")
def acknowledging_what_needs_no_ack(broker: Broker):
    channel, queue = with_messages(broker, "1", "2")
    channel.get(queue, no_ack=True)
    channel.ack(1)
    channel.expect_close(406, unknown(1), "basic.ack")
    channel.reopen()
    channel.consume(queue, "tag", no_ack=True)
    channel.deliveries(1)
    channel.ack(1)
    channel.expect_close(406, unknown(1), "basic.ack")


@case(106, "requeued messages come again in their order, before newer ones")
def requeued_messages_keep_their_order(broker: Broker):
    channel, queue = with_messages(broker, "1", "2", "3", "4")
    for _ in range(4):
        channel.get(queue, no_ack=False)
    channel.publish_confirmed("", queue, "5")
    channel.nack(3, multiple=True)
    channel.wait_for_count(queue, 4)
    expect("order", bodies(channel.get_all(queue)), "1235")


@case(106, "messages requeued one by one in any order come again in the first order")
def messages_requeued_in_any_order(broker: Broker):
    channel, queue = with_messages(broker, *"123456")
    for _ in range(4):
        channel.get(queue, no_ack=False)
    for tag in (3, 1, 4, 2):
        channel.reject(tag)
    channel.wait_for_count(queue, 6)
    expect("order", bodies(channel.get_all(queue)), "123456")


@case(106, "a message that is requeued goes to a waiting consumer again")
def requeued_messages_go_to_the_consumer_again(broker: Broker):
    channel, queue = with_messages(broker, "1")
    channel.consume(queue, "tag")
    channel.expect("basic.deliver", redelivered=False, delivery_tag=1)
    channel.nack(1)
    channel.expect("basic.deliver", redelivered=True, delivery_tag=2)
    channel.reject(2)
    channel.expect("basic.deliver", redelivered=True, delivery_tag=3)


@case(107, "closing a channel requeues in order, for others, marked as redelivered")
def closing_a_channel_requeues_in_order(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    queue = broker.queue()
    one.declare(queue)
    one.publish_confirmed("", queue, *"1234")
    for _ in range(3):
        one.get(queue, no_ack=False)
    one.close()
    two.wait_for_count(queue, 4)
    found = two.get_all(queue)
    expect("order", bodies(found), "1234")
    expect("redelivered", [event.redelivered for event in found], [True, True, True, False])


@case(107, "a channel that is closed by its own error requeues as well")
def a_channel_error_requeues(broker: Broker):
    channel, queue = with_messages(broker, "1")
    channel.get(queue, no_ack=False)
    channel.send("queue.declare", queue=broker.queue("missing"), passive=True)
    channel.expect_close(404)
    channel.reopen()
    channel.wait_for_count(queue, 1)
    expect("redelivered", channel.get(queue).redelivered, True)


@case(107, "messages of a lost connection go to the other consumer")
def a_lost_connection_requeues(broker: Broker):
    lost, other = broker.channel(), broker.channel()
    queue = broker.queue()
    lost.declare(queue)
    lost.publish_confirmed("", queue, *"123")
    lost.consume(queue, "lost")
    lost.deliveries(3)
    other.consume(queue, "other")
    lost.client.abort()
    found = other.deliveries(3)
    expect("order", bodies(found), "123")
    expect("redelivered", {event.redelivered for event in found}, {True})


@case(108, "what was sent to a client that never read it is marked as redelivered")
def unread_deliveries_are_redelivered(broker: Broker):
    lost = broker.channel()
    queue = broker.queue()
    lost.declare(queue)
    lost.publish_confirmed("", queue, "1", "2")
    lost.send("basic.consume", queue=queue, consumer_tag="lost")
    other = broker.channel()
    wait_until("the messages are out", lambda: other.count(queue) == 0)
    lost.client.abort()
    other.wait_for_count(queue, 2)
    expect("redelivered", [event.redelivered for event in other.get_all(queue)], [True, True])


@case("1.9", "nack without requeue drops the message, and several at once")
def nack_without_requeue_drops(broker: Broker):
    channel, queue = with_messages(broker, *"1234")
    for _ in range(4):
        channel.get(queue, no_ack=False)
    channel.nack(2, multiple=True, requeue=False)
    channel.reject(3, requeue=False)
    channel.nack(4)
    channel.wait_for_count(queue, 1)
    expect("left", bodies(channel.get_all(queue)), "4")


@case("1.9", "nack of tag 0 requeues all that is out")
def nack_of_tag_0_requeues_all(broker: Broker):
    channel, queue = with_messages(broker, *"123")
    for _ in range(3):
        channel.get(queue, no_ack=False)
    channel.nack(0, multiple=True)
    channel.wait_for_count(queue, 3)
    expect("order", bodies(channel.get_all(queue)), "123")


@case("1.9", "recover with requeue is answered, and all that is out comes again")
def recover_requeues(broker: Broker):
    channel, queue = with_messages(broker, *"123")
    for _ in range(2):
        channel.get(queue, no_ack=False)
    channel.send("basic.recover", requeue=True)
    channel.expect("basic.recover-ok")
    channel.wait_for_count(queue, 3)
    found = channel.get_all(queue)
    expect("order", bodies(found), "123")
    expect("redelivered", [event.redelivered for event in found], [True, True, False])


@case("1.9", "recover-async requeues and is not answered")
def recover_async_is_not_answered(broker: Broker):
    channel, queue = with_messages(broker, "1")
    channel.get(queue, no_ack=False)
    channel.send("basic.recover-async", requeue=True)
    channel.wait_for_count(queue, 1)
    channel.expect_nothing(queue)


@case("1.9", "recover gives a consumer its own deliveries again, with new tags")
def recover_with_a_consumer(broker: Broker):
    channel, queue = with_messages(broker, *"12")
    channel.consume(queue, "tag")
    channel.deliveries(2)
    channel.send("basic.recover", requeue=True)
    channel.expect("basic.recover-ok")
    found = channel.deliveries(2)
    expect("order and tags", [(e.body, e.delivery_tag, e.redelivered) for e in found], [(b"1", 3, True), (b"2", 4, True)])


@case("1.9", "an acknowledgement is not answered, and what is acknowledged does not come again")
def acknowledged_messages_are_gone(broker: Broker):
    channel, queue = with_messages(broker, *"123")
    for _ in range(3):
        channel.get(queue, no_ack=False)
    channel.ack(2)
    channel.ack(3, multiple=True)
    channel.expect_nothing(queue)
    channel.close()
    channel.reopen()
    channel.expect_nothing(queue)
    expect("messages", channel.count(queue), 0)


@case("1.9", "a message without ack is gone when its client is lost at once")
def no_ack_messages_are_gone(broker: Broker):
    channel, queue = with_messages(broker, "1")
    channel.get(queue, no_ack=True)
    channel.client.abort()
    other = broker.channel()
    other.note("messages", count=other.count(queue))
