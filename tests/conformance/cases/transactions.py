"""Transactions: publishes and acknowledgements that count when they are committed."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel


def transactional(broker: Broker) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.call("tx.select")
    return channel, queue


@case("1.10", "what is published in a transaction is there when it is committed")
def publishes_appear_at_commit(broker: Broker):
    channel, queue = transactional(broker)
    other = broker.channel()
    channel.publish("", queue, "one")
    channel.publish("", queue, "two")
    channel.ask("channel.flow", "channel.flow-ok", active=True)
    expect("messages before", other.count(queue), 0)
    expect("answer", channel.call("tx.commit").name, "tx.commit-ok")
    expect("bodies", [event.body for event in other.get_all(queue)], [b"one", b"two"])


@case("1.10", "what is published in a transaction is gone when it is rolled back")
def publishes_are_gone_at_rollback(broker: Broker):
    channel, queue = transactional(broker)
    channel.publish("", queue, "gone")
    expect("answer", channel.call("tx.rollback").name, "tx.rollback-ok")
    channel.call("tx.commit")
    expect("messages", channel.count(queue), 0)
    channel.publish("", queue, "kept")
    channel.call("tx.commit")
    expect("messages", channel.count(queue), 1)


@case("1.10", "an acknowledgement counts when it is committed")
def acks_count_at_commit(broker: Broker):
    client = broker.connect()
    channel = client.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.call("tx.select")
    channel.publish_confirmed("", queue, "one", "two")
    channel.get(queue, no_ack=False)
    channel.get(queue, no_ack=False)
    channel.ack(1)
    channel.call("tx.commit")
    channel.ack(2)
    channel.close()
    other = client.channel()
    other.wait_for_count(queue, 1)
    expect("body", other.get(queue).body, b"two")


@case(87, "a rollback makes acknowledged deliveries unacknowledged again, without requeueing them")
def rollback_restores_acks(broker: Broker):
    channel, queue = transactional(broker)
    channel.publish_confirmed("", queue, "one", "two")
    channel.get(queue, no_ack=False)
    channel.get(queue, no_ack=False)
    channel.ack(1)
    channel.reject(2)
    channel.call("tx.rollback")
    channel.expect_nothing(queue)
    expect("messages", channel.count(queue), 0)
    channel.ack(2, multiple=True)
    channel.call("tx.commit")
    channel.close()
    channel.reopen()
    expect("messages", channel.count(queue), 0)


@case("1.10", "a reject with requeue counts when it is committed")
def rejects_count_at_commit(broker: Broker):
    channel, queue = transactional(broker)
    channel.publish_confirmed("", queue, "one")
    channel.get(queue, no_ack=False)
    channel.reject(1)
    channel.expect_nothing(queue)
    expect("messages", channel.count(queue), 0)
    channel.call("tx.commit")
    channel.wait_for_count(queue, 1)
    expect("redelivered", channel.get(queue).redelivered, True)


@case(88, "mandatory messages come back at the commit, before commit-ok")
def returns_come_before_commit_ok(broker: Broker):
    channel, _ = transactional(broker)
    exchange = broker.exchange()
    channel.declare_exchange(exchange)
    channel.publish(exchange, "k", "come back", mandatory=True)
    channel.expect_nothing()
    channel.send("tx.commit")
    channel.expect("basic.return", body=b"come back")
    channel.expect("tx.commit-ok")


@case(86, "commit and rollback without tx.select are refused with 406, and selecting twice is fine")
def commit_without_select(broker: Broker):
    channel = broker.channel()
    text = "PRECONDITION_FAILED - channel is not transactional"
    channel.refuse(406, text, "tx.commit")
    channel.refuse(406, text, "tx.rollback")
    for _ in range(2):
        expect("answer", channel.call("tx.select").name, "tx.select-ok")


@case("1.10", "an empty transaction can be committed and rolled back")
def empty_transactions(broker: Broker):
    channel, _ = transactional(broker)
    for method in ("tx.commit", "tx.rollback", "tx.rollback", "tx.commit"):
        expect("answer", channel.call(method).name, f"{method}-ok")


@case("1.10", 76, "publishing to a missing exchange within a transaction closes the channel at once")
def missing_exchange_in_a_transaction(broker: Broker):
    channel, queue = transactional(broker)
    channel.publish("", queue, "gone with the channel")
    channel.publish(broker.exchange("missing"), "k", "nowhere")
    channel.expect_close(404, None, "basic.publish")
    channel.reopen()
    expect("messages", channel.count(queue), 0)


@case("1.10", 103, "an unknown delivery tag within a transaction closes the channel at once")
def unknown_tag_in_a_transaction(broker: Broker):
    channel, _ = transactional(broker)
    channel.ack(1)
    channel.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 1", "basic.ack")


@case("1.10", 103, "a delivery cannot be acknowledged twice within a transaction")
def acknowledging_twice_in_a_transaction(broker: Broker):
    channel, queue = transactional(broker)
    channel.publish_confirmed("", queue, "one")
    channel.get(queue, no_ack=False)
    channel.ack(1)
    channel.ack(1)
    channel.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 1", "basic.ack")


@case("1.10", "a transaction that is not committed ends with its channel")
def an_open_transaction_ends_with_its_channel(broker: Broker):
    channel, queue = transactional(broker)
    channel.publish("", queue, "never")
    channel.close()
    channel.reopen()
    expect("messages", channel.count(queue), 0)


@case("1.10", "a transaction into a queue that refuses fails at the commit with 406")
def commit_into_a_full_queue(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    channel.call("tx.select")
    channel.publish("", queue, "refused")
    channel.send("tx.commit")
    channel.receive()


@case("1.10", "what was acknowledged in a transaction that a queue refuses")
def acks_of_a_refused_commit(broker: Broker):
    channel, queue = transactional(broker)
    full = broker.queue("full")
    channel.declare(full, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    broker.channel().publish_confirmed("", queue, "work")
    channel.ack(channel.get(queue, no_ack=False).delivery_tag)
    channel.publish("", full, "refused")
    channel.send("tx.commit")
    channel.expect("channel.close", reply_code=406)
    broker.note("what is left", count=broker.channel().count(queue))


@case("1.10", 88, "a queue's name counts at the commit: one declared anew or meanwhile gets the message, one that has gone does not")
def queues_are_found_at_the_commit(broker: Broker):
    channel, queue = transactional(broker)
    later, gone = broker.queue("later"), broker.queue("gone")
    channel.declare(gone)
    for name in (queue, later, gone):
        channel.publish("", name, "message", mandatory=True)
    channel.ask("channel.flow", "channel.flow-ok", active=True)
    other = broker.channel()
    for name in (queue, gone):
        other.call("queue.delete", queue=name)
    other.declare(queue)
    other.declare(later)
    channel.send("tx.commit")
    channel.expect("basic.return", routing_key=gone)
    channel.expect("tx.commit-ok")
    expect("messages", [other.count(queue), other.count(later)], [1, 1])
