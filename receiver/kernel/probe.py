"""What this host can do, each feature found out by trying it: loaded, attached, fired on an event of Weir's own, detached."""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from receiver.kernel import objects, privileges
from receiver.kernel.allowlist import ForbiddenError
from receiver.kernel.btf import Btf
from receiver.kernel.libbpf import VMLINUX_BTF, BpfObject, KernelError, library, open_iterator
from receiver.kernel.ring import Ring
from receiver.kernel.syscall import UPROBE_MULTI, attach_uprobe_multi

CAPTURE_NEEDS: Final = ("libbpf", "btf", "ring_buffer", "raw_tp", "tracepoint inet_sock_set_state")
_RIGHTS: Final = "run as root, or give CAP_BPF and CAP_PERFMON (container: --cap-add BPF --cap-add PERFMON)"
_LIBRARY: Final = "install libbpf 1.x (Debian: libbpf1)"
_BUILD: Final = "build the objects (`make bpf`), or install Weir again"
_HITS: Final = 8
_LOOKED_AT: Final = 64


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that the host can do or not; `reason` and `remedy` where it can't, `detail` for what was found."""

    name: str
    available: bool
    reason: str = ""
    remedy: str = ""
    detail: str = ""

    def as_dict(self) -> dict[str, object]:
        """As `doctor --json` writes it."""
        return asdict(self)


class _UnavailableError(Exception):
    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class _Probe:
    """A probe object, loaded, that knows how often Weir itself hit each of its programs."""

    def __init__(self, name: str, prepare: Callable[[BpfObject], None] = lambda _: None) -> None:
        _libbpf()
        self.object = BpfObject(objects.read(name), name)
        try:
            prepare(self.object)
            btf = Btf(self.object.btf())
            own = os.stat("/proc/self/ns/pid")  # noqa: PTH116 a namespace link
            at = btf.variables(".rodata")
            for variable, form, value in (
                ("self_pid", "<I", os.getpid()), ("self_pidns_dev", "<Q", own.st_dev), ("self_pidns_ino", "<Q", own.st_ino)
            ):  # fmt: skip
                self.object.write_initial(".rodata", at[variable], struct.pack(form, value))
            self.object.load()
            self._at = btf.variables(".bss")["hits"]
            self._bss = mmap.mmap(self.object.map_fd(".bss"), mmap.PAGESIZE)
        except BaseException:
            self.object.close()
            raise

    def hits(self, which: int = 0) -> int:
        return int(struct.unpack_from("<Q", self._bss, self._at + _HITS * which)[0])

    def close(self) -> None:
        self._bss.close()
        self.object.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _own_connection() -> None:
    """One loopback connection of Weir's own: connects, sends, receives, closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=1)
        accepted, _ = server.accept()
        with client, accepted:
            client.sendall(b"weir")
            accepted.recv(4)


def _connected() -> bool:
    """Make a connection of Weir's own; whether there is a loopback to make it over. Listening alone fires a state change."""
    try:
        _own_connection()
    except OSError:
        return False
    return True


def _fired(probe: _Probe, which: int = 0) -> None:
    if not probe.hits(which):
        raise _UnavailableError("attached, but an event of Weir's own did not fire it", "please report this kernel")


def _libbpf() -> str:
    try:
        lib = library()
    except OSError as error:
        raise _UnavailableError(error.strerror or str(error), _LIBRARY) from error
    version = f"{lib.libbpf_major_version()}.{lib.libbpf_minor_version()}"
    if lib.libbpf_major_version() < 1:
        raise _UnavailableError(f"libbpf {version} is older than 1.0", _LIBRARY)
    return version


def _btf() -> str:
    try:
        with open(VMLINUX_BTF, "rb") as file:  # noqa: PTH123
            magic = file.read(2)
    except OSError as error:
        raise _UnavailableError(
            f"{VMLINUX_BTF}: {error.strerror}", "a kernel with CONFIG_DEBUG_INFO_BTF=y, 5.8 or later"
        ) from error
    if magic != b"\x9f\xeb":
        raise _UnavailableError(f"{VMLINUX_BTF} is not BTF", "a kernel with CONFIG_DEBUG_INFO_BTF=y")
    return VMLINUX_BTF


_TRACEPOINTS: Final = {
    "set_state": "inet_sock_set_state",
    "receive": "tcp_rcv_space_adjust",
    "send": "sock_send_length",
}
_WITHOUT: Final = {
    "tcp_rcv_space_adjust": "a kernel 4.16 or later; without it owners of accepted connections come from sending and closing",
    "sock_send_length": "a kernel 6.3 or later; without it owners of accepted connections come from receiving and closing",
}


def _raw_tracepoints() -> list[Feature]:
    """raw_tp, the ring, and each tracepoint in use: one load, because the programs are the smallest that do it."""
    try:
        with _Probe("probe_raw_tp") as probe:
            return _try_tracepoints(probe)
    except Exception as error:  # noqa: BLE001 a probe says why, whatever it was
        refused = _refusal(error)
        names = ["raw_tp", "ring_buffer", *(f"tracepoint {name}" for name in _TRACEPOINTS.values())]
        return [Feature(name, available=False, reason=refused.reason, remedy=refused.remedy) for name in names]


def _try_tracepoints(probe: _Probe) -> list[Feature]:
    missing: dict[str, str] = {}
    for program, tracepoint in _TRACEPOINTS.items():
        try:
            probe.object.attach(program)
        except KernelError as error:
            missing[tracepoint] = str(error)
    ring = Ring(probe.object.map_fd("ring"), 65536, 8)
    try:
        connected = _connected()
        written = bool(ring.held())
    finally:
        ring.close()
    found = []
    for which, tracepoint in enumerate(_TRACEPOINTS.values()):
        reason, detail = missing.get(tracepoint, ""), ""
        if not reason and not probe.hits(which):
            if connected or tracepoint == "inet_sock_set_state":  # listening alone would have fired that one
                reason = "attached, but an own event did not fire it"
            else:
                detail = "attached; not fired, because loopback is down in this network namespace"
        remedy = _WITHOUT.get(tracepoint, "a kernel 4.16 or later") if reason else ""
        found.append(Feature(f"tracepoint {tracepoint}", not reason, reason, remedy, detail))
    fired = any(probe.hits(which) for which in range(len(_TRACEPOINTS)))
    reason = "" if fired else "; ".join(sorted(set(missing.values()))) or "no program fired"
    rows = [Feature("raw_tp", fired, reason, "" if fired else _RIGHTS)]
    reason = "" if written else "the ring was made, but nothing arrived in it"
    rows.append(Feature("ring_buffer", written, reason, "" if written else "a kernel 5.8 or later"))
    return rows + found


def _tp_btf() -> str:
    with _Probe("probe_tp_btf") as probe:
        probe.object.attach("set_state")
        _connected()
        _fired(probe)
    return ""


def _own_datagram() -> None:
    """One datagram over loopback, from Weir to Weir."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.settimeout(1)
        server.bind(("127.0.0.1", 0))
        client.sendto(b"weir", server.getsockname())
        server.recv(4)


def _datagrams(*programs: str) -> str:
    with _Probe("probe_udp") as probe:
        for program in programs:
            probe.object.attach(program)
        try:
            _own_datagram()
        except OSError:
            return "attached; not fired, because loopback is down in this network namespace"
        for which in range(len(programs)):
            _fired(probe, which)
    return ""


def _iterate(name: str, over: str | None) -> str:
    with _Probe(name) as probe:
        link = probe.object.attach_iterator("walk", over)
        fd = open_iterator(link)
        try:
            while os.read(fd, 4096):
                pass
        finally:
            os.close(fd)
        _fired(probe)
    return ""


def _own_function() -> tuple[str, int]:
    """File and offset of libc's getppid in this very process."""
    libc = ctypes.CDLL(None)
    address = ctypes.cast(libc.getppid, ctypes.c_void_p).value or 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in parts[0].split("-"))
        if start <= address < end and len(parts) == 6:  # noqa: PLR2004 a mapping of a file
            return parts[5], address - start + int(parts[2], 16)
    raise _UnavailableError("libc's getppid is in no mapped file", "none: Weir runs on an unusual libc")


def _uprobe() -> str:
    with _Probe("probe_uprobe") as probe:
        path, offset = _own_function()
        probe.object.attach_uprobe("entry", pid=os.getpid(), path=path, offset=offset)
        os.getppid()
        ctypes.CDLL(None).getppid()
        _fired(probe)
    return ""


def _uprobe_multi() -> str:
    with _Probe("probe_uprobe_multi", lambda made: made.set_attach_type("entry", UPROBE_MULTI)) as probe:
        path, offset = _own_function()
        link = attach_uprobe_multi(probe.object.program_fd("entry"), path, offset, os.getpid())
        try:
            ctypes.CDLL(None).getppid()
        finally:
            os.close(link)
        _fired(probe)
    return ""


def _capabilities() -> str:
    missing = {"CAP_BPF", "CAP_PERFMON"} - privileges.held()
    if missing and "CAP_SYS_ADMIN" not in privileges.held():
        raise _UnavailableError(f"{' and '.join(sorted(missing))} missing", _RIGHTS)
    extra = sorted({"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"} & privileges.held())
    return " ".join(["CAP_BPF", "CAP_PERFMON", *extra])


def _lockdown() -> str:
    try:
        modes = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return "not known: securityfs is not mounted"
    mode = modes.partition("[")[2].partition("]")[0]
    if mode == "confidentiality":
        raise _UnavailableError(
            "lockdown=confidentiality forbids BPF to read kernel memory", "boot with lockdown=integrity or none"
        )
    return mode


def _memlock() -> str:
    import resource  # noqa: PLC0415

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "unlimited" if soft == resource.RLIM_INFINITY else f"{soft >> 10} KiB (counts for BPF before 5.11 only)"


def _cgroup() -> str:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return "v2"
    if (root / "unified" / "cgroup.controllers").exists():
        return "hybrid"
    if any(root.glob("*/cgroup.procs")):
        return "v1"
    raise _UnavailableError("no cgroup file system at /sys/fs/cgroup", "mount it; names still come from the kernel")


def _tracefs() -> str:
    mounted = [
        path for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing") if (Path(path) / "events").exists()
    ]
    if not mounted:
        raise _UnavailableError("not mounted", "none: Weir does not need it")
    return mounted[0]


def _identity() -> str:
    """Whether executables of other processes can be read; their names come from the kernel all the same."""
    readable, refused = 0, ""
    others = [path for path in Path("/proc").iterdir() if path.name.isdecimal() and path.name != str(os.getpid())]
    for path in others[:_LOOKED_AT]:
        try:
            (path / "exe").readlink()
            readable += 1
        except PermissionError as error:
            refused = f"{path}/exe: {error.strerror}"
        except OSError:  # gone, or a thread of the kernel
            continue
    if refused and not readable:
        raise _UnavailableError(
            refused,
            "give CAP_SYS_PTRACE (and CAP_DAC_READ_SEARCH) and share the pid namespace; names still come from the kernel",
        )
    return "executables of other processes are readable" if readable else "no other process is to be seen here"


_SINGLE: Final[Sequence[tuple[str, Callable[[], str]]]] = (
    ("libbpf", _libbpf),
    ("btf", _btf),
    ("capabilities", _capabilities),
    ("tp_btf", _tp_btf),
    ("udp", lambda: _datagrams("datagram_sent", "datagram_received")),
    ("udp senders", lambda: _datagrams("datagram_sent", "datagram_received", "call_ended")),
    ("iterator bpf_map_elem", lambda: _iterate("probe_iter_map", "walked")),
    ("iterator task_file", lambda: _iterate("probe_iter_task", None)),
    ("uprobe", _uprobe),
    ("uprobe_multi", _uprobe_multi),
    ("process identity", _identity),
    ("lockdown", _lockdown),
    ("memlock", _memlock),
    ("cgroup", _cgroup),
    ("tracefs", _tracefs),
)
_REMEDIES: Final = {
    "uprobe": "CAP_SYS_ADMIN, or use uprobe_multi (kernel 6.6 or later)",
    "uprobe_multi": "a kernel 6.6 or later",
    "udp": "a kernel 6.3 or later; without it only TCP is captured, and no DNS",
    "udp senders": "a kernel 6.3 or later; without it a sender to a socket that is not connected is inferred or unknown",
    "iterator bpf_map_elem": "a kernel 5.9 or later; without it open flows are not sampled and get no updates",
    "iterator task_file": "a kernel 5.10 or later",
}


def _refusal(error: Exception, name: str = "") -> _UnavailableError:
    if isinstance(error, _UnavailableError):
        return error
    if isinstance(error, objects.IntegrityError | ForbiddenError):
        return _UnavailableError(str(error), _BUILD)
    lacking = isinstance(error, KernelError) and error.errno in {1, 13}
    remedy = _RIGHTS if lacking and name != "uprobe" else _REMEDIES.get(name, "see the reason")
    return _UnavailableError(str(error) or type(error).__name__, remedy)


def _try(name: str, attempt: Callable[[], str]) -> Feature:
    try:
        return Feature(name, available=True, detail=attempt())
    except Exception as error:  # noqa: BLE001 a probe says why, whatever it was
        refused = _refusal(error, name)
        return Feature(name, available=False, reason=refused.reason, remedy=refused.remedy)


def probe_all() -> list[Feature]:
    """Every feature, tried; never raises, and leaves nothing attached."""
    rows = [_try(name, attempt) for name, attempt in _SINGLE]
    return rows[:3] + _raw_tracepoints() + rows[3:]


def capture_blockers(features: Iterable[Feature]) -> list[str]:
    """Why capture cannot be had: one line for each feature that it needs and that is missing."""
    return [f"{f.name}: {f.reason} ({f.remedy})" for f in features if f.name in CAPTURE_NEEDS and not f.available]


def summary(features: Iterable[Feature]) -> dict[str, str]:
    """One word a feature, for a log line."""
    return {f.name: (f.detail or "available") if f.available else f"unavailable: {f.reason}" for f in features}
