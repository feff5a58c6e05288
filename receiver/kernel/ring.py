"""A BPF ring buffer's memory to the bytes of whole records, by mmap and numpy instead of a callback for each.

Layout (kernel/bpf/ringbuf.c): the consumer page, the producer page, then the data mapped twice, so that a span never
splits at the wrap. A record is `u32 length | BUSY | DISCARD`, `u32 page offset`, payload, padded to 8 bytes.
"""

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

HEADER: Final = 8
BUSY: Final = 1 << 31
DISCARD: Final = 1 << 30
LENGTH: Final = DISCARD - 1
_ACQUIRE_RELEASE: Final = 4


def _no_fence() -> None:
    """x86 keeps loads in order and stores in order (TSO): a consumer needs no fence."""


def fence_for(machine: str) -> Callable[[], None]:
    """The memory fence that a consumer needs between its loads on `machine`: none on x86, a full one elsewhere."""
    if machine in {"x86_64", "i686"}:
        return _no_fence
    try:
        fence = ctypes.CDLL("libatomic.so.1").atomic_thread_fence
    except (OSError, AttributeError):
        return os.sched_yield  # a full barrier inside __schedule; package libatomic1 has the real one
    fence.argtypes, fence.restype = (ctypes.c_int,), None
    return lambda: fence(_ACQUIRE_RELEASE)


def stride_of(length: int) -> int:
    """Bytes that a record of `length` payload bytes takes in the ring."""
    return HEADER + (length + 7 & ~7)


class Ring:
    """The consumer of one ring: `drain` copies whole records out, headers included; `held` is what waits inside."""

    def __init__(self, fd: int, size: int, record_size: int, *, machine: str | None = None) -> None:
        page = mmap.PAGESIZE
        self.size = size
        self._stride = stride_of(record_size)
        self._length = record_size
        self._fence = fence_for(machine or os.uname().machine)
        self._consumer_map = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer_map = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        self._producer = memoryview(self._producer_map).cast("Q")
        self._data: NDArray[np.uint8] = np.frombuffer(self._producer_map, np.uint8, 2 * size, page)

    def held(self) -> int:
        """Records in the ring that have not been drained (records are of one size)."""
        return int(self._producer[0] - self._consumer[0]) // self._stride

    def drain(self, limit: int) -> bytes:
        """Whole records, at most `limit`, oldest first, as the ring holds them; `b""` if none is complete."""
        start, end = self._consumer[0], self._producer[0]
        self._fence()
        count = min((end - start) // self._stride, limit)
        if count <= 0:
            return self._walk(start, end, limit) if end > start else b""
        at = start & self.size - 1
        span = self._data[at : at + count * self._stride]
        lengths = span.view("<u4")[:: self._stride >> 2].copy()
        self._fence()
        if not (lengths == self._length).all():
            return self._walk(start, end, limit)
        raw = span.tobytes()
        self._release(start + len(raw))
        return raw

    def _walk(self, start: int, end: int, limit: int) -> bytes:
        """The slow way, header by header: stops at a record that is still being written, and at a length that cannot be."""
        words = self._data.view("<u4")
        at = first = start & self.size - 1
        stop = first + (end - start)
        for _ in range(limit):
            if at >= stop:
                break
            header = int(words[at >> 2])
            if header & BUSY:
                break
            step = stride_of(header & LENGTH)
            if at + step > stop:  # nothing after this can be trusted: give up the whole span, decode counts it
                at = stop
                break
            at += step
        self._fence()
        raw = self._data[first:at].tobytes()
        self._release(start + len(raw))
        return raw

    def _release(self, position: int) -> None:
        self._fence()
        self._consumer[0] = position

    def close(self) -> None:
        """Unmap."""
        self._data = np.empty(0, np.uint8)
        self._consumer.release()
        self._producer.release()
        self._consumer_map.close()
        self._producer_map.close()
