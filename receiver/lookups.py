"""The DNS part of the capture thread's loop: captured messages in; finished lookups and the names of connections out."""

import time
from collections import deque
from dataclasses import asdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.dns.durations import Durations
from receiver.dns.flow_names import FlowNames
from receiver.dns.watch import Found, Watch
from receiver.enrich.owners import Owners
from receiver.kernel import dns
from receiver.kernel.records import Records
from receiver.kernel.source import Source
from receiver.telemetry import Value

_DRAINS: Final = 8  # at most, before other records get their turn
_WAIT_FOR_OWNER: Final = 0.2  # s, as the events of flows


class LookupStage:
    """One source's DNS. `drain` comes before the names of records that were drained earlier are asked for."""

    def __init__(self, source: Source, owners: Owners, *, events: bool = False) -> None:
        self.events = events  # whether each lookup is an event
        self.observed = 0  # lookups that are events
        self.watch = Watch()
        self.names = FlowNames(self.watch.names)
        self.durations = Durations()
        self.bad = 0  # records that are not what they must be
        self._source, self._owners = source, owners
        self._waiting: deque[tuple[float, list[Found]]] = deque()  # for their owners; as many as are parsed in 0.2 s

    @property
    def waiting(self) -> int:
        """Events that wait for their owner."""
        return sum(len(found) for _, found in self._waiting) if self.events else 0

    def drain(self, now: float) -> None:
        """Take in what was captured; `now` is monotonic."""
        for _ in range(_DRAINS):
            raw = self._source.dns()
            records, bad = dns.decode(raw)
            self.bad += bad
            found = self.watch.take(records, time.time_ns() - self._source.boot_to_unix(), self._lost())
            if found:
                self._waiting.append((now + _WAIT_FOR_OWNER, found))
                self.observed += len(found) if self.events else 0
            if len(raw) < dns.MOST * dns.STRIDE:
                return

    def _lost(self) -> int:
        """Messages that never came to be looked at."""
        kernel = self._source.counters()
        return kernel.dns_lost + kernel.dns_unread + self.bad

    def settle(self, now: float, *, everything: bool = False) -> list[tuple[list[Found], NDArray[np.uint32]]]:
        """The lookups whose owners are known, or that have waited long enough, with their Resources; they are counted."""
        out = []
        while self._waiting:
            deadline, found = self._waiting[0]
            askers = [lookup.owner for lookup in found]
            pids = np.array([asker.pid for asker in askers], np.uint32)
            starts = np.array([asker.start for asker in askers], np.uint64)
            comms = np.frombuffer(b"".join(asker.comm for asker in askers), np.uint8).reshape(-1, 16)
            cgroups = np.array([asker.cgroup_id for asker in askers], np.uint64)
            known = self._owners.resolve(pids, starts, comms, cgroups)
            if known.pending.any():
                if now < deadline and not everything:
                    break
                self._owners.give_up(pids[known.pending], starts[known.pending])
            self._waiting.popleft()
            self.durations.add(found, known.metric_resource, time.time_ns())
            out.append((found, known.resource))
        return out if self.events else []

    def name(self, records: Records) -> NDArray[np.uint32]:
        """The row in `names.texts` for each flow record."""
        return self.names.rows(records)

    def values(self) -> dict[str, list[Value]]:
        """The current value of each of Weir's own metrics that is about DNS."""
        kernel, watch = self._source.counters(), self.watch
        outcomes = {
            "parsed": watch.counters.parsed,
            "malformed": watch.counters.malformed,
            "rate": watch.counters.rate,
            "gap": watch.streams.gaps,
            "bad_record": self.bad,
            "ring_full": kernel.dns_lost,
            "unread": kernel.dns_unread,
        }
        events = asdict(watch.lookups.counters) | {
            f"name_{name}": count for name, count in asdict(watch.names.counters).items()
        }
        events["unsure"] = watch.counters.unsure
        return {
            "weir.dns.messages": [({"weir.dns.outcome": name}, count) for name, count in outcomes.items()],
            "weir.dns.events": [({"weir.dns.event": name}, count) for name, count in events.items()],
        }
