"""Who may do what: regular expressions for configure, write and read, per user and vhost."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel

PASSWORD = "secret"


def user(name: str, configure: str = "", write: str = "", read: str = "", tags: str = "") -> dict:
    """Definitions of a user with these permissions on the default vhost."""
    return {
        "users": [{"name": name, "password": PASSWORD, "tags": tags}],
        "permissions": [{"user": name, "vhost": "/", "configure": configure, "write": write, "read": read}],
    }


def refused(kind: str, name: str, login: str) -> str:
    return f"ACCESS_REFUSED - access to {kind} '{name}' in vhost '/' refused for user '{login}'"


def limited(broker: Broker, login: str) -> Channel:
    return broker.channel(login, user=login, password=PASSWORD)


@case(16, "1.15", "publishing to a missing exchange without permission is refused with 403, not 404",
      definitions=user("permission.first", "none", "none", "none"))  # fmt: skip
def permission_comes_before_existence(broker: Broker):
    channel = limited(broker, "permission.first")
    for exchange in (broker.exchange("missing"), "amq.direct"):
        channel.publish(exchange, "k", "body")
        channel.expect_close(403, refused("exchange", exchange, "permission.first"), "basic.publish")
        channel.reopen()


@case(16, "1.15", "without permissions every method that names something is refused with 403",
      definitions=user("permission.none", "^$", "^$", "^$"))  # fmt: skip
def without_permissions_all_is_refused(broker: Broker):
    owner = broker.channel("owner")
    queue, exchange = broker.queue(), broker.exchange()
    owner.declare(queue)
    owner.declare_exchange(exchange)
    channel = limited(broker, "permission.none")
    for name, fields in (
        ("queue.declare", {"queue": queue}),
        ("queue.declare", {"queue": broker.queue("new")}),
        ("queue.declare", {"queue": queue, "passive": True}),
        ("queue.declare", {"queue": broker.queue("new"), "passive": True}),
        ("exchange.declare", {"exchange": exchange, "type": "direct"}),
        ("exchange.declare", {"exchange": exchange, "type": "direct", "passive": True}),
        ("queue.delete", {"queue": queue}),
        ("queue.delete", {"queue": broker.queue("new")}),
        ("exchange.delete", {"exchange": exchange}),
        ("queue.bind", {"queue": queue, "exchange": exchange, "routing_key": "k"}),
        ("queue.unbind", {"queue": queue, "exchange": exchange, "routing_key": "k"}),
        ("exchange.bind", {"destination": exchange, "source": "amq.topic", "routing_key": "k"}),
        ("exchange.unbind", {"destination": exchange, "source": "amq.topic", "routing_key": "k"}),
        ("queue.purge", {"queue": queue}),
        ("basic.get", {"queue": queue}),
        ("basic.consume", {"queue": queue}),
    ):
        broker.note(name, **fields)
        channel.send(name, **fields)
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()


@case("1.15", "the default exchange is checked as amq.default",
      definitions=user("permission.default", ".*", "^amq\\.default$", ".*"))  # fmt: skip
def the_default_exchange_is_checked_by_name(broker: Broker):
    channel = limited(broker, "permission.default")
    queue = broker.queue()
    channel.declare(queue)
    channel.publish("", queue, "fine")
    expect("body", channel.get(queue).body, b"fine")
    channel.publish("amq.direct", queue, "refused")
    channel.expect_close(403, None, "basic.publish")


@case("1.15", "without write on amq.default nothing goes through the default exchange",
      definitions=user("permission.nodefault", ".*", "^other$", ".*"))  # fmt: skip
def the_default_exchange_may_be_refused(broker: Broker):
    channel = limited(broker, "permission.nodefault")
    channel.publish("", broker.queue(), "refused")
    channel.expect_close(403, refused("exchange", "amq.default", "permission.nodefault"), "basic.publish")


@case("1.15", "a permission is looked for anywhere in the name",
      definitions=user("permission.part", "allowed", "allowed", "allowed"))  # fmt: skip
def permissions_are_looked_for_anywhere(broker: Broker):
    channel = limited(broker, "permission.part")
    channel.call("queue.declare", queue=broker.queue("is allowed here"))
    channel.refuse(403, None, "queue.declare", queue=broker.queue("other"))


@case("1.15", "binding needs write on the destination and read on the source",
      definitions=user("permission.bind", "", "destination", "source"))  # fmt: skip
def binding_needs_write_and_read(broker: Broker):
    owner = broker.channel("owner")
    for name in ("source", "destination"):
        owner.declare(broker.queue(name))
        owner.declare_exchange(broker.exchange(f"x {name}"))
    channel = limited(broker, "permission.bind")
    for queue in ("destination", "source"):
        for exchange in ("source", "destination"):
            broker.note("bind", queue=queue, exchange=exchange)
            channel.send("queue.bind", queue=broker.queue(queue), exchange=broker.exchange(f"x {exchange}"))
            if channel.receive().name == "channel.close":
                channel.send("channel.close-ok")
                channel.reopen()
    channel.call("exchange.bind", source=broker.exchange("x source"), destination=broker.exchange("x destination"))
    channel.call("exchange.bind", destination=broker.exchange("x source"), source=broker.exchange("x destination"))


@case("1.15", "reading needs read, and a dead letter exchange write",
      definitions=user("permission.dlx", ".*", "^$", "queue"))  # fmt: skip
def dead_letter_exchanges_need_permission(broker: Broker):
    channel = limited(broker, "permission.dlx")
    channel.send("queue.declare", queue=broker.queue("queue"), arguments={"x-dead-letter-exchange": "amq.fanout"})
    channel.receive()
    channel = limited(broker, "permission.dlx")
    channel.send("queue.declare", queue=broker.queue("other"), arguments={"x-dead-letter-exchange": "amq.fanout"})
    channel.receive()


@case("1.15", 75, "an alternate exchange needs read on the exchange and write on the alternate",
      definitions=user("permission.alternate", ".*", "^amq\\.direct$", "readable"))  # fmt: skip
def alternate_exchanges_need_permission(broker: Broker):
    for name, alternate in (("readable", "amq.direct"), ("readable", "amq.fanout"), ("other", "amq.direct")):
        channel = limited(broker, "permission.alternate")
        broker.note("declare", name=name, alternate=alternate)
        channel.call("exchange.declare", exchange=broker.exchange(f"{name} {alternate}"), type="direct",
                     arguments={"alternate-exchange": alternate})  # fmt: skip


@case("1.15", "topic permissions check routing keys of a topic exchange",
      definitions={**user("permission.topic", ".*", ".*", ".*"), "topic_permissions": [
          {"user": "permission.topic", "vhost": "/", "exchange": "amq.topic", "write": "^mine\\.", "read": "^mine\\."}]})  # fmt: skip
def topic_permissions_check_keys(broker: Broker):
    channel = limited(broker, "permission.topic")
    queue = broker.queue()
    channel.declare(queue)
    channel.call("queue.bind", queue=queue, exchange="amq.topic", routing_key="mine.k")
    channel.publish("amq.topic", "mine.k", "fine")
    channel.expect_nothing()
    channel.publish("amq.topic", "other.k", "refused")
    channel.expect_close(403, None, "basic.publish")
    channel.reopen()
    channel.send("queue.bind", queue=queue, exchange="amq.topic", routing_key="other.k")
    channel.expect_close(403, None, "queue.bind")


@case(91, "an impersonator may set any user-id",
      definitions=user("permission.impersonator", ".*", ".*", ".*", "impersonator"))  # fmt: skip
def impersonators_may_set_any_user_id(broker: Broker):
    channel = limited(broker, "permission.impersonator")
    queue = broker.queue()
    channel.declare(queue)
    channel.publish("", queue, "fine", user_id="somebody else")
    expect("user id", channel.get(queue).properties["user_id"], "somebody else")


@case("1.15", 29, "a user without permissions on a vhost may not open it, and one vhost does not see another's queues",
      definitions={
          "vhosts": [{"name": "permissions.v"}],
          "users": [{"name": "permission.vhost", "password": PASSWORD, "tags": ""}],
          "permissions": [
              {"user": "permission.vhost", "vhost": "permissions.v", "configure": ".*", "write": ".*", "read": ".*"},
              {"user": "guest", "vhost": "permissions.v", "configure": ".*", "write": ".*", "read": ".*"}]})  # fmt: skip
def vhosts_are_apart(broker: Broker):
    owner = broker.channel("owner")
    queue = broker.queue()
    owner.declare(queue)
    channel = broker.channel("inside", user="permission.vhost", password=PASSWORD, vhost="permissions.v")
    text = f"NOT_FOUND - no queue '{queue}' in vhost 'permissions.v'"
    channel.refuse(404, text, "queue.declare", queue=queue, passive=True)
    channel.call("queue.declare", queue=queue)
    channel.call("queue.delete", queue=queue)
    outside = broker.raw("outside")
    outside.log_in(user="permission.vhost", password=PASSWORD)
    outside.tune()
    outside.send("connection.open", virtual_host="/")
    outside.expect_connection_close(
        530, "NOT_ALLOWED - access to vhost '/' refused for user 'permission.vhost'", "connection.open"
    )


@case("1.14", "a vhost takes as many queues and connections as its limits say",
      definitions={
          "vhosts": [{"name": "limits.v"}],
          "permissions": [{"user": "guest", "vhost": "limits.v", "configure": ".*", "write": ".*", "read": ".*"}],
          "parameters": [{"vhost": "limits.v", "component": "vhost-limits", "name": "limits",
                          "value": {"max-queues": 1, "max-connections": 1}}]})  # fmt: skip
def limits_of_a_vhost(broker: Broker):
    channel = broker.channel("first", vhost="limits.v")
    channel.declare("one")
    channel.call("queue.declare", queue="one")
    channel.refuse(406, "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost 'limits.v' (1) is reached",
                   "queue.declare", queue="two")  # fmt: skip
    second = broker.raw("second")
    second.log_in()
    second.tune()
    second.send("connection.open", virtual_host="limits.v")
    second.expect_connection_close(530, None, "connection.open")
    channel.call("queue.delete", queue="one")
