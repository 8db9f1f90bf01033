"""What MassTransit declares: an exchange for each message type, one for each endpoint, and temporary ones for itself."""

import pika
from pika.exceptions import ConnectionClosedByBroker

from link import Link, linked
from proof import Skipped, expect, is_rabbitmq, named

CONTENT_TYPE = "application/vnd.masstransit+json"


def masstransit(uri):
    """Publish, consume, faults to _error, unknown messages to _skipped, and a request answered to the bus endpoint."""
    with linked(uri) as server, linked(uri) as client:
        endpoint = Endpoint(server, named("submit-order"))
        event = endpoint.subscribe_to(named("Contracts:OrderSubmitted"), named("Contracts:IOrder"))
        inbox = server.inbox(endpoint.name, prefetch=32)

        client.publish(event, "", b"good", content_type=CONTENT_TYPE)
        inbox.ack(expect_body(inbox, b"good"))
        client.publish(event, "", b"bad", content_type=CONTENT_TYPE)
        endpoint.move(inbox, expect_body(inbox, b"bad"), "error", {"MT-Reason": "fault", "MT-Fault-RetryCount": 0})
        client.publish(endpoint.name, "", b"unknown", content_type=CONTENT_TYPE)
        endpoint.move(inbox, expect_body(inbox, b"unknown"), "skipped", {"MT-Reason": "dead-letter"})
        expect("faults", 1, server.count(f"{endpoint.name}_error"))
        expect("skipped", 1, server.count(f"{endpoint.name}_skipped"))

        bus = client_bus(client)
        replies = client.inbox(bus)
        client.publish(event, "", b"request", reply_to=bus, headers={"MT-Request-Id": "1"})
        request = inbox.take_and_ack()
        server.publish(request.properties.reply_to, "", b"response", headers=request.headers)
        expect("response", (b"response", bus), ((reply := replies.take_and_ack()).body, reply.exchange))
        replies.cancel()
        server.wait_until("no queue of the bus", lambda: not server.exists(bus))
        server.wait_until("no exchange of the bus", lambda: not server.exchange_exists(bus))


def masstransit_quorum(uri):
    """A quorum queue as endpoint: declared so, refused when declared otherwise, with counts of its deliveries."""
    with linked(uri) as link:
        endpoint = Endpoint(link, named("quorum"), {"x-queue-type": "quorum", "x-quorum-initial-group-size": 1})
        classic = link.refusal(lambda channel: channel.queue_declare(endpoint.name, durable=True))
        expect("reply code of a declare as a classic queue", 406, classic)
        link.publish(endpoint.name, "", b"again")
        inbox = link.inbox(endpoint.name)
        for count in (None, 1, 2):
            delivery = inbox.take()
            expect("x-delivery-count", count, delivery.headers.get("x-delivery-count"))
            inbox.reject(delivery, requeue=True)
        inbox.ack(inbox.take())


def masstransit_single_active_consumer(uri):
    """An ordered endpoint on two machines: the second gets nothing until the first has gone."""
    with linked(uri) as first, linked(uri) as second:
        endpoint = Endpoint(first, named("ordered"), {"x-single-active-consumer": True})
        active, waiting = first.inbox(endpoint.name), second.inbox(endpoint.name)
        for number in range(10):
            first.publish(endpoint.name, "", str(number).encode())
        found = [active.take_and_ack().body for _ in range(9)]
        expect("order", [str(number).encode() for number in range(9)], found)
        second.connection.process_data_events(time_limit=0.2)
        expect("messages of the second", [], waiting.waiting)
        active.channel.close()
        expect("the message that the first kept", (b"9", True), ((last := waiting.take_and_ack()).body, last.redelivered))


def masstransit_delayed_exchange(uri):
    """Scheduling through an exchange that delays; what is due goes on to the endpoint's exchange."""
    link = Link(uri)
    endpoint = Endpoint(link, named("scheduled"))
    delay = f"{endpoint.name}_delay"
    try:
        link.exchange(delay, "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    except ConnectionClosedByBroker as closed:
        if is_rabbitmq():
            raise Skipped(f"RabbitMQ has this exchange type only with a plugin: {closed.reply_text}") from None
        raise
    link.channel.exchange_bind(endpoint.name, delay)
    inbox = link.inbox(endpoint.name)
    for body, milliseconds in ((b"late", 900), (b"soon", 300), (b"now", 0)):
        link.channel.basic_publish(delay, "", body, pika.BasicProperties(headers={"x-delay": milliseconds}))
    found = [inbox.take_and_ack() for _ in range(3)]
    expect("order", [b"now", b"soon", b"late"], [delivery.body for delivery in found])
    link.connection.close()


class Endpoint:
    """A receive endpoint: a queue and a fanout exchange of the same name."""

    def __init__(self, link, name, arguments=None):
        self.link = link
        self.name = name
        self._declare(name, arguments)

    def _declare(self, name, arguments=None):
        self.link.exchange(name)
        self.link.queue(name, arguments)
        self.link.channel.queue_bind(name, name)

    def subscribe_to(self, message_type, *interfaces):
        """An exchange for the type, bound to those of its interfaces; the endpoint's own is bound to all."""
        for interface in [message_type, *interfaces]:
            self.link.exchange(interface)
            if interface != message_type:
                self.link.channel.exchange_bind(interface, message_type)
        self.link.channel.exchange_bind(self.name, message_type)
        return message_type

    def move(self, inbox, delivery, suffix, headers):
        """Sends the message on to the queue for what failed, then acknowledges it."""
        target = f"{self.name}_{suffix}"
        self._declare(target)
        self.link.publish(target, "", delivery.body, headers=delivery.headers | headers)
        inbox.ack(delivery)


def client_bus(link):
    """The bus endpoint of a process: gone with its consumer, or a minute after it was last used."""
    name = named("host_process_bus")
    link.exchange(name, durable=False, auto_delete=True)
    link.queue(name, {"x-expires": 60000}, durable=False, auto_delete=True)
    link.channel.queue_bind(name, name)
    return name


def expect_body(inbox, body):
    delivery = inbox.take()
    expect("body", body, delivery.body)
    return delivery

