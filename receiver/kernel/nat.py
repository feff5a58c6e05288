"""Destination NAT by netfilter: the one program that sees it, attached only while conntrack has entries."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from receiver.kernel.libbpf import BpfObject, KernelError, Link

PROGRAM: Final = "weir_nat"
# Program -> what is missing without it.
PROGRAMS: Final[Mapping[str, str]] = {PROGRAM: "the address that a connection reaches through netfilter's DNAT"}
ENTRIES: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")  # of the network namespace of whoever reads it
LINGER: Final = 60.0  # s without an entry, after which packets are not looked at any more
_BETWEEN: Final = 1.0  # s between two looks


class Translations:
    """`bpf/flow_nat.h` on a loaded flow object. `tend` is called often, by the thread that drains."""

    def __init__(self, kernel: BpfObject, *, there: bool, entries: Path = ENTRIES) -> None:
        self._object, self._there, self._path = kernel, there, entries
        self._link: Link | None = None
        self._next = self._seen = 0.0

    @property
    def attached(self) -> bool:
        """Whether packets are looked at."""
        return self._link is not None

    def tend(self) -> None:
        """Look at packets while conntrack is in use; once a second that is looked up."""
        now = time.monotonic()
        if not self._there or now < self._next:
            return
        self._next = now + _BETWEEN
        if self._in_use():
            self._seen = now
            if self._link is None:
                self._take_up()
        elif self._link is not None and now - self._seen > LINGER:
            self._link.close()
            self._link = None

    def _in_use(self) -> bool:
        try:
            return int(self._path.read_bytes()) > 0
        except (OSError, ValueError):  # no conntrack in this kernel, or not in this namespace
            return False

    def _take_up(self) -> None:
        try:
            self._link = self._object.attach(PROGRAM)
        except KernelError:  # no tracepoint; no reason to try again
            self._there = False

    def detach(self) -> None:
        """No more; the object's links go with it."""
        self._link, self._there = None, False
