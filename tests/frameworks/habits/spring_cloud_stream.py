"""What Spring Cloud Stream's RabbitMQ binder declares for a destination, its groups and their dead letters."""

from link import linked
from proof import expect, named

RETRY_MILLISECONDS = 300


def spring_cloud_stream(uri):
    """Rejected messages go to the group's DLQ; with republishToDlq the binder sends them there with the exception."""
    with linked(uri) as link:
        destination = link.exchange(named("orders"), "topic")
        dead = link.exchange(named("DLX"), "direct")
        group = declare_group(link, destination, "billing", dead)
        anonymous = link.queue(f"{destination}.anonymous.{named('a')}", durable=False, exclusive=True, auto_delete=True)
        link.channel.queue_bind(anonymous, destination, "#")
        inbox, letters, observer = link.inbox(group), link.inbox(f"{group}.dlq"), link.inbox(anonymous)

        link.publish(destination, destination, b"rejected")
        inbox.reject(inbox.take())
        expect("deaths", [(group, "rejected", 1)], letters.take_and_ack().deaths())
        link.publish(destination, destination, b"republished")
        failing = inbox.take()
        link.publish(dead, group, failing.body, failing.headers | {
            "x-exception-message": "failed", "x-exception-stacktrace": "at line\n" * 3000,
            "x-original-exchange": failing.exchange, "x-original-routingKey": failing.routing_key,
        })  # fmt: skip
        inbox.ack(failing)
        letter = letters.take_and_ack()
        expect("exception", ("failed", 24000),
               (letter.headers["x-exception-message"], len(letter.headers["x-exception-stacktrace"])))  # fmt: skip
        expect("seen by the anonymous group", [b"rejected", b"republished"],
               [observer.take_and_ack().body for _ in range(2)])  # fmt: skip


def spring_cloud_stream_retries(uri):
    """dlqTtl and an empty dlqDeadLetterExchange: from the DLQ back to the group, counted by x-death."""
    with linked(uri) as link:
        destination = link.exchange(named("orders"), "topic")
        dead = link.exchange(named("DLX"), "direct")
        group = declare_group(link, destination, "shipping", dead, retry=True)
        inbox = link.inbox(group)
        link.publish(destination, destination, b"try again")
        counts = []
        for _ in range(4):
            delivery = inbox.take()
            counts.append([count for queue, _, count in delivery.deaths() if queue == f"{group}.dlq"])
            inbox.reject(delivery)
        expect("counts", [[], [1], [2], [3]], counts)
        expect("deaths", [(f"{group}.dlq", "expired", 4), (group, "rejected", 4)], inbox.take_and_ack().deaths())


def declare_group(link, destination, group, dead, retry=False):
    """The queue of a consumer group with its DLQ, which may hand back what has waited there."""
    name = f"{destination}.{group}"
    link.queue(name, {"x-dead-letter-exchange": dead, "x-dead-letter-routing-key": name})
    link.channel.queue_bind(name, destination, "#")
    back = {"x-message-ttl": RETRY_MILLISECONDS, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name}
    link.queue(f"{name}.dlq", back if retry else None)
    link.channel.queue_bind(f"{name}.dlq", dead, name)
    return name
