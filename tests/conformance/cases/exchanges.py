"""Exchanges: declaring and deleting, the default one, and how each kind routes."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel
from wire.values import Typed

NO_EXCHANGE = "NOT_FOUND - no exchange '{}' in vhost '/'"
DEFAULT = "ACCESS_REFUSED - operation not permitted on the default exchange"


def routed(broker: Broker, channel: Channel, exchange: str, queues: list[str], key: str, **properties) -> list[str]:
    """Publishes once, and says which queues got it; each at most once, or the transcript shows it."""
    channel.publish_confirmed(exchange, key, "body", **properties)
    found = []
    for queue in queues:
        answer = channel.ask_either("basic.get", queue=queue, no_ack=True)
        while answer.name == "basic.get-ok":
            found.append(queue)
            answer = channel.ask_either("basic.get", queue=queue, no_ack=True)
    broker.note("routed", key=key, headers=properties.get("headers"), to=[queue.rpartition(".")[2] for queue in found])
    return found


def bound(broker: Broker, channel: Channel, exchange: str, bindings: list[tuple]) -> list[str]:
    """A queue for each binding, of a key and perhaps arguments."""
    queues = []
    for number, (key, *arguments) in enumerate(bindings):
        queue = broker.queue(str(number))
        channel.declare(queue)
        channel.bind(queue, exchange, key, arguments=arguments[0] if arguments else {})
        queues.append(queue)
    return queues


def expect_missing_exchange(channel: Channel, exchange: str):
    channel.refuse(404, NO_EXCHANGE.format(exchange), "exchange.declare", exchange=exchange, passive=True, type="direct")


@case("1.4", "the exchanges that are there from the start have the types that their names say")
def predeclared_exchanges(broker: Broker):
    channel = broker.channel()
    for exchange, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                           ("amq.headers", "headers"), ("amq.match", "headers")):  # fmt: skip
        channel.send("exchange.declare", exchange=exchange, type=kind, durable=True)
        channel.expect("exchange.declare-ok")
    for exchange in ("amq.rabbitmq.trace", "amq.rabbitmq.log", "amq.rabbitmq.event"):
        channel.send("exchange.declare", exchange=exchange, type="topic", passive=True)
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()


@case(92, "1.4", "clients may not publish to the exchange of traces, which is internal")
def the_exchange_of_traces_is_internal(broker: Broker):
    channel = broker.channel()
    channel.publish("amq.rabbitmq.trace", "k")
    channel.expect_close(403, None, "basic.publish")


@case(54, "declaring amq.topic as it is succeeds, otherwise it is compared")
def declaring_a_predeclared_exchange(broker: Broker):
    channel = broker.channel()
    channel.send("exchange.declare", exchange="amq.topic", type="topic", durable=True)
    channel.expect("exchange.declare-ok")
    channel.refuse(406, None, "exchange.declare", exchange="amq.topic", type="topic")


@case(54, "a new exchange whose name begins with amq. is refused with 403")
def reserved_exchange_names(broker: Broker):
    channel = broker.channel()
    text = "ACCESS_REFUSED - exchange name 'amq.new' contains reserved prefix 'amq.*'"
    channel.refuse(403, text, "exchange.declare", exchange="amq.new", type="direct")
    channel.refuse(404, NO_EXCHANGE.format("amq.new"), "exchange.declare", exchange="amq.new", type="direct",
                   passive=True)  # fmt: skip


@case(54, "deleting a predeclared exchange is refused with 403")
def deleting_a_predeclared_exchange(broker: Broker):
    channel = broker.channel()
    text = "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    channel.refuse(403, text, "exchange.delete", exchange="amq.direct")
    channel.refuse(403, None, "exchange.delete", exchange="amq.direct", if_unused=True)
    channel.send("exchange.delete", exchange="amq.not-there")
    channel.receive()


@case(55, "the default exchange can be neither declared nor deleted")
def the_default_exchange_cannot_be_declared(broker: Broker):
    channel = broker.channel()
    channel.refuse(403, DEFAULT, "exchange.declare", exchange="", type="direct", durable=True)
    channel.refuse(403, DEFAULT, "exchange.declare", exchange="", type="direct", passive=True)
    channel.refuse(403, DEFAULT, "exchange.delete", exchange="")


@case(55, "1.5", "nothing can be bound to the default exchange or unbound from it")
def the_default_exchange_cannot_be_bound(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.refuse(403, DEFAULT, "queue.bind", queue=queue, exchange="", routing_key="k")
    channel.refuse(403, DEFAULT, "queue.unbind", queue=queue, exchange="", routing_key=queue)
    channel.refuse(403, DEFAULT, "exchange.bind", destination="amq.direct", source="", routing_key="k")
    channel.refuse(403, DEFAULT, "exchange.bind", destination="", source="amq.direct", routing_key="k")
    channel.refuse(403, DEFAULT, "exchange.unbind", destination="", source="amq.direct", routing_key="k")


@case(55, "the default exchange routes by the queue's name")
def the_default_exchange_routes_by_name(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    expect("routed", routed(broker, channel, "", [queue], queue), [queue])
    channel.publish("", broker.queue("missing"), "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case("1.4", "an unknown exchange type is refused")
def unknown_exchange_types(broker: Broker):
    for kind in ("nonsense", "", "x-nonsense", "DIRECT"):
        channel = broker.channel()
        channel.send("exchange.declare", exchange=broker.exchange(), type=kind)
        channel.receive()


@case("1.4", "an exchange without a name cannot be declared, and names may be long")
def exchange_names(broker: Broker):
    channel = broker.channel()
    long_name = broker.exchange("n" * (255 - len(broker.exchange(""))))
    channel.call("exchange.declare", exchange=long_name, type="direct")
    channel.call("exchange.declare", exchange=broker.exchange("with blank \u00e9"), type="direct")


@case(62, "deleting with if-unused is refused while something is bound to the exchange")
def delete_exchange_if_unused(broker: Broker):
    channel = broker.channel()
    exchange, queue = broker.exchange(), broker.queue()
    channel.declare_exchange(exchange)
    channel.declare(queue)
    channel.bind(queue, exchange, "k")
    text = f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use"
    channel.refuse(406, text, "exchange.delete", exchange=exchange, if_unused=True)
    channel.call("queue.unbind", queue=queue, exchange=exchange, routing_key="k")
    channel.call("exchange.delete", exchange=exchange, if_unused=True)
    expect_missing_exchange(channel, exchange)


@case(62, "an exchange that is bound to others is not used by that")
def delete_an_exchange_that_is_a_destination(broker: Broker):
    channel = broker.channel()
    source, destination = broker.exchange("source"), broker.exchange("destination")
    channel.declare_exchange(source)
    channel.declare_exchange(destination)
    channel.bind_exchange(destination, source, "k")
    channel.call("exchange.delete", exchange=destination, if_unused=True)
    channel.call("exchange.delete", exchange=source, if_unused=True)


@case(65, "an auto-delete exchange goes with its last binding")
def auto_delete_exchange_goes_with_its_last_binding(broker: Broker):
    channel = broker.channel()
    exchange, one, two = broker.exchange(), broker.queue("one"), broker.queue("two")
    channel.declare_exchange(exchange, auto_delete=True)
    for queue in (one, two):
        channel.declare(queue)
        channel.bind(queue, exchange, "k")
    channel.call("queue.unbind", queue=one, exchange=exchange, routing_key="k")
    channel.call("exchange.declare", exchange=exchange, type="direct", passive=True)
    channel.call("queue.unbind", queue=two, exchange=exchange, routing_key="k")
    expect_missing_exchange(channel, exchange)


@case(65, "an auto-delete exchange goes when the last queue bound to it is deleted")
def auto_delete_exchange_goes_with_its_last_queue(broker: Broker):
    channel = broker.channel()
    exchange, queue = broker.exchange(), broker.queue()
    channel.declare_exchange(exchange, auto_delete=True)
    channel.declare(queue)
    channel.bind(queue, exchange, "k")
    channel.call("queue.delete", queue=queue)
    expect_missing_exchange(channel, exchange)


@case(65, "an auto-delete exchange that nothing was ever bound to stays")
def auto_delete_exchange_without_bindings_stays(broker: Broker):
    channel = broker.channel()
    exchange, source = broker.exchange(), broker.exchange("source")
    channel.declare_exchange(exchange, auto_delete=True)
    channel.declare_exchange(source)
    channel.publish(exchange, "k")
    channel.bind_exchange(exchange, source, "k")
    channel.call("exchange.unbind", destination=exchange, source=source, routing_key="k")
    channel.call("exchange.declare", exchange=exchange, type="direct", auto_delete=True)


@case(65, "an auto-delete exchange that goes takes the next along")
def auto_delete_exchanges_go_one_after_the_other(broker: Broker):
    channel = broker.channel()
    first, second, queue = broker.exchange("first"), broker.exchange("second"), broker.queue()
    for exchange in (first, second):
        channel.declare_exchange(exchange, auto_delete=True)
    channel.declare(queue)
    channel.bind_exchange(second, first, "k")
    channel.bind(queue, second, "k")
    channel.call("queue.delete", queue=queue)
    expect_missing_exchange(channel, second)
    expect_missing_exchange(channel, first)


@case(92, "publishing to an internal exchange is refused with 403, routing through it is not")
def internal_exchanges(broker: Broker):
    channel = broker.channel()
    internal, source, queue = broker.exchange("internal"), broker.exchange("source"), broker.queue()
    channel.declare_exchange(internal, internal=True)
    channel.declare_exchange(source)
    channel.declare(queue)
    channel.bind_exchange(internal, source, "k")
    channel.bind(queue, internal, "k")
    expect("routed", routed(broker, channel, source, [queue], "k"), [queue])
    channel.publish(internal, "k")
    text = f"ACCESS_REFUSED - cannot publish to internal exchange '{internal}' in vhost '/'"
    channel.expect_close(403, text, "basic.publish")


@case("1.4", "direct exchanges route by equal keys")
def direct_exchanges(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "direct")
    queues = bound(broker, channel, exchange, [("k",), ("",), ("K",), ("k",), ("*",), ("k.l",)])
    for key, found in (("k", [0, 3]), ("", [1]), ("K", [2]), ("*", [4]), ("k.l", [5]), ("other", [])):
        expect(f"routed by {key}", routed(broker, channel, exchange, queues, key), [queues[n] for n in found])


@case("1.4", "fanout exchanges route to all")
def fanout_exchanges(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "fanout")
    queues = bound(broker, channel, exchange, [("",), ("k",), ("other",)])
    expect("routed", routed(broker, channel, exchange, queues, "anything"), queues)


@case(71, "topic exchanges match word by word, * one word and # any number of them")
def topic_exchanges(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "topic")
    patterns = ["a.b.c", "a.*.c", "a.#.b", "a.b.b.c", "#", "#.#", "*", "*.*", "a.#", "*.#", "#.b", "*.b.*", "a.#.c",
                "#.b.#", "", "a..b", "a.*.b", "*.", "#.", "a*", "*#", "a.#.#.c", "#.*.#", "*.#.*", "a.*.#"]  # fmt: skip
    queues = bound(broker, channel, exchange, [(pattern,) for pattern in patterns])
    keys = ["a.b.c", "a.b", "a", "", "a.b.b", "b", "b.b.c", "nothing.here.at.all", "a..b", "a.", ".a", ".", "..", "a.a.b.b.c",
            "*", "#", "a*", "A.B.C"]  # fmt: skip
    for key in keys:
        routed(broker, channel, exchange, queues, key)
    expect("a.# matches a", queues[8] in routed(broker, channel, exchange, queues, "a"), True)
    expect("a.*.b matches a..b", queues[16] in routed(broker, channel, exchange, queues, "a..b"), True)
    expect("* does not match the empty key", queues[6] in routed(broker, channel, exchange, queues, ""), False)


@case(71, "a topic binding that is taken away matches no more, and leaves the others")
def topic_bindings_taken_away(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "topic")
    queues = bound(broker, channel, exchange, [("a.#",), ("a.*",), ("a.#",), ("a.b.#",)])
    channel.call("queue.unbind", queue=queues[0], exchange=exchange, routing_key="a.#")
    expect("routed", routed(broker, channel, exchange, queues, "a.b"), queues[1:])


HEADERS = [
    {"x-match": "all", "a": 1, "b": "two"},
    {"x-match": "any", "a": 1, "b": "two"},
    {"a": 1},
    {"x-match": "all"},
    {"x-match": "any"},
    {},
    {"x-match": "all", "a": None},
    {"x-match": "any", "a": None, "c": None},
    {"x-match": "all", "x-a": 1},
    {"x-match": "any", "x-a": 1},
    {"x-match": "all-with-x", "x-a": 1},
    {"x-match": "any-with-x", "x-a": 1, "b": "two"},
    {"x-match": "all", "a": "1"},
    {"x-match": "all", "a": Typed("l", 1)},
    {"x-match": "all", "a": 1.0},
    {"x-match": "all", "t": True},
    {"x-match": "all", "f": {"inner": 1}},
    {"x-match": "all", "list": [1, 2]},
]


@case(72, "headers exchanges compare headers with a binding's arguments")
def headers_exchanges(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "headers")
    queues = bound(broker, channel, exchange, [("", arguments) for arguments in HEADERS])
    for headers in ({}, {"a": 1}, {"a": 1, "b": "two"}, {"b": "two"}, {"a": 2}, {"a": "1"}, {"a": None}, {"c": 3},
                    {"x-a": 1}, {"x-a": 1, "b": "two"}, {"a": Typed("l", 1)}, {"a": Typed("B", 1)}, {"a": 1.0},
                    {"a": Typed("T", 1)}, {"a": True}, {"t": True}, {"t": 1}, {"f": {"inner": 1}}, {"f": {"inner": 2}},
                    {"list": [1, 2]}, {"list": [2, 1]}, {"A": 1}, {"a": b"1"}):  # fmt: skip
        routed(broker, channel, exchange, queues, "", headers=headers)
    routed(broker, channel, exchange, queues, "")
    expect("all of two", queues[0] in routed(broker, channel, exchange, queues, "", headers={"a": 1, "b": "two"}), True)
    expect("all of one of two", queues[0] in routed(broker, channel, exchange, queues, "", headers={"a": 1}), False)
    expect("any of two", queues[1] in routed(broker, channel, exchange, queues, "", headers={"b": "two"}), True)


@case("1.4", 72, "x-match takes four words")
def x_match_is_validated(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare(queue)
    channel.declare_exchange(exchange, "headers")
    for value in ("all", "any", "all-with-x", "any-with-x", "nonsense", "ALL", "", 1, True, None):
        broker.note("bind", x_match=repr(value))
        channel.send("queue.bind", queue=queue, exchange=exchange, arguments={"x-match": value})
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()


@case(75, "an alternate exchange gets what nothing matched, and only that")
def alternate_exchanges(broker: Broker):
    channel = broker.channel()
    exchange, alternate = broker.exchange(), broker.exchange("alternate")
    matched, caught = broker.queue("matched"), broker.queue("caught")
    channel.declare_exchange(alternate, "fanout")
    channel.declare_exchange(exchange, "direct", arguments={"alternate-exchange": alternate})
    channel.declare(matched)
    channel.declare(caught)
    channel.bind(matched, exchange, "k")
    channel.bind(caught, alternate)
    expect("routed", routed(broker, channel, exchange, [matched, caught], "k"), [matched])
    expect("routed", routed(broker, channel, exchange, [matched, caught], "other"), [caught])


@case(75, "mandatory is satisfied by the alternate exchange, and not if that routes nothing either")
def alternate_exchange_satisfies_mandatory(broker: Broker):
    channel = broker.channel()
    exchange, alternate, queue = broker.exchange(), broker.exchange("alternate"), broker.queue()
    channel.declare_exchange(alternate, "direct")
    channel.declare_exchange(exchange, "direct", arguments={"alternate-exchange": alternate})
    channel.declare(queue)
    channel.bind(queue, alternate, "k")
    channel.confirm()
    channel.publish(exchange, "k", "caught", mandatory=True)
    channel.confirms(1)
    channel.publish(exchange, "other", "lost", mandatory=True)
    channel.expect("basic.return", exchange=exchange, routing_key="other")
    channel.confirms(2)


@case(75, "an alternate exchange that is missing routes nothing")
def missing_alternate_exchange(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    channel.declare_exchange(exchange, arguments={"alternate-exchange": broker.exchange("missing")})
    channel.publish(exchange, "k", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case(75, "alternate exchanges in a circle are each asked once")
def alternate_exchanges_in_a_circle(broker: Broker):
    channel = broker.channel()
    one, two, queue = broker.exchange("one"), broker.exchange("two"), broker.queue()
    channel.declare_exchange(one, arguments={"alternate-exchange": two})
    channel.declare_exchange(two, arguments={"alternate-exchange": one})
    channel.declare(queue)
    channel.bind(queue, two, "k")
    expect("routed", routed(broker, channel, one, [queue], "k"), [queue])
    channel.publish(one, "other", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)
    own = broker.exchange("own")
    channel.declare_exchange(own, arguments={"alternate-exchange": own})
    channel.publish(own, "k", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case("1.4", 75, "alternate-exchange takes a string, and is compared")
def alternate_exchange_is_validated(broker: Broker):
    for value in ("fine", "", 1, True, None):
        broker.note("declare", value=repr(value))
        channel = broker.channel()
        exchange = broker.exchange(repr(value))
        channel.send("exchange.declare", exchange=exchange, type="direct", arguments={"alternate-exchange": value})
        channel.receive()
    channel = broker.channel()
    exchange = broker.exchange("compared")
    channel.declare_exchange(exchange, arguments={"alternate-exchange": "one"})
    channel.refuse(406, None, "exchange.declare", exchange=exchange, type="direct")
    channel.refuse(406, None, "exchange.declare", exchange=exchange, type="direct",
                   arguments={"alternate-exchange": "two"})  # fmt: skip
    channel.call("exchange.declare", exchange=exchange, type="direct",
                 arguments={"alternate-exchange": "one", "x-unknown": 1})  # fmt: skip
