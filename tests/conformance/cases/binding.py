"""Bindings of queues and exchanges: what counts as one, how they go, and copies of a message."""

from suite.broker import Broker
from suite.case import case, expect
from wire.values import Typed


@case(69, "a queue bound twice by the same key gets one copy, and one unbind undoes both")
def binding_twice_is_binding_once(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare_exchange(exchange)
    channel.declare(queue)
    for _ in range(2):
        channel.call("queue.bind", queue=queue, exchange=exchange, routing_key="k")
    channel.publish_confirmed(exchange, "k", "body")
    expect("copies", len(channel.get_all(queue)), 1)
    channel.call("queue.unbind", queue=queue, exchange=exchange, routing_key="k")
    channel.publish(exchange, "k", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case(69, "1.5", "taking away a binding that is not there succeeds")
def unbinding_what_is_not_bound(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare(queue)
    channel.declare_exchange(exchange)
    channel.send("queue.unbind", queue=queue, exchange=exchange, routing_key="k")
    channel.expect("queue.unbind-ok")
    channel.send("exchange.unbind", destination=exchange, source="amq.topic", routing_key="k")
    channel.expect("exchange.unbind-ok")


@case(69, "1.5", "unbinding a queue or exchange that is not there")
def unbinding_who_is_not_there(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare(queue)
    for arguments in (
        {"queue": broker.queue("missing"), "exchange": "amq.topic"},
        {"queue": queue, "exchange": broker.exchange("missing")},
        {"queue": broker.queue("missing"), "exchange": broker.exchange("missing")},
    ):
        channel.send("queue.unbind", routing_key="k", **arguments)
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()
    for destination, source in ((exchange, "amq.topic"), ("amq.topic", exchange)):
        channel.send("exchange.unbind", destination=destination, source=source, routing_key="k")
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()


@case(69, "binding what is not there is refused with 404, naming what is missing")
def binding_who_is_not_there(broker: Broker):
    channel = broker.channel()
    queue, missing_queue, missing = broker.queue(), broker.queue("missing"), broker.exchange("missing")
    channel.declare(queue)
    no_queue = f"NOT_FOUND - no queue '{missing_queue}' in vhost '/'"
    no_exchange = f"NOT_FOUND - no exchange '{missing}' in vhost '/'"
    channel.refuse(404, no_queue, "queue.bind", queue=missing_queue, exchange="amq.topic", routing_key="k")
    channel.refuse(404, no_exchange, "queue.bind", queue=queue, exchange=missing, routing_key="k")
    channel.refuse(404, None, "queue.bind", queue=missing_queue, exchange=missing, routing_key="k")
    channel.refuse(404, no_exchange, "exchange.bind", destination="amq.topic", source=missing, routing_key="k")
    channel.refuse(404, no_exchange, "exchange.bind", destination=missing, source="amq.topic", routing_key="k")


@case(70, "bindings of the same key with other arguments are two")
def bindings_with_other_arguments_are_two(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare_exchange(exchange)
    channel.declare(queue)
    for arguments in ({"a": 1}, {"a": 2}):
        channel.call("queue.bind", queue=queue, exchange=exchange, routing_key="k", arguments=arguments)
    channel.publish_confirmed(exchange, "k", "once")
    expect("copies", len(channel.get_all(queue)), 1)
    channel.call("queue.unbind", queue=queue, exchange=exchange, routing_key="k", arguments={"a": 1})
    channel.publish_confirmed(exchange, "k", "still")
    expect("copies", len(channel.get_all(queue)), 1)
    channel.call("queue.unbind", queue=queue, exchange=exchange, routing_key="k")
    channel.publish_confirmed(exchange, "k", "still")
    expect("copies", len(channel.get_all(queue)), 1)
    channel.call("queue.unbind", queue=queue, exchange=exchange, routing_key="k", arguments={"a": 2})
    channel.publish(exchange, "k", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case(70, "the order of a binding's arguments says nothing, the types of their values do")
def order_and_types_of_binding_arguments(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    for number, (bound, unbound) in enumerate((
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": Typed("I", 1)}, {"a": Typed("l", 1)}),
        ({"a": 1}, {"a": "1"}),
        ({"a": "text"}, {"a": b"text"}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}),
    )):  # fmt: skip
        exchange = broker.exchange(str(number))
        channel.declare_exchange(exchange)
        channel.bind(queue, exchange, "k", arguments=bound)
        channel.ask("queue.unbind", "queue.unbind-ok", queue=queue, exchange=exchange, routing_key="k", arguments=unbound)
        channel.publish_confirmed(exchange, "k", "body")
        broker.note("left after unbinding with", bound=bound, unbound=unbound, copies=len(channel.get_all(queue)))


@case("1.5", "an exchange bound to an exchange passes on what it routes")
def exchanges_bound_to_exchanges(broker: Broker):
    channel = broker.channel()
    first, second, queue = broker.exchange("first"), broker.exchange("second"), broker.queue()
    channel.declare_exchange(first, "topic")
    channel.declare_exchange(second, "direct")
    channel.declare(queue)
    channel.call("exchange.bind", destination=second, source=first, routing_key="a.#")
    channel.call("queue.bind", queue=queue, exchange=second, routing_key="a.b")
    channel.publish_confirmed(first, "a.b", "both match")
    channel.publish_confirmed(first, "a.c", "first matches")
    channel.publish_confirmed(first, "b", "none matches")
    found = channel.get_all(queue)
    expect("bodies", [event.body for event in found], [b"both match"])
    expect("exchange", found[0].exchange, first)


@case("1.5", 73, "exchanges bound in a circle pass a message on once")
def exchanges_bound_in_a_circle(broker: Broker):
    channel = broker.channel()
    first, second, queue = broker.exchange("first"), broker.exchange("second"), broker.queue()
    for exchange in (first, second):
        channel.declare_exchange(exchange, "fanout")
    channel.declare(queue)
    channel.bind_exchange(first, second)
    channel.bind_exchange(second, first)
    channel.bind_exchange(first, first)
    channel.bind(queue, second)
    channel.publish_confirmed(first, "k", "once")
    expect("copies", len(channel.get_all(queue)), 1)


@case(73, "a message that reaches a queue by several ways comes once")
def several_ways_to_a_queue_are_one(broker: Broker):
    channel = broker.channel()
    source, left, right = broker.exchange("source"), broker.exchange("left"), broker.exchange("right")
    queue = broker.queue()
    for exchange in (source, left, right):
        channel.declare_exchange(exchange, "topic")
    channel.declare(queue)
    for middle in (left, right):
        channel.bind_exchange(middle, source, "#")
        channel.bind(queue, middle, "a.*")
        channel.bind(queue, middle, "*.b")
    channel.bind(queue, source, "a.b")
    channel.publish_confirmed(source, "a.b", "once", headers={"CC": ["a.b", "a.c"], "BCC": ["x.b"]})
    expect("copies", len(channel.get_all(queue)), 1)


@case("1.5", "a queue's bindings go with it, and do not come back")
def bindings_go_with_their_queue(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare_exchange(exchange)
    channel.declare(queue)
    channel.bind(queue, exchange, "k")
    channel.call("queue.delete", queue=queue)
    channel.declare(queue)
    channel.publish(exchange, "k", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)


@case("1.5", "an exchange's bindings go with it, as source and as destination")
def bindings_go_with_their_exchange(broker: Broker):
    channel = broker.channel()
    source, exchange, queue = broker.exchange("source"), broker.exchange(), broker.queue()
    channel.declare_exchange(source)
    channel.declare(queue)
    for _ in range(2):
        channel.declare_exchange(exchange)
        channel.publish(source, "k", "lost", mandatory=True)
        channel.expect("basic.return", reply_code=312)
        channel.publish(exchange, "k", "lost", mandatory=True)
        channel.expect("basic.return", reply_code=312)
        channel.bind_exchange(exchange, source, "k")
        channel.bind(queue, exchange, "k")
        channel.call("exchange.delete", exchange=exchange)


@case("1.5", "every queue is bound to the default exchange by its name, and that binding cannot be doubled elsewhere")
def a_queue_is_bound_by_name_only_to_the_default_exchange(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare(queue)
    channel.declare_exchange(exchange)
    channel.publish(exchange, queue, "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)
    channel.publish("", queue, "found", mandatory=True)
    expect("body", channel.get(queue).body, b"found")
