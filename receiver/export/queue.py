"""Requests in from the capture thread, one at a time out to the consumers; bounded, and what is being sent counts."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias

from receiver.export.notices import Notices
from receiver.export.request import Request
from receiver.ledger import Signal

Sizer: TypeAlias = Literal["bytes", "items", "requests"]

SIZERS: Final[Mapping[Sizer, Callable[[Request], int]]] = MappingProxyType(
    {
        "bytes": lambda request: len(request.data),
        "items": lambda request: request.items,
        "requests": lambda _: 1,
    }
)


class Queue(Protocol):
    """What an exporter needs of a queue, in memory or on disk."""

    @property
    def durable(self) -> bool:
        """Whether what it holds outlives the process."""

    @property
    def size(self) -> int:
        """What it holds, in the sizer's unit: waiting and being sent."""

    @property
    def capacity(self) -> int:
        """What it can hold at most."""

    @property
    def items(self) -> int:
        """Log records, data points or spans that it holds; of a durable one those that outlive the process."""

    @property
    def requests(self) -> int:
        """Requests that it holds."""

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""

    def measure(self, request: Request) -> int:
        """What `request` adds to the size."""

    def put(self, request: Request) -> bool:
        """Take `request`, without waiting; False where there is no room or the queue is closed."""

    def get(self, timeout: float | None = None) -> Request | None:
        """The oldest request; waits for one, for at most `timeout` seconds.

        None when the time is over, when the queue is closed and empty, and for those that wait during `interrupt`.
        """

    def interrupt(self) -> None:
        """Whoever waits in `get` just now gets None."""

    def done(self, request: Request) -> None:
        """`request`, which `get` gave, needs no room any more."""

    def put_back(self, taken: Sequence[Request], rest: Sequence[Request]) -> None:
        """`taken`, which `get` gave, was not delivered, but for what is not in `rest`; also when it is closed."""

    def report(self) -> None:
        """Log what happened in `put`, which the capture thread calls, and which so never writes a log."""

    def close(self) -> None:
        """Take nothing more; what is in may still be taken out."""

    def release(self) -> None:
        """Let go of files; nothing is called any more."""


class DurableQueue(Queue, Protocol):
    """A queue whose requests outlive the process."""

    @property
    def recovered(self) -> int:
        """Items that an earlier run left."""


class Storage(Protocol):
    """Where durable queues are kept."""

    def open(
        self, exporter_id: str, signal: Signal, lost: Callable[[str, int], None], notices: Notices
    ) -> DurableQueue:
        """The queue of one exporter and signal, with what an earlier run left in it; `lost` is told a reason and items."""


class MemoryQueue:
    """A queue in memory. Its memory is at most `capacity` bytes of requests with the sizer `bytes`."""

    durable: Final = False

    def __init__(self, capacity: int, sizer: Sizer = "bytes") -> None:
        self._capacity = capacity
        self.measure = SIZERS[sizer]
        self._waiting: deque[Request] = deque()
        self._size = self._items = self._requests = 0
        self._closed = False
        self._interrupts = 0
        self._changed = threading.Condition(threading.Lock())

    @property
    def size(self) -> int:
        """What it holds, in the sizer's unit: waiting and being sent."""
        return self._size

    @property
    def capacity(self) -> int:
        """What it can hold at most."""
        return self._capacity

    @property
    def items(self) -> int:
        """Log records, data points or spans that it holds."""
        return self._items

    @property
    def requests(self) -> int:
        """Requests that it holds."""
        return self._requests

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    def put(self, request: Request) -> bool:
        """Take `request`, without waiting; False where there is no room or the queue is closed."""
        with self._changed:
            if self._closed or self._size + self.measure(request) > self._capacity:
                return False
            self._count(request, 1)
            self._waiting.append(request)
            self._changed.notify()
            return True

    def get(self, timeout: float | None = None) -> Request | None:
        """The oldest request; waits for one, for at most `timeout` seconds."""
        with self._changed:
            before = self._interrupts
            self._changed.wait_for(lambda: self._waiting or self._closed or self._interrupts != before, timeout)
            return self._waiting.popleft() if self._waiting else None

    def interrupt(self) -> None:
        """Whoever waits in `get` just now gets None."""
        with self._changed:
            self._interrupts += 1
            self._changed.notify_all()

    def done(self, request: Request) -> None:
        """`request`, which `get` gave, needs no room any more."""
        with self._changed:
            self._count(request, -1)

    def put_back(self, taken: Sequence[Request], rest: Sequence[Request]) -> None:
        """`taken` was not delivered, but for what is not in `rest`, which is the oldest now."""
        with self._changed:
            for request in taken:
                self._count(request, -1)
            for request in rest:
                self._count(request, 1)
            self._waiting.extendleft(reversed(rest))
            self._changed.notify_all()

    def close(self) -> None:
        """Take nothing more; what is in may still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def report(self) -> None:
        """Nothing to tell: what was refused is counted by who offered it."""

    def release(self) -> None:
        """Nothing to let go of."""

    def _count(self, request: Request, sign: int) -> None:
        self._size += sign * self.measure(request)
        self._items += sign * request.items
        self._requests += sign
