"""What the queues of one directory share: a lock, a bound, and the losses that a put of one causes to another."""

import threading
from collections.abc import Callable
from typing import Protocol, TypeAlias

from receiver.export.shelf import Shelf

# Told a reason and how many items are gone.
Lost: TypeAlias = Callable[[str, int], None]


class Losses:
    """What was lost while the lock was held, to be counted without it: who counts has locks of their own."""

    def __init__(self) -> None:
        self._found: list[tuple[Lost, str, int]] = []

    def add(self, lost: Lost, reason: str, items: int) -> None:
        """`items` are gone."""
        if items:
            self._found.append((lost, reason, items))

    def settle(self) -> None:
        """Count them."""
        for lost, reason, items in self._found:
            lost(reason, items)
        self._found.clear()


class Pool(Protocol):
    """One directory."""

    path: str
    lock: threading.Lock
    segment_bytes: int
    max_bytes: int

    @property
    def file_bytes(self) -> int:
        """What all files take."""

    def evict(self, losses: Losses) -> int:
        """Remove the oldest file of the largest queue: how many bytes that freed, 0 where there is none. The lock is held."""

    def leave(self, shelf: Shelf) -> None:
        """A queue is not used any more; its shelf stays. The lock is held."""
