"""Consumers: tags, orders of answers, turns, prefetch, priorities, cancelling and being cancelled."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel


def queue_of(broker: Broker, **fields) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, **fields)
    return channel, queue


def bodies(events) -> list[str]:
    return [event.body.decode() for event in events]


@case(95, "consume-ok comes before the first delivery")
def consume_ok_comes_first(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "waiting")
    channel.consume(queue, "tag", no_ack=True)
    channel.expect("basic.deliver", consumer_tag="tag", body=b"waiting")


@case(95, "after cancel-ok nothing more is delivered to that consumer")
def nothing_comes_after_cancel_ok(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "tag", no_ack=True)
    channel.call("basic.cancel", consumer_tag="tag")
    channel.publish_confirmed("", queue, "unseen")
    channel.expect_nothing(queue)
    expect("messages", channel.count(queue), 1)


@case(96, "cancelling a consumer nobody knows is answered")
def cancelling_an_unknown_consumer(broker: Broker):
    channel = broker.channel()
    channel.send("basic.cancel", consumer_tag="nobody")
    channel.expect("basic.cancel-ok", consumer_tag="nobody")


@case(96, "a consumer of another channel is not cancelled")
def cancelling_another_channels_consumer(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    queue = broker.queue()
    one.declare(queue)
    one.consume(queue, "tag", no_ack=True)
    two.call("basic.cancel", consumer_tag="tag")
    one.publish("", queue, "still")
    one.expect("basic.deliver", body=b"still")


@case(97, "cancelling requeues nothing; what is out can be acknowledged, and comes back with the channel's end")
def cancelling_requeues_nothing(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "one", "two")
    channel.consume(queue, "tag")
    channel.deliveries(2)
    channel.call("basic.cancel", consumer_tag="tag")
    channel.expect_nothing(queue)
    expect("messages", channel.count(queue), 0)
    channel.ack(1)
    channel.close()
    channel.reopen()
    channel.wait_for_count(queue, 1)
    expect("redelivered", channel.get(queue).redelivered, True)


@case(98, "a tag that the channel uses already closes the connection with 530")
def consumer_tags_are_used_once(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "tag")
    channel.send("basic.consume", queue=queue, consumer_tag="tag")
    channel.expect_connection_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'tag'", "basic.consume")


@case(98, "another channel may use the same tag, and the same channel after a cancel")
def consumer_tags_belong_to_their_channel(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    queue = broker.queue()
    one.declare(queue)
    one.consume(queue, "tag")
    two.consume(queue, "tag")
    one.call("basic.cancel", consumer_tag="tag")
    one.consume(queue, "tag")


@case(99, "a consumer without a tag gets one of amq.ctag- and 22 characters")
def consumers_without_a_tag_get_one(broker: Broker):
    channel, queue = queue_of(broker)
    first, second = channel.consume(queue), channel.consume(queue)
    expect("prefixes and lengths", {(tag[:9], len(tag)) for tag in (first, second)}, {("amq.ctag-", 31)})
    expect("tags are equal", first == second, False)
    channel.publish("", queue, "body")
    expect("tag", channel.expect("basic.deliver").consumer_tag, first)


@case(99, "a consumer without a tag and with nowait")
def consumers_without_a_tag_and_nowait(broker: Broker):
    channel, queue = queue_of(broker)
    channel.send("basic.consume", queue=queue, nowait=True)
    channel.publish("", queue, "body")
    channel.receive()


@case(101, "a consumer whose queue is deleted is told by basic.cancel with nowait")
def consumers_are_told_of_their_queues_end(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "tag")
    broker.channel().ask("queue.delete", "queue.delete-ok", queue=queue)
    channel.expect("basic.cancel", consumer_tag="tag", nowait=True)
    channel.expect_nothing()
    channel.declare(queue)
    channel.consume(queue, "tag")


@case(101, "a client that answers the broker's basic.cancel")
def answering_the_brokers_cancel(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "tag")
    broker.channel().ask("queue.delete", "queue.delete-ok", queue=queue)
    channel.expect("basic.cancel", consumer_tag="tag", nowait=True)
    channel.send("basic.cancel-ok", consumer_tag="tag")
    channel.call("channel.flow", active=True)


@case(101, "the channel that deletes a queue is told of its own consumer")
def consumers_are_told_of_the_end_they_made(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "tag")
    channel.send("queue.delete", queue=queue)
    names = sorted(channel.client.wait(channel.number, 15).name for _ in range(2))
    channel.note("answers in any order", names=names)
    expect("answers", names, ["basic.cancel", "queue.delete-ok"])


@case(47, 101, "a consumer that did not say it could bear it is told nothing when its queue is deleted")
def consumers_without_the_capability_are_told_nothing(broker: Broker):
    channel = broker.channel(capabilities={"consumer_cancel_notify": False})
    queue = broker.queue()
    channel.declare(queue)
    channel.consume(queue, "tag")
    broker.channel().ask("queue.delete", "queue.delete-ok", queue=queue)
    channel.expect_nothing()


@case(101, "what is out of a queue that is deleted can still be acknowledged")
def unacked_messages_of_a_deleted_queue(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "one")
    channel.consume(queue, "tag")
    channel.deliveries(1)
    broker.channel().ask("queue.delete", "queue.delete-ok", queue=queue)
    channel.expect("basic.cancel", consumer_tag="tag")
    channel.ack(1)
    channel.expect_nothing()


@case(102, "delivery tags count the channel's deliveries from 1, gets and unacknowledged ones alike")
def delivery_tags_count_the_channels_deliveries(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, "1", "2", "3", "4")
    tags = [channel.get(queue, no_ack=True).delivery_tag, channel.get(queue, no_ack=False).delivery_tag]
    channel.consume(queue, "tag", no_ack=True)
    tags += [event.delivery_tag for event in channel.deliveries(2)]
    expect("tags", tags, [1, 2, 3, 4])


@case(102, "another channel counts for itself, and a channel that is opened again begins with 1")
def delivery_tags_belong_to_their_channel(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    queue = broker.queue()
    one.declare(queue)
    one.publish_confirmed("", queue, "1", "2", "3")
    expect("tags", [one.get(queue).delivery_tag, two.get(queue).delivery_tag], [1, 1])
    one.close()
    one.reopen()
    expect("tag", one.get(queue).delivery_tag, 1)


@case(109, "get of an empty queue is get-empty, and get-ok counts what is left")
def get_counts_what_is_left(broker: Broker):
    channel, queue = queue_of(broker)
    expect("answer", channel.get(queue).cluster_id, "")
    channel.publish_confirmed("", queue, "1", "2", "3")
    expect("counts", [channel.get(queue, no_ack=False).message_count for _ in range(3)], [2, 1, 0])


@case(114, "consumers of a queue take turns")
def consumers_take_turns(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    queue = broker.queue()
    one.declare(queue)
    one.consume(queue, "one", no_ack=True)
    two.consume(queue, "two", no_ack=True)
    one.publish_confirmed("", queue, *"123456")
    found = (bodies(one.deliveries(3)), bodies(two.deliveries(3)))
    expect("turns", found, (["1", "3", "5"], ["2", "4", "6"]))


@case(114, "two consumers of one channel take turns")
def consumers_of_one_channel_take_turns(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "one", no_ack=True)
    channel.consume(queue, "two", no_ack=True)
    channel.publish_confirmed("", queue, *"1234")
    expect("turns", [event.consumer_tag for event in channel.deliveries(4)], ["one", "two", "one", "two"])


@case(111, "prefetch is each new consumer's own")
def prefetch_is_the_consumers_own(broker: Broker):
    channel, queue = queue_of(broker)
    other = broker.queue("other")
    channel.declare(other)
    for name in (queue, other):
        channel.publish_confirmed("", name, *"12345")
    channel.qos(1)
    channel.consume(queue, "one")
    channel.deliveries(1)
    channel.qos(3)
    channel.consume(other, "three")
    channel.deliveries(3)
    channel.expect_nothing(queue, other)
    channel.ack(1)
    channel.expect("basic.deliver", consumer_tag="one", body=b"2")
    channel.expect_nothing(queue, other)


@case(111, "prefetch is not changed for consumers that are there")
def prefetch_is_not_changed_afterwards(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"12345")
    channel.qos(1)
    channel.consume(queue, "tag")
    channel.deliveries(1)
    channel.qos(3)
    channel.expect_nothing(queue)
    channel.ack(1)
    channel.deliveries(1)
    channel.expect_nothing(queue)


@case(112, "a prefetch of 0 is no limit, nor is there one for no-ack consumers and gets")
def what_prefetch_does_not_limit(broker: Broker):
    channel, queue = queue_of(broker)
    other, third = broker.queue("other"), broker.queue("third")
    channel.declare(other)
    channel.declare(third)
    for name in (queue, other, third):
        channel.publish_confirmed("", name, *"12345")
    channel.qos(0)
    channel.consume(queue, "all")
    channel.deliveries(5)
    channel.qos(1)
    channel.consume(other, "no-ack", no_ack=True)
    channel.deliveries(5)
    for _ in range(5):
        channel.get(third, no_ack=False)


@case(113, "acknowledging several frees the prefetch of each consumer they came to")
def acknowledging_several_frees_all_their_consumers(broker: Broker):
    channel, queue = queue_of(broker)
    other = broker.queue("other")
    channel.declare(other)
    for name in (queue, other):
        channel.publish_confirmed("", name, *"1234")
    channel.qos(1)
    channel.consume(queue, "one")
    channel.deliveries(1)
    channel.consume(other, "two")
    channel.deliveries(1)
    channel.ack(2, multiple=True)
    tags = sorted(event.consumer_tag for event in (channel.client.wait(1, 15) for _ in range(2)))
    expect("deliveries", tags, ["one", "two"])
    channel.expect_nothing(queue, other)


@case(111, "1.8", "a global prefetch limits the channel's consumers together")
def global_prefetch_limits_the_channel(broker: Broker):
    channel, queue = queue_of(broker)
    other = broker.queue("other")
    channel.declare(other)
    for name in (queue, other):
        channel.publish_confirmed("", name, *"12345")
    channel.qos(3, is_global=True)
    channel.consume(queue, "one")
    channel.deliveries(3)
    channel.consume(other, "two")
    channel.expect_nothing(queue, other)
    channel.ack(1)
    channel.client.demand(channel.number, "basic.deliver")  # of either queue
    channel.expect_nothing(queue, other)


@case(111, "1.8", "a global prefetch is changed for consumers that are there")
def global_prefetch_is_changed_at_once(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"12345")
    channel.qos(1, is_global=True)
    channel.consume(queue, "tag")
    channel.deliveries(1)
    channel.qos(3, is_global=True)
    channel.deliveries(2)
    channel.expect_nothing(queue)
    channel.qos(0, is_global=True)
    channel.deliveries(2)


@case(111, "1.8", "a global prefetch set after the consumers' own holds beside it")
def global_prefetch_holds_beside_the_consumers_own(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"123456789")
    channel.qos(3)
    channel.qos(4, is_global=True)
    channel.consume(queue, "one")
    channel.deliveries(3)
    channel.consume(queue, "two")
    channel.deliveries(1)
    channel.expect_nothing(queue)


@case(111, "1.8", "a prefetch of the consumers' own lifts the global one that was set before")
def own_prefetch_lifts_the_global_one(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"123456789")
    channel.qos(4, is_global=True)
    channel.qos(3)
    channel.consume(queue, "one")
    channel.deliveries(3)
    channel.consume(queue, "two")
    channel.deliveries(3)
    channel.expect_nothing(queue)


@case(115, "1.8", "the consumer of the highest priority is served while it can take more")
def consumer_priorities(broker: Broker):
    client = broker.connect()
    low, high, middle = client.channel(), client.channel(), client.channel()
    queue = broker.queue()
    low.declare(queue)
    for channel, priority in ((low, -5), (high, 10), (middle, None)):
        channel.qos(2)
        channel.consume(queue, str(priority), arguments={} if priority is None else {"x-priority": priority})
    low.publish_confirmed("", queue, *"12345")
    found = [bodies(high.deliveries(2)), bodies(middle.deliveries(2)), bodies(low.deliveries(1))]
    expect("served", found, [["1", "2"], ["3", "4"], ["5"]])
    high.ack(1)
    low.publish_confirmed("", queue, "6")
    expect("served", bodies(high.deliveries(1)), ["6"])


@case(115, "a priority of a consumer that is no integer is refused with 406")
def consumer_priority_is_validated(broker: Broker):
    channel, queue = queue_of(broker)
    for value in (1, -1, 2**40, "1", 1.5, True, None):
        broker.note("consume", priority=repr(value))
        channel.send("basic.consume", queue=queue, consumer_tag=repr(value), arguments={"x-priority": value})
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()


@case("1.8", "arguments of basic.consume that nobody knows say nothing")
def unknown_consumer_arguments(broker: Broker):
    channel, queue = queue_of(broker)
    channel.consume(queue, "tag", no_ack=True, no_local=True, arguments={"x-unknown": {"a": 1}, "other": 7})
    channel.publish("", queue, "one's own")
    channel.expect("basic.deliver", body=b"one's own")


@case(6, "1.8", "one exclusive consumer in one connection excludes its other channels too")
def exclusive_use_excludes_ones_own_channels(broker: Broker):
    client = broker.connect()
    one, two = client.channel(), client.channel()
    queue = broker.queue()
    one.declare(queue)
    one.consume(queue, "one", exclusive=True)
    two.send("basic.consume", queue=queue, consumer_tag="two", exclusive=True)
    two.expect_close(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", "basic.consume")
    two.reopen()
    two.call("basic.get", queue=queue)
    two.call("queue.purge", queue=queue)
