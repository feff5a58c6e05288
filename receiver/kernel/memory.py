"""The C library's heap, told to give memory back: start-up needs more than running does (mallopt(3), malloc_trim(3))."""

import ctypes
from typing import Final

_ARENA_MAX: Final = -8
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def frugal() -> None:
    """Few heaps, whatever the number of threads, and buffers of a request's size reused; harmless where libc has no such call."""
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 2)
        mallopt(_MMAP_THRESHOLD, 4 << 20)
        mallopt(_TRIM_THRESHOLD, 4 << 20)


def trim() -> None:
    """Give back what start-up no longer needs."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
