"""What laravel-queue-rabbitmq declares: a queue for each delay, failed jobs, priorities by attempts."""

import time

from link import linked
from proof import expect, named

TTL_MILLISECONDS = 800


def laravel(uri):
    """A job for later, a released job that goes first, a failed one, and a delay queue that ends by itself."""
    with linked(uri) as link:
        queue = named("default")
        expect("the queue is there before", False, link.exists(queue))
        link.queue(queue, {
            "x-max-priority": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}.failed",
        })  # fmt: skip
        link.queue(f"{queue}.failed")

        start = time.monotonic()
        for number in range(2):
            later(link, queue, f"later {number}".encode())
        inbox = link.inbox(queue, prefetch=1)
        job = inbox.take()
        expect("a job before its time", False, time.monotonic() - start < TTL_MILLISECONDS / 1000)
        delay_queue = f"{queue}.delay.{TTL_MILLISECONDS}"
        expect("deaths", [(delay_queue, "expired", 1)], job.deaths())
        expect("attempts", {"attempts": 0}, job.headers["laravel"])
        link.wait_until("the other job", lambda: link.count(queue) == 1)
        push(link, queue, b"new", attempts=0)
        push(link, queue, b"released", attempts=1)
        inbox.reject(job)
        order = [inbox.take_and_ack().body for _ in range(3)]
        expect("order by attempts", [b"released", b"later 1", b"new"], order)
        method, properties, body = link.channel.basic_get(f"{queue}.failed", auto_ack=True)
        expect("failed job", (b"later 0", "rejected"), (body, properties.headers["x-death"][0]["reason"]))
        expect("exchange of the failed job", "", method.exchange)
        # To ask for the queue is to use it.
        link.wait_until("no delay queue", lambda: not link.exists(delay_queue), step=2.5 * TTL_MILLISECONDS / 1000)
        inbox.cancel()
        link.channel.queue_purge(queue)
        expect("size", 0, link.count(queue))


def later(link, queue, payload):
    """Declares the delay queue again for each job, which starts its x-expires anew."""
    delay_queue = f"{queue}.delay.{TTL_MILLISECONDS}"
    arguments = {
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": TTL_MILLISECONDS,
        "x-expires": 2 * TTL_MILLISECONDS,
    }  # fmt: skip
    link.queue(delay_queue, arguments)
    push(link, delay_queue, payload, attempts=0)


def push(link, queue, payload, attempts):
    headers = {"laravel": {"attempts": attempts}}
    link.publish("", queue, payload, headers, content_type="application/json", priority=attempts)
