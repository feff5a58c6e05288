"""Requests in from the capture thread, one at a time out to the consumers; bounded, and what is being sent counts."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias

from receiver.export.request import Request

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
    def size(self) -> int:
        """What it holds, in the sizer's unit: waiting and being sent."""

    @property
    def capacity(self) -> int:
        """What it can hold at most."""

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""

    def put(self, request: Request) -> bool:
        """Take `request`, without waiting; False where there is no room or the queue is closed."""

    def get(self) -> Request | None:
        """The oldest request; waits for one. None once the queue is closed and empty."""

    def done(self, request: Request) -> None:
        """`request`, which `get` gave, needs no room any more."""

    def close(self) -> None:
        """Take nothing more; what is in may still be taken out."""


class MemoryQueue:
    """A queue in memory. Its memory is at most `capacity` bytes of requests with the sizer `bytes`."""

    def __init__(self, capacity: int, sizer: Sizer = "bytes") -> None:
        self._capacity = capacity
        self._measure = SIZERS[sizer]
        self._requests: deque[Request] = deque()
        self._size = 0
        self._closed = False
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
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    def put(self, request: Request) -> bool:
        """Take `request`, without waiting; False where there is no room or the queue is closed."""
        size = self._measure(request)
        with self._changed:
            if self._closed or self._size + size > self._capacity:
                return False
            self._size += size
            self._requests.append(request)
            self._changed.notify()
            return True

    def get(self) -> Request | None:
        """The oldest request; waits for one. None once the queue is closed and empty."""
        with self._changed:
            while not self._requests:
                if self._closed:
                    return None
                self._changed.wait()
            return self._requests.popleft()

    def done(self, request: Request) -> None:
        """`request`, which `get` gave, needs no room any more."""
        with self._changed:
            self._size -= self._measure(request)

    def close(self) -> None:
        """Take nothing more; what is in may still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
