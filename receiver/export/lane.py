"""One signal's way through an exporter: a queue, its consumers, and the chain of senders that each of them calls."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from receiver.export.account import Account, Counters, Oversize, ReportRefused
from receiver.export.batch import Batch, Batcher, BatchSettings
from receiver.export.divide import Divide
from receiver.export.errors import AbandonedError
from receiver.export.halt import Halt
from receiver.export.notices import Notices
from receiver.export.queue import SIZERS, Queue, Sizer
from receiver.export.request import Request, Sender
from receiver.export.retry import Retry, RetryPolicy, Tally
from receiver.export.switch import Switch
from receiver.export.throttle import Gate, Throttle
from receiver.ledger import ExporterAccount, Ledger, Signal

# Where it happened, and what.
Fatal: TypeAlias = Callable[[str, BaseException], None]

_LOOK: Final = 0.02  # s between two looks at a queue that somebody waits for


@dataclass(slots=True)
class Totals:
    """What was counted of one exporter and signal, over all configurations of a run."""

    account: ExporterAccount
    stays: int = 0  # items in a durable queue that is not used any more
    counters: Counters = field(default_factory=Counters)
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What a lane needs of `sending_queue` and `retry_on_failure`."""

    num_consumers: int = 2
    block_on_overflow: bool = False
    wait_for_result: bool = False
    batch: BatchSettings | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limit: tuple[Sizer, int] | None = None  # of a durable queue: what it may hold besides its storage's own bound


class Lane:
    """Requests of one signal, from the capture thread to the destination."""

    def __init__(  # noqa: PLR0913 - an exporter's parts, each of them
        self,
        signal: Signal,
        queue: Queue,
        push: Sender,
        settings: LaneSettings,
        totals: Totals,
        gate: Gate,
        halt: Halt,
        ledger: Ledger,
        notices: Notices,
    ) -> None:
        self.signal, self.queue, self.totals, self.notices = signal, queue, totals, notices
        self._settings, self._halt, self._ledger = settings, halt, ledger
        account, counters = totals.account, totals.counters
        refused = ReportRefused(push, queue, ledger, counters, notices)
        retry = Retry(refused, settings.retry, halt, notices, tally=totals.tally)
        # The gate stands before the retries too: what waits there has not begun to use its time.
        switch = Switch(Throttle(gate, retry), halt.clock, notices)
        settled = Account(switch, ledger, account, counters, notices)
        self._chain = Divide(settled, Oversize(ledger, account, counters, notices), notices)
        self._batcher = Batcher(queue, settings.batch, halt.clock)
        self._threads: list[threading.Thread] = []
        self._left: list[tuple[Sequence[Request], Sequence[Request]]] = []  # taken, and what of it was not delivered

    def start(self, name: str, fatal: Fatal) -> None:
        """Start the consumers."""
        for number in range(self._settings.num_consumers):
            thread = threading.Thread(
                target=self._consume, args=(fatal,), name=f"export {name}/{self.signal} {number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def offer(self, request: Request) -> None:
        """Take `request` into the queue, or count it as lost where there is no room. Never waits."""
        if request.items == 0:
            return
        account, counters = self.totals.account, self.totals.counters
        account.offer(request.items)
        if self._over_limit(request) or not self.queue.put(request):
            stage, reason = ("shutdown", "abandoned") if self.queue.closed else ("queue", "full")
            account.dropped(stage, reason, request.items)
            counters.enqueue_failed += request.items

    def wait_for_room(self, requests: Sequence[Request], stop: threading.Event) -> None:
        """With `block_on_overflow`: until the queue has room for all of `requests`, or is empty, or `stop` is set."""
        if not self._settings.block_on_overflow:
            return
        need = sum(map(self.queue.measure, requests))
        while 0 < self.queue.size > self.queue.capacity - need and not self.queue.closed:
            if stop.wait(_LOOK):
                return

    def wait_for_result(self, stop: threading.Event) -> None:
        """With `wait_for_result`: until everything that was offered has its outcome, or `stop` is set."""
        while self._settings.wait_for_result and self.queue.size and not self.queue.closed:
            if stop.wait(_LOOK):
                return

    def join(self, until: float) -> bool:
        """Wait for the consumers' end, until then; whether all have ended."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - self._halt.clock.now()))
        return not any(thread.is_alive() for thread in self._threads)

    def put_back(self) -> None:
        """What consumers took and could not deliver is in the queue again; to be called when they have ended."""
        for request in self._batcher.leave():
            self.queue.put_back((request,), (request,))
        while self._left:
            taken, rest = self._left.pop()
            whole = self.queue.durable and tuple(rest) == tuple(taken)  # then it stays as it is, attempt noted
            self.queue.put_back(taken, taken if whole else [replace(part, attempted=True) for part in rest])

    def move_to(self, other: "Lane") -> int:
        """Everything that waits here waits there; how many items there was no room for, and did not leave a durable queue.

        What an exporter's memory held and the new one's cannot hold is lost, and counted.
        """
        while (request := self.queue.get(0)) is not None:
            if other.queue.put(request):
                self.queue.done(request)
            elif self.queue.durable:
                self.queue.put_back((request,), (request,))
                return self.queue.items
            else:
                self.totals.account.dropped("queue", "full", request.items)
                self.queue.done(request)
        return 0

    def _over_limit(self, request: Request) -> bool:
        if self._settings.limit is None:
            return False
        sizer, limit = self._settings.limit
        held = {"bytes": self.queue.size, "items": self.queue.items, "requests": self.queue.requests}[sizer]
        return held + SIZERS[sizer](request) > limit

    def _consume(self, fatal: Fatal) -> None:
        try:
            while not (self._halt.is_set() and self._halt.remaining() <= 0):
                if self.queue.durable and self._left:
                    return  # the destination does not take the last attempts, and what waits is safe
                batch = self._batcher.take()
                if batch is not None:
                    self._send(batch)
                elif self.queue.closed:
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the process must not live on without its export
            fatal(threading.current_thread().name, error)

    def _send(self, batch: Batch) -> None:
        for number, request in enumerate(batch.requests):
            try:
                self._chain.send(request)
            except AbandonedError as error:
                self._left.append((batch.taken, (*error.rest, *batch.requests[number + 1 :])))
                return
        for request in batch.taken:
            self.queue.done(request)
