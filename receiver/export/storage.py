"""A directory and a size in; the durable queues in it, which take no more than that together, out."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from receiver.export.directory import Directory, Name, file_name
from receiver.export.notices import Notices
from receiver.export.pool import Losses
from receiver.export.segment import StorageError, check_version
from receiver.export.shelf import Shelf
from receiver.export.spool import SpoolQueue
from receiver.ledger import Signal

__all__ = ["FileStorage", "StorageError", "Stranger"]

_SEGMENT: Final = 16 << 20  # B of one file at most, unless one request is larger
_SEGMENTS: Final = 8  # files that the directory should have room for: one of them is lost at a time


class Stranger(NamedTuple):
    """A queue that an earlier run left, and that nobody has opened."""

    exporter_id: str
    signal: Signal
    items: int
    size: int  # bytes on disk


class FileStorage:
    """`file_storage`: the directory is this object's alone until `close`. Raises StorageError where it cannot be had.

    All files together take at most `max_bytes`: for what is put beyond that, the oldest file of the queue with the largest
    files goes. That may be a queue that nobody has opened; it has no ledger, so only a log line tells.
    """

    def __init__(
        self, directory: str | Path, *, max_bytes: int, fsync: bool = False, create_directory: bool = True
    ) -> None:
        self.path = str(directory)
        self._bound(max_bytes)
        self.lock = threading.Lock()
        self.torn = 0  # requests that an earlier run did not write to their end
        self._sync = fsync
        self._closed = False
        self._shelves: dict[tuple[str, Signal], Shelf] = {}
        self._queues: dict[Shelf, SpoolQueue] = {}
        self._directory = Directory(self.path, create=create_directory)
        self.foreign: list[str] = []  # names of what is not of a spool, and is left alone
        try:
            self._load()
        except StorageError as error:
            self._directory.close()
            raise StorageError(f"{self.path}/{error}") from error
        except OSError as error:
            self._directory.close()
            raise StorageError(f"{self.path}: cannot be read as a spool: {error.strerror}.") from error

    @property
    def file_bytes(self) -> int:
        """What all files take."""
        return sum(shelf.file_bytes for shelf in tuple(self._shelves.values()))

    def open(self, exporter_id: str, signal: Signal, lost: Callable[[str, int], None], notices: Notices) -> SpoolQueue:
        """The queue of one exporter and signal, with what an earlier run left in it. Raises StorageError."""
        file_name(Name(exporter_id, signal, 0))
        with self.lock:
            shelf = self._shelf(exporter_id, signal)
            if shelf in self._queues:
                raise StorageError(f"{self.path}: the queue of {exporter_id} for {signal} is open already")
            queue = SpoolQueue(self, shelf, lost, notices)
            if shelf.torn:
                queue.say("warning", "The spool ends in a request that was not written to its end. Leaving it out.",
                          torn_bytes=shelf.torn, directory=self.path)  # fmt: skip
                shelf.torn = 0
            self._queues[shelf] = queue
            shelf.left = False
            return queue

    def change(self, *, max_bytes: int, fsync: bool) -> None:
        """Other settings from now on; what is too much for them goes at once."""
        losses = Losses()
        with self.lock:
            self._bound(max_bytes)
            self._sync = fsync
            for shelf in self._shelves.values():
                shelf.sync = fsync
            while self.file_bytes > max_bytes and self.evict(losses):
                pass
        losses.settle()

    def strangers(self) -> list[Stranger]:
        """Queues with something in them that nobody has opened."""
        with self.lock:
            return [
                Stranger(exporter_id, signal, shelf.items, shelf.file_bytes)
                for (exporter_id, signal), shelf in sorted(self._shelves.items())
                if shelf not in self._queues and shelf.requests
            ]

    def evict(self, losses: Losses) -> int:
        """Remove the oldest file of the largest queue: how many bytes that freed, 0 where there is none."""
        shelves = [shelf for shelf in self._shelves.values() if shelf.segments and self._may_lose(shelf)]
        if not shelves:
            return 0
        # The ledger of one that was left in this run says what it holds, and cannot be told otherwise: it comes last.
        shelf = max(shelves, key=lambda shelf: (not shelf.left, shelf.file_bytes))
        queue, before = self._queues.get(shelf), shelf.file_bytes
        items, error = shelf.evict()
        teller = queue or next(iter(self._queues.values()), None)
        if queue is not None:
            losses.add(queue.lost, "evicted", items)
        if teller is not None and items:
            whose = {} if queue else {"exporter": shelf.exporter_id, "signal": shelf.signal}
            teller.say("error", "The spool is full. Dropping the oldest data.", cause="spool_full", directory=self.path,
                       remedy="The destination is too slow or away: see its errors, or raise max_size_mib.",
                       dropped_items=items, **whose)  # fmt: skip
        if teller is not None and error is not None:
            teller.say("error", "A file of the spool cannot be removed.", error=error.strerror, cause="spool_disk",
                       directory=self.path)  # fmt: skip
        return before - shelf.file_bytes

    def leave(self, shelf: Shelf) -> None:
        """A queue is not used any more; what is in it is a stranger's."""
        self._queues.pop(shelf, None)
        shelf.left = True

    def close(self) -> None:
        """Close what is open, and let another process have the directory."""
        for queue in list(self._queues.values()):
            queue.release()
        with self.lock:
            if not self._closed:
                self._closed = True
                self._directory.close()

    def _bound(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.segment_bytes = min(_SEGMENT, max_bytes // _SEGMENTS)

    def _load(self) -> None:
        names, self.foreign = self._directory.names()
        for _, text in names:
            check_version(self._directory.fd, text)  # of all, before any of them is changed
        for name, text in names:
            segment = self._shelf(name.exporter_id, name.signal).load(name, text)
            if segment is None:
                self.foreign.append(text)
            elif segment.torn:
                self.torn += 1
        for shelf in self._shelves.values():
            for segment in list(shelf.segments):
                shelf.tidy(segment)

    def _shelf(self, exporter_id: str, signal: Signal) -> Shelf:
        key = (exporter_id, signal)
        if key not in self._shelves:
            self._shelves[key] = Shelf(self._directory, exporter_id, signal, sync=self._sync)
        return self._shelves[key]

    def _may_lose(self, shelf: Shelf) -> bool:
        queue = self._queues.get(shelf)
        return queue is None or queue.used
