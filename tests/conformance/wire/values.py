"""Field values: RabbitMQ's type codes, and field tables made of them.

A decoded value is a `Typed`, so that a table read is a table that can be written byte for byte. For writing, plain
Python values stand for the usual codes.

    S long string   I signed 32   l, L signed 64   s signed 16   b signed 8   t bool   T timestamp   F table
    x byte array    i unsigned 32  u unsigned 16    B unsigned 8  d double     f float  D decimal     A array  V void
"""

import struct
from typing import Any, NamedTuple


class Typed(NamedTuple):
    """A value under its type code; of a table (F) a dict, of an array (A) a list, both of further `Typed` values."""

    code: str
    value: Any


NUMBERS = {
    "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I",
    "l": ">q", "L": ">q", "T": ">Q", "d": ">d", "f": ">f",
}  # fmt: skip


class Reader:
    """Takes values one after the other from bytes; what is left over is seen by `rest`."""

    def __init__(self, data: bytes):
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.position : self.position + count]
        if len(taken) < count:
            raise ValueError(f"expected {count} more bytes, found {len(taken)}")
        self.position += count
        return taken

    def number(self, layout: str):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def short_string(self) -> str:
        return text(self.take(self.number(">B")))

    def long_string(self) -> bytes:
        return self.take(self.number(">I"))

    def table(self) -> dict[str, Typed]:
        inner = Reader(self.long_string())
        entries = {}
        while inner.rest():
            name = inner.short_string()
            entries[name] = inner.value()
        return entries

    def array(self) -> list[Typed]:
        inner = Reader(self.long_string())
        entries = []
        while inner.rest():
            entries.append(inner.value())
        return entries

    def value(self) -> Typed:
        code = chr(self.number(">B"))
        return Typed(code, self.value_of(code))

    def value_of(self, code: str):
        if code in NUMBERS:
            return self.number(NUMBERS[code])
        if code == "t":
            return self.number(">B") != 0
        if code == "S":
            return text(self.long_string())
        if code == "x":
            return self.long_string()
        if code == "D":
            return (self.number(">B"), self.number(">I"))
        if code == "F":
            return self.table()
        if code == "A":
            return self.array()
        if code == "V":
            return None
        raise ValueError(f"expected a type code of RabbitMQ, found {code!r}")

    def rest(self) -> bytes:
        return self.data[self.position :]


def encode_short_string(value: str | bytes) -> bytes:
    data = octets(value)
    return struct.pack(">B", len(data)) + data


def encode_long_string(value: str | bytes) -> bytes:
    data = octets(value)
    return struct.pack(">I", len(data)) + data


def encode_table(table: dict[str, Any]) -> bytes:
    return encode_long_string(b"".join(encode_short_string(k) + encode_value(v) for k, v in table.items()))


def encode_array(values: list) -> bytes:
    return encode_long_string(b"".join(encode_value(v) for v in values))


def encode_value(value) -> bytes:
    code, value = typed(value)
    return code.encode("latin-1") + encode_value_of(code, value)


def encode_value_of(code: str, value) -> bytes:
    if code in NUMBERS:
        return struct.pack(NUMBERS[code], value)
    if code == "t":
        return struct.pack(">B", int(value))
    if code in "Sx":
        return encode_long_string(value)
    if code == "D":
        return struct.pack(">BI", *value)
    if code == "F":
        return encode_table(value)
    if code == "A":
        return encode_array(value)
    if code == "V":
        return b""
    return value  # a code nobody knows, with the bytes that are to follow it


def typed(value) -> Typed:
    """The code under which a plain value is written."""
    if isinstance(value, Typed):
        return value
    if isinstance(value, bool):
        return Typed("t", value)
    if isinstance(value, int):
        return Typed("I" if -(2**31) <= value < 2**31 else "l", value)
    codes = {str: "S", bytes: "x", float: "d", dict: "F", list: "A", type(None): "V"}
    return Typed(codes[type(value)], value)


def plain(value):
    """A decoded value or table without its type codes."""
    if isinstance(value, Typed):
        return plain(value.value)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def octets(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
