"""Requests in from the capture thread, one at a time out to the consumers; on disk, so that the next run has what is left.

Nothing that `put` took is lost with the process. It may be sent twice: what a consumer had when the process ended is in the
next run's queue again, as `attempted`. While the disk takes nothing, a few requests are held in memory.
"""

import errno
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from receiver.export.notices import Notices
from receiver.export.pool import Losses, Pool
from receiver.export.request import Request
from receiver.export.segment import DONE, FILE_HEADER, FRAME_HEADER, NEW, TAKEN, Frame, Segment
from receiver.export.shelf import Place, Shelf

MEMORY: Final = 4 << 20  # B of requests that are held while the disk takes nothing
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_PAUSE: Final = 1.0  # s until a file that could not be opened for want of something is tried again
_MAX_LINES: Final = 16  # log lines that wait for somebody who may write them
_REMEDY: Final = "Free space, or look at the disk: what waits in memory is lost when Weir ends."


@dataclass(slots=True)
class _Held:
    """A request that a consumer has."""

    request: Request
    place: Place | None  # None: it is in memory alone


class SpoolQueue:
    """The queue of one exporter and signal. `lost` is told a reason and items, never while a lock of the spool is held.

    `put` writes no log: what it has to say waits until `report`, `get`, `done`, `put_back` or `close` is called.
    """

    durable: Final = True

    def __init__(self, pool: Pool, shelf: Shelf, lost: Callable[[str, int], None], notices: Notices) -> None:
        self._pool, self._shelf, self.lost, self._notices = pool, shelf, lost, notices
        self.recovered = shelf.items
        self.used = False  # whether anybody has asked anything of it: before that, nothing is evicted from it
        self._memory: deque[Request] = deque()
        self._memory_bytes = self._memory_requests = 0  # of those that consumers have as well
        self._out: dict[int, _Held] = {}
        self._trouble: int | None = None  # the errno that the disk answers with
        self._reading = self._closed = self._released = False
        self._interrupts = 0
        self._lines: deque[tuple[str, str, dict[str, object]]] = deque(maxlen=_MAX_LINES)
        self._changed = threading.Condition(pool.lock)

    @property
    def size(self) -> int:
        """Bytes of what it holds, waiting and being sent."""
        return self._shelf.held + self._memory_bytes

    @property
    def capacity(self) -> int:
        """What it can hold at most, as long as other queues of the directory hold what they hold."""
        shelf = self._shelf
        return self._pool.max_bytes - FILE_HEADER - (self._pool.file_bytes - shelf.held)

    @property
    def items(self) -> int:
        """Items that it holds on disk: those that outlive the process."""
        return self._shelf.items

    @property
    def requests(self) -> int:
        """Requests that it holds."""
        return self._shelf.requests + self._memory_requests

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    def measure(self, request: Request) -> int:
        """What `request` takes on disk."""
        return FRAME_HEADER + len(request.data)

    def put(self, request: Request) -> bool:
        """Take `request`. False where it can never fit, where neither disk nor memory takes it, or when it is closed."""
        checksum = zlib.crc32(request.data)
        losses = Losses()
        with self._changed:
            if self._closed:
                return False
            self.used = True
            taken = self._add(request, checksum, NEW, losses)
            self._changed.notify()
        losses.settle()
        return taken

    def get(self, timeout: float | None = None) -> Request | None:
        """The oldest request; waits for one, for at most `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self.used = True
            before = self._interrupts
        while True:
            self.report()
            losses = Losses()
            with self._changed:
                left = None if end is None else max(0.0, end - time.monotonic())
                woken = self._changed.wait_for(lambda: self._ready() or self._interrupts != before, left)
                if not woken or self._released or (self._interrupts != before and not self._lines):
                    return None
                if self._lines:
                    continue
                if not self._shelf.waiting:
                    return self._from_memory()  # None where it is closed and empty
                reserved = self._reserve()
            request = self._read(*reserved, losses) if reserved is not None else None
            losses.settle()
            if request is not None:
                return request

    def interrupt(self) -> None:
        """Whoever waits in `get` just now gets None."""
        with self._changed:
            self._interrupts += 1
            self._changed.notify_all()

    def done(self, request: Request) -> None:
        """`request`, which `get` gave, needs no room any more; nothing happens where it was evicted meanwhile."""
        with self._changed:
            self._finish(self._out.pop(id(request), None))
            self._changed.notify_all()
        self.report()

    def put_back(self, taken: Sequence[Request], rest: Sequence[Request]) -> None:
        """`taken` was not delivered, but for what is not in `rest`. Those that are in both stay where they are."""
        losses = Losses()
        kept = {id(request) for request in taken} & {id(request) for request in rest}
        with self._changed:
            if self._released:
                return
            # What is new is written before the old is done: a crash between them makes copies, and loses nothing.
            for request in rest:
                if id(request) not in kept:
                    self._append_rest(request, losses)
            for request in taken:
                held = self._out.pop(id(request), None)
                if id(request) in kept:
                    self._give_back(request, held, losses)
                else:
                    self._finish(held)
            self._changed.notify_all()
        losses.settle()
        self.report()

    def close(self) -> None:
        """Take nothing more; what is in may still be taken out. What waits in memory is written, if that is possible now."""
        with self._changed:
            self._closed = self.used = True
            self._absorb()
            self._changed.notify_all()
        self.report()

    def release(self) -> None:
        """Let go of the files."""
        with self._changed:
            if self._released:
                return
            self._closed = self._released = True
            self._changed.wait_for(lambda: not self._reading)
            self._out.clear()
            self._memory.clear()
            self._memory_bytes = self._memory_requests = 0
            self._shelf.release()
            self._pool.leave(self._shelf)
            self._changed.notify_all()

    def report(self) -> None:
        """Write the log lines that wait."""
        while self._lines:
            with self._changed:
                lines = list(self._lines)
                self._lines.clear()
            for level, message, fields in lines:
                getattr(self._notices, level)(message, **fields)

    def say(self, level: str, message: str, **fields: object) -> None:
        """A line for the log, once somebody comes who may write it. The lock is held."""
        self._lines.append((level, message, fields))
        self._changed.notify_all()

    def _ready(self) -> bool:
        if self._lines or self._released:
            return True
        if self._shelf.waiting:
            return not self._reading
        return bool(self._memory) or self._closed

    def _add(self, request: Request, checksum: int, state: int, losses: Losses) -> bool:
        pool, size = self._pool, self.measure(request)
        if FILE_HEADER + size > pool.max_bytes:
            return False
        while pool.file_bytes + self._shelf.adds(size, pool.segment_bytes) > pool.max_bytes:
            if not pool.evict(losses):
                return False
        error = self._append(request, checksum, state)
        if error is not None and error.errno in _FULL and self._trouble is None:
            freed = 0
            while freed < size + FILE_HEADER and (more := pool.evict(losses)):
                freed += more
            error = self._append(request, checksum, state)
        if error is None:
            self._well()
            return True
        self._unwell(error)
        if self._memory_bytes + len(request.data) > MEMORY:
            return False
        self._remember(request, 1)
        self._memory.append(request)
        return True

    def _append(self, request: Request, checksum: int, state: int) -> OSError | None:
        try:
            self._shelf.append(request, checksum, state, self._pool.segment_bytes)
        except OSError as error:
            return error
        return None

    def _remember(self, request: Request, sign: int) -> None:
        self._memory_bytes += sign * len(request.data)
        self._memory_requests += sign

    def _unwell(self, error: OSError) -> None:
        if self._trouble == error.errno:
            return
        self._trouble = error.errno
        self.say("error", "The spool cannot write. Holding data in memory.", error=error.strerror, cause="spool_disk",
                 directory=self._pool.path, remedy=_REMEDY)  # fmt: skip

    def _well(self) -> None:
        if self._trouble is None:
            return
        self._trouble = None
        self._absorb()
        if self._trouble is None:
            self.say("info", "The spool can write again.", directory=self._pool.path)

    def _absorb(self) -> None:
        """Write what waits in memory, as far as there is room that nobody has to be evicted for."""
        pool = self._pool
        while self._memory:
            request = self._memory[0]
            if pool.file_bytes + self._shelf.adds(self.measure(request), pool.segment_bytes) > pool.max_bytes:
                return
            error = self._append(request, zlib.crc32(request.data), TAKEN if request.attempted else NEW)
            if error is not None:
                self._unwell(error)
                return
            self._remember(self._memory.popleft(), -1)

    def _from_memory(self) -> Request | None:
        if not self._memory:
            return None
        request = self._memory.popleft()
        self._out[id(request)] = _Held(request, None)
        return request

    def _reserve(self) -> tuple[Place | None, Segment] | None:
        """What is read next: a frame that was given back, or the next one of a file. Nobody else reads meanwhile."""
        place = self._shelf.take_returned()
        segment = place.segment if place is not None else self._shelf.next()
        if segment is None:
            raise RuntimeError("the spool counts a request that no file has")
        try:
            segment.open()
        except OSError as error:
            if error.errno in _SCARCE:
                if place is not None:
                    self._shelf.give_back(place)
                self._note(error)
                self._changed.wait(_PAUSE)
                return None
            # The attempt to read finds the same, and that is a loss.
        self._reading = True
        segment.pins += 1
        return place, segment

    def _read(self, place: Place | None, segment: Segment, losses: Losses) -> Request | None:
        """Read without the lock, then settle. None where there was nothing to be had."""
        frame, data = (place.frame if place is not None else None), None
        with suppress(OSError):
            frame = frame or segment.peek(segment.offset, segment.position)
            data = segment.payload(frame) if frame is not None and frame.state != DONE else None
        with self._changed:
            self._reading = False
            segment.pins -= 1
            self._changed.notify_all()
            request = self._settle(place, segment, frame, data, losses)
            self._let_go(segment)
            return request

    def _settle(
        self, place: Place | None, segment: Segment, frame: Frame | None, data: bytes | None, losses: Losses
    ) -> Request | None:
        shelf = self._shelf
        if place is None:
            if segment.gone:
                return None  # evicted meanwhile, and counted
            if frame is None:
                self._damaged(shelf.mend(segment), losses)
                return None
            if frame.state == DONE:
                shelf.skip(segment, frame)
                return None
            shelf.take(segment, frame)
            place = Place(segment, frame)
        if data is not None:
            return self._hand_out(place, data)
        self._damaged(place.frame.items, losses)
        if not segment.gone:
            self._note(shelf.finish(place))
        return None

    def _hand_out(self, place: Place, data: bytes) -> Request:
        frame = place.frame
        attempted = frame.state == TAKEN
        if not attempted:
            try:
                place.segment.mark(frame, TAKEN)
            except OSError as error:
                self._note(error)
            place.frame = frame._replace(state=TAKEN)
        request = Request(self._shelf.signal, data, frame.items, attempted)
        place.segment.pins += 1
        self._out[id(request)] = _Held(request, place)
        return request

    def _finish(self, held: _Held | None) -> None:
        if held is None:
            return
        if held.place is None:
            self._remember(held.request, -1)
            return
        segment = held.place.segment
        segment.pins -= 1
        if not segment.gone:
            self._note(self._shelf.finish(held.place))
        self._let_go(segment)

    def _let_go(self, segment: Segment) -> None:
        """One has it less: where nobody needs the file any more, it goes."""
        if segment.gone and segment.pins == 0:
            segment.rest()
        self._note(self._shelf.tidy(segment))

    def _give_back(self, request: Request, held: _Held | None, losses: Losses) -> None:
        if held is None:
            return
        if held.place is None:
            self._remember(request, -1)
            self._append_rest(request, losses)
            return
        segment = held.place.segment
        segment.pins -= 1
        if segment.gone:
            self._append_rest(request, losses)
        else:
            self._shelf.give_back(held.place)
        self._let_go(segment)

    def _append_rest(self, request: Request, losses: Losses) -> None:
        if not self._add(request, zlib.crc32(request.data), TAKEN, losses):
            losses.add(self.lost, "evicted", request.items)

    def _damaged(self, items: int, losses: Losses) -> None:
        losses.add(self.lost, "corrupt", items)
        self.say("error", "The spool is damaged. Dropping data.", dropped_items=items, cause="spool_corrupt",
                 directory=self._pool.path, remedy="Look at the disk.")  # fmt: skip

    def _note(self, error: OSError | None) -> None:
        """A file was not marked, removed or opened. What was sent may be sent again by the next run."""
        if error is not None:
            self.say("error", "The spool cannot be used as it should.", error=error.strerror, cause="spool_disk",
                     directory=self._pool.path, remedy=_REMEDY)  # fmt: skip
