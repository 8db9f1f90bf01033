"""Exchange types that come with plugins."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel


def counts(channel: Channel, queues: list[str]) -> list[int]:
    return [channel.count(queue) for queue in queues]


def bound_queues(broker: Broker, channel: Channel, exchange: str, keys: list[str]) -> list[str]:
    queues = [broker.queue(str(number)) for number in range(len(keys))]
    for queue, key in zip(queues, keys, strict=True):
        channel.declare(queue)
        channel.bind(queue, exchange, key)
    return queues


@case("1.4", "a consistent hash exchange gives each message to one queue, and the same key to the same")
def consistent_hash_gives_each_message_to_one_queue(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-consistent-hash")
    queues = bound_queues(broker, channel, exchange, ["1", "1", "1"])
    publisher = broker.channel().confirm()
    for number in range(300):
        publisher.publish(exchange, str(number % 30), str(number % 30))
    publisher.gather_confirms(*range(1, 301))
    expect("messages", sum(counts(channel, queues)), 300)
    found = {queue: {channel.ask("basic.get", "basic.get-ok", queue=queue, no_ack=True).body for _ in range(count)}
             for queue, count in zip(queues, counts(channel, queues), strict=True)}  # fmt: skip
    expect("keys are in one queue each", sum(len(keys) for keys in found.values()), 30)
    broker.note("each queue has some", has_some=[bool(keys) for keys in found.values()])


@case("1.4", "a consistent hash exchange gives more to a queue of a higher weight")
def consistent_hash_weighs(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-consistent-hash")
    queues = bound_queues(broker, channel, exchange, ["10", "90"])
    publisher = broker.channel().confirm()
    for number in range(1000):
        publisher.publish(exchange, f"key {number}", "")
    publisher.gather_confirms(*range(1, 1001))
    light, heavy = counts(channel, queues)
    expect("all are routed", light + heavy, 1000)
    expect(f"{light} is about a tenth", 20 < light < 250, True)
    broker.note("about a tenth went to the light one")


@case("1.4", "a binding key of a consistent hash exchange is a whole number of at least 1")
def consistent_hash_weights_are_validated(broker: Broker):
    for key in ("1", "0", "-1", "abc", "", "1.5", " 1", "1 ", "+1"):
        channel = broker.channel()
        exchange, queue = broker.exchange(repr(key)), broker.queue()
        channel.declare_exchange(exchange, "x-consistent-hash")
        channel.declare(queue)
        broker.note("bind", key=key)
        channel.call("queue.bind", queue=queue, exchange=exchange, routing_key=key)


@case("1.4", "hash-header and hash-property are validated, and exclude each other")
def consistent_hash_arguments_are_validated(broker: Broker):
    for arguments in ({"hash-header": "h"}, {"hash-property": "message_id"}, {"hash-property": "correlation_id"},
                      {"hash-property": "timestamp"}, {"hash-property": "nonsense"}, {"hash-header": "h", "hash-property": "message_id"}, {"hash-header": ""},
                      {"hash-property": ""}):  # fmt: skip
        channel = broker.channel()
        exchange = broker.exchange(repr(arguments))
        broker.note("declare", arguments=arguments)
        channel.call("exchange.declare", exchange=exchange, type="x-consistent-hash", arguments=arguments)


@case("1.4", "a consistent hash exchange may hash a header or a property")
def consistent_hash_of_headers_and_properties(broker: Broker):
    for number, (arguments, properties) in enumerate((
        ({"hash-header": "h"}, lambda value: {"headers": {"h": value}}),
        ({"hash-property": "message_id"}, lambda value: {"message_id": value}),
        ({"hash-property": "correlation_id"}, lambda value: {"correlation_id": value}),
    )):  # fmt: skip
        channel = broker.channel()
        exchange = broker.exchange(str(number))
        channel.declare_exchange(exchange, "x-consistent-hash", arguments=arguments)
        queues = [broker.queue(f"{number} {n}") for n in range(2)]
        for queue in queues:
            channel.declare(queue)
            channel.bind(queue, exchange, "1")
        for key in range(50):
            channel.publish_confirmed(exchange, str(key), "", **properties("the same"))
        expect("all in one queue", sorted(counts(channel, queues)), [0, 50])
        broker.note("all in one queue", by=arguments)


@case("1.4", "a message without the header that is hashed is routed all the same")
def consistent_hash_without_the_header(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-consistent-hash", arguments={"hash-header": "h"})
    queues = bound_queues(broker, channel, exchange, ["1", "1"])
    channel.publish_confirmed(exchange, "k", "1")
    channel.publish_confirmed(exchange, "k", "2", headers={"other": 1})
    broker.note("routed", count=sum(counts(channel, queues)))


@case("1.4", "a second binding of a queue to a consistent hash exchange")
def consistent_hash_second_binding(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-consistent-hash")
    queues = bound_queues(broker, channel, exchange, ["1"])
    channel.call("queue.bind", queue=queues[0], exchange=exchange, routing_key="2")
    channel.publish_confirmed(exchange, "k", "once")
    expect("copies", counts(channel, queues), [1])
    channel.call("queue.unbind", queue=queues[0], exchange=exchange, routing_key="2")
    channel.publish(exchange, "k", "where", mandatory=True)
    channel.call("queue.unbind", queue=queues[0], exchange=exchange, routing_key="1")
    channel.publish(exchange, "k", "nowhere", mandatory=True)
    channel.receive()


@case("1.4", "a consistent hash exchange without bindings routes nothing")
def consistent_hash_without_bindings(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-consistent-hash")
    channel.publish(exchange, "k", "nowhere", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case("1.4", "a random exchange gives each message to one of its queues, whatever the keys")
def random_exchanges(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-random")
    queues = bound_queues(broker, channel, exchange, ["", "k", "other"])
    publisher = broker.channel().confirm()
    for _ in range(300):
        publisher.publish(exchange, "k", "")
    publisher.gather_confirms(*range(1, 301))
    found = counts(channel, queues)
    expect("messages", sum(found), 300)
    expect(f"each of {found} has some", min(found) > 30, True)
    broker.note("each queue has some")


@case("1.4", "a random exchange without bindings routes nothing")
def random_exchange_without_bindings(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-random")
    channel.publish(exchange, "k", "nowhere", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case("1.4", "a recent history exchange routes as a fanout, and gives a new queue its last 20 messages")
def recent_history_exchanges(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-recent-history")
    early, late = broker.queue("early"), broker.queue("late")
    channel.declare(early)
    channel.declare(late)
    channel.bind(early, exchange, "k")
    channel.publish_confirmed(exchange, "any", *[str(number) for number in range(25)])
    expect("routed", channel.count(early), 25)
    channel.bind(late, exchange)
    channel.wait_for_count(late, 20)
    found = sorted(int(event.body) for event in channel.get_all(late))
    expect("bodies", found, list(range(5, 25)))


@case("1.4", "a mandatory message that only a recent history keeps comes back")
def recent_history_is_no_queue(broker: Broker):
    channel = broker.channel().confirm()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "x-recent-history")
    channel.publish(exchange, "k", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)
    channel.expect("basic.ack", delivery_tag=1)
    queue = broker.queue()
    channel.declare(queue)
    channel.bind(queue, exchange, "k")
    channel.wait_for_count(queue, 1)


@case("1.4", "the length of a recent history, and messages that are not kept")
def recent_history_of_another_length(broker: Broker):
    channel = broker.channel()
    exchange, queue = broker.exchange(), broker.queue()
    channel.declare_exchange(exchange, "x-recent-history", arguments={"x-recent-history-length": 2})
    channel.declare(queue)
    channel.publish_confirmed(exchange, "k", "1", "2", "3")
    channel.publish_confirmed(exchange, "k", "unkept", headers={"x-recent-history-no-store": True})
    channel.bind(queue, exchange)
    channel.wait_for_count(queue, 2)
    expect("bodies", sorted(event.body for event in channel.get_all(queue)), [b"2", b"3"])


@case("1.4", "x-recent-history-length is a whole number above 0")
def recent_history_length_is_validated(broker: Broker):
    for value in (1, 0, -1, "5", True, None):
        channel = broker.channel()
        broker.note("declare", length=repr(value))
        channel.call("exchange.declare", exchange=broker.exchange(repr(value)), type="x-recent-history",
                     arguments={"x-recent-history-length": value})  # fmt: skip


@case("1.4", "a delayed exchange holds a message for as long as its header x-delay says", oracle=False)
def delayed_exchanges(broker: Broker):
    channel = broker.channel()
    exchange, queue = broker.exchange(), broker.queue()
    channel.declare_exchange(exchange, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.declare(queue)
    channel.bind(queue, exchange, "k")
    channel.publish_confirmed(exchange, "k", "late", headers={"x-delay": 400})
    channel.publish_confirmed(exchange, "k", "soon", headers={"x-delay": 100})
    channel.publish_confirmed(exchange, "k", "now")
    expect("messages", channel.count(queue), 1)
    channel.wait_for_count(queue, 3)
    expect("order", [event.body for event in channel.get_all(queue)], [b"now", b"soon", b"late"])


@case("1.4", "a delayed exchange needs the type by which it routes", oracle=False)
def delayed_exchange_without_a_type(broker: Broker):
    channel = broker.channel()
    channel.send("exchange.declare", exchange=broker.exchange(), type="x-delayed-message")
    channel.expect_close(406, None, "exchange.declare")


@case("1.4", "an exchange that deduplicates routes one message of each x-deduplication-header", oracle=False)
def deduplicating_exchanges(broker: Broker):
    channel = broker.channel()
    exchange, queue = broker.exchange(), broker.queue()
    channel.declare_exchange(exchange, "fanout", arguments={"x-message-deduplication": True, "x-cache-size": 10})
    channel.declare(queue)
    channel.bind(queue, exchange)
    for key in ("a", "b", "a", "b", "c"):
        channel.publish_confirmed(exchange, "k", key, headers={"x-deduplication-header": key})
    channel.publish_confirmed(exchange, "k", "no header")
    expect("bodies", [event.body for event in channel.get_all(queue)], [b"a", b"b", b"c", b"no header"])


@case("1.6", "a queue that deduplicates keeps one message of each x-deduplication-header", oracle=False)
def deduplicating_queues(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-message-deduplication": True, "x-cache-size": 10})
    for key in ("a", "a", "b"):
        channel.publish_confirmed("", queue, key, headers={"x-deduplication-header": key})
    expect("bodies", [event.body for event in channel.get_all(queue)], [b"a", b"b"])
