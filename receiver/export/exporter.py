"""Requests from the capture thread in, deliveries to one destination out: a queue and its consumers for each signal."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from receiver.export.account import ITEM_NAMES, Account, Counters, Oversize, ReportRefused
from receiver.export.divide import Divide
from receiver.export.errors import AbandonedError
from receiver.export.halt import Clock, Halt, MonotonicClock
from receiver.export.notices import Log, Notices
from receiver.export.queue import MemoryQueue, Queue, Sizer
from receiver.export.request import Request, Sender
from receiver.export.retry import Retry, RetryPolicy
from receiver.export.switch import Switch
from receiver.export.throttle import Gate, Throttle
from receiver.ledger import ExporterAccount, Ledger, Signal

# Where it happened, and what.
Fatal: TypeAlias = Callable[[str, BaseException], None]
# A metric's name after the exporters' prefix, its attributes, its current value.
Metric: TypeAlias = tuple[str, dict[str, str], float]

_GRACE: Final = 0.25  # s that threads get to end after the destination was closed under them


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


@dataclass(frozen=True, slots=True)
class _Lane:
    """One signal's way through the exporter."""

    signal: Signal
    queue: Queue
    account: ExporterAccount
    counters: Counters
    notices: Notices
    retry: Retry
    chain: Sender
    threads: list[threading.Thread]


class Exporter:
    """One destination of one or more pipelines."""

    def __init__(
        self,
        exporter_id: str,
        destination: Destination,
        options: Options,
        ledger: Ledger,
        signals: Sequence[Signal],
        fatal: Fatal,
        log: Log,
        clock: Clock | None = None,
    ) -> None:
        self.id = exporter_id
        self.signals = tuple(signals)
        self.wants_owner_rule = options.wants_owner_rule
        self.max_request_bytes = options.max_request_bytes
        self._destination, self._options, self._ledger = destination, options, ledger
        self._fatal = fatal
        self._halt = Halt(clock or MonotonicClock())
        gate = Gate(self._halt)
        self._lanes = {signal: self._lane(signal, gate, log) for signal in signals}
        self._stopped = False

    def _lane(self, signal: Signal, gate: Gate, log: Log) -> _Lane:
        notices = Notices(log, self._halt.clock, exporter=self.id, signal=signal)
        account = self._ledger.exporter(signal, self.id)
        counters = Counters()
        push = Throttle(gate, self._destination.sender(signal, self._halt, notices))
        refused = ReportRefused(push, self._ledger, counters, notices)
        retry = Retry(refused, self._options.retry, self._halt, notices)
        # The gate stands before the retries too: what waits there has not begun to use its time.
        switch = Switch(Throttle(gate, retry), self._halt.clock, notices)
        settled = Account(switch, self._ledger, account, counters, notices)
        chain = Divide(settled, Oversize(self._ledger, account, counters, notices), notices)
        return _Lane(signal, self._options.queue.build(), account, counters, notices, retry, chain, [])

    def start(self) -> None:
        """Start the consumers."""
        for lane in self._lanes.values():
            for number in range(self._options.queue.num_consumers):
                name = f"export {self.id}/{lane.signal} {number}"
                thread = threading.Thread(target=self._consume, args=(lane,), name=name, daemon=True)
                lane.threads.append(thread)
                thread.start()

    def offer(self, request: Request) -> None:
        """Take `request` into the queue of its signal, or count it as lost where the queue is full. Never waits.

        Called by the capture thread, within the ledger's boundary. Raises KeyError for a signal that is not exported.
        """
        lane = self._lanes[request.signal]
        if request.items == 0:
            return
        lane.account.offer(request.items)
        if not lane.queue.put(request):
            stage, reason = ("shutdown", "abandoned") if lane.queue.closed else ("queue", "full")
            lane.account.dropped(stage, reason, request.items)
            lane.counters.enqueue_failed += request.items

    def halt(self, deadline: float) -> None:
        """Begin to end, without waiting: no sleep between retries any more, no new requests."""
        self._halt.set(deadline)
        for lane in self._lanes.values():
            lane.queue.close()

    def stop(self, deadline: float) -> None:
        """End by `deadline` (in the clock's seconds): one more attempt for each request, then what is left is abandoned.

        Every item that was offered has its outcome in the ledger when this returns.
        """
        if self._stopped:
            return
        self._stopped = True
        self.halt(deadline)
        self._join(deadline)
        self._destination.close()
        self._join(self._halt.clock.now() + _GRACE)
        for lane in self._lanes.values():
            abandoned = lane.account.close()
            if abandoned:
                lane.notices.error("Exporting ended. Abandoning data.", dropped_items=abandoned)
            lane.notices.info("Exporting ended.", requests=lane.retry.attempts, retried_requests=lane.retry.repeated)

    def metrics(self) -> list[Metric]:
        """The exporter's own metrics, by the Collector's names: cumulative counts and current sizes."""
        found: list[Metric] = []
        for signal, lane in self._lanes.items():
            items, queue = ITEM_NAMES[signal], {"data_type": signal}
            with self._ledger.boundary():
                found += [
                    (f"sent_{items}", {}, lane.counters.sent),
                    (f"send_failed_{items}", {}, lane.counters.send_failed),
                    (f"enqueue_failed_{items}", {}, lane.counters.enqueue_failed),
                    ("requests", dict(queue), lane.retry.attempts),
                    ("retried_requests", dict(queue), lane.retry.repeated),
                    ("in_flight_requests", dict(queue), lane.counters.in_flight_requests),
                    ("queue_size", dict(queue), lane.queue.size),
                    ("queue_capacity", dict(queue), lane.queue.capacity),
                ]
        return found

    def status(self) -> dict[str, dict[str, int]]:
        """Attempts by signal, for who looks at a running Weir."""
        counts = {signal: self.attempts(signal) for signal in self._lanes}
        return {signal: {"requests": made, "retried": again} for signal, (made, again) in counts.items()}

    def attempts(self, signal: Signal) -> tuple[int, int]:
        """Attempts made for `signal`, and how many of them repeated one: each of those may have made a copy."""
        retry = self._lanes[signal].retry
        return retry.attempts, retry.repeated

    def _consume(self, lane: _Lane) -> None:
        try:
            while (request := lane.queue.get()) is not None:
                try:
                    lane.chain.send(request)
                except AbandonedError:
                    if self._halt.remaining() <= 0:
                        return
                finally:
                    lane.queue.done(request)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the process must not live on without its export
            self._fatal(threading.current_thread().name, error)

    def _join(self, until: float) -> None:
        for lane in self._lanes.values():
            for thread in lane.threads:
                if thread.is_alive():
                    thread.join(max(0.0, until - self._halt.clock.now()))
