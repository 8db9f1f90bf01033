"""What a case is given: a broker to connect to, names of its own, and a transcript that is kept of all."""

import contextlib
from string import ascii_lowercase
from typing import Any

from wire.connection import Timeout

from .case import Case, Failure
from .client import Channel, Client
from .nodes import Node
from .transcript import Transcript


class Broker:
    """One broker as one case sees it."""

    def __init__(self, case: Case, node: Node):
        self.case = case
        self.node = node
        self.transcript = Transcript()
        self.clients: list[Client] = []
        self.queues: list[str] = []
        self.exchanges: list[str] = []

    # --- connections ---

    def raw(self, label: str | None = None) -> Client:
        """A TCP connection on which nothing has been said."""
        label = label or ascii_lowercase[len(self.clients) % len(ascii_lowercase)]
        client = Client(self.node.host, self.node.port, label, self.transcript)
        self.clients.append(client)
        return client

    def connect(self, label: str | None = None, **opening) -> Client:
        """An open connection; `opening` is that of `Client.open`."""
        return self.raw(label).open(**opening)

    def channel(self, label: str | None = None, **opening) -> Channel:
        """A channel on a connection of its own."""
        return self.connect(label, **opening).channel()

    # --- names ---

    def queue(self, suffix: str = "q") -> str:
        """A queue's name which no other case has; the queue is deleted at the end."""
        return self.own(self.queues, suffix)

    def exchange(self, suffix: str = "x") -> str:
        """The same for an exchange."""
        return self.own(self.exchanges, suffix)

    def own(self, names: list[str], suffix: str) -> str:
        name = f"{self.case.name}.{suffix}"
        if name not in names:
            names.append(name)
        return name

    # --- the broker itself ---

    def import_definitions(self, definitions: dict[str, Any]):
        """Adds users, vhosts, permissions and policies, as a RabbitMQ definitions file has them."""
        self.node.import_definitions(definitions)

    def restart(self, kill: bool = False):
        """Ends the broker, in order or by kill -9, and starts it again with the same data and port."""
        self.node.restart(kill)

    def note(self, entry: str, **fields):
        self.transcript.note(entry, **fields)

    # --- the end ---

    def clean(self):
        """Ends what the case began. That it works is no part of the case."""
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.connection.close()
        if self.node.is_disposable or not (self.queues or self.exchanges):
            return
        with contextlib.suppress(Failure, OSError, ValueError, Timeout):
            self.delete_all(self.connect("cleaner").channel())

    def delete_all(self, channel: Channel):
        for queue in self.queues:
            channel.send("queue.delete", queue=queue)
        for exchange in self.exchanges:
            channel.send("exchange.delete", exchange=exchange)
        for _ in self.queues + self.exchanges:
            channel.client.wait(channel.number, 5)
        channel.client.close()
