"""Publisher confirms: numbering, what is confirmed when, refusals."""

from suite.broker import Broker
from suite.case import case, expect


@case(81, "numbers begin with 1 at the first publish after confirm.select, and selecting again does not reset them")
def confirms_are_numbered_from_the_select(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish("", queue, "before")
    channel.call("confirm.select")
    channel.publish("", queue, "one")
    channel.publish("", queue, "two")
    channel.confirms(1, 2)
    channel.call("confirm.select")
    channel.publish("", queue, "three")
    channel.confirms(3)


@case(80, "an unroutable message without mandatory is confirmed")
def unroutable_messages_are_confirmed(broker: Broker):
    channel = broker.channel().confirm()
    exchange = broker.exchange()
    channel.declare_exchange(exchange)
    channel.publish(exchange, "k", "lost")
    expect("confirms", channel.confirms(1), {"acked": [1], "nacked": []})


@case(81, "confirms belong to their channel")
def confirms_belong_to_their_channel(broker: Broker):
    client = broker.connect()
    one, two = client.channel().confirm(), client.channel().confirm()
    queue = broker.queue()
    one.declare(queue)
    for _ in range(3):
        one.publish("", queue, "one")
        two.publish("", queue, "two")
    one.confirms(1, 2, 3)
    two.confirms(1, 2, 3)


@case(82, "each of many publishes is confirmed once, whatever their kinds")
def every_publish_is_confirmed_once(broker: Broker):
    channel = broker.channel().confirm()
    durable, transient = broker.queue("durable"), broker.queue("transient")
    channel.declare(durable, durable=True)
    channel.declare(transient)
    for number in range(200):
        queue = (durable, transient, broker.queue("missing"))[number % 3]
        channel.publish("", queue, str(number), delivery_mode=1 + number % 2)
    expect("confirms", channel.confirms(*range(1, 201)), {"acked": list(range(1, 201)), "nacked": []})
    channel.expect_nothing(durable)


@case(82, 84, "multiple covers neither what is refused nor what is open")
def multiple_spares_what_is_refused(broker: Broker):
    channel = broker.channel().confirm()
    full, free = broker.queue("full"), broker.queue("free")
    channel.declare(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.declare(free)
    for number in range(40):
        channel.publish("", full if number % 2 else free, str(number))
    sums = channel.confirms(*range(1, 41))
    expect("acked", sums["acked"], [1, 2, *range(3, 41, 2)])
    expect("nacked", sums["nacked"], list(range(4, 41, 2)))


@case(83, "deleting a queue leaves no publish without its confirm")
def deleting_a_queue_confirms_its_publishes(broker: Broker):
    client = broker.connect()
    channel, other = client.channel().confirm(), client.channel()
    queue = broker.queue()
    channel.declare(queue, durable=True)
    for number in range(100):
        channel.publish("", queue, str(number), delivery_mode=2)
    other.ask("queue.delete", "queue.delete-ok", queue=queue)
    for number in range(100):
        channel.publish("", queue, str(number), delivery_mode=2)
    expect("nacked", channel.confirms(*range(1, 201))["nacked"], [])


@case(84, "a message that one of two queues refuses is refused, though the other has it")
def one_refusal_refuses_the_message(broker: Broker):
    channel = broker.channel().confirm()
    exchange, full, free = broker.exchange(), broker.queue("full"), broker.queue("free")
    channel.declare_exchange(exchange, "fanout")
    channel.declare(full, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    channel.declare(free)
    for queue in (full, free):
        channel.bind(queue, exchange)
    channel.publish(exchange, "", "half")
    expect("confirms", channel.confirms(1), {"acked": [], "nacked": [1]})
    expect("bodies", [event.body for event in channel.get_all(free)], [b"half"])
    expect("bodies", channel.get_all(full), [])


@case(86, "confirm.select on a transactional channel is refused with 406, and the other way round")
def confirms_and_transactions_exclude_each_other(broker: Broker):
    channel = broker.channel()
    channel.call("tx.select")
    text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode"
    channel.refuse(406, text, "confirm.select")
    channel.call("confirm.select")
    text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode"
    channel.refuse(406, text, "tx.select")


@case("1.10", "a persistent message is confirmed on a durable queue, a quorum queue and a transient one")
def persistent_messages_are_confirmed(broker: Broker):
    channel = broker.channel().confirm()
    for number, (suffix, fields) in enumerate((
        ("classic", {"durable": True}),
        ("transient", {}),
        ("quorum", {"durable": True, "arguments": {"x-queue-type": "quorum"}}),
    )):  # fmt: skip
        channel.declare(broker.queue(suffix), **fields)
        channel.publish("", broker.queue(suffix), "kept", delivery_mode=2)
        channel.confirms(number + 1)


@case("1.10", "messages reach a queue in the order in which their channel published them")
def order_of_a_channels_publishes(broker: Broker):
    channel = broker.channel().confirm()
    queue = broker.queue()
    channel.declare(queue, durable=True)
    for number in range(100):
        channel.publish("", queue, str(number), delivery_mode=1 + number % 2)
    channel.confirms(*range(1, 101))
    expect("bodies", [int(event.body) for event in channel.get_all(queue)], list(range(100)))
