"""Finished lookups in, histogram series of how long they took out: by Resource, name and error, bounded."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from receiver.dns.lookups import Lookup
from receiver.flows.series import IDLE_INTERVALS, Histogram

# As semantic conventions advise for durations of requests.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
MAX_SERIES: Final = 1024  # names may be many: what is beyond adds up in one series


class Key(NamedTuple):
    """What tells series apart."""

    resource: int
    name: str
    error_type: str  # "" for none


class Durations:
    """At most `limit` series and one for all that found no room, whose row is `limit`."""

    def __init__(self, limit: int = MAX_SERIES) -> None:
        self.limit = limit
        self.histogram = Histogram(BOUNDS, limit + 1)
        self.start: NDArray[np.uint64] = np.zeros(limit + 1, np.uint64)
        self._rows: dict[Key, int] = {}
        self._free = list(range(limit))
        self._idle: NDArray[np.uint16] = np.zeros(limit + 1, np.uint16)

    def add(self, lookups: Sequence[Lookup[Any]], resource: NDArray[np.uint32], now: int) -> None:
        """Lookups of clients with the Resource (n,) of each, at `now` (unix ns)."""
        rows, values = [], []
        for lookup, number in zip(lookups, resource.tolist(), strict=True):
            if lookup.conversation.role == "client":
                rows.append(self._row(Key(number, lookup.name, lookup.error_type), now))
                values.append(lookup.duration * 1e-9)
        at = np.array(rows, np.intp)
        self._idle[at] = 0
        self.histogram.add(at, np.array(values, np.float64))

    def _row(self, key: Key, now: int) -> int:
        row = self._rows.get(key)
        if row is None:
            row = self._free.pop() if self._free else self.limit
            if row < self.limit:
                self._rows[key] = row
            if not self.start[row]:
                self.start[row] = now
        return row

    def live(self) -> list[tuple[Key | None, int]]:
        """Each series and its row; None stands for all that found no room."""
        found: list[tuple[Key | None, int]] = list(self._rows.items())
        return [*found, (None, self.limit)] if self.start[self.limit] else found

    def resources(self) -> NDArray[np.uint32]:
        """The Resources that series refer to."""
        return np.array([key.resource for key in self._rows], np.uint32)

    def handed_over(self, now: int, *, delta: bool) -> None:
        """After a collection: delta counts start anew; series without a lookup for IDLE_INTERVALS collections leave."""
        self._idle += 1
        for key, row in list(self._rows.items()):
            if self._idle[row] > IDLE_INTERVALS:
                del self._rows[key]
                self._free.append(row)
                self.histogram.reset(np.array([row]))
                self.start[row] = 0
        if delta:
            self.histogram.reset(np.arange(self.limit + 1))
            self.start[[row for _, row in self.live()]] = now
