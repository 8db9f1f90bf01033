"""A connection as the frameworks of other languages use theirs: declares, confirmed publishes, inboxes."""

import time
from contextlib import contextmanager

import pika
from pika.exceptions import ChannelClosedByBroker

from proof import Unexpected, expect

PERSISTENT = pika.DeliveryMode.Persistent


class Link:
    """A connection with a channel of confirms."""

    def __init__(self, uri):
        self.connection = pika.BlockingConnection(pika.URLParameters(uri))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def exchange(self, name, kind="fanout", durable=True, **options):
        self.channel.exchange_declare(name, kind, durable=durable, **options)
        return name

    def queue(self, name, arguments=None, durable=True, **options):
        return self.channel.queue_declare(name, durable=durable, arguments=arguments, **options).method.queue

    def publish(self, exchange, routing_key, body, headers=None, **properties):
        """Publishes, persistent and mandatory, and waits for the confirm."""
        properties = {"delivery_mode": PERSISTENT, "headers": headers} | properties
        self.channel.basic_publish(
            exchange, routing_key, body, pika.BasicProperties(**properties), mandatory=True
        )

    def exists(self, name):
        """Whether a queue of that name is there, asked for passively on a channel that the answer may close."""
        return self._passive(lambda channel: channel.queue_declare(name, passive=True))

    def exchange_exists(self, name):
        return self._passive(lambda channel: channel.exchange_declare(name, passive=True))

    def _passive(self, declare):
        refused = self.refusal(declare)
        expect("reply code of a passive declare", True, refused in (None, 404))
        return refused is None

    def refusal(self, ask):
        """The reply code with which the broker closes a channel when asked so, or None."""
        channel = self.connection.channel()
        try:
            ask(channel)
        except ChannelClosedByBroker as closed:
            return closed.reply_code
        channel.close()
        return None

    def count(self, name):
        return self.channel.queue_declare(name, passive=True).method.message_count

    def inbox(self, queue, prefetch=10, **options):
        return Inbox(self.connection.channel(), queue, prefetch, **options)

    def wait_until(self, what, is_so, seconds=15, step=0.05):
        """Waits while the connection's events are served, and asks every `step` seconds."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                raise Unexpected(f"expected {what} within {seconds} s, found that it did not come")
            self.connection.sleep(step)


class Inbox:
    """A consumer of a queue."""

    def __init__(self, channel, queue, prefetch, **options):
        self.channel = channel
        self.queue = queue
        self.waiting = []
        channel.basic_qos(prefetch_count=prefetch)
        self.tag = channel.basic_consume(queue, lambda _, *delivery: self.waiting.append(Delivery(*delivery)), **options)

    def take(self, seconds=15):
        """The next delivery, not settled yet."""
        deadline = time.monotonic() + seconds
        while not self.waiting:
            if time.monotonic() > deadline:
                raise Unexpected(f"expected a message from {self.queue} within {seconds} s, found none")
            self.channel.connection.process_data_events(time_limit=0.05)
        return self.waiting.pop(0)

    def take_and_ack(self):
        delivery = self.take()
        self.ack(delivery)
        return delivery

    def ack(self, delivery):
        self.channel.basic_ack(delivery.tag)

    def reject(self, delivery, requeue=False):
        self.channel.basic_reject(delivery.tag, requeue=requeue)

    def cancel(self):
        self.channel.basic_cancel(self.tag)


class Delivery:
    def __init__(self, method, properties, body):
        self.tag = method.delivery_tag
        self.exchange = method.exchange
        self.routing_key = method.routing_key
        self.redelivered = method.redelivered
        self.properties = properties
        self.headers = properties.headers or {}
        self.body = body

    def deaths(self):
        """Its x-death as (queue, reason, count), the last first."""
        return [(death["queue"], death["reason"], death["count"]) for death in self.headers.get("x-death", [])]


@contextmanager
def linked(uri):
    link = Link(uri)
    yield link
    link.connection.close()

