"""What outlives restarts, and what goes on while the broker is short of memory."""

import time

from suite.broker import Broker
from suite.case import case, expect, wait_until
from suite.client import Channel, Client
from suite.settings import PRIVATE
from wire.connection import HEARTBEAT, Timeout


def prepare_durable_things(broker: Broker, channel: Channel):
    channel.declare_exchange("durable x", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    channel.declare_exchange("transient x", "topic")
    channel.declare("durable", durable=True, arguments={"x-max-length": 100})
    channel.declare("transient")
    channel.bind("durable", "durable x", "a.#", arguments={"a": 1})
    channel.publish_confirmed("", "durable", "1", "2", "3", delivery_mode=2, headers={"h": "kept"}, priority=4)
    channel.publish_confirmed("", "durable", "transient", delivery_mode=1)


def look_at_durable_things(broker: Broker, channel: Channel):
    for name, passive in (("durable x", True), ("transient x", True)):
        channel.send("exchange.declare", exchange=name, type="topic", passive=passive)
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()
    channel.send("queue.declare", queue="transient", passive=True)
    channel.expect_close(404)
    channel.reopen()
    found = channel.get_all("durable")
    expect("bodies", [event.body for event in found], [b"1", b"2", b"3"])
    channel.publish("durable x", "a.b", "by the binding", mandatory=True)
    expect("body", channel.get("durable").body, b"by the binding")
    expect("answer", channel.call("queue.declare", queue="durable", durable=True,
                                  arguments={"x-max-length": 100}).name, "queue.declare-ok")  # fmt: skip


@case(135, "after kill -9 confirmed persistent messages and durable things are there, transient ones not",
      settings=PRIVATE)  # fmt: skip
def what_a_kill_leaves(broker: Broker):
    channel = broker.channel()
    prepare_durable_things(broker, channel)
    broker.restart(kill=True)
    look_at_durable_things(broker, broker.channel())


@case(135, 21, "after an orderly restart durable things are there, transient ones not", settings=PRIVATE)
def what_a_restart_leaves(broker: Broker):
    channel = broker.channel()
    prepare_durable_things(broker, channel)
    broker.restart()
    look_at_durable_things(broker, broker.channel())


@case(135, "1.9", "what was acknowledged before an orderly restart does not come back", settings=PRIVATE)
def acknowledgements_survive_a_restart(broker: Broker):
    channel = broker.channel()
    channel.declare("durable", durable=True)
    channel.publish_confirmed("", "durable", "1", "2", delivery_mode=2)
    channel.ack(channel.get("durable", no_ack=False).delivery_tag)
    channel.expect_nothing("durable")
    broker.restart()
    expect("bodies", [event.body for event in broker.channel().get_all("durable")], [b"2"])


@case(135, "1.9", "what was delivered before a restart is marked as redelivered", settings=PRIVATE)
def redelivered_survives_a_restart(broker: Broker):
    channel = broker.channel()
    channel.declare("durable", durable=True)
    channel.publish_confirmed("", "durable", "1", "2", delivery_mode=2)
    channel.get("durable", no_ack=False)
    broker.restart()
    channel = broker.channel()
    found = channel.get("durable")
    expect("first", (found.body, found.redelivered), (b"1", True))
    expect("second", channel.get("durable").body, b"2")


@case(47, 48, 41, "during a memory alarm a connection that publishes is told so once, and told when it is over; others are not",
      settings=PRIVATE)  # fmt: skip
def a_memory_alarm_blocks_publishers(broker: Broker):
    consumer, mute = broker.connect("consumer"), broker.connect("mute", capabilities={})
    receiving, silent = consumer.channel(), mute.channel()
    receiving.declare("q")
    receiving.consume("q", "tag", no_ack=True)
    broker.node.raise_memory_alarm()
    publisher = broker.connect("publisher", heartbeat=1)
    sending = publisher.channel()
    for channel in (sending, silent):
        channel.publish("", "q", "during the alarm")
    publisher.expect("connection.blocked", reason="low on memory")
    stay_blocked(publisher, 4)
    receiving.expect_nothing("q")
    broker.node.clear_memory_alarm()
    publisher.expect("connection.unblocked")
    receiving.deliveries(2)
    silent.expect_nothing("q")
    expect("frames for the consumer", list(consumer.connection.inboxes[0]), [])
    expect("frames for the mute", list(mute.connection.inboxes[0]), [])


def stay_blocked(client: Client, seconds: float):
    """The blocked client sends nothing at all, and is neither left nor without heartbeats."""
    before = client.connection.heartbeats
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            client.connection.read_frame(deadline)
        except Timeout:
            break
        expect("the stream ended", client.connection.has_ended, False)
    expect("heartbeats came", client.connection.heartbeats > before, True)
    client.connection.send_frame(HEARTBEAT, 0, b"")


@case(48, "a connection that publishes when the alarm is over is told nothing", settings=PRIVATE)
def a_memory_alarm_that_is_over(broker: Broker):
    broker.node.raise_memory_alarm()
    broker.node.clear_memory_alarm()
    channel = broker.channel()
    channel.declare("q")

    def is_through() -> bool:
        channel.publish("", "q", "body")
        return channel.count("q") > 0

    wait_until("publishes are taken", is_through)
    channel.expect_nothing("q")


@case(134, "a consumer that does not read stops neither confirms nor other consumers of other connections")
def a_slow_consumer_stops_nobody(broker: Broker):
    slow, publisher, quick = broker.channel("slow"), broker.channel("publisher"), broker.channel("quick")
    crowded, free = broker.queue("crowded"), broker.queue("free")
    for queue in (crowded, free):
        publisher.declare(queue)
    slow.send("basic.consume", queue=crowded, consumer_tag="slow", no_ack=True)
    publisher.confirm()
    body = bytes(200_000)
    for tag in range(1, 101):
        publisher.publish("", crowded, body)
    expect("confirms", publisher.confirms(*range(1, 101))["nacked"], [])
    quick.consume(free, "quick", no_ack=True)
    publisher.publish("", free, "passes")
    quick.expect("basic.deliver", body=b"passes")
    publisher.confirms(101)
