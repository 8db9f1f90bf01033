"""Connections and channels as cases use them: what they receive goes to the transcript."""

from typing import Any

from wire.connection import ANSWER_SECONDS, END_OF_STREAM, PROTOCOL_HEADER, Connection, Received, Timeout
from wire.methods import numbers_of

from .case import Failure, expect, wait_until
from .transcript import Transcript, ranges

CAPABILITIES = {
    name: True
    for name in (
        "authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify",
        "exchange_exchange_bindings", "publisher_confirms",
    )
}  # fmt: skip


class Client:
    """A connection with a name, by which the transcript calls it."""

    def __init__(self, host: str, port: int, label: str, transcript: Transcript):
        self.connection = Connection(host, port)
        self.label = label
        self.transcript = transcript
        self.channels: dict[int, Channel] = {}
        self.last_channel = 0
        self.has_heard_end = False

    # --- handshake ---

    def open(self, user="guest", password="guest", vhost="/", capabilities=None, properties=None, **tuning):
        """The whole handshake, unrecorded."""
        self.log_in(user, password, capabilities, properties)
        self.tune(**tuning)
        return self.open_vhost(vhost)

    def log_in(self, user="guest", password="guest", capabilities=None, properties=None):
        """Up to start-ok; the answer is left to be read."""
        self.start()
        self.start_ok(response=f"\0{user}\0{password}", capabilities=capabilities, properties=properties)

    def start(self) -> Received:
        self.connection.send_bytes(PROTOCOL_HEADER)
        return self.demand(0, "connection.start")

    def start_ok(self, mechanism="PLAIN", response="\0guest\0guest", capabilities=None, properties=None):
        announced = CAPABILITIES if capabilities is None else capabilities
        client_properties = {"capabilities": announced, **(properties or {})}
        self.connection.send_method(0, "connection.start-ok", client_properties=client_properties,
                                    mechanism=mechanism, response=response, locale="en_US")  # fmt: skip

    def tune(self, channel_max=None, frame_max=None, heartbeat=0) -> Received:
        """Takes what the peer offers where nothing else is asked for, but heartbeats."""
        offer = self.demand(0, "connection.tune")
        agreed = {
            "channel_max": offer.channel_max if channel_max is None else channel_max,
            "frame_max": offer.frame_max if frame_max is None else frame_max,
            "heartbeat": heartbeat,
        }
        self.connection.frame_max = agreed["frame_max"]
        self.connection.send_method(0, "connection.tune-ok", **agreed)
        return offer

    def open_vhost(self, vhost="/"):
        self.connection.send_method(0, "connection.open", virtual_host=vhost)
        self.demand(0, "connection.open-ok")
        return self

    def demand(self, channel: int, name: str) -> Received:
        """What must come for the case to go on; unrecorded."""
        event = self.wait(channel, ANSWER_SECONDS)
        if event.name != name:
            raise Failure(f"{self.label}: expected {name}, found {event.name} {event.fields}")
        return event

    # --- what arrives ---

    def receive(self, channel: int = 0, seconds: float = ANSWER_SECONDS) -> Received:
        """The next event of a channel, recorded."""
        event = self.wait(channel, seconds)
        self.record(event)
        return event

    def wait(self, channel: int, seconds: float) -> Received:
        try:
            return self.connection.receive(channel, seconds)
        except Timeout:
            raise Failure(f"{self.label} channel {channel}: expected a frame within {seconds} s, found none") from None

    def record(self, event: Received):
        place = f"{self.label}.{event.channel}" if event.channel else self.label
        self.transcript.event(place, event)

    def expect(self, name: str, **fields) -> Received:
        """The next event of the connection itself must be this one, with these fields."""
        return check(self.receive(), name, fields)

    def expect_connection_close(self, code: int, text: str | None = None, failed: str | None = None) -> Received:
        """The peer closes the connection; it is answered, and the peer ends the stream."""
        event = check_close(self.receive(), "connection.close", code, text, failed)
        self.connection.send_method(0, "connection.close-ok")
        self.expect_end()
        return event

    def expect_end(self, seconds: float = ANSWER_SECONDS):
        """The peer ends the stream without a further word."""
        check(self.receive(seconds=seconds), END_OF_STREAM, {})

    # --- what is sent ---

    def channel(self, number: int | None = None) -> "Channel":
        """Opens a channel, the next one unless another is named."""
        channel = self.bare_channel(number)
        channel.send("channel.open")
        self.demand(channel.number, "channel.open-ok")
        return channel

    def bare_channel(self, number: int | None = None) -> "Channel":
        """A channel that was never opened."""
        self.last_channel = self.last_channel + 1 if number is None else number
        return Channel(self, self.last_channel)

    def send(self, name: str, **fields):
        self.connection.send_method(0, name, **fields)

    def close(self) -> Received:
        """Closes the connection in order, and waits for close-ok; unrecorded."""
        self.send("connection.close", reply_code=200, reply_text="done")
        answer = self.demand(0, "connection.close-ok")
        self.connection.close()
        return answer

    def abort(self):
        """Ends the connection at once, without a word."""
        self.connection.reset()


class Channel:
    """A channel of a client."""

    def __init__(self, client: Client, number: int):
        self.client = client
        self.number = number

    # --- methods ---

    def send(self, name: str, **fields):
        self.client.connection.send_method(self.number, name, **fields)

    def call(self, name: str, **fields) -> Received:
        """Sends a method, and returns what comes next, recorded, whatever it is."""
        self.send(name, **fields)
        return self.receive()

    def receive(self, seconds: float = ANSWER_SECONDS) -> Received:
        return self.client.receive(self.number, seconds)

    def expect(self, name: str, **fields) -> Received:
        """The next event must be this one, with these fields."""
        return check(self.receive(), name, fields)

    def ask(self, name: str, answer: str, **fields) -> Received:
        """Sends a method that must be answered by another; unrecorded, for what a case only prepares."""
        self.send(name, **fields)
        return self.client.demand(self.number, answer)

    def expect_close(self, code: int, text: str | None = None, failed: str | None = None) -> Received:
        """The peer closes the channel, naming this text and failed method; it is answered."""
        event = check_close(self.receive(), "channel.close", code, text, failed)
        self.send("channel.close-ok")
        return event

    def expect_connection_close(self, code: int, text: str | None = None, failed: str | None = None) -> Received:
        return self.client.expect_connection_close(code, text, failed)

    def refuse(self, code: int, text: str | None, name: str, **fields) -> "Channel":
        """Sends a method that must close the channel, and opens the channel anew."""
        self.send(name, **fields)
        self.expect_close(code, text, name)
        return self.reopen()

    def reopen(self) -> "Channel":
        self.ask("channel.open", "channel.open-ok")
        return self

    def ask_either(self, name: str, **fields) -> Received:
        """Sends a method, and returns what comes next, unrecorded."""
        self.send(name, **fields)
        return self.client.wait(self.number, ANSWER_SECONDS)

    def close(self) -> Received:
        return self.ask("channel.close", "channel.close-ok", reply_code=200, reply_text="done")

    # --- entities ---

    def declare(self, queue: str, **fields) -> Received:
        """Declares a queue that must come to be, unrecorded; returns declare-ok."""
        return self.ask("queue.declare", "queue.declare-ok", queue=queue, **fields)

    def declare_exchange(self, exchange: str, kind: str = "direct", **fields):
        self.ask("exchange.declare", "exchange.declare-ok", exchange=exchange, type=kind, **fields)

    def bind(self, queue: str, exchange: str, routing_key: str = "", **fields):
        self.ask("queue.bind", "queue.bind-ok", queue=queue, exchange=exchange, routing_key=routing_key, **fields)

    def bind_exchange(self, destination: str, source: str, routing_key: str = "", **fields):
        self.ask("exchange.bind", "exchange.bind-ok", destination=destination, source=source,
                 routing_key=routing_key, **fields)  # fmt: skip

    def count(self, queue: str) -> int:
        """The messages a queue has ready; unrecorded."""
        return self.declare(queue, passive=True).message_count

    def wait_for_count(self, queue: str, count: int):
        """Waits until a queue has that many messages ready."""
        wait_until(f"{queue} has {count} ready messages", lambda: self.count(queue) == count)
        self.note("ready messages", queue=queue, count=count)

    # --- messages ---

    def publish(self, exchange: str, routing_key: str, body: bytes | str = b"", mandatory=False, immediate=False,
                **properties):  # fmt: skip
        self.send("basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory,
                  immediate=immediate)  # fmt: skip
        body = body.encode() if isinstance(body, str) else body
        self.client.connection.send_content(self.number, properties, body)

    def confirm(self) -> "Channel":
        """Turns on publisher confirms."""
        self.ask("confirm.select", "confirm.select-ok")
        return self

    def confirms(self, *tags: int) -> dict[str, list[int]]:
        """Waits until each of these publishes is confirmed or refused. How a broker gathers them is its own affair, so
        the transcript has their sum."""
        sums = self.gather_confirms(*tags)
        self.note("confirms", **{kind: ranges(tags) for kind, tags in sums.items()})
        return sums

    def gather_confirms(self, *tags: int) -> dict[str, list[int]]:
        sums: dict[str, list[int]] = {"acked": [], "nacked": []}
        open_tags = set(tags)
        while open_tags:
            event = self.client.wait(self.number, ANSWER_SECONDS)
            if event.name not in ("basic.ack", "basic.nack"):
                self.client.record(event)
                raise Failure(f"expected the confirms of {sorted(open_tags)}, found {event.name} {event.fields}")
            settled = {tag for tag in open_tags if tag == event.delivery_tag or event.multiple and tag < event.delivery_tag}
            if not settled:
                raise Failure(f"expected the confirms of {sorted(open_tags)}, found {event.name} {event.fields}")
            open_tags -= settled
            sums["acked" if event.name == "basic.ack" else "nacked"] += sorted(settled)
        return {kind: sorted(found) for kind, found in sums.items()}

    def publish_confirmed(self, exchange: str, routing_key: str, *bodies: bytes | str, **properties):
        """Publishes on a channel of its own and waits for the acks, unrecorded: what follows finds the messages routed."""
        publisher = self.client.channel().confirm()
        for body in bodies:
            publisher.publish(exchange, routing_key, body, **properties)
        expect("publishes refused", publisher.gather_confirms(*range(1, len(bodies) + 1))["nacked"], [])
        publisher.close()

    def get(self, queue: str, no_ack: bool = True) -> Received:
        """get-ok with its message, or get-empty; recorded."""
        return self.call("basic.get", queue=queue, no_ack=no_ack)

    def get_all(self, queue: str) -> list[Received]:
        """Empties a queue."""
        found = []
        while (event := self.get(queue)).name == "basic.get-ok":
            found.append(event)
        check(event, "basic.get-empty", {})
        return found

    def consume(self, queue: str, tag: str = "", **fields) -> str:
        """Starts a consumer, and returns its tag."""
        self.send("basic.consume", queue=queue, consumer_tag=tag, **fields)
        return self.expect("basic.consume-ok").consumer_tag

    def deliveries(self, count: int) -> list[Received]:
        return [self.expect("basic.deliver") for _ in range(count)]

    def qos(self, prefetch_count: int, is_global: bool = False):
        self.ask("basic.qos", "basic.qos-ok", prefetch_count=prefetch_count, **{"global": is_global})

    def ack(self, delivery_tag: int, multiple: bool = False):
        self.send("basic.ack", delivery_tag=delivery_tag, multiple=multiple)

    def nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True):
        self.send("basic.nack", delivery_tag=delivery_tag, multiple=multiple, requeue=requeue)

    def reject(self, delivery_tag: int, requeue: bool = True):
        self.send("basic.reject", delivery_tag=delivery_tag, requeue=requeue)

    def expect_nothing(self, *queues: str):
        """Nothing has arrived, and nothing is on its way: each queue was asked a question, and then the channel."""
        for queue in queues:
            self.round_trip("queue.declare", "queue.declare-ok", queue=queue, passive=True)
        self.round_trip("channel.flow", "channel.flow-ok", active=True)
        self.note("nothing more")

    def round_trip(self, name: str, answer: str, **fields):
        self.send(name, **fields)
        event = self.client.wait(self.number, ANSWER_SECONDS)
        if event.name != answer:
            self.client.record(event)
            raise Failure(f"expected nothing before {answer}, found {event.name} {event.fields} {event.body!r}")

    def note(self, entry: str, **fields):
        self.client.transcript.note(f"{self.client.label}.{self.number} {entry}", **fields)


def check(event: Received, name: str, fields: dict[str, Any]) -> Received:
    """Fails unless the event is the named one with these fields, of properties and body too."""
    if event.name != name:
        raise Failure(f"expected {name}, found {event.name} {event.fields}")
    for field, expected in fields.items():
        found = getattr(event, field) if field in ("body", "properties") else event.fields[field]
        expect(f"{field} of {name}", found, expected)
    return event


def check_close(event: Received, name: str, code: int, text: str | None, failed: str | None) -> Received:
    check(event, name, {"reply_code": code})
    if text is not None:
        expect("reply text", event.reply_text, text)
    if failed is not None:
        expect("failed method", (event.class_id, event.method_id), numbers_of(failed))
    return event
