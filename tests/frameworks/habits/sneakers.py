"""What Sneakers' handler Maxretry declares, and how it counts by x-death."""

import json

from link import linked
from proof import expect, named

RETRY_MAX_TIMES = 2
RETRY_TIMEOUT_MILLISECONDS = 300


def sneakers(uri):
    """A message that always fails: retried by way of a dead letter queue with a TTL, then put on the error queue."""
    with linked(uri) as link:
        worker = Worker(link, named("downloads"))
        link.publish(worker.exchange, "download.now", b"payload", headers={"own": "header"})
        attempts = [worker.work() for _ in range(RETRY_MAX_TIMES + 1)]
        expect("deaths at each attempt", [worker.deaths_after(count) for count in range(3)],
               [delivery.deaths() for delivery in attempts])  # fmt: skip
        expect("routing keys", ["download.now"] * 3, [delivery.routing_key for delivery in attempts])
        expect("own header", ["header"] * 3, [delivery.headers["own"] for delivery in attempts])
        first = [attempts[-1].headers[f"x-first-death-{what}"] for what in ("queue", "reason", "exchange")]
        expect("first death", [worker.queue, "rejected", worker.exchange], first)
        failed = link.inbox(f"{worker.queue}-error").take_and_ack()
        expect("attempts", RETRY_MAX_TIMES + 1, json.loads(failed.body)["num_attempts"])
        expect("messages left", [0, 0], [link.count(worker.queue), link.count(f"{worker.queue}-retry")])


class Worker:
    def __init__(self, link, name):
        self.link = link
        self.queue = name
        self.exchange = link.exchange(f"{name}-sneakers", "topic")
        # Names an exchange that is declared only afterwards.
        link.queue(name, {"x-dead-letter-exchange": f"{name}-retry"})
        link.channel.queue_bind(name, self.exchange, "download.*")
        for kind in ("retry", "error", "retry-requeue"):
            link.exchange(f"{name}-{kind}", "topic")
        arguments = {"x-dead-letter-exchange": f"{name}-retry-requeue", "x-message-ttl": RETRY_TIMEOUT_MILLISECONDS}
        for kind, of_queue in (("retry", arguments), ("error", None)):
            link.queue(f"{name}-{kind}", of_queue)
            link.channel.queue_bind(f"{name}-{kind}", f"{name}-{kind}", "#")
        link.channel.queue_bind(name, f"{name}-retry-requeue", "#")
        self.inbox = link.inbox(name)

    def work(self):
        """Fails: rejects while there are retries left."""
        delivery = self.inbox.take()
        attempts = sum(count for queue, _, count in delivery.deaths() if queue == self.queue) + 1
        if attempts <= RETRY_MAX_TIMES:
            self.inbox.reject(delivery)
        else:
            failure = json.dumps({"error": "reject", "num_attempts": attempts}).encode()
            self.link.publish(f"{self.queue}-error", delivery.routing_key, failure)
            self.inbox.ack(delivery)
        return delivery

    def deaths_after(self, count):
        return [(f"{self.queue}-retry", "expired", count), (self.queue, "rejected", count)] if count else []
