"""Requests from the capture thread in, deliveries to one destination out: a lane for each signal."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from receiver.export.account import ITEM_NAMES
from receiver.export.batch import BatchSettings
from receiver.export.halt import Clock, Halt, MonotonicClock
from receiver.export.lane import Fatal, Lane, LaneSettings, Totals
from receiver.export.notices import Log, Notices
from receiver.export.queue import MemoryQueue, Queue, Sizer, Storage
from receiver.export.request import Request, Sender
from receiver.export.retry import RetryPolicy
from receiver.export.throttle import Gate, Throttle
from receiver.ledger import Ledger, Signal

# A metric's name after the exporters' prefix, its attributes, its current value.
Metric: TypeAlias = tuple[str, dict[str, str], float]

_GRACE: Final = 0.25  # s that threads get to end after the destination was closed under them
_LOOK: Final = 0.05  # s between two wake-ups of consumers that are to end
_HAND_OVER: Final = 2.0  # s that calls under way get when another configuration takes the queue over


class Destination(Protocol):
    """Where an exporter delivers to: the end of the chain, for all signals."""

    def sender(self, signal: Signal, halt: Halt, notices: Notices) -> Sender:
        """What delivers requests of `signal`; its `send` may run in several threads."""

    def close(self) -> None:
        """End every call that is under way, and let go of the connection."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`sending_queue`."""

    enabled: bool = True
    sizer: Sizer = "bytes"
    queue_size: int = 16 << 20
    num_consumers: int = 2
    block_on_overflow: bool = False
    wait_for_result: bool = False
    batch: BatchSettings | None = None
    storage: str = ""
    limited: bool = False  # whether `queue_size` bounds a durable queue too, beside its storage

    def build(self) -> MemoryQueue:
        """A queue of these settings; one that is not enabled holds what is being sent, and nothing that waits."""
        return MemoryQueue(self.queue_size, self.sizer) if self.enabled else MemoryQueue(self.num_consumers, "requests")


@dataclass(frozen=True, slots=True)
class Options:
    """What an exporter is, apart from its destination."""

    queue: QueueSettings = field(default_factory=QueueSettings)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_request_bytes: int = 1 << 20  # what requests should be encoded to at most
    wants_owner_rule: bool = False  # whether its log records carry the rule that found their owner

    def lane(self) -> LaneSettings:
        """What each lane needs of them."""
        queue = self.queue
        return LaneSettings(
            queue.num_consumers,
            queue.block_on_overflow,
            queue.wait_for_result,
            queue.batch,
            self.retry,
            (queue.sizer, queue.queue_size) if queue.storage and queue.limited else None,
        )


class Exporter:
    """One destination of one or more pipelines.

    One that takes the place of `previous`, the exporter of the same id in an earlier configuration, goes on with its
    counts; `take_over` then brings what waits there.
    """

    def __init__(  # noqa: PLR0913 - what the composition root knows
        self,
        exporter_id: str,
        destination: Destination,
        options: Options,
        ledger: Ledger,
        signals: Sequence[Signal],
        fatal: Fatal,
        log: Log,
        clock: Clock | None = None,
        *,
        storage: Storage | None = None,
        previous: "Exporter | None" = None,
    ) -> None:
        self.id = exporter_id
        self.signals = tuple(signals)
        self.wants_owner_rule = options.wants_owner_rule
        self.max_request_bytes = options.max_request_bytes
        self._destination, self._options, self._ledger = destination, options, ledger
        self._fatal, self._log, self.storage = fatal, log, storage
        self._halt = Halt(clock or MonotonicClock())
        self._gate = Gate(self._halt)
        self.totals: dict[Signal, Totals] = dict(previous.totals) if previous else {}
        self.lanes = {signal: self._lane(signal, previous) for signal in signals}
        self._stopped = False

    def _lane(self, signal: Signal, previous: "Exporter | None") -> Lane:
        notices = Notices(self._log, self._halt.clock, exporter=self.id, signal=signal)
        totals = self.totals.setdefault(signal, Totals(self._ledger.exporter(signal, self.id)))
        totals.account.reopen()
        queue = self._queue(signal, totals, notices, previous)
        push = self._destination.sender(signal, self._halt, notices)
        return Lane(signal, queue, Throttle(self._gate, push), self._options.lane(), totals, self._gate, self._halt,
                    self._ledger, notices)  # fmt: skip

    def _queue(self, signal: Signal, totals: Totals, notices: Notices, previous: "Exporter | None") -> Queue:
        if self.storage is None:
            return self._options.queue.build()
        if previous is not None and previous.storage is self.storage and signal in previous.lanes:
            return previous.lanes[signal].queue
        account = totals.account

        def lost(reason: str, items: int) -> None:
            account.dropped("spool", reason, items)

        queue = self.storage.open(self.id, signal, lost, notices)
        # What an earlier configuration of this run left there is in flight already.
        counted = totals.stays if previous else account.in_flight
        account.recover(queue.recovered - counted)
        totals.stays -= counted if previous else 0
        if queue.recovered:
            notices.info("The spool holds data of an earlier run. Sending it.", recovered=queue.recovered)
        return queue

    def start(self) -> None:
        """Start the consumers."""
        for lane in self.lanes.values():
            lane.start(self.id, self._fatal)

    def offer(self, request: Request) -> None:
        """Take `request` into the queue of its signal, or count it as lost where there is no room. Never waits.

        Called by the capture thread, within the ledger's boundary. Raises KeyError for a signal that is not exported.
        """
        self.lanes[request.signal].offer(request)

    def wait_for_room(self, requests: Sequence[Request], stop: threading.Event) -> None:
        """Where `block_on_overflow` is set: until there is room for `requests`, of one signal. Not within the boundary."""
        if requests:
            self.lanes[requests[0].signal].wait_for_room(requests, stop)

    def wait_for_result(self, signal: Signal, stop: threading.Event) -> None:
        """Where `wait_for_result` is set: until what was offered of `signal` has its outcome. Not within the boundary."""
        self.lanes[signal].wait_for_result(stop)

    def halt(self, deadline: float) -> None:
        """Begin to end, without waiting: no sleep between retries any more, no new requests."""
        self._halt.set(deadline)
        for lane in self.lanes.values():
            lane.queue.close()

    def stop(self, deadline: float) -> None:
        """End by `deadline` (in the clock's seconds): one more attempt for each request, then what is left is abandoned.

        Every item that was offered has its outcome in the ledger when this returns; what a durable queue keeps is in
        flight.
        """
        if self._stopped:
            return
        self._stopped = True
        self.halt(deadline)
        self._end(deadline)
        for lane in self.lanes.values():
            lane.put_back()
            self._settle(lane)

    def hand_over(self, to: "Exporter", deadline: float) -> None:
        """End, and let `to`, which takes this exporter's place and has not started yet, hold what waits here.

        Calls under way get a moment. What waits of a signal that is not exported any more is drained until `deadline`.
        """
        self._stopped = True
        now = self._halt.clock.now()
        gone = self.lanes.keys() - to.lanes.keys()
        shared = {name for name, lane in self.lanes.items() if name not in gone and to.lanes[name].queue is lane.queue}
        self._halt.set(deadline if gone else now)
        for signal in self.lanes.keys() - shared:
            self.lanes[signal].queue.close()
        self._end(deadline if gone else now + _HAND_OVER, shared)
        for signal, lane in self.lanes.items():
            lane.put_back()
            if signal in gone:
                self._settle(lane)
                continue
            if signal not in shared:
                self._move(lane, to)

    def _move(self, lane: Lane, to: "Exporter") -> None:
        left = lane.move_to(to.lanes[lane.signal])
        lane.totals.stays += left
        if left:
            lane.notices.warning("Data stays in a spool that is not used any more.", left_items=left)
        lane.queue.release()

    def metrics(self) -> list[Metric]:
        """The exporter's own metrics, by the Collector's names: cumulative counts and current sizes."""
        found: list[Metric] = []
        for signal, lane in self.lanes.items():
            items, queue = ITEM_NAMES[signal], {"data_type": signal}
            counters, tally = lane.totals.counters, lane.totals.tally
            with self._ledger.boundary():
                found += [
                    (f"sent_{items}", {}, counters.sent),
                    (f"send_failed_{items}", {}, counters.send_failed),
                    (f"enqueue_failed_{items}", {}, counters.enqueue_failed),
                    ("requests", dict(queue), tally.attempts),
                    ("retried_requests", dict(queue), tally.repeated),
                    ("in_flight_requests", dict(queue), counters.in_flight_requests),
                    ("queue_size", dict(queue), lane.queue.size),
                    ("queue_capacity", dict(queue), lane.queue.capacity),
                ]
        return found

    def status(self) -> Mapping[str, Mapping[str, int]]:
        """Attempts by signal, for who looks at a running Weir."""
        tallies = {signal: lane.totals.tally for signal, lane in self.lanes.items()}
        return {signal: {"requests": tally.attempts, "retried": tally.repeated} for signal, tally in tallies.items()}

    def _end(self, deadline: float, interrupted: Collection[Signal] = ()) -> None:
        """Wait for all consumers until `deadline`, then close the destination under those that still send.

        The queues of `interrupted` are in use by others too, and so are not closed: who waits there is woken.
        """
        self._join(deadline, interrupted)
        self._destination.close()
        self._join(self._halt.clock.now() + _GRACE, interrupted)

    def _join(self, deadline: float, interrupted: Collection[Signal]) -> None:
        for signal, lane in self.lanes.items():
            while signal in interrupted and self._halt.clock.now() < deadline:
                lane.queue.interrupt()
                if lane.join(min(deadline, self._halt.clock.now() + _LOOK)):
                    break
            lane.join(deadline)

    def _settle(self, lane: Lane) -> None:
        """The end of a lane's account: what no durable queue keeps is abandoned."""
        kept = (lane.queue.items if lane.queue.durable else 0) + lane.totals.stays
        abandoned = lane.totals.account.close(kept)
        lane.queue.release()
        if abandoned:
            lane.notices.error("Exporting ended. Abandoning data.", dropped_items=abandoned)
        tally = lane.totals.tally
        lane.notices.info("Exporting ended.", requests=tally.attempts, retried_requests=tally.repeated, kept=kept)
