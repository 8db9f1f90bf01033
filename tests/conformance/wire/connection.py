"""A socket that carries frames: what arrives is put together to methods with their content, per channel, in order."""

import socket
import struct
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from .methods import WITH_CONTENT, decode_header, decode_method, encode_header, encode_method

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
END_OF_STREAM = "end of stream"
HEARTBEAT_NAME = "heartbeat"
ANSWER_SECONDS = 15


class Timeout(Exception):
    """Nothing of what was waited for arrived before the deadline."""


@dataclass
class Received:
    """A method from the peer, with its content if it has one; or the end of its stream."""

    channel: int
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] | None = None
    body: bytes | None = None
    body_frames: int = 0

    def __getattr__(self, name):
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(f"{self.name} has no field {name}") from None


class Connection:
    """One TCP connection to a broker. Every wait has a deadline; a peer's end of stream is an event like others."""

    def __init__(self, host: str, port: int):
        self.socket = socket.create_connection((host, port), timeout=ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.inboxes: dict[int, deque[Received]] = defaultdict(deque)
        self.unfinished: dict[int, tuple[Received, int]] = {}
        self.frame_sizes: list[tuple[int, int, int]] = []
        self.heartbeats = 0
        self.has_ended = False
        self.frame_max = 131072

    # --- writing ---

    def send_bytes(self, data: bytes):
        try:
            self.socket.settimeout(ANSWER_SECONDS)
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the peer said before it went is still to be read, and says more than this does

    def send_frame(self, kind: int, channel: int, payload: bytes, end: int = FRAME_END):
        self.send_bytes(encode_frame(kind, channel, payload, end))

    def send_method(self, channel: int, name: str, **fields):
        self.send_frame(METHOD, channel, encode_method(name, fields))

    def send_content(self, channel: int, properties: dict[str, Any], body: bytes):
        self.send_bytes(self.encode_content(channel, properties, body))

    def encode_content(self, channel: int, properties: dict[str, Any], body: bytes) -> bytes:
        frames = [encode_frame(HEADER, channel, encode_header(properties, len(body)))]
        step = (self.frame_max or 131072) - 8
        frames += [encode_frame(BODY, channel, body[at : at + step]) for at in range(0, len(body), step)]
        return b"".join(frames)

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection at once, without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # --- reading ---

    def receive(self, channel: int, seconds: float = ANSWER_SECONDS) -> Received:
        """The next event of a channel. What concerns the whole connection ends every channel's events."""
        deadline = time.monotonic() + seconds
        while True:
            if self.inboxes[channel]:
                return self.inboxes[channel].popleft()
            if channel != 0 and any(event.name == "connection.close" for event in self.inboxes[0]):
                return self.receive(0, seconds)
            if self.has_ended:
                return Received(channel, END_OF_STREAM)
            self.read_frame(deadline)

    def read_frame(self, deadline: float):
        """Reads one frame and files what it completes."""
        head = self.take(7, deadline)
        if head is None:
            self.has_ended = True
            return
        kind, channel, size = struct.unpack(">BHI", head)
        payload = self.take(size + 1, deadline)
        if payload is None or payload[-1] != FRAME_END:
            raise ValueError(f"expected a frame of {size} bytes with its end, found {payload!r}")
        self.frame_sizes.append((kind, channel, size + 8))
        self.file(kind, channel, payload[:-1])

    def file(self, kind: int, channel: int, payload: bytes):
        if kind == METHOD:
            self.file_method(channel, *decode_method(payload))
        elif kind == HEADER:
            self.file_header(channel, *decode_header(payload))
        elif kind == BODY:
            self.file_body(channel, payload)
        elif kind == HEARTBEAT and channel == 0 and not payload:
            self.heartbeats += 1
        else:
            raise ValueError(f"expected a frame of AMQP, found type {kind} on channel {channel}: {payload!r}")

    def file_method(self, channel: int, name: str, fields: dict[str, Any]):
        if channel in self.unfinished:
            raise ValueError(f"expected the rest of {self.unfinished[channel][0].name}, found {name}")
        event = Received(channel, name, fields)
        if name in WITH_CONTENT:
            self.unfinished[channel] = (event, -1)
        else:
            self.inboxes[channel].append(event)

    def file_header(self, channel: int, size: int, properties: dict[str, Any]):
        event, _ = self.unfinished[channel]
        event.properties, event.body = properties, b""
        self.unfinished[channel] = (event, size)
        self.finish(channel)

    def file_body(self, channel: int, payload: bytes):
        event, _ = self.unfinished[channel]
        event.body += payload
        event.body_frames += 1
        self.finish(channel)

    def finish(self, channel: int):
        event, size = self.unfinished[channel]
        if len(event.body) == size:
            del self.unfinished[channel]
            self.inboxes[channel].append(event)

    def take(self, count: int, deadline: float) -> bytes | None:
        """That many bytes, or nothing when the stream ends before."""
        while len(self.buffer) < count:
            if not self.fill(deadline):
                return None
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def fill(self, deadline: float) -> bool:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise Timeout()
        self.socket.settimeout(remaining)
        try:
            data = self.socket.recv(1 << 18)
        except TimeoutError:
            raise Timeout() from None
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)


def encode_frame(kind: int, channel: int, payload: bytes, end: int = FRAME_END) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])
