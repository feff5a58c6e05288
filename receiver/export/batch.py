"""Requests out of a queue in; batches of them that are large enough, or have waited long enough, out."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from receiver.export.halt import Clock
from receiver.export.queue import SIZERS, Queue, Sizer
from receiver.export.request import Request
from receiver.otlp.split import split


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`sending_queue.batch`: sizes in the sizer's unit, `max_size` 0 is no limit, seconds."""

    sizer: Sizer = "items"
    min_size: int = 8192
    max_size: int = 0
    flush_timeout: float = 0.2


@dataclass(frozen=True, slots=True)
class Batch:
    """What was taken out of the queue, and the requests that it is sent as."""

    taken: Sequence[Request]
    requests: Sequence[Request]


class Batcher:
    """Takes what the queue has; with settings, it waits for more and joins it. Safe for several consumers."""

    def __init__(self, queue: Queue, settings: BatchSettings | None, clock: Clock) -> None:
        self._queue, self._settings, self._clock = queue, settings, clock
        self._collecting = threading.Lock()
        self._ahead: Request | None = None  # taken, and too large for the batch that was being made

    def take(self) -> Batch | None:
        """The next batch; waits for it. None once the queue is closed and empty, or its consumers are to look up."""
        if self._settings is None:
            request = self._queue.get()
            return None if request is None else Batch((request,), (request,))
        with self._collecting:
            return self._collect(self._settings)

    def leave(self) -> list[Request]:
        """What was taken and is in no batch; to be called when no consumer runs any more."""
        ahead, self._ahead = self._ahead, None
        return [ahead] if ahead is not None else []

    def _collect(self, settings: BatchSettings) -> Batch | None:
        measure = SIZERS[settings.sizer]
        first, self._ahead = self._ahead or self._queue.get(), None
        if first is None:
            return None
        taken, size = [first], measure(first)
        end = self._clock.now() + settings.flush_timeout
        while size < settings.min_size and (left := end - self._clock.now()) > 0 and not self._queue.closed:
            request = self._queue.get(left)
            if request is None:
                break
            if settings.max_size and size + measure(request) > settings.max_size:
                self._ahead = request
                break
            taken.append(request)
            size += measure(request)
        return Batch(taken, fitting(join(taken), measure, settings.max_size))


def join(requests: Sequence[Request]) -> Request:
    """One request with everything in it: serialised messages of repeated fields are joined by joining their bytes."""
    if len(requests) == 1:
        return requests[0]
    return Request(
        requests[0].signal,
        b"".join(request.data for request in requests),
        sum(request.items for request in requests),
        attempted=any(request.attempted for request in requests),
    )


def fitting(request: Request, measure: Callable[[Request], int], limit: int) -> list[Request]:
    """`request` in parts of at most `limit`, or of one item; whole where the limit is 0."""
    parts: Final = deque([request])
    made = []
    while parts:
        part = parts.popleft()
        halves = split(part.signal, part.data) if limit and measure(part) > limit else None
        if halves is None:
            made.append(part)
        else:
            parts.extendleft(replace(part, data=half.data, items=half.items) for half in reversed(halves))
    return made
