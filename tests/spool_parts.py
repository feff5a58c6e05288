"""What the tests of the spool share: small requests with a number in them, a queue that counts, an end without goodbye."""

from pathlib import Path

from receiver.export.request import Request
from receiver.export.segment import FRAME_HEADER
from receiver.export.spool import SpoolQueue
from receiver.export.storage import FileStorage
from receiver.ledger import Signal
from tests.export_parts import Remembered, notices

LARGE = 64 << 20


def numbered(number: int, items: int = 1, size: int = 0, signal: Signal = "logs") -> Request:
    return Request(signal, number.to_bytes(8, "little") + b"\xa5" * size, items)


def number_of(request: Request) -> int:
    return int.from_bytes(request.data[:8], "little")


class Opened:
    """A queue, what it reported as lost, and its log."""

    def __init__(self, storage: FileStorage, exporter_id: str = "otlp_grpc", signal: Signal = "logs") -> None:
        self.lost: dict[str, int] = {}
        made, self.log = notices()
        self.queue: SpoolQueue = storage.open(exporter_id, signal, self.count, made)

    def count(self, reason: str, items: int) -> None:
        self.lost[reason] = self.lost.get(reason, 0) + items

    def drain(self) -> list[Request]:
        """All that is there, done."""
        found = []
        while (request := self.queue.get(0)) is not None:
            found.append(request)
            self.queue.done(request)
        return found


def opened(directory: Path, max_bytes: int = LARGE, *, fsync: bool = False) -> tuple[FileStorage, Opened]:
    storage = FileStorage(directory, max_bytes=max_bytes, fsync=fsync)
    return storage, Opened(storage)


def kill(storage: FileStorage) -> None:
    """What the kernel does for a process that is killed: its files are closed, and nothing else happens."""
    for shelf in storage._shelves.values():
        for segment in shelf.segments:
            segment.rest()
    storage._directory.close()


def spool_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


def frame_bytes(request: Request) -> int:
    return FRAME_HEADER + len(request.data)


__all__ = ["LARGE", "Opened", "Remembered", "frame_bytes", "kill", "number_of", "numbered", "opened", "spool_files"]
