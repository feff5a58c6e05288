"""A serialised protobuf message in, its fields out; for the few small messages that a destination answers with."""

from collections.abc import Iterator
from typing import Final, TypeAlias

# A varint or fixed field has its number, a length-delimited one its bytes.
Field: TypeAlias = tuple[int, int | bytes]

MAX_FIELDS: Final = 1024  # more are not read: answers come from outside
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES: Final = 10
_U64: Final = (1 << 64) - 1


def fields(data: bytes) -> Iterator[Field]:
    """Each field's number and value, in order. Raises ValueError where the message is malformed."""
    at = 0
    for _ in range(MAX_FIELDS):
        if at >= len(data):
            return
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        value: int | bytes
        if wire_type == _VARINT:
            value, at = _varint(data, at)
        else:
            if wire_type == _BYTES:
                length, at = _varint(data, at)
            elif wire_type in (_FIXED64, _FIXED32):
                length = 8 if wire_type == _FIXED64 else 4
            else:
                message = f"byte {at}: wire type {wire_type}"
                raise ValueError(message)
            value = data[at : at + length]
            at += length
            if at > len(data):
                message = f"byte {at - length}: a field passes the end of its message"
                raise ValueError(message)
            if wire_type != _BYTES:
                value = int.from_bytes(value, "little")
        if number == 0:
            message = f"byte {at}: field number 0"
            raise ValueError(message)
        yield number, value


def signed(value: int) -> int:
    """An int64 as it was before it became a varint."""
    return value - (1 << 64) if value >> 63 else value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:  # noqa: PLR2004 - no continuation bit
            return value & _U64, at + shift + 1
    message = f"byte {at}: a varint without an end"
    raise ValueError(message)
