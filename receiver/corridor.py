"""The capture thread's loop: takes records from a source and hands them from hop to hop, until requests are offered."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from receiver.enrich.owners import Owners
from receiver.flows.addresses import Addresses
from receiver.flows.columns import KIND_END, EventColumns
from receiver.flows.events import CHUNK, event_rows, events_of, span_rows
from receiver.flows.last_pass import LastPass
from receiver.flows.sampling import kept
from receiver.flows.series import SeriesTable
from receiver.kernel.recording import Replay
from receiver.kernel.records import EVENT, STRIDE, Decoded, Records, decode_pass, decode_ring
from receiver.kernel.source import Source
from receiver.ledger import Ledger, Signal
from receiver.lookups import LookupStage
from receiver.otlp.encoded import Encoded
from receiver.otlp.lookups import LookupEncoder

TICK: Final = 0.5  # s between two drains: an event leaves within a second; a ring that is a quarter full wakes sooner
WAIT_FOR_OWNER: Final = 0.2  # s that an event waits at most for its owner
DRAIN: Final = 8192  # records at once
DRAINS: Final = 16  # at most, before the ledger is published
PAUSE: Final = 0.003  # s between two looks at newcomers
MAX_WAITING: Final = 32768  # records that wait for their owner; more leave at once, without what is unknown
_UPDATE_SLACK: Final = 0.95  # a pass that comes a little early still makes the updates that are due


class LogEncode(Protocol):
    """Encodes event columns (`receiver.otlp.logs.LogEncoder.encode`)."""

    def encode(self, columns: EventColumns, observed_time: int, resources: Sequence[bytes]) -> list[Encoded]:
        """Requests."""


class SpanEncode(Protocol):
    """Encodes the ends of flows (`receiver.otlp.spans.SpanEncoder.encode`)."""

    def encode(self, columns: EventColumns, resources: Sequence[bytes]) -> list[Encoded]:
        """Requests."""


@dataclass(slots=True)
class Settings:
    """What the loop needs of the configuration; intervals in seconds, 0 for never."""

    update_interval: float
    metrics_interval: float
    delta: bool = False
    sample: int = 1  # one flow in so many has its events and its span
    idle_interval: float = 0.0  # between two passes at most, so that UDP flows that are idle end


def _at_once(*_: object) -> None:
    """Wait for nothing."""


_Encode = TypeVar("_Encode")


@dataclass(slots=True)
class _Outlet(Generic[_Encode]):
    """A pipeline: an encoder for each variant in use (with and without the owner's rule) and where it goes."""

    encoders: Mapping[bool, _Encode]
    offer: Callable[[bool, Sequence[Encoded]], None]
    wait_for_room: Callable[[bool, Sequence[Encoded]], None] = _at_once  # before the offer, outside of the boundary
    wait_for_result: Callable[[], None] = _at_once  # after it
    lookups: LookupEncoder | None = None  # log records only


LogsOutlet: TypeAlias = _Outlet[LogEncode]
TracesOutlet: TypeAlias = _Outlet[SpanEncode]


@dataclass(slots=True)
class MetricsOutlet:
    """The metrics pipeline: `collect(now)` encodes the series and Weir's own metrics, request by request."""

    collect: Callable[[int], list[Encoded]]
    offer: Callable[[Sequence[Encoded]], None]
    wait_for_room: Callable[[Sequence[Encoded]], None] = _at_once
    wait_for_result: Callable[[], None] = _at_once


@dataclass(slots=True)
class _Waiting:
    records: Records
    deadline: float


@dataclass(slots=True)
class Counts:
    """What the loop counted, each a total."""

    drains: int = 0
    passes: int = 0
    decoded: int = 0
    unwaited: int = 0  # records that left without waiting for their owner, because too many already did
    bad: dict[str, int] = field(default_factory=dict)
    spans: int = 0  # flows that have a span, those that are sampled out too
    unsampled: dict[Signal, int] = field(default_factory=lambda: {"logs": 0, "traces": 0})  # not in the sample


class Corridor:
    """One source's way to the exporters. `run` is the capture thread; everything else is called from it."""

    def __init__(
        self,
        source: Source,
        owners: Owners,
        series: SeriesTable,
        ledger: Ledger,
        settings: Settings,
        log_resources: Sequence[bytes],
        logs: LogsOutlet | None,
        metrics: MetricsOutlet | None,
    ) -> None:
        self.source, self.owners, self.series, self.settings = source, owners, series, settings
        self.counts = Counts()
        self.addresses = Addresses()
        self._ledger, self._account, self._spans = ledger, ledger.signal("logs"), ledger.signal("traces")
        self._log_resources, self.logs, self.metrics = log_resources, logs, metrics
        self.traces: TracesOutlet | None = None
        self.lookups: LookupStage | None = None  # where DNS is read
        self._changes: deque[Callable[[], None]] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._last_pass = LastPass()
        self._next_update = self._next_metrics = self._next_idle = 0.0
        self._pending: list[tuple[LogsOutlet | TracesOutlet, bool, list[Encoded]]] = []

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then the last passes, the rest of the ring, the last metrics."""
        now = time.monotonic()
        self._next_update, self._next_metrics = (
            now + self.settings.update_interval,
            now + self.settings.metrics_interval,
        )
        self._next_idle = now + self.settings.idle_interval
        while not stop.is_set():
            self._wait()
            self.step(time.monotonic())
        self.finish()

    def _wait(self) -> None:
        """Until it is time to drain; processes that are seen for the first time are looked at meanwhile, while they live."""
        until = time.monotonic() + self._timeout()
        while (left := until - time.monotonic()) > 0:
            full = self.source.wait(left)
            newcomers = self.source.newcomers()
            if newcomers:
                self.owners.introduce(newcomers)
                time.sleep(PAUSE)  # the next ones together
            if full:
                return

    def _timeout(self) -> float:
        if not self._waiting:
            return TICK
        return max(0.01, min(TICK, self._waiting[0].deadline - time.monotonic(), 0.05))

    def before_next_step(self, change: Callable[[], None]) -> None:
        """Call `change` in the capture thread, when nothing is under way there; from another thread."""
        self._changes.append(change)

    def step(self, now: float) -> None:
        """One drain; a pass and a collection where one is due."""
        while self._changes:
            self._changes.popleft()()
        self._drain(now)
        if self.settings.update_interval and self.logs is not None and now >= self._next_update:
            self._next_update = now + self.settings.update_interval
            self._pass(int(self.settings.update_interval * _UPDATE_SLACK * 1e9))
        if self.metrics is not None and now >= self._next_metrics:
            self._next_metrics = max(self._next_metrics + self.settings.metrics_interval, now)
            self._pass(0)
            self._collect(now)
        if self.settings.idle_interval and now >= self._next_idle:
            self._pass(0)

    def replay(self, recording: Replay) -> None:
        """All of a recording, frame by frame, then the end."""
        while recording.kind in {"ring", "pass"}:
            if recording.kind == "ring":
                self._drain(time.monotonic())
            else:
                self._pass(0)
        self.finish()

    def finish(self) -> None:
        """End capture: every open flow gets its last report, the ring is emptied, the last metrics leave."""
        while self._changes:
            self._changes.popleft()()
        for raw in self.source.finish():
            decoded = decode_pass(raw)
            self._count_bad(decoded)
            self._last_pass.settle(decoded.records)
            self._release(decoded.records)
        self.source.detach()
        while self._drain(time.monotonic()):
            pass
        self._settle_waiting(time.monotonic(), everything=True)
        self._settle_lookups(time.monotonic(), everything=True)
        self._boundary()
        if self.metrics is not None:
            self.series.set_active(np.empty(0, EVENT), np.empty(0, np.intp))
            self._collect(time.monotonic())

    # Records

    def _drain(self, now: float) -> int:
        """Empty the ring into the waiting room, let out what is ready, publish the ledger; how many records came."""
        came = 0
        for _ in range(DRAINS):
            raw = self.source.drain(DRAIN)
            if raw:
                self.counts.drains += 1
                decoded = decode_ring(raw)
                self._count_bad(decoded)
                came += len(decoded.records)
                if len(decoded.records):
                    self._waiting.append(_Waiting(decoded.records, now + WAIT_FOR_OWNER))
            if self.lookups is not None:  # names that were told before these records came
                self.lookups.drain(now)
            self._settle_waiting(now)
            if len(raw) < DRAIN * STRIDE:
                break
        self._settle_lookups(now)
        self._boundary()
        return came

    def _count_bad(self, decoded: Decoded) -> None:
        self.counts.decoded += len(decoded.records)
        for reason, number in decoded.bad.items():
            self.counts.bad[reason] = self.counts.bad.get(reason, 0) + number

    def _settle_waiting(self, now: float, *, everything: bool = False) -> None:
        """Release the batches whose owners are known, or that have waited long enough, oldest first."""
        crowded = sum(len(batch.records) for batch in self._waiting) > MAX_WAITING
        while self._waiting:
            batch = self._waiting[0]
            records = batch.records
            found = self.owners.resolve(
                records["owner_pid"], records["owner_start"], records["comm"], records["cgroup_id"]
            )
            if found.pending.any():
                if not everything and not crowded and now < batch.deadline:
                    return
                self.counts.unwaited += int(found.pending.sum()) if crowded else 0
                late = found.pending
                self.owners.give_up(records["owner_pid"][late], records["owner_start"][late])
            self._waiting.popleft()
            self._emit(records, found.resource, found.metric_resource)

    def _settle_lookups(self, now: float, *, everything: bool = False) -> None:
        """Release the DNS lookups that are ready, as events where they are asked for."""
        if self.lookups is None:
            return
        for found, resource in self.lookups.settle(now, everything=everything):
            if self.logs is None or self.logs.lookups is None:
                self.lookups.observed -= len(found)  # nobody takes log records
                continue
            encoded = self.logs.lookups.encode(
                found, resource, self.source.boot_to_unix(), time.time_ns(), self._log_resources
            )
            self._pending += [(self.logs, variant, encoded) for variant in self.logs.encoders]

    def _release(self, records: Records) -> NDArray[np.intp]:
        """Records that need not wait: those of a pass. The series row of each."""
        found = self.owners.resolve(records["owner_pid"], records["owner_start"], records["comm"], records["cgroup_id"])
        return self._emit(records, found.resource, found.metric_resource)

    def _emit(
        self, records: Records, resource: NDArray[np.uint32], metric_resource: NDArray[np.uint32]
    ) -> NDArray[np.intp]:
        """Into the series table, and as events and spans to the encoders."""
        wall = time.time_ns()
        rows = np.empty(0, np.intp)
        names = self.lookups.name(records) if self.lookups is not None else np.zeros(len(records), np.uint32)
        if self.metrics is not None:
            named = (names, self.lookups.names.texts) if self.lookups is not None else None
            rows = self.series.add(self._last_pass.settle(records), metric_resource, wall, named)
        if self.logs is not None or self.traces is not None:
            events = event_rows(records)
            if not events.all():
                records, resource, names = records[events], resource[events], names[events]
            records, resource, names = self._sample(records, resource, names)
            for at in range(0, len(records), CHUNK):
                part = slice(at, at + CHUNK)
                self._encode(records[part], resource[part], names[part], wall)
        return rows

    def _sample(
        self, records: Records, resource: NDArray[np.uint32], names: NDArray[np.uint32]
    ) -> tuple[Records, NDArray[np.uint32], NDArray[np.uint32]]:
        """The events of the flows that are kept; the others are counted."""
        spans = span_rows(records)
        self.counts.spans += int(spans.sum()) if self.traces is not None else 0
        if self.settings.sample <= 1 or not len(records):
            return records, resource, names
        keep = kept(records, self.settings.sample)
        self.counts.unsampled["logs"] += len(keep) - int(keep.sum())
        self.counts.unsampled["traces"] += int(spans[~keep].sum()) if self.traces is not None else 0
        return records[keep], resource[keep], names[keep]

    def _encode(self, records: Records, resource: NDArray[np.uint32], names: NDArray[np.uint32], wall: int) -> None:
        """At most CHUNK events, as requests that leave at the next boundary."""
        none = np.zeros(len(records), np.uint32)
        columns = events_of(records, self.addresses, self.source.boot_to_unix(), resource, none, names)
        if self.logs is not None:
            for variant, encoder in self.logs.encoders.items():
                self._pending.append((self.logs, variant, encoder.encode(columns, wall, self._log_resources)))
        if self.traces is not None and (spans := span_rows(records)).any():
            ended = columns if spans.all() else columns.take(np.flatnonzero(spans))
            for variant, spanner in self.traces.encoders.items():
                self._pending.append((self.traces, variant, spanner.encode(ended, self._log_resources)))

    def _boundary(self) -> None:
        """Publish the source's terms and offer what was encoded, in one step: a snapshot between two of these balances."""
        counters = self.source.counters()
        filtered = {
            "self": counters.filtered_self, "exclude": counters.filtered_exclude, "include": counters.filtered_include
        }  # fmt: skip
        waiting = sum(len(batch.records) for batch in self._waiting)
        lookups = self.lookups.observed if self.lookups is not None else 0
        waiting += self.lookups.waiting if self.lookups is not None else 0
        for outlet, variant, encoded in self._pending:
            outlet.wait_for_room(variant, encoded)
        with self._ledger.boundary():
            self._account.set(
                observed=counters.begun + sum(filtered.values()) + lookups,
                filtered=filtered | {"sample": self.counts.unsampled["logs"]},
                dropped={
                    ("kernel", "ring_full"): counters.ring_full,
                    **{("decode", reason): number for reason, number in self.counts.bad.items()},
                },
                held={"ring": counters.held, "identity": waiting},
            )
            self._spans.set(observed=self.counts.spans, filtered={"sample": self.counts.unsampled["traces"]})
            for outlet, variant, encoded in self._pending:
                outlet.offer(variant, encoded)
        for waiting_for in (self.logs, self.traces):
            if self._pending and waiting_for is not None:
                waiting_for.wait_for_result()
        self._pending.clear()

    # Passes and metrics

    def _pass(self, update_interval: int) -> None:
        """One pass over the open sockets; its updates leave as events, all of it counts."""
        self.counts.passes += 1
        self._next_idle = time.monotonic() + self.settings.idle_interval
        decoded = decode_pass(self.source.run_pass(update_interval))
        if self.lookups is not None:
            self.lookups.drain(time.monotonic())
        self._count_bad(decoded)
        records = decoded.records
        rows = self._release(records)
        if self.metrics is not None and not update_interval:
            open_flows = records["kind"] != KIND_END
            self.series.set_active(records[open_flows], rows[open_flows])
        self._last_pass.remember(records)
        self._boundary()

    def _collect(self, now: float) -> None:
        """Hand over the metrics, request by request, with a drain between."""
        if self.metrics is None:
            return
        for encoded in self.metrics.collect(time.time_ns()):
            self.metrics.wait_for_room([encoded])
            with self._ledger.boundary():
                self._ledger.signal("metrics").observe(encoded.items)
                self.metrics.offer([encoded])
            self._drain(now)
        self.metrics.wait_for_result()
        self.series.handed_over(time.time_ns(), delta=self.settings.delta)
        held = [self.series.resources()]
        if self.lookups is not None:
            self.lookups.durations.handed_over(time.time_ns(), delta=self.settings.delta)
            held.append(self.lookups.durations.resources())
        self.owners.collect_metrics(np.concatenate(held))
