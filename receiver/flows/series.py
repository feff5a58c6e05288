"""Flow records to metric series: a bounded, exact, vectorised table of cumulative counts and histograms.

A series is one (Resource, role, server address, server port, transport, network type). Where the server was asked for by
a name, the name stands for its address: addresses that share a name are one series, as they have the same attributes. A
record adds what it has beyond what earlier samples of the same socket already counted, so open flows count before they
end, and once.
"""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.flows.addresses import address_words
from receiver.flows.columns import (
    CAUSE_FAILED,
    CAUSE_RESET,
    KIND_END,
    KIND_SAMPLE,
    KIND_UPDATE,
    ROLE_SERVER,
    ROLE_UNKNOWN,
)  # fmt: skip
from receiver.flows.table import KeyTable, Slots
from receiver.flows.texts import Texts

Records = NDArray[np.void]
ESTABLISHED: Final = 1
START_SEEN: Final = 2
COUNTED: Final = 4
IDLE_INTERVALS: Final = 10
_U: Final = np.uint64
_KEY_WORDS: Final = 5
_NAME: Final = _U(
    0xFFFFFFFFFFFFFFFF
)  # where an address begins with this, a name's number follows: no server is a group
# Columns of the table that count up.
_COUNTS: Final = (
    "transmit",
    "receive",
    "retransmits",
    "connections",
    "resets_sent",
    "resets_received",
    "syn_retransmits",
)

# Upper bounds in seconds (inclusive), as the semantic conventions' own duration histograms are spaced.
DURATION_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 60.0, 300.0)
CONNECT_BOUNDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    10.0,
)
RTT_BOUNDS: Final = CONNECT_BOUNDS


class Histogram:
    """Counts, sums and buckets for each series; `bounds` are the explicit bounds of OTLP."""

    def __init__(self, bounds: Iterable[float], size: int) -> None:
        self.bounds = np.array(tuple(bounds))
        self.buckets: NDArray[np.uint64] = np.zeros((size, len(self.bounds) + 1), np.uint64)
        self.total: NDArray[np.float64] = np.zeros(size)

    def add(self, series: Slots, values: NDArray[np.float64]) -> None:
        """One observation of `values` (n,) seconds for each of `series` (n,)."""
        bucket = np.searchsorted(self.bounds, values, side="left")
        np.add.at(self.buckets, (series, bucket), _U(1))
        np.add.at(self.total, series, values)

    def count(self) -> NDArray[np.uint64]:
        """Observations of each series."""
        total: NDArray[np.uint64] = self.buckets.sum(axis=1, dtype=np.uint64)
        return total

    def reset(self, rows: Slots) -> None:
        """Forget what `rows` hold."""
        self.buckets[rows] = 0
        self.total[rows] = 0.0


@dataclass(slots=True)
class SeriesKeys:
    """What identifies each of n series; for role unknown `address` is the peer's and `port` is 0."""

    resource: NDArray[np.uint32]
    role: NDArray[np.uint8]
    transport: NDArray[np.uint8]
    family: NDArray[np.uint8]
    port: NDArray[np.uint16]
    address: NDArray[np.uint8]  # (n, 16)
    peer: NDArray[np.uint8]  # (n, 16); zero unless the peer's address is asked for
    name: list[bytes]  # what stands for the address; b"" where the address stands


@dataclass(slots=True)
class Failures:
    """Failed attempts: count by series row and errno."""

    row: NDArray[np.intp]
    error: NDArray[np.uint16]
    count: NDArray[np.uint64]


@dataclass(slots=True)
class SeriesTable:
    """At most `limit` series; what finds no room adds up in the last row (`overflow_row`), never lost."""

    limit: int
    peer_address: bool = False
    keys: KeyTable = field(init=False)
    overflow_row: int = field(init=False)

    def __post_init__(self) -> None:
        """Allocate."""
        self.keys = KeyTable(_KEY_WORDS, self.limit)
        self._allocate()

    transmit: NDArray[np.uint64] = field(init=False)
    receive: NDArray[np.uint64] = field(init=False)
    retransmits: NDArray[np.uint64] = field(init=False)
    connections: NDArray[np.uint64] = field(init=False)
    resets_sent: NDArray[np.uint64] = field(init=False)
    resets_received: NDArray[np.uint64] = field(init=False)
    syn_retransmits: NDArray[np.uint64] = field(init=False)
    active: NDArray[np.int64] = field(init=False)
    start: NDArray[np.uint64] = field(init=False)
    idle: NDArray[np.uint16] = field(init=False)
    duration: Histogram = field(init=False)
    connect: Histogram = field(init=False)
    rtt: Histogram = field(init=False)
    _touched: NDArray[np.bool_] = field(init=False)
    _failures: dict[tuple[int, int], int] = field(init=False)
    _name_ids: dict[bytes, int] = field(init=False, default_factory=dict)
    _name_of: dict[int, bytes] = field(init=False, default_factory=dict)
    _named: int = field(init=False, default=0)
    overflowed: int = field(default=0)

    def _allocate(self) -> None:
        size = self.keys.size + 1
        self.overflow_row = size - 1
        for name in (*_COUNTS, "start"):
            setattr(self, name, np.zeros(size, np.uint64))
        self.active = np.zeros(size, np.int64)
        self.idle = np.zeros(size, np.uint16)
        self._touched = np.zeros(size, np.bool_)
        self.duration = Histogram(DURATION_BOUNDS, size)
        self.connect = Histogram(CONNECT_BOUNDS, size)
        self.rtt = Histogram(RTT_BOUNDS, size)
        self._failures = {}

    def add(
        self,
        records: Records,
        resource: NDArray[np.uint32],
        now: int,
        names: tuple[NDArray[np.uint32], Texts] | None = None,
    ) -> Slots:
        """Add samples, updates and ends; `resource` (n,) is each owner's metric Resource. The row of each record.

        `names` are the rows (n,) of the servers' names in a table of texts, 0 for none.
        """
        counts = (records["kind"] == KIND_END) | (records["kind"] == KIND_SAMPLE) | (records["kind"] == KIND_UPDATE)
        if not counts.all():
            records, resource = records[counts], resource[counts]
            names = (names[0][counts], names[1]) if names else None
        if not len(records):
            return np.empty(0, np.intp)
        rows, fresh = self.keys.place(self._key(records, resource, names))
        self.start[fresh] = now
        lost = rows < 0
        if lost.any():
            self.overflowed += int(lost.sum())
            rows[lost] = self.overflow_row
            if not self.start[self.overflow_row]:
                self.start[self.overflow_row] = now
        self._touched[rows] = True
        np.add.at(self.transmit, rows, records["transmit_bytes"] - records["counted_transmit"])
        np.add.at(self.receive, rows, records["receive_bytes"] - records["counted_receive"])
        np.add.at(self.retransmits, rows, (records["retransmits"] - records["counted_retransmits"]).astype(np.uint64))
        self._count_connections(records, rows)
        self._count_resets(records, rows)
        self._observe(records, rows)
        return rows

    def _key(
        self, records: Records, resource: NDArray[np.uint32], names: tuple[NDArray[np.uint32], Texts] | None
    ) -> list[NDArray[np.uint64]]:
        role = records["role"]
        server, unknown = role == ROLE_SERVER, role == ROLE_UNKNOWN
        port = np.where(server, records["local_port"], records["peer_port"])
        port[unknown] = 0
        codes = port.astype(np.uint64) << _U(32) | records["transport"].astype(np.uint64) << _U(48)
        codes |= (records["family"] << 4 | role).astype(np.uint64) << _U(56)
        local, peer = address_words(records["local_address"]), address_words(records["peer_address"])
        address = [np.where(server, ours, theirs) for ours, theirs in zip(local, peer, strict=True)]
        if names is not None and names[0].any():
            numbers = self._name_numbers(*names)
            address[0][numbers > 0] = _NAME
            address[1][numbers > 0] = numbers[numbers > 0]
        words = [resource.astype(np.uint64) | codes, *address]
        if self.peer_address:
            return [*words, *(np.where(server, theirs, _U(0)) for theirs in peer)]
        nothing = np.zeros(len(records), np.uint64)
        return [*words, nothing, nothing]

    def _name_numbers(self, rows: NDArray[np.uint32], texts: Texts) -> NDArray[np.uint64]:
        """A number for each name, the same as long as a series has it; 0 for none, and where there are too many."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        numbers = np.zeros(len(distinct), np.uint64)
        for at, row in enumerate(distinct.tolist()):
            text = texts.get(row)
            if text and text not in self._name_ids and len(self._name_ids) < 2 * self.limit:
                self._named += 1
                self._name_ids[text], self._name_of[self._named] = self._named, text
            numbers[at] = self._name_ids.get(text, 0)
        return numbers[inverse.reshape(-1)]

    def _count_connections(self, records: Records, rows: Slots) -> None:
        flags = records["flags"]
        fresh = (flags & START_SEEN > 0) & (flags & COUNTED == 0)
        error = records["error"]
        np.add.at(self.syn_retransmits, rows[fresh], records["syn_retransmits"][fresh].astype(np.uint64))
        failed = fresh & (records["kind"] == KIND_END) & (flags & ESTABLISHED == 0) & (error > 0)
        np.add.at(self.connections, rows[fresh & ~failed], _U(1))
        for row, number in zip(rows[failed].tolist(), error[failed].tolist(), strict=True):
            self._failures[row, number] = self._failures.get((row, number), 0) + 1

    def _count_resets(self, records: Records, rows: Slots) -> None:
        """An RST ends a connection; the side that received it has the error, the one that sent it has none."""
        ended, error = records["kind"] == KIND_END, records["error"]
        reset = ended & (records["end_cause"] == CAUSE_RESET)
        refused = ended & (records["end_cause"] == CAUSE_FAILED) & (error == errno.ECONNREFUSED)
        np.add.at(self.resets_sent, rows[reset & (error == 0)], _U(1))
        np.add.at(self.resets_received, rows[refused | (reset & (error > 0))], _U(1))

    def _observe(self, records: Records, rows: Slots) -> None:
        flags, ended = records["flags"], records["kind"] == KIND_END
        whole = ended & (flags & START_SEEN > 0) & (records["start_time"] > 0)
        self.duration.add(rows[whole], (records["time"][whole] - records["start_time"][whole]) * 1e-9)
        fresh = (records["connect_duration"] > 0) & (flags & COUNTED == 0)
        self.connect.add(rows[fresh], records["connect_duration"][fresh] * 1e-9)
        moved = (records["transmit_bytes"] != records["counted_transmit"]) | (
            records["receive_bytes"] != records["counted_receive"]
        )
        timed = (records["rtt"] > 0) & moved
        self.rtt.add(rows[timed], records["rtt"][timed] * 1e-6)

    def set_active(self, records: Records, rows: Slots) -> None:
        """The open flows of each series, from the records of one whole pass."""
        self.active[:] = 0
        if len(records):
            _, first = np.unique(records["instance_id"], return_index=True)
            np.add.at(self.active, rows[first], 1)

    def live(self) -> Slots:
        """Rows in use, the overflow row last where it holds anything."""
        rows = self.keys.live()
        return np.append(rows, self.overflow_row) if self.start[self.overflow_row] else rows

    def describe(self, rows: Slots) -> SeriesKeys:
        """What identifies `rows` (not the overflow row)."""
        words = self.keys.keys(rows)
        code = words[0] >> _U(56)
        numbers = np.where(words[1] == _NAME, words[2], _U(0)).tolist() if self._name_of else [0] * len(rows)
        return SeriesKeys(
            resource=(words[0] & _U(0xFFFFFFFF)).astype(np.uint32),
            role=(code & _U(15)).astype(np.uint8),
            family=(code >> _U(4)).astype(np.uint8),
            transport=(words[0] >> _U(48) & _U(0xFF)).astype(np.uint8),
            port=(words[0] >> _U(32) & _U(0xFFFF)).astype(np.uint16),
            address=np.stack(words[1:3], axis=1).view(np.uint8).reshape(-1, 16),
            peer=np.stack(words[3:5], axis=1).view(np.uint8).reshape(-1, 16),
            name=[self._name_of.get(number, b"") for number in numbers],
        )

    def resources(self) -> NDArray[np.uint32]:
        """The metric Resources that series refer to."""
        return self.describe(self.keys.live()).resource

    def failures(self) -> Failures:
        """Failed attempts by row and errno."""
        keys = list(self._failures)
        return Failures(
            np.array([row for row, _ in keys], np.intp),
            np.array([error for _, error in keys], np.uint16),
            np.array(list(self._failures.values()), np.uint64),
        )

    def handed_over(self, now: int, *, delta: bool) -> None:
        """After a collection: delta counts start anew; series that were idle for IDLE_INTERVALS collections leave."""
        if delta:
            self._reset(np.arange(len(self.start)))
            self.start[self.live()] = now
        self.idle[self._touched | (self.active > 0)] = 0
        self.idle[~self._touched & (self.active == 0)] += 1
        self._touched[:] = False
        live = self.keys.live()
        gone = live[self.idle[live] >= IDLE_INTERVALS]
        if gone.size:
            self._evict(live[self.idle[live] < IDLE_INTERVALS])

    def _reset(self, rows: Slots) -> None:
        for name in _COUNTS:
            getattr(self, name)[rows] = 0
        for histogram in (self.duration, self.connect, self.rtt):
            histogram.reset(rows)
        if self._failures:
            forget = set(rows.tolist())
            self._failures = {key: n for key, n in self._failures.items() if key[0] not in forget}

    def _forget_names(self) -> None:
        """Those that no series has any more."""
        words = self.keys.keys(self.keys.live())
        used = set(words[2][words[1] == _NAME].tolist())
        self._name_of = {number: text for number, text in self._name_of.items() if number in used}
        self._name_ids = {text: number for number, text in self._name_of.items()}

    def _evict(self, kept: Slots) -> None:
        """Forget all series but `kept`, which may get other rows."""
        last = self.overflow_row
        moved = self.keys.keep(kept)
        self._forget_names()
        size = len(self.start)
        old_rows, new_rows = np.append(kept, last), np.append(moved, last)
        for name in (*_COUNTS, "active", "start", "idle", "_touched"):
            column = getattr(self, name)
            fresh = np.zeros(size, column.dtype)
            fresh[new_rows] = column[old_rows]
            setattr(self, name, fresh)
        for histogram in (self.duration, self.connect, self.rtt):
            buckets, total = np.zeros_like(histogram.buckets), np.zeros_like(histogram.total)
            buckets[new_rows], total[new_rows] = histogram.buckets[old_rows], histogram.total[old_rows]
            histogram.buckets, histogram.total = buckets, total
        at = dict(zip(old_rows.tolist(), new_rows.tolist(), strict=True))
        self._failures = {(at[row], error): n for (row, error), n in self._failures.items() if row in at}
