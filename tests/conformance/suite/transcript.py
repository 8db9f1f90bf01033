"""What a case saw, in a form in which two brokers can be compared: random values have given way to their shape."""

import re
import time
from typing import Any

from wire.connection import Received
from wire.values import Typed

NOW_SECONDS = 3600
# Base64 as Erlang's node prints it, 22 characters of 16 random bytes.
SHAPES = [
    (re.compile(r"amq\.gen-[A-Za-z0-9_-]{22}"), "amq.gen-<22 characters>"),
    (re.compile(r"amq\.ctag-[A-Za-z0-9_-]{22}"), "amq.ctag-<22 characters>"),
    (re.compile(r"amq\.rabbitmq\.reply-to\.[A-Za-z0-9+/=_-]+\.[A-Za-z0-9+/=_-]+"), "amq.rabbitmq.reply-to.<address>"),
]
TYPE_WORDS = {"S": "", "I": "int32 ", "l": "int64 ", "t": "", "F": "", "A": "", "V": "", "T": "timestamp ",
              "x": "bytes ", "b": "int8 ", "B": "uint8 ", "s": "int16 ", "u": "uint16 ", "i": "uint32 ",
              "L": "L int64 ", "d": "double ", "f": "float ", "D": "decimal "}  # fmt: skip


class Transcript:
    """Entries in the order in which the case looked at them, each with what it concerns and fields as plain data."""

    def __init__(self):
        self.entries: list[dict[str, Any]] = []

    def event(self, label: str, received: Received):
        """Records what a peer sent."""
        fields = dict(received.fields)
        if received.properties is not None:
            fields["properties"] = received.properties
            fields["body"] = received.body
        self.note(f"{label} {received.name}", **fields)

    def note(self, entry: str, **fields):
        """Records anything else that was seen."""
        self.entries.append({"entry": entry, **{name: normal(value) for name, value in fields.items()}})


def normal(value):
    """Plain data, equal on two brokers if they behave the same."""
    if isinstance(value, Typed):
        return normal_typed(value)
    if isinstance(value, dict):
        return {normal_text(name): normal(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [normal(inner) for inner in value]
    if isinstance(value, bytes):
        return normal_body(value)
    if isinstance(value, str):
        return normal_text(value)
    return value


def normal_typed(value: Typed):
    if value.code == "T" and abs(value.value - time.time()) < NOW_SECONDS:
        return "timestamp <now>"
    if value.code in "FA" or value.code == "t" or value.code == "V":
        return normal(value.value)
    return TYPE_WORDS.get(value.code, value.code + " ") + str(normal(value.value))


def normal_text(text: str) -> str:
    for shape, name in SHAPES:
        text = shape.sub(name, text)
    return text.encode("utf-8", "backslashreplace").decode()


def normal_body(body: bytes) -> str:
    if len(body) > 300:
        return f"{len(body)} bytes, {body[:16]!r}..."
    return normal_text(body.decode("utf-8", "backslashreplace"))


def ranges(numbers: list[int]) -> str:
    """1-3 5 7-9"""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
