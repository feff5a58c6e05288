"""DNS messages from the kernel: their programs attached, their ring drained, its bytes to records that were checked."""

import mmap
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np

from receiver.kernel.btf import Btf
from receiver.kernel.libbpf import BpfObject, KernelError
from receiver.kernel.records import LayoutMismatchError, Records
from receiver.kernel.ring import DISCARD, HEADER, LENGTH, Ring, stride_of

# Program -> what is missing without it.
PROGRAMS: Final = {
    "weir_dns_send": "DNS: messages that are sent",
    "weir_dns_receive": "DNS: messages that are received",
}
MAP: Final = "dns_messages"
RING_BYTES: Final = 1 << 19  # about 800 messages: twice what is parsed in half a second
MOST_PORTS: Final = 8  # as in bpf/flow_dns.h
MOST: Final = 1024  # messages drained at once
LAYOUT_VERSION: Final = 1
TRANSMIT, SELF, SEVERAL = 1, 2, 4
_FLAGS: Final = TRANSMIT | SELF | SEVERAL
_DATA: Final = 512
_ADDRESS: Final = ("<u1", (16,))
# As struct weir_dns; the object's BTF must say the same.
MESSAGE: Final = np.dtype(
    [
        *((name, "<u1") for name in ("version", "transport", "flags", "family")),
        ("local_port", "<u2"),
        ("peer_port", "<u2"),
        ("netns", "<u4"),
        ("owner_pid", "<u4"),
        ("owner_start", "<u8"),
        ("cgroup_id", "<u8"),
        ("cookie", "<u8"),
        ("time", "<u8"),
        ("size", "<u4"),
        ("captured", "<u2"),
        ("reserved", "<u2"),
        ("local_address", *_ADDRESS),
        ("peer_address", *_ADDRESS),
        ("comm", *_ADDRESS),
        ("data", "<u1", (_DATA,)),
    ]
)
STRIDE: Final = stride_of(MESSAGE.itemsize)
_RING_RECORD: Final = np.dtype(
    {"names": ["length", "message"], "formats": ["<u4", MESSAGE], "offsets": [0, HEADER], "itemsize": STRIDE}
)
NO_MESSAGES: Final[Records] = np.empty(0, MESSAGE)


def decode(raw: bytes) -> tuple[Records, int]:
    """The messages of a drained span that are what they must be, and how many are not. Never raises on any bytes."""
    whole = len(raw) // STRIDE * STRIDE
    bad = int(whole != len(raw))
    framed = np.frombuffer(raw[:whole], _RING_RECORD)
    sized = framed["length"] & LENGTH == MESSAGE.itemsize
    wanted = framed[sized & (framed["length"] & DISCARD == 0)]["message"]
    bad += int((~sized).sum())
    valid = (wanted["version"] == LAYOUT_VERSION) & (wanted["flags"] & ~np.uint8(_FLAGS) == 0)
    valid &= (wanted["transport"] == 6) | (wanted["transport"] == 17)  # noqa: PLR2004 IP protocol numbers
    valid &= (wanted["family"] == 4) | (wanted["family"] == 6)  # noqa: PLR2004
    valid &= (wanted["captured"] < _DATA) & (wanted["captured"] <= wanted["size"]) & (wanted["size"] > 0)
    return wanted[valid], bad + int((~valid).sum())


class DnsMessages:
    """DNS on a loaded flow object whose `ports` are not empty."""

    def __init__(self, kernel: BpfObject, bss: mmap.mmap, at: dict[str, int]) -> None:
        self._object, self._bss, self._at = kernel, bss, at
        self._ring = Ring(kernel.map_fd(MAP), RING_BYTES, MESSAGE.itemsize)

    def attach(self) -> dict[str, str]:
        """Attach both programs; what is missing, with the reason."""
        missing = {}
        for name, what in PROGRAMS.items():
            try:
                self._object.attach(name)
            except KernelError as error:
                missing[name] = f"{what}: {error}"
        return missing

    def drain(self) -> bytes:
        """Ring bytes of at most MOST messages, headers included."""
        return self._ring.drain(MOST)

    def lost(self) -> tuple[int, int]:
        """Messages that found no room, and those whose bytes could not be found."""
        return self._read("dns_lost"), self._read("dns_unread")

    def _read(self, name: str) -> int:
        return int(struct.unpack_from("<Q", self._bss, self._at[name])[0])

    def close(self) -> None:
        """Unmap the ring."""
        self._ring.close()


def prepare(kernel: BpfObject, btf: Btf, ports: Sequence[int]) -> None:
    """Before load: size and ports; without ports nothing of it is loaded. LayoutMismatchError for another record."""
    if btf.dtype("weir_dns") != MESSAGE:
        raise LayoutMismatchError("struct weir_dns of the BPF object differs from this version's")
    if not ports:
        for name in PROGRAMS:
            kernel.skip(name)
        return
    if len(ports) > MOST_PORTS:
        raise ValueError(f"{len(ports)} DNS ports: at most {MOST_PORTS}")
    kernel.resize(MAP, RING_BYTES)
    kernel.write_initial(".rodata", btf.variables(".rodata")["dns_ports"], struct.pack(f"<{len(ports)}H", *ports))
