"""Every method of AMQP 0-9-1 with RabbitMQ's extensions, and the properties of a content header."""

from typing import Any, NamedTuple

from .values import Reader, encode_long_string, encode_short_string, encode_table
import struct

SPECIFICATION = """
10 connection
  10 start          octet:version_major octet:version_minor table:server_properties longstr:mechanisms longstr:locales
  11 start-ok       table:client_properties shortstr:mechanism longstr:response shortstr:locale
  20 secure         longstr:challenge
  21 secure-ok      longstr:response
  30 tune           short:channel_max long:frame_max short:heartbeat
  31 tune-ok        short:channel_max long:frame_max short:heartbeat
  40 open           shortstr:virtual_host shortstr:capabilities bit:insist
  41 open-ok        shortstr:known_hosts
  50 close          short:reply_code shortstr:reply_text short:class_id short:method_id
  51 close-ok
  60 blocked        shortstr:reason
  61 unblocked
  70 update-secret  longstr:new_secret shortstr:reason
  71 update-secret-ok
20 channel
  10 open           shortstr:out_of_band
  11 open-ok        longstr:channel_id
  20 flow           bit:active
  21 flow-ok        bit:active
  40 close          short:reply_code shortstr:reply_text short:class_id short:method_id
  41 close-ok
30 access
  10 request        shortstr:realm bit:exclusive bit:passive bit:active bit:write bit:read
  11 request-ok     short:ticket
40 exchange
  10 declare        short:ticket shortstr:exchange shortstr:type bit:passive bit:durable bit:auto_delete bit:internal
                    bit:nowait table:arguments
  11 declare-ok
  20 delete         short:ticket shortstr:exchange bit:if_unused bit:nowait
  21 delete-ok
  30 bind           short:ticket shortstr:destination shortstr:source shortstr:routing_key bit:nowait table:arguments
  31 bind-ok
  40 unbind         short:ticket shortstr:destination shortstr:source shortstr:routing_key bit:nowait table:arguments
  51 unbind-ok
50 queue
  10 declare        short:ticket shortstr:queue bit:passive bit:durable bit:exclusive bit:auto_delete bit:nowait
                    table:arguments
  11 declare-ok     shortstr:queue long:message_count long:consumer_count
  20 bind           short:ticket shortstr:queue shortstr:exchange shortstr:routing_key bit:nowait table:arguments
  21 bind-ok
  30 purge          short:ticket shortstr:queue bit:nowait
  31 purge-ok       long:message_count
  40 delete         short:ticket shortstr:queue bit:if_unused bit:if_empty bit:nowait
  41 delete-ok      long:message_count
  50 unbind         short:ticket shortstr:queue shortstr:exchange shortstr:routing_key table:arguments
  51 unbind-ok
60 basic
  10 qos            long:prefetch_size short:prefetch_count bit:global
  11 qos-ok
  20 consume        short:ticket shortstr:queue shortstr:consumer_tag bit:no_local bit:no_ack bit:exclusive bit:nowait
                    table:arguments
  21 consume-ok     shortstr:consumer_tag
  30 cancel         shortstr:consumer_tag bit:nowait
  31 cancel-ok      shortstr:consumer_tag
  40 publish        short:ticket shortstr:exchange shortstr:routing_key bit:mandatory bit:immediate
  50 return         short:reply_code shortstr:reply_text shortstr:exchange shortstr:routing_key
  60 deliver        shortstr:consumer_tag longlong:delivery_tag bit:redelivered shortstr:exchange shortstr:routing_key
  70 get            short:ticket shortstr:queue bit:no_ack
  71 get-ok         longlong:delivery_tag bit:redelivered shortstr:exchange shortstr:routing_key long:message_count
  72 get-empty      shortstr:cluster_id
  80 ack            longlong:delivery_tag bit:multiple
  90 reject         longlong:delivery_tag bit:requeue
 100 recover-async  bit:requeue
 110 recover        bit:requeue
 111 recover-ok
 120 nack           longlong:delivery_tag bit:multiple bit:requeue
85 confirm
  10 select         bit:nowait
  11 select-ok
90 tx
  10 select
  11 select-ok
  20 commit
  21 commit-ok
  30 rollback
  31 rollback-ok
"""

PROPERTIES = [
    ("content_type", "shortstr"), ("content_encoding", "shortstr"), ("headers", "table"), ("delivery_mode", "octet"),
    ("priority", "octet"), ("correlation_id", "shortstr"), ("reply_to", "shortstr"), ("expiration", "shortstr"),
    ("message_id", "shortstr"), ("timestamp", "timestamp"), ("type", "shortstr"), ("user_id", "shortstr"),
    ("app_id", "shortstr"), ("cluster_id", "shortstr"),
]  # fmt: skip

BASIC = 60
WITH_CONTENT = {"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"}
LAYOUTS = {"octet": ">B", "short": ">H", "long": ">I", "longlong": ">Q", "timestamp": ">Q"}


class Shape(NamedTuple):
    """What a method looks like: its numbers and its arguments, each with the type it is written as."""

    class_id: int
    method_id: int
    arguments: list[tuple[str, str]]


def shapes_of(specification: str) -> dict[str, Shape]:
    shapes, class_id, class_name, arguments = {}, 0, "", []
    for word in specification.split():
        if word.isdigit():
            number = int(word)
        elif ":" in word:
            kind, name = word.split(":")
            arguments.append((name, kind))
        elif word in ("connection", "channel", "access", "exchange", "queue", "basic", "confirm", "tx"):
            class_id, class_name = number, word
        else:
            arguments = []
            shapes[f"{class_name}.{word}"] = Shape(class_id, number, arguments)
    return shapes


SHAPES = shapes_of(SPECIFICATION)
NAMES = {(shape.class_id, shape.method_id): name for name, shape in SHAPES.items()}


def numbers_of(name: str) -> tuple[int, int]:
    """Class and method number, as a close names the method that failed; of the empty name 0 and 0."""
    return (0, 0) if not name else SHAPES[name][:2]


def encode_method(name: str, fields: dict[str, Any]) -> bytes:
    shape = SHAPES[name]
    unknown = set(fields) - {argument for argument, _ in shape.arguments}
    if unknown:
        raise TypeError(f"{name} has no argument {', '.join(sorted(unknown))}")
    return struct.pack(">HH", shape.class_id, shape.method_id) + encode_arguments(shape.arguments, fields)


def encode_arguments(arguments, fields) -> bytes:
    parts, bits = [], []
    for name, kind in arguments:
        if kind == "bit":
            bits.append(bool(fields.get(name, False)))
            continue
        parts.append(encode_bits(bits))
        bits = []
        parts.append(encode_argument(kind, fields.get(name)))
    return b"".join(parts) + encode_bits(bits)


def encode_bits(bits: list[bool]) -> bytes:
    return bytes([sum(bit << place for place, bit in enumerate(bits))]) if bits else b""


def encode_argument(kind: str, value) -> bytes:
    if kind == "shortstr":
        return encode_short_string(value or "")
    if kind == "longstr":
        return encode_long_string(value or "")
    if kind == "table":
        return encode_table(value or {})
    return struct.pack(LAYOUTS[kind], value or 0)


def decode_method(payload: bytes) -> tuple[str, dict[str, Any]]:
    reader = Reader(payload)
    numbers = (reader.number(">H"), reader.number(">H"))
    name = NAMES[numbers]
    fields = decode_arguments(reader, SHAPES[name].arguments)
    if reader.rest():
        raise ValueError(f"expected {name} to end, found {reader.rest()!r}")
    return name, fields


def decode_arguments(reader: Reader, arguments) -> dict[str, Any]:
    fields, place = {}, 8
    for name, kind in arguments:
        if kind != "bit":
            fields[name] = decode_argument(reader, kind)
            place = 8
            continue
        if place == 8:
            bits, place = reader.number(">B"), 0
        fields[name] = bool(bits >> place & 1)
        place += 1
    return fields


def decode_argument(reader: Reader, kind: str):
    if kind == "shortstr":
        return reader.short_string()
    if kind == "longstr":
        return reader.long_string()
    if kind == "table":
        return reader.table()
    return reader.number(LAYOUTS[kind])


def encode_header(properties: dict[str, Any], body_size: int, class_id: int = BASIC) -> bytes:
    unknown = set(properties) - {name for name, _ in PROPERTIES}
    if unknown:
        raise TypeError(f"a message has no property {', '.join(sorted(unknown))}")
    flags, parts = 0, []
    for place, (name, kind) in enumerate(PROPERTIES):
        if name in properties:
            flags |= 1 << (15 - place)
            parts.append(encode_argument(kind, properties[name]))
    return struct.pack(">HHQH", class_id, 0, body_size, flags) + b"".join(parts)


def decode_header(payload: bytes) -> tuple[int, dict[str, Any]]:
    """The announced size of the body, and the properties that are present."""
    reader = Reader(payload)
    _class_id, _weight, body_size, flags = (reader.number(f) for f in (">H", ">H", ">Q", ">H"))
    present = [entry for place, entry in enumerate(PROPERTIES) if flags >> (15 - place) & 1]
    return body_size, {name: decode_argument(reader, kind) for name, kind in present}
