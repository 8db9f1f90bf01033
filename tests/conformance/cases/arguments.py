"""Arguments of queue.declare: which values each takes, and how the others are refused."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel
from wire.connection import METHOD
from wire.methods import encode_method
from wire.values import Typed, encode_table

INVALID = "PRECONDITION_FAILED - invalid arg '{}' for queue '{}' in vhost '/': {}"
TOO_LARGE = 2**63 - 1
WRONG_TYPES = ["text", True, 1.5, b"bytes", None, {"a": 1}, [1], Typed("T", 5)]
CLASSIC: dict = {}
QUORUM = {"x-queue-type": "quorum"}


def try_all(broker: Broker, argument: str, values: list, others: dict, durable: bool = False) -> Channel:
    """Declares a queue with each value in turn; the transcript has what came of it."""
    channel = broker.channel()
    queue = broker.queue()
    for value in values:
        broker.note("declare", argument=argument, value=repr(value))
        channel.send("queue.declare", queue=queue, durable=durable, arguments={**others, argument: value})
        channel = settle(broker, channel, queue)
    return channel


def settle(broker: Broker, channel: Channel, queue: str) -> Channel:
    """Reads the answer, and makes room for the next declaration of the same name."""
    answer = channel.receive()
    if answer.name == "queue.declare-ok":
        channel.ask("queue.delete", "queue.delete-ok", queue=queue)
        return channel
    if answer.name == "channel.close":
        channel.send("channel.close-ok")
        return channel.reopen()
    channel.client.connection.close()
    return broker.channel()


def refuse_all(broker: Broker, argument: str, refusals: list[tuple], others: dict | None = None):
    """Declares a queue with each value, which must be refused with this reason."""
    channel = broker.channel()
    queue = broker.queue()
    for value, reason in refusals:
        text = INVALID.format(argument, queue, reason)
        channel.refuse(406, text, "queue.declare", queue=queue, arguments={**(others or {}), argument: value})


@case("1.6", "x-message-ttl takes 0 and more")
def message_ttl_is_validated(broker: Broker):
    refuse_all(broker, "x-message-ttl", [(-1, "{value_negative,-1}"), ("10", '"expected integer, got longstr"')])
    values = [0, 1, 315360000000, 315360000001, TOO_LARGE, Typed("B", 5), Typed("s", -5), *WRONG_TYPES]
    try_all(broker, "x-message-ttl", values, CLASSIC)


@case("1.6", "x-expires takes 1 and more")
def expires_is_validated(broker: Broker):
    refuse_all(broker, "x-expires", [(-1, "{value_negative,-1}"), (0, "{value_zero,0}")])
    try_all(broker, "x-expires", [60000, 315360000000, 315360000001, TOO_LARGE, *WRONG_TYPES], CLASSIC)


@case("1.6", "x-max-length takes 0 and more")
def max_length_is_validated(broker: Broker):
    refuse_all(broker, "x-max-length", [(-1, "{value_negative,-1}")])
    try_all(broker, "x-max-length", [0, 1, TOO_LARGE, *WRONG_TYPES], CLASSIC)


@case("1.6", "x-max-length-bytes takes 0 and more")
def max_length_bytes_is_validated(broker: Broker):
    refuse_all(broker, "x-max-length-bytes", [(-1, "{value_negative,-1}")])
    try_all(broker, "x-max-length-bytes", [0, 1, TOO_LARGE, *WRONG_TYPES], CLASSIC)


@case("1.6", "x-overflow takes three words")
def overflow_is_validated(broker: Broker):
    values = ["drop-head", "reject-publish", "reject-publish-dlx", "drop-tail", "", 1, True, None]
    try_all(broker, "x-overflow", values, CLASSIC)


@case(68, "1.6", "x-dead-letter-exchange takes a string, and the exchange need not be there")
def dead_letter_exchange_is_validated(broker: Broker):
    channel = broker.channel()
    channel.call("queue.declare", queue=broker.queue("fine"), arguments={"x-dead-letter-exchange": "not-there"})
    try_all(broker, "x-dead-letter-exchange", ["", "amq.fanout", 1, True, None, b"bytes", ["a"]], CLASSIC)


@case(68, "1.6", "x-dead-letter-routing-key takes a string, and only beside an exchange")
def dead_letter_routing_key_is_validated(broker: Broker):
    refuse_all(broker, "x-dead-letter-routing-key", [("k", "routing_key_but_no_dlx_defined")])
    others = {"x-dead-letter-exchange": "x"}
    try_all(broker, "x-dead-letter-routing-key", ["", "k", 1, True, None, b"bytes"], others)


@case("1.6", "x-max-priority takes 0 to 255")
def max_priority_is_validated(broker: Broker):
    refuse_all(broker, "x-max-priority", [(-1, "{value_negative,-1}"), (256, "{max_value_exceeded,256}")])
    try_all(broker, "x-max-priority", [0, 1, 10, 255, TOO_LARGE, *WRONG_TYPES], CLASSIC)


@case("1.6", "x-single-active-consumer takes a truth value")
def single_active_consumer_is_validated(broker: Broker):
    try_all(broker, "x-single-active-consumer", [True, False, 1, "true", None], CLASSIC)


@case("1.6", "x-queue-mode takes lazy and default")
def queue_mode_is_validated(broker: Broker):
    try_all(broker, "x-queue-mode", ["lazy", "default", "eager", "", 1, None], CLASSIC)


@case("1.6", "x-queue-version takes 1 and 2")
def queue_version_is_validated(broker: Broker):
    try_all(broker, "x-queue-version", [1, 2, 0, 3, -1, "2", None], CLASSIC)


@case("1.6", "x-queue-type takes the types there are")
def queue_type_is_validated(broker: Broker):
    values = ["classic", "quorum", "CLASSIC", "nonsense", "", 1, True, None]
    try_all(broker, "x-queue-type", values, CLASSIC, durable=True)


@case("1.6", "x-queue-master-locator takes the strategies there are, to no effect on one node")
def queue_master_locator_is_validated(broker: Broker):
    values = ["client-local", "min-masters", "random"]
    try_all(broker, "x-queue-master-locator", values, CLASSIC)


@case("1.6", "x-queue-leader-locator of a quorum queue takes the strategies there are")
def queue_leader_locator_is_validated(broker: Broker):
    values = ["client-local", "balanced", "random", "least-leaders", "nonsense", 1]
    try_all(broker, "x-queue-leader-locator", values, QUORUM, durable=True)


@case("1.6", "arguments of other queue types on a classic queue")
def foreign_arguments_of_a_classic_queue(broker: Broker):
    foreign = {
        "x-delivery-limit": 5, "x-dead-letter-strategy": "at-least-once", "x-quorum-initial-group-size": 1,
        "x-max-in-memory-length": 10, "x-max-in-memory-bytes": 10, "x-max-age": "1D", "x-initial-cluster-size": 1,
        "x-stream-max-segment-size-bytes": 1000, "x-queue-leader-locator": "balanced",
        "x-consumer-timeout": 1000, "x-stream-filter-size-bytes": 16,
    }  # fmt: skip
    for argument, value in foreign.items():
        try_all(broker, argument, [value], CLASSIC)


@case("1.6", "arguments of other queue types on a quorum queue")
def foreign_arguments_of_a_quorum_queue(broker: Broker):
    foreign = {
        "x-max-priority": 5, "x-queue-mode": "lazy", "x-queue-version": 2, "x-max-age": "1D",
        "x-message-ttl": 60000, "x-expires": 60000, "x-max-length": 5, "x-max-length-bytes": 500,
        "x-dead-letter-exchange": "x", "x-single-active-consumer": True, "x-queue-master-locator": "random",
        "x-initial-cluster-size": 1, "x-stream-max-segment-size-bytes": 1000, "x-unknown": 1,
    }  # fmt: skip
    for argument, value in foreign.items():
        try_all(broker, argument, [value], QUORUM, durable=True)


@case("1.6", "x-overflow of a quorum queue")
def overflow_of_a_quorum_queue(broker: Broker):
    try_all(broker, "x-overflow", ["drop-head", "reject-publish", "reject-publish-dlx", "nonsense"], QUORUM, durable=True)


@case("1.6", "x-delivery-limit of a quorum queue")
def delivery_limit_is_validated(broker: Broker):
    try_all(broker, "x-delivery-limit", [0, 1, 20, -1, -2, "5", True, TOO_LARGE], QUORUM, durable=True)


@case("1.6", "x-dead-letter-strategy of a quorum queue")
def dead_letter_strategy_is_validated(broker: Broker):
    values = ["at-most-once", "at-least-once", "nonsense", 1]
    try_all(broker, "x-dead-letter-strategy", values, QUORUM, durable=True)


@case("1.6", "x-quorum-initial-group-size of a quorum queue")
def quorum_initial_group_size_is_validated(broker: Broker):
    try_all(broker, "x-quorum-initial-group-size", [1, 3, 0, -1, "1"], QUORUM, durable=True)


@case("1.6", "x-max-in-memory-length and -bytes of a quorum queue")
def max_in_memory_is_validated(broker: Broker):
    for argument in ("x-max-in-memory-length", "x-max-in-memory-bytes"):
        try_all(broker, argument, [0, 1, -1, "1"], QUORUM, durable=True)


@case("1.6", "a quorum queue must be durable, for all and stay")
def properties_of_a_quorum_queue(broker: Broker):
    channel = broker.channel()
    for properties in ({}, {"durable": True, "exclusive": True}, {"durable": True, "auto_delete": True},
                       {"exclusive": True, "auto_delete": True}):  # fmt: skip
        broker.note("declare", **properties)
        channel.send("queue.declare", queue=broker.queue(), arguments=QUORUM, **properties)
        channel = settle(broker, channel, broker.queue())


@case("1.6", 53, "a queue without a name of type quorum")
def server_named_quorum_queue(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", durable=True, arguments=QUORUM)
    channel.receive()


@case("1.6", "one refusal for several invalid arguments")
def several_invalid_arguments(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    for arguments in (
        {"x-expires": 0, "x-message-ttl": -1},
        {"x-message-ttl": -1, "x-expires": 0},
        {"x-max-length": -1, "x-max-priority": 256, "x-dead-letter-routing-key": "k"},
        {"x-overflow": "nonsense", "x-max-length-bytes": -1},
    ):
        channel.refuse(406, None, "queue.declare", queue=queue, arguments=arguments)


@case("1.6", 50, "of a queue that is there other properties are compared before arguments are validated")
def properties_are_compared_before_arguments(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, durable=True)
    channel.refuse(406, None, "queue.declare", queue=queue, arguments={"x-message-ttl": -1})
    channel.refuse(406, None, "queue.declare", queue=queue, arguments={"x-message-ttl": 1})


@case("1.6", "an argument given twice")
def an_argument_given_twice(broker: Broker):
    channel = broker.channel()
    first, second = encode_table({"x-message-ttl": 1000})[4:], encode_table({"x-message-ttl": 2000})[4:]
    method = encode_method("queue.declare", {"queue": broker.queue()})[:-4]
    table = (len(first) * 2).to_bytes(4, "big") + first + second
    channel.client.connection.send_frame(METHOD, 1, method + table)
    expect("answer", channel.receive().name, "queue.declare-ok")
    for value in (1000, 2000):
        channel.send("queue.declare", queue=broker.queue(), arguments={"x-message-ttl": value})
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()
