"""A ring filled by BPF without any traffic: the source of the benchmarks that need more records than two cores connect."""

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Iterator

from receiver.kernel import objects
from receiver.kernel.btf import Btf
from receiver.kernel.libbpf import BpfObject
from receiver.kernel.records import EVENT
from receiver.kernel.ring import Ring
from receiver.kernel.source import Counters, Owner

_PROG_TEST_RUN = 10
_NUMBER = {"x86_64": 321, "aarch64": 280}
_libc = ctypes.CDLL(None, use_errno=True)


class _Request(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("count", "clients", "ports", "processes"))


class _Run(ctypes.Structure):
    _fields_ = (
        ("prog_fd", ctypes.c_uint32), ("retval", ctypes.c_uint32), ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32), ("data_in", ctypes.c_uint64), ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32), ("duration", ctypes.c_uint32), ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32), ("ctx_in", ctypes.c_uint64), ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32), ("cpu", ctypes.c_uint32), ("batch_size", ctypes.c_uint32), ("pad", ctypes.c_uint32),
    )  # fmt: skip


class Generator:
    """A `Source` whose ring is filled by `fill`."""

    def __init__(self, mib: int = 8, clients: int = 200, ports: int = 10, processes: int = 20) -> None:
        self._object = BpfObject(objects.read("bench_ring"), "bench_ring")
        btf = Btf(self._object.btf())
        size = mib << 20
        self._object.resize("events", size)
        self._object.write_initial(".rodata", btf.variables(".rodata")["wakeup_bytes"], struct.pack("<Q", size // 4))
        self._object.load()
        self._at = btf.variables(".bss")["counters"]
        self._bss = mmap.mmap(self._object.map_fd(".bss"), mmap.PAGESIZE)
        self.ring = Ring(self._object.map_fd("events"), size, EVENT.itemsize)
        self.capacity = size // (EVENT.itemsize + 8)
        self._shape = (clients, ports, processes)

    def fill(self, count: int) -> None:
        """Emit `count` records from this thread; those that find no room are counted."""
        request = _Request(count, *self._shape)
        run = _Run(prog_fd=self._object.program_fd("bench_fill"))
        run.ctx_size_in, run.ctx_in = ctypes.sizeof(request), ctypes.addressof(request)
        if _libc.syscall(_NUMBER[os.uname().machine], _PROG_TEST_RUN, ctypes.byref(run), ctypes.sizeof(run)) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def wait(self, timeout: float) -> bool:  # noqa: ARG002
        """The benchmarks drain without waiting."""
        return True

    def newcomers(self) -> list[tuple[int, int]]:
        """Nobody."""
        return []

    def drain(self, limit: int) -> bytes:
        """Whole ring records."""
        return self.ring.drain(limit)

    def dns(self) -> bytes:
        """None."""
        return b""

    def counters(self) -> Counters:
        """What was emitted and lost."""
        begun, _, lost = struct.unpack_from("<3Q", self._bss, self._at)
        return Counters(begun=begun, ring_full=lost, held=self.ring.held())

    def run_pass(self, update_interval: int = 0) -> bytes:  # noqa: ARG002
        """No open sockets."""
        return b""

    def finish(self) -> Iterator[bytes]:
        """No open sockets."""
        return iter(())

    def owners(self, keys: Iterable[tuple[int, int]]) -> list[Owner | None]:
        """Processes as the kernel would describe them."""
        return [
            Owner(pid, start, 0, pid, 1, 1, b"bench", f"service-{pid % 7}".encode(), b"", b"") for pid, start in keys
        ]

    def boot_to_unix(self) -> int:
        """Fixed."""
        return 1_700_000_000_000_000_000

    def detach(self) -> None:
        """Nothing is attached."""

    def close(self) -> None:
        """Unload."""
        self.ring.close()
        self._bss.close()
        self._object.close()
