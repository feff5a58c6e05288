"""One OTLP export request in, its two halves out: for a receiver that says a request is too large."""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from receiver.otlp import wire
from receiver.otlp.encoded import Encoded

Signal: TypeAlias = Literal["logs", "metrics", "traces"]

_LENGTH_DELIMITED: Final = 2
_VARINT_MAX = 10  # bytes
_FIXED = {1: 8, 5: 4}
# The fields that lead from a request to its items: Resource, scope, then records, spans, or Metric, data, points.
_PATHS: dict[Signal, tuple[frozenset[int], ...]] = {
    "logs": (frozenset({1}), frozenset({2}), frozenset({2})),
    "traces": (frozenset({1}), frozenset({2}), frozenset({2})),
    "metrics": (frozenset({1}), frozenset({2}), frozenset({2}), frozenset({5, 7, 9, 10, 11}), frozenset({1})),
}
_Path: TypeAlias = tuple[frozenset[int], ...]


def count(signal: Signal, data: bytes) -> int:
    """How many log records, data points or spans a request has. Raises ValueError that says where it is malformed."""
    return _count(memoryview(data), 0, len(data), _PATHS[signal])


def split(signal: Signal, data: bytes) -> tuple[Encoded, Encoded] | None:
    """The first and the second half of a request's items, each with what surrounds it; None if there is only one.

    Fields that are not known are kept, in both halves. A level without items is left out. Raises ValueError that says
    where the request is malformed.
    """
    items = count(signal, data)
    if items < 2:  # noqa: PLR2004 - halves
        return None
    first = (items + 1) // 2
    view, path = memoryview(data), _PATHS[signal]
    return (
        Encoded(_Part(view, 0, first).message(0, len(data), path), first),
        Encoded(_Part(view, first, items).message(0, len(data), path), items - first),
    )


class _Part:
    """The items numbered from `first` up to `last` of the request in `view`; walks it once."""

    def __init__(self, view: memoryview, first: int, last: int) -> None:
        self._view = view
        self._first = first
        self._last = last
        self._seen = 0

    def message(self, begin: int, end: int, path: _Path) -> bytes:
        """The message between `begin` and `end` with the part's items only; empty if it has none of them."""
        inside, *below = path
        parts: list[bytes | memoryview] = []
        some = False
        for field, start, body, after in _fields(self._view, begin, end):
            if field not in inside:
                parts.append(self._view[start:after])
            elif below:
                kept = self.message(body, after, tuple(below))
                if kept:
                    parts.append(wire.block(field, kept))
                    some = True
            else:
                if self._first <= self._seen < self._last:
                    parts.append(self._view[start:after])
                    some = True
                self._seen += 1
        return b"".join(parts) if some else b""


def _count(view: memoryview, begin: int, end: int, path: _Path) -> int:
    inside, *below = path
    found = [(body, after) for field, _, body, after in _fields(view, begin, end) if field in inside]
    return sum(_count(view, body, after, tuple(below)) for body, after in found) if below else len(found)


def _fields(view: memoryview, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field between `begin` and `end`: number (0 if it has no length), start, start of its body, and end."""
    at = begin
    while at < end:
        start = at
        tag, at = _varint(view, at, end)
        number, wire_type = tag >> 3, tag & 7
        body = at
        if number == 0:
            message = f"byte {start}: field number 0"
            raise ValueError(message)
        if wire_type == _LENGTH_DELIMITED:
            length, body = _varint(view, at, end)
            at = body + length
        elif wire_type in _FIXED:
            at += _FIXED[wire_type]
        elif wire_type == 0:
            _, at = _varint(view, at, end)
        else:
            message = f"byte {start}: wire type {wire_type} does not belong in an OTLP request"
            raise ValueError(message)
        if at > end:
            message = f"byte {start}: a field of {at - body} bytes passes the end of its message"
            raise ValueError(message)
        yield number if wire_type == _LENGTH_DELIMITED else 0, start, body, at


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """The varint at `at` and where it ends."""
    value = 0
    for number, byte in enumerate(view[at : min(end, at + _VARINT_MAX)]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:  # noqa: PLR2004 - no continuation bit
            return value, at + number + 1
    message = f"byte {at}: a varint without an end"
    raise ValueError(message)
