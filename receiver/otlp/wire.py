"""Python values in, protobuf wire bytes out: varints, fields, and the KeyValue of opentelemetry.proto.common.v1."""

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = str | bytes | bool | int | float | Sequence[str | bytes | bool | int | float]

MAX_TEXT = 256  # bytes; a Collector stores longer and invalid strings as they are
_INT64 = 1 << 63
_GROUP = 0x7F  # the bits of a varint's byte that are not its continuation
_SHORT = [bytes([value]) for value in range(128)]
_DOUBLE = struct.Struct("<d")


def varint(value: int) -> bytes:
    """`value` (0 to 2^64 - 1) in as few bytes as it needs."""
    if 0 <= value < len(_SHORT):
        return _SHORT[value]
    if 0 <= value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if not 0 <= value < 1 << 64:
        message = f"varint: {value} is outside 0 to 2^64 - 1"
        raise ValueError(message)
    out = bytearray()
    while value > _GROUP:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def padded(value: int, width: int) -> bytes:
    """`value` as a varint of exactly `width` bytes: longer than needed, which parsers take as the same number."""
    if value < 0 or value >> (7 * width):
        message = f"varint: {value} does not fit {width} bytes"
        raise ValueError(message)
    groups = [value >> shift & 0x7F | 0x80 for shift in range(0, 7 * width, 7)]
    groups[-1] &= 0x7F
    return bytes(groups)


def tag(field: int, wire_type: int) -> bytes:
    """The tag of a field: wire type 0 is varint, 1 is 64 bits, 2 has a length."""
    return varint(field << 3 | wire_type)


def block(field: int, data: bytes) -> bytes:
    """`data` as the length-delimited field `field`: a string, bytes or a message."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def clean(text: str | bytes) -> bytes:
    """`text` as valid UTF-8 of at most MAX_TEXT bytes, cut between characters; what is invalid becomes U+FFFD."""
    if isinstance(text, str):
        try:
            data = text.encode()
        except UnicodeEncodeError:  # undecodable bytes that Python carries as lone surrogates
            data = text.encode(errors="replace")
    else:
        data = text.decode(errors="replace").encode()
    if len(data) <= MAX_TEXT:
        return data
    end = MAX_TEXT
    while data[end] & 0xC0 == 0x80:  # noqa: PLR2004 - a byte inside a UTF-8 character
        end -= 1
    return data[:end]


def any_value(value: Value) -> bytes:
    """The AnyValue of `value`; raises ValueError for an int outside 64 bits, TypeError for what OTLP has no form of."""
    match value:
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case str() | bytes():
            return block(1, clean(value))
        case int():
            if not -_INT64 <= value < _INT64:
                message = f"{value} does not fit a signed 64-bit integer"
                raise ValueError(message)
            return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
        case float():
            return b"\x21" + _DOUBLE.pack(value)
        case Sequence():
            return block(5, b"".join(block(1, any_value(item)) for item in value))
        case _:
            message = f"{type(value).__name__} has no OTLP form"  # type: ignore[unreachable] # values come from outside
            raise TypeError(message)


def key_value(key: str, value: Value) -> bytes:
    """The KeyValue of one attribute; errors name the key."""
    try:
        return block(1, clean(key)) + block(2, any_value(value))
    except (TypeError, ValueError) as error:
        message = f"attribute {key}: {error}"
        raise type(error)(message) from error


def attributes(field: int, values: Mapping[str, Value]) -> bytes:
    """Each attribute as a KeyValue in the repeated field `field`: 1 Resource, 6 LogRecord, 7 and 9 data points."""
    return b"".join(block(field, key_value(key, value)) for key, value in values.items())


def scope(name: str, version: str) -> bytes:
    """The InstrumentationScope with its tag: field 1 of ScopeLogs, ScopeMetrics and ScopeSpans."""
    text = block(1, clean(name))
    if version:
        text += block(2, clean(version))
    return block(1, text)
