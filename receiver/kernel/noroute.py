"""Connects that find no route: the programs that notice them, and the walk that reports them."""

import mmap
import struct
from collections.abc import Mapping
from typing import Final

from receiver.kernel.libbpf import BpfObject, KernelError, Link, read_iterator

REPORT: Final = "weir_noroute"
# Program -> what is missing without it.
PROGRAMS: Final[Mapping[str, str]] = {
    "weir_fib4": "connects that find no route to an IPv4 address",
    "weir_fib6": "connects that find no route to an IPv6 address",
    REPORT: "connects that find no route",
}


class NoRoutes:
    """What `bpf/flow_noroute.h` notes, put into the ring when it has settled."""

    def __init__(self, loaded: BpfObject, bss: mmap.mmap, at: Mapping[str, int]) -> None:
        self._object, self._bss, self._waiting = loaded, bss, at["noroutes_waiting"]
        self._report: Link | None = None

    def attach(self) -> dict[str, str]:
        """Begin to notice; what is missing, and why."""
        missing = {}
        try:
            self._report = self._object.attach_iterator(REPORT, "noroutes")
            for name in (program for program in PROGRAMS if program != REPORT):
                try:
                    self._object.attach(name)
                except KernelError as error:
                    missing[name] = f"{PROGRAMS[name]}: {error}"
        except KernelError as error:
            missing[REPORT] = f"{PROGRAMS[REPORT]}: {error}"
        return missing

    def tend(self) -> None:
        """Report what waits; costs a read of one word when nothing does."""
        if self._report is not None and struct.unpack_from("<Q", self._bss, self._waiting)[0]:
            read_iterator(self._report)

    def detach(self) -> None:
        """No more; the object's links go with it."""
        self._report = None
