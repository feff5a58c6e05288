"""The UDP part of the flow object: its programs attached, its passes, and the one program that only runs while it is needed."""

import mmap
import struct
import time
from typing import Final

from receiver.kernel.libbpf import BpfObject, KernelError, Link

# Program -> what is missing without it.
PROGRAMS: Final = {
    "weir_udp_send": "UDP: datagrams that are sent",
    "weir_udp_receive": "UDP: datagrams that are received",
}
EXIT: Final = "weir_udp_exit"
PASS: Final = "weir_udp_pass"  # noqa: S105 no password
CLEAN: Final = "weir_udp_clean"
LISTING: Final = "weir_list_udp"
ALL: Final = {
    **PROGRAMS,
    EXIT: "UDP: who sent a datagram to a socket that is not connected",
    PASS: "UDP: the reports of flows",
    CLEAN: "UDP: forgetting what is over",
    LISTING: "UDP: which sockets are older than Weir; without it flows have no role",
}
MAPS: Final = ("udp_flows", "udp_rest")
_SENT: Final = "udp_last"
SIZED: Final = (*MAPS, _SENT)  # by limits.max_flows; memory is taken as they fill
LINGER: Final = 60.0  # s without a question for a sender, after which ends of system calls are not looked at any more
_LEAVE: Final = 1.0  # s for the calls that are still under way
_NANO: Final = 1_000_000_000


class Datagrams:
    """UDP on a loaded flow object. `tend` is called often, by the thread that drains."""

    def __init__(self, kernel: BpfObject, bss: mmap.mmap, at: dict[str, int], *, peers: bool = True) -> None:
        self._object, self._bss, self._at, self._peers = kernel, bss, at, peers
        self._passes: list[Link] = []
        self._exit: Link | None = None
        self._left = 0  # boot ns: when the ends of calls were given up
        self.attachments = 0  # how often the ends of system calls were taken up

    def attach(self) -> dict[str, str]:
        """Attach passes and programs, all or none; what is missing, with the reason."""
        try:
            self._passes = [self._object.attach_iterator(PASS, name) for name in MAPS]
            self._passes.append(self._object.attach_iterator(CLEAN, _SENT))
            for name in PROGRAMS:
                self._object.attach(name)
        except KernelError as error:
            return {name: f"{what}: {error}" for name, what in PROGRAMS.items()}
        return {}

    def listed(self) -> None:
        """Every socket that is older is known: from now on another one is young, and its flows have roles."""
        if not self._read("udp_old_lost"):
            struct.pack_into("<B", self._bss, self._at["udp_listed"], 1)

    def passes(self) -> list[Link]:
        """The iterators to read for a pass."""
        return self._passes

    @property
    def sees_exits(self) -> bool:
        """Whether the ends of system calls are looked at."""
        return self._exit is not None

    def tend(self) -> None:
        """Look at the ends of system calls while somebody asks who sent a datagram, and not longer."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wanted = self._read("udp_wanted")
        due = self._peers and wanted > 0 and now - wanted < LINGER * _NANO
        if due and not self._read("udp_exits_since"):
            self._take_up()
        elif self._exit is not None and not due:
            if self._read("udp_exits_since"):  # no new call waits for its end; those that do, find it
                self._write("udp_exits_since", 0)
                self._left = now
            elif now - self._left > _LEAVE * _NANO:
                self._exit.close()
                self._exit = None

    def _take_up(self) -> None:
        if self._exit is None:
            try:
                self._exit = self._object.attach(EXIT)
            except KernelError:  # `doctor` says why; senders stay inferred or unknown
                self._peers = False
                return
            self.attachments += 1
        self._write("udp_exits_since", time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def _read(self, name: str) -> int:
        return int(struct.unpack_from("<Q", self._bss, self._at[name])[0])

    def _write(self, name: str, value: int) -> None:
        struct.pack_into("<Q", self._bss, self._at[name], value)

    def detach(self) -> None:
        """Forget the links; the object closes them."""
        self._passes, self._exit, self._peers = [], None, False
