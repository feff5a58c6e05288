"""Columns of data points in, OTLP metric export requests out: ready attributes joined, numbers patched in by numpy."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.otlp import vector, wire
from receiver.otlp.encoded import Encoded
from receiver.otlp.envelope import Parts, pack
from receiver.otlp.semconv import FLOW_SCOPE

Kind: TypeAlias = Literal["sum", "updown", "gauge", "histogram"]
Temporality: TypeAlias = Literal["cumulative", "delta"]

MAX_BYTES = 512 * 1024
_FIELDS = {"gauge": 5, "sum": 7, "updown": 7, "histogram": 9}  # of Metric
_TEMPORALITIES = {"delta": 1, "cumulative": 2}
_LENGTH = 3  # bytes of a point's padded length
_FRAME = 16  # bytes: tags and lengths of a Metric and its data, at their longest
_START, _VALUE, _COUNT, _TOTAL, _BUCKETS = 5, 23, 23, 32, 42  # where they stand in a point


@dataclass(frozen=True, slots=True)
class Instrument:
    """A metric as it is declared: once, and for good. `bounds` are a histogram's, ascending."""

    name: str
    unit: str
    description: str
    kind: Kind
    temporality: Temporality = "cumulative"
    bounds: tuple[float, ...] = ()


class PointAttributes(NamedTuple):
    """The attributes of one series, ready for each sort of data point (their field has two numbers)."""

    number: bytes
    histogram: bytes


def point_attributes(values: Mapping[str, wire.Value]) -> PointAttributes:
    """`values` as the attributes of data points; errors name the key."""
    return PointAttributes(wire.attributes(7, values), wire.attributes(9, values))


@dataclass(frozen=True, slots=True)
class Points:
    """n data points of a sum, updown or gauge."""

    instrument: Instrument
    resource: NDArray[np.uint32]  # index of the encoded Resource
    attributes: NDArray[np.integer]  # index into `series`
    series: Sequence[PointAttributes]
    start: NDArray[np.uint64]  # unix ns; 0 for none
    value: NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HistogramPoints:
    """n data points of a histogram with k bounds."""

    instrument: Instrument
    resource: NDArray[np.uint32]
    attributes: NDArray[np.integer]
    series: Sequence[PointAttributes]
    start: NDArray[np.uint64]
    count: NDArray[np.uint64]
    total: NDArray[np.float64]
    buckets: NDArray[np.uint64]  # (n, k + 1)


def points(
    instrument: Instrument, values: Iterable[tuple[Mapping[str, wire.Value], float]], start: int = 0, resource: int = 0
) -> Points:
    """A few points with their attributes as they are: Weir's own metrics. One double makes all of them doubles."""
    rows = list(values)
    numbers = [value for _, value in rows]
    whole = all(isinstance(number, int) for number in numbers)
    return Points(
        instrument,
        np.full(len(rows), resource, np.uint32),
        np.arange(len(rows)),
        [point_attributes(attributes) for attributes, _ in rows],
        np.full(len(rows), start, np.uint64),
        np.array(numbers, np.int64) if whole else np.array(numbers, np.float64),
    )


def encode_metrics(
    groups: Sequence[Points | HistogramPoints],
    resources: Sequence[bytes],
    time: int,
    *,
    scope: str = FLOW_SCOPE,
    version: str = "",
    max_bytes: int = MAX_BYTES,
) -> list[Encoded]:
    """Requests with every point once, by Resource, then instrument; cut between points where `max_bytes` asks for it.

    Groups of one instrument become one metric. `time` is that of every point, unix ns. Raises ValueError that names
    the instrument whose columns do not fit together or refer to a Resource that is not there.
    """
    instruments: dict[Instrument, list[Points | HistogramPoints]] = {}
    for group in groups:
        _check(group, len(resources))
        if len(group.start):
            instruments.setdefault(group.instrument, []).append(group)
    runs = [run for instrument, group in instruments.items() for run in _runs(instrument, group, time)]
    runs.sort(key=attrgetter("resource"))
    return list(pack(runs, resources, wire.scope(scope, version), max_bytes))


def _check(group: Points | HistogramPoints, resources: int) -> None:
    instrument, count = group.instrument, len(group.start)
    columns: list[NDArray[np.generic]] = [group.resource, group.attributes]
    columns += [group.value] if isinstance(group, Points) else [group.count, group.total, group.buckets]
    if any(len(column) != count for column in columns):
        message = f"{instrument.name}: columns of different lengths"
    elif (instrument.kind == "histogram") != isinstance(group, HistogramPoints):
        message = f"{instrument.name}: a {instrument.kind} has no {type(group).__name__}"
    elif isinstance(group, HistogramPoints) and group.buckets.shape[1] != len(instrument.bounds) + 1:
        message = f"{instrument.name}: {group.buckets.shape[1]} buckets for {len(instrument.bounds)} bounds"
    elif count and int(group.resource.max()) >= resources:
        message = f"{instrument.name}: resource {group.resource.max()} of {resources}"
    else:
        return
    raise ValueError(message)


@dataclass(frozen=True, slots=True)
class _Run:
    """Encoded points of one instrument and Resource: an `envelope.Run`. Point i ends at `ends[i]` of `data`."""

    resource: int
    before: bytes  # the fields of a Metric before its data, with the data's tag
    after: bytes  # the fields of the data after its points
    data: memoryview
    ends: NDArray[np.intp]

    @property
    def count(self) -> int:
        return len(self.ends)

    def fits(self, at: int, room: int) -> int:
        start = int(self.ends[at - 1]) if at else 0
        room -= _FRAME + len(self.before) + len(self.after)
        return int(np.searchsorted(self.ends, start + room, "right")) - at

    def cut(self, at: int, count: int, parts: Parts) -> int:
        start = int(self.ends[at - 1]) if at else 0
        data = self.data[start : int(self.ends[at + count - 1])]
        before = self.before + wire.varint(len(data) + len(self.after))
        before = b"\x12" + wire.varint(len(before) + len(data) + len(self.after)) + before
        parts += before, data, self.after
        return len(before) + len(data) + len(self.after)


def _around(instrument: Instrument) -> tuple[bytes, bytes]:
    """The fields of a Metric before its data, with the data's tag, and those of its data after the points."""
    texts = ((1, instrument.name), (2, instrument.description), (3, instrument.unit))
    before = b"".join(wire.block(field, wire.clean(text)) for field, text in texts if text)
    before += wire.tag(_FIELDS[instrument.kind], 2)
    after = b"" if instrument.kind == "gauge" else b"\x10" + wire.varint(_TEMPORALITIES[instrument.temporality])
    return before, after + b"\x18\x01" if instrument.kind == "sum" else after


def _runs(instrument: Instrument, groups: Sequence[Points | HistogramPoints], time: int) -> Iterable[_Run]:
    """The points of all groups as bytes, one run a Resource."""
    resource = np.concatenate([group.resource for group in groups])
    order = np.argsort(resource, kind="stable")
    resource = resource[order]
    data, ends = _join(instrument, groups, order, time)
    before, after = _around(instrument)
    firsts = np.flatnonzero(np.concatenate(([True], resource[1:] != resource[:-1])))
    for first, last in zip(firsts.tolist(), [*firsts[1:].tolist(), len(order)], strict=True):
        start = int(ends[first - 1]) if first else 0
        yield _Run(int(resource[first]), before, after, data[start : int(ends[last - 1])], ends[first:last] - start)


def _join(
    instrument: Instrument, groups: Sequence[Points | HistogramPoints], order: NDArray[np.intp], time: int
) -> tuple[memoryview, NDArray[np.intp]]:
    """The points in `order`, side by side, and where each ends."""
    doubles = any(isinstance(group, Points) and group.value.dtype.kind == "f" for group in groups)
    head = _head(instrument, time, doubles=doubles)
    field = 1 if instrument.kind == "histogram" else 0
    texts = [group.series[at][field] for group in groups for at in group.attributes.tolist()]
    parts = [head] * (2 * len(texts))
    parts[1::2] = [texts[at] for at in order.tolist()]
    data = bytearray(b"".join(parts))
    sizes = np.fromiter(map(len, parts[1::2]), np.intp, len(texts)) + len(head)
    ends = np.cumsum(sizes)
    begins = ends - sizes
    length = vector.spread((sizes - 1 - _LENGTH).astype(np.uint64)) | vector.continuation(_LENGTH)
    # Views of the bytes as a number that starts at each of them: one store patches one field of every point.
    shorts: NDArray[np.uint32] = np.ndarray(len(data) - 3, "<u4", data, 0, (1,))
    longs: NDArray[np.uint64] = np.ndarray(len(data) - 7, "<u8", data, 0, (1,))
    shorts[begins] = (length << np.uint64(8) | np.uint64(head[0])).astype(np.uint32)
    for offset, column in _columns(groups, doubles=doubles):
        if column.ndim == 1:
            longs[begins + offset] = column[order]
        else:
            longs[begins[:, None] + (offset + 8 * np.arange(column.shape[1]))] = column[order]
    return memoryview(data), ends


def _columns(groups: Sequence[Points | HistogramPoints], *, doubles: bool) -> list[tuple[int, NDArray[np.uint64]]]:
    """Each column of the points as 64-bit words, and where it stands in a point."""
    numbers = [group for group in groups if isinstance(group, Points)]
    histograms = [group for group in groups if isinstance(group, HistogramPoints)]
    columns = [(_START, np.concatenate([group.start for group in groups]).astype("<u8"))]
    if numbers:
        value = np.concatenate([group.value for group in numbers]).astype("<f8" if doubles else "<i8")
        columns.append((_VALUE, value.view("<u8")))
    if histograms:
        buckets = np.concatenate([group.buckets for group in histograms]).astype("<u8")
        packed = len(wire.varint(8 * buckets.shape[1]))
        columns.append((_COUNT, np.concatenate([group.count for group in histograms]).astype("<u8")))
        columns.append((_TOTAL, np.concatenate([group.total for group in histograms]).astype("<f8").view("<u8")))
        columns.append((_BUCKETS - 1 + packed, buckets))
    return columns


def _head(instrument: Instrument, time: int, *, doubles: bool) -> bytes:
    """A point up to its attributes, zeros where numbers go: every field before them has a fixed width."""
    head = b"\x0a" + bytes(_LENGTH) + b"\x11" + bytes(8) + b"\x19" + time.to_bytes(8, "little")
    if instrument.kind != "histogram":
        return head + (b"\x21" if doubles else b"\x31") + bytes(8)
    bounds = instrument.bounds
    head += b"\x21" + bytes(8) + b"\x29" + bytes(8) + wire.block(6, bytes(8 * (len(bounds) + 1)))
    return head + (wire.block(7, struct.pack(f"<{len(bounds)}d", *bounds)) if bounds else b"")
