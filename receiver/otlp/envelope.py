"""Runs of items, each of one Resource, in; export requests under a size out: what logs, metrics and traces share."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

from receiver.otlp import wire
from receiver.otlp.encoded import Encoded
from receiver.otlp.semconv import SCHEMA_URL

Parts: TypeAlias = list[bytes | memoryview]

_SCHEMA = wire.block(3, SCHEMA_URL.encode())
_SCHEMAS = _SCHEMA + _SCHEMA  # of the scope's level, then of the Resource's
_FRAME = 18  # bytes: tag and length of a Resource's level, the Resource and the scope's level, at their longest


class Run(Protocol):
    """Items of one Resource that may be cut between any two."""

    @property
    def resource(self) -> int:
        """Index of the Resource."""

    @property
    def count(self) -> int:
        """How many items."""

    def fits(self, at: int, room: int) -> int:
        """How many items from `at` on go into `room` bytes; 0 or less if none does."""

    def cut(self, at: int, count: int, parts: Parts) -> int:
        """Append `count` items from `at` on, as fields of a scope's level; their size in bytes."""


def pack(runs: Iterable[Run], resources: Sequence[bytes], scope: bytes, max_bytes: int) -> Iterator[Encoded]:
    """Requests with every item once, none larger than `max_bytes` unless one item alone is.

    `runs` come in order of Resource; `scope` is an InstrumentationScope with its tag.
    """
    overhead = len(scope) + len(_SCHEMAS) + _FRAME
    done: Parts = []
    held: Parts = []  # what the open Resource has so far, `size` bytes
    used = size = items = 0  # `used`: the bytes of `done`, at most
    number = -1
    resource = b""
    for run in runs:
        if run.resource != number:
            if held:
                done += _wrap(resource, scope, held, size)
                used += overhead + len(resource) + size
                held, size = [], 0
            number = run.resource
            resource = resources[number]
        at = 0
        while at < run.count:
            count = run.fits(at, max_bytes - used - overhead - len(resource) - size)
            if count <= 0:
                if items:
                    done += _wrap(resource, scope, held, size)
                    yield Encoded(b"".join(done), items)
                    done, held, used, size, items = [], [], 0, 0, 0
                    continue
                count = 1
            size += run.cut(at, count, held)
            items += count
            at += count
    if items:
        done += _wrap(resource, scope, held, size)
        yield Encoded(b"".join(done), items)


def _wrap(resource: bytes, scope: bytes, held: Parts, size: int) -> Parts:
    """One ResourceLogs, ResourceMetrics or ResourceSpans, field 1 of the request, around `size` bytes of fields."""
    if not held:
        return []
    varint = wire.varint
    before = b"\x0a%b%b\x12%b%b" % (varint(len(resource)), resource, varint(len(scope) + size + len(_SCHEMA)), scope)
    length = len(before) + size + len(_SCHEMAS)
    return [b"\x0a" + varint(length) + before, *held, _SCHEMAS]
