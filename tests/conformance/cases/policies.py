"""Policies and operator policies, by definitions."""

from suite.broker import Broker
from suite.case import case, expect, wait_until
from suite.client import Channel


def policy(name: str, pattern: str, definition: dict, priority: int = 0, apply_to: str = "all") -> dict:
    return {"vhost": "/", "name": name, "pattern": pattern, "apply-to": apply_to, "priority": priority,
            "definition": definition}  # fmt: skip


def policies(*entries: dict) -> dict:
    return {"policies": list(entries)}


def operator_policies(*entries: dict) -> dict:
    """Operator policies lie among the parameters of a definitions file."""
    return {
        "parameters": [
            {"vhost": entry["vhost"], "component": "operator_policy", "name": entry["name"],
             "value": {key: entry[key] for key in ("pattern", "apply-to", "priority", "definition")}}
            for entry in entries
        ]
    }  # fmt: skip


def queue_of(broker: Broker, suffix: str = "q", **arguments) -> tuple[Channel, str]:
    channel = broker.channel()
    queue = broker.queue(suffix)
    channel.declare(queue, arguments={name.replace("_", "-"): value for name, value in arguments.items()})
    return channel, queue


def left(channel: Channel, queue: str) -> str:
    return "".join(event.body.decode()[:1] for event in channel.get_all(queue))


@case("1.14", "a policy limits the queues whose names it matches",
      definitions=policies(policy("length", r"^a_policy_limits_queues\.q", {"max-length": 2})))  # fmt: skip
def a_policy_limits_queues(broker: Broker):
    channel, queue = queue_of(broker)
    _, other = queue_of(broker, "other")
    for name in (queue, other):
        channel.publish_confirmed("", name, *"1234")
    expect("left", (left(channel, queue), left(channel, other)), ("34", "1234"))


@case("1.14", "a pattern is looked for anywhere in the name",
      definitions=policies(policy("anywhere", r"looked_for_any", {"max-length": 1})))  # fmt: skip
def a_pattern_is_looked_for_anywhere(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"12")
    expect("left", left(channel, queue), "2")


@case("1.14", "of two policies the one of the higher priority counts alone",
      definitions=policies(
          policy("low", r"^the_higher_policy_counts\.", {"max-length": 1, "message-ttl": 1}, 1),
          policy("high", r"^the_higher_policy_counts\.", {"max-length-bytes": 1000}, 2)))  # fmt: skip
def the_higher_policy_counts(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"123")
    expect("left", left(channel, queue), "123")


@case("1.14", "the lower of a policy's limit and an argument counts",
      definitions=policies(policy("lower", r"^the_lower_limit_counts\.", {"max-length": 3})))  # fmt: skip
def the_lower_limit_counts(broker: Broker):
    channel, low = queue_of(broker, "low", x_max_length=2)
    _, high = queue_of(broker, "high", x_max_length=4)
    for queue in (low, high):
        channel.publish_confirmed("", queue, *"12345")
    expect("left", (left(channel, low), left(channel, high)), ("45", "345"))


@case("1.14", "an argument counts before a policy's dead letter exchange and key",
      definitions=policies(policy("dead", r"^an_argument_counts_before_a_policy\.q", {
          "dead-letter-exchange": "", "dead-letter-routing-key": "an_argument_counts_before_a_policy.policy"})))  # fmt: skip
def an_argument_counts_before_a_policy(broker: Broker):
    channel, by_policy = queue_of(broker, "policy")
    _, by_argument = queue_of(broker, "argument")
    _, plain = queue_of(broker, "q1", x_max_length=0)
    _, argued = queue_of(broker, "q2", x_max_length=0, x_dead_letter_exchange="", x_dead_letter_routing_key=by_argument)
    channel.publish_confirmed("", plain, "1")
    channel.publish_confirmed("", argued, "2")
    channel.wait_for_count(by_policy, 1)
    channel.wait_for_count(by_argument, 1)
    expect("bodies", (left(channel, by_policy), left(channel, by_argument)), ("1", "2"))


@case("1.14", "an argument for one of dead letter exchange and key, and a policy for the other",
      definitions=policies(policy("halves", r"^dead_letter_halves\.q", {
          "dead-letter-routing-key": "dead_letter_halves.dead"})))  # fmt: skip
def dead_letter_halves(broker: Broker):
    channel, dead = queue_of(broker, "dead")
    _, queue = queue_of(broker, "q", x_max_length=0, x_dead_letter_exchange="")
    channel.publish_confirmed("", queue, "1")
    channel.wait_for_count(dead, 1)


@case("1.14", "a policy of a message TTL counts for messages that come, the lower of both",
      definitions=policies(policy("ttl", r"^a_policy_of_a_ttl\.", {"message-ttl": 100})))  # fmt: skip
def a_policy_of_a_ttl(broker: Broker):
    channel, queue = queue_of(broker)
    _, long = queue_of(broker, "long", x_message_ttl=600000)
    for name in (queue, long):
        channel.publish_confirmed("", name, "1")
        channel.wait_for_count(name, 0)


@case("1.14", "a policy lets unused queues expire",
      definitions=policies(policy("expires", r"^a_policy_of_expiry\.", {"expires": 300})))  # fmt: skip
def a_policy_of_expiry(broker: Broker):
    channel, queue = queue_of(broker)
    channel.confirm()
    tag = 0

    def is_gone() -> bool:
        nonlocal tag
        tag += 1
        channel.publish("", queue, "probe", mandatory=True)
        answer = channel.client.wait(1, 15)
        if answer.name == "basic.return":
            channel.gather_confirms(tag)
        return answer.name == "basic.return"

    wait_until("the queue is gone", is_gone)
    broker.note("the queue is gone")


@case("1.14", 84, "a policy of overflow refuses",
      definitions=policies(policy("overflow", r"^a_policy_of_overflow\.", {
          "max-length": 1, "overflow": "reject-publish"})))  # fmt: skip
def a_policy_of_overflow(broker: Broker):
    channel, queue = queue_of(broker)
    channel.confirm()
    channel.publish("", queue, "1")
    channel.publish("", queue, "2")
    expect("confirms", channel.confirms(1, 2), {"acked": [1], "nacked": [2]})


@case("1.14", 75, "a policy gives an exchange its alternate, unless it has one by argument",
      definitions=policies(policy("alternate", r"^a_policy_of_an_alternate_exchange\.x", {
          "alternate-exchange": "a_policy_of_an_alternate_exchange.policy"}, 0, "exchanges")))  # fmt: skip
def a_policy_of_an_alternate_exchange(broker: Broker):
    channel = broker.channel()
    for name in ("policy", "argument"):
        channel.declare_exchange(broker.exchange(name), "fanout")
        channel.declare(broker.queue(f"by {name}"))
        channel.bind(broker.queue(f"by {name}"), broker.exchange(name))
    channel.declare_exchange(broker.exchange("x1"))
    channel.declare_exchange(broker.exchange("x2"), arguments={"alternate-exchange": broker.exchange("argument")})
    channel.publish_confirmed(broker.exchange("x1"), "k", "1")
    channel.publish_confirmed(broker.exchange("x2"), "k", "2")
    expect("bodies", [left(channel, broker.queue(f"by {name}")) for name in ("policy", "argument")], ["1", "2"])


@case("1.14", "a policy for exchanges says nothing to queues, and the other way round",
      definitions=policies(
          policy("for exchanges", r"^policies_apply_to_their_kind\.", {"alternate-exchange": "amq.fanout"}, 2, "exchanges"),
          policy("for queues", r"^policies_apply_to_their_kind\.", {"max-length": 1}, 1, "queues")))  # fmt: skip
def policies_apply_to_their_kind(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"12")
    expect("left", left(channel, queue), "2")


@case("1.14", 9, "what a policy says is not compared when a queue is declared",
      definitions=policies(policy("declared", r"^policies_are_not_compared\.", {"max-length": 5, "message-ttl": 600000})))  # fmt: skip
def policies_are_not_compared(broker: Broker):
    channel, queue = queue_of(broker)
    expect("answer", channel.call("queue.declare", queue=queue).name, "queue.declare-ok")
    channel.refuse(406, None, "queue.declare", queue=queue, arguments={"x-max-length": 5})


@case("1.14", "an operator policy is laid over a policy and an argument, and the lower limit counts",
      definitions={
          **policies(policy("user", r"^operator_policies_are_laid_over\.", {"max-length": 4, "message-ttl": 600000})),
          **operator_policies(policy("operator", r"^operator_policies_are_laid_over\.", {"max-length": 3}, 0, "queues"))})  # fmt: skip
def operator_policies_are_laid_over(broker: Broker):
    channel, queue = queue_of(broker)
    _, argued = queue_of(broker, "argued", x_max_length=2)
    for name in (queue, argued):
        channel.publish_confirmed("", name, *"12345")
    expect("left", (left(channel, queue), left(channel, argued)), ("345", "45"))


@case("1.14", "an operator policy of a higher limit takes nothing from a policy's",
      definitions={
          **policies(policy("strict", r"^operator_policies_only_tighten\.", {"max-length": 2})),
          **operator_policies(policy("generous", r"^operator_policies_only_tighten\.", {"max-length": 4}, 0, "queues"))})  # fmt: skip
def operator_policies_only_tighten(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"12345")
    expect("left", left(channel, queue), "45")


@case("1.14", "a policy that comes later cuts a queue that is there, at the next message",
      definitions=policies(policy("unrelated", r"^a_policy_that_comes_later\.other", {"max-length": 1})))  # fmt: skip
def a_policy_that_comes_later(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"1234")
    broker.import_definitions(policies(policy("later", r"^a_policy_that_comes_later\.q", {"max-length": 2})))
    wait_until("the policy is in force", lambda: is_cut(channel, queue))
    broker.note("cut", count=channel.count(queue))


def is_cut(channel: Channel, queue: str) -> bool:
    channel.publish_confirmed("", queue, "5")
    return channel.count(queue) <= 2


@case("1.14", "a policy of other limits than before counts from then on",
      definitions=policies(policy("changes", r"^a_policy_that_changes\.q", {"max-length": 2})))  # fmt: skip
def a_policy_that_changes(broker: Broker):
    channel, queue = queue_of(broker)
    channel.publish_confirmed("", queue, *"1234")
    expect("messages", channel.count(queue), 2)
    broker.import_definitions(policies(policy("changes", r"^a_policy_that_changes\.q", {"max-length": 4})))

    def has_grown() -> bool:
        channel.publish_confirmed("", queue, "5")
        return channel.count(queue) > 2

    wait_until("the queue grows", has_grown)
    broker.note("the queue grows")


@case("1.14", "a policy for quorum queues",
      definitions=policies(policy("quorum", r"^a_policy_of_quorum_queues\.q", {"delivery-limit": 1, "max-length": 2,
          "dead-letter-exchange": "", "dead-letter-routing-key": "a_policy_of_quorum_queues.dead"})))  # fmt: skip
def a_policy_of_quorum_queues(broker: Broker):
    channel, dead = queue_of(broker, "dead")
    queue = broker.queue()
    channel.declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    channel.publish_confirmed("", queue, *"123")
    channel.wait_for_count(dead, 1)
    channel.consume(queue, "tag")
    for _ in range(4):
        channel.nack(channel.expect("basic.deliver").delivery_tag)
    channel.wait_for_count(dead, 3)
