"""The flow object, loaded and attached: a source of records, a pass over open sockets, counters and owners."""

import mmap
import os
import secrets
import select
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from receiver.kernel import dns, nat, noroute, objects, udp
from receiver.kernel.btf import Btf
from receiver.kernel.filters import Filters
from receiver.kernel.libbpf import BpfObject, KernelError, Link, read_iterator
from receiver.kernel.records import EVENT, check_layout
from receiver.kernel.ring import HEADER, Ring, stride_of
from receiver.kernel.source import PID_BITS, Counters, Owner
from receiver.kernel.syscall import lookup, runs_missed

_COUNTERS: Final = struct.Struct("<9Q")
_FILTERED: Final = struct.Struct("<2Q")
_OWNER_KEY: Final = struct.Struct("<QII")
_NEWCOMERS: Final = 65536  # bytes of their ring, as in bpf/flow.bpf.c
_WAKE_AT: Final = 4  # the reader is woken when 1/4 of the ring is full
_SETTLE_TRIES: Final = 1000
_FINISH_PASSES: Final = 100
# Program -> what is missing without it.
PROGRAMS: Final = {
    "weir_set_state": "flows",
    "weir_receive": "owners of accepted connections that receive first",
    "weir_send": "owners of accepted connections that send first",
}
PASS: Final = "weir_pass"  # noqa: S105 no password
# In this order: the first names owners, the second only adds what is left.
FILES: Final = "weir_list_files"
LISTING: Final = {
    FILES: "owners of connections that are older than Weir, before they are used",
    "weir_list_sockets": "connections that are older than Weir and that no visible process has open, before they are used",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What is fixed at load: scope (0: all network namespaces, else the inode of one), sizes, start events."""

    netns: int
    ring_bytes: int
    max_flows: int
    start_events: bool = False
    udp_idle_timeout: float = 30.0  # s
    udp_peers: bool = True  # look at the ends of system calls while that is needed to know who sent a datagram
    filters: Filters = field(default_factory=Filters)
    dns_ports: Sequence[int] = ()  # none: DNS is not read


@dataclass(slots=True)
class Attached:
    """Which programs are attached, and why others are not."""

    programs: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    listed: int = 0  # sockets that were there before


def ring_bytes(mib: int) -> int:
    """A ring's size: a power of two and a multiple of the page size, at least `mib` MiB."""
    return 1 << (max(mib << 20, mmap.PAGESIZE) - 1).bit_length()


class Capture:
    """The kernel side of flow capture. `close` undoes all of it; so does the end of the process."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.attached = Attached()
        self._pass: Link | None = None
        self._object = BpfObject(objects.read("flow"), "weir_flow")
        try:
            self._load()
        except BaseException:
            self._object.close()
            raise

    def _load(self) -> None:
        btf = Btf(self._object.btf())
        check_layout(btf.dtype("weir_event"))
        self._owner = btf.dtype("weir_owner")
        self._bss_at = btf.variables(".bss")
        size = self.options.ring_bytes
        self._prepare(btf)
        self._load_what_can_be()
        self.ring = Ring(self._object.map_fd("events"), size, EVENT.itemsize)
        key = btf.dtype("weir_owner_key")
        self._newcomers = Ring(self._object.map_fd("newcomers"), _NEWCOMERS, key.itemsize)
        self._newcomer = np.dtype(
            {"names": ["key"], "formats": [key], "offsets": [HEADER], "itemsize": stride_of(key.itemsize)}
        )
        self._events_fd = self._object.map_fd("events")
        self._wake = select.epoll()
        # Edges are enough for the events, which say when a quarter is full; newcomers are asked for until there is none.
        self._wake.register(self._events_fd, select.EPOLLIN | select.EPOLLET)
        self._wake.register(self._object.map_fd("newcomers"), select.EPOLLIN)
        self._owners_fd = self._object.map_fd("owners")
        self._state_fd = self._object.program_fd("weir_set_state")
        length = max(offset for offset in self._bss_at.values()) + 8
        self._bss = mmap.mmap(self._object.map_fd(".bss"), -(-length // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.noroutes = noroute.NoRoutes(self._object, self._bss, self._bss_at)
        self.nat = nat.Translations(self._object, there=nat.PROGRAM not in self.attached.missing)
        self.udp = udp.Datagrams(self._object, self._bss, self._bss_at, peers=self.options.udp_peers)
        self._dns: dns.DnsMessages | None = None
        if self.options.dns_ports and not dns.PROGRAMS.keys() & self.attached.missing.keys():
            self._dns = dns.DnsMessages(self._object, self._bss, self._bss_at)

    def _prepare(self, btf: Btf) -> None:
        self._object.resize("events", self.options.ring_bytes)
        for name in ("flows", *udp.SIZED):
            self._object.resize(name, self.options.max_flows)
        at = btf.variables(".rodata")
        self._set_constants(at, self.options.ring_bytes)
        filters = self.options.filters.pack(btf.dtype("weir_filters"))
        self._object.write_initial(".rodata", at["filters"], filters)
        dns.prepare(self._object, btf, self.options.dns_ports)

    def _load_what_can_be(self) -> None:
        """All of it; else without one part: DNS, NAT (conntrack), routes, UDP (Linux 6.3), the listing (5.11); else without all of them."""
        refused: KernelError | None = None
        listing = {**LISTING, udp.LISTING: udp.ALL[udp.LISTING]}
        names = dns.PROGRAMS if self.options.dns_ports else {}
        without_udp = {**udp.ALL, **names}  # it stands on the same hooks
        least = {**nat.PROGRAMS, **noroute.PROGRAMS, **without_udp, **LISTING}
        parts = [{}, names, nat.PROGRAMS, noroute.PROGRAMS, without_udp, listing, least]
        for left_out in parts[:1] + [part for part in parts if part]:
            if refused is not None:
                self._object.close()
                self._object = BpfObject(objects.read("flow"), "weir_flow")
                for program in left_out:
                    self._object.skip(program)
                self._prepare(Btf(self._object.btf()))
            try:
                self._object.load()
            except KernelError as error:
                refused = error
            else:
                self.attached.missing = {program: f"{what}: {refused}" for program, what in left_out.items()}
                return
        if refused is not None:
            raise refused

    def _set_constants(self, at: dict[str, int], size: int) -> None:
        own = os.stat("/proc/self/ns/pid")  # noqa: PTH116 a namespace link, not a file
        for name, form, value in (
            ("scope_netns", "<I", self.options.netns),
            ("self_pid", "<I", os.getpid()),
            ("self_pidns_dev", "<Q", own.st_dev),
            ("self_pidns_ino", "<Q", own.st_ino),
            ("run_random", "<Q", secrets.randbits(64)),
            ("wakeup_bytes", "<Q", size // _WAKE_AT),
            ("start_events", "<B", self.options.start_events),
            ("udp_idle_timeout", "<Q", int(self.options.udp_idle_timeout * 1e9)),
        ):
            self._object.write_initial(".rodata", at[name], struct.pack(form, value))

    def attach(self) -> Attached:
        """Attach each program on its own; KernelError only if flows themselves cannot be had."""
        try:
            self._pass = self._object.attach_iterator(PASS, "flows")
            self.attached.programs.append(PASS)
        except KernelError as error:
            self.attached.missing[PASS] = str(error)
        for name in reversed(PROGRAMS):  # the rules first, so that the first flow finds them in place
            try:
                self._object.attach(name)
                self.attached.programs.append(name)
            except KernelError as error:
                if PROGRAMS[name] == "flows":
                    raise
                self.attached.missing[name] = str(error)
        self._attach_udp()
        self._attach_noroute()
        self._attach_dns()
        self._list()
        return self.attached

    def _attach_udp(self) -> None:
        if udp.PASS in self.attached.missing:
            return
        missing = self.udp.attach()
        self.attached.missing |= missing
        if not missing:
            self.attached.programs += [udp.PASS, *udp.PROGRAMS]

    def _attach_noroute(self) -> None:
        if noroute.REPORT in self.attached.missing:
            return
        missing = self.noroutes.attach()
        self.attached.missing |= missing
        self.attached.programs += [name for name in noroute.PROGRAMS if name not in missing]

    def _attach_dns(self) -> None:
        if self._dns is None:
            return
        missing = self._dns.attach()
        self.attached.missing |= missing
        self.attached.programs += [name for name in dns.PROGRAMS if name not in missing]

    def _list(self) -> None:
        """Add the open sockets that are older than Weir; events come in meanwhile, and win."""
        struct.pack_into("<B", self._bss, self._bss_at["listing"], 1)
        try:
            for name in (*LISTING, udp.LISTING):
                if name in self.attached.missing:
                    continue
                try:
                    link = self._object.attach_iterator(name)
                    read_iterator(link)
                    if name == FILES:  # again: only now are all of Weir's own known, and so who is at their other ends
                        read_iterator(link)
                    link.close()
                    self.attached.programs.append(name)
                except (KernelError, OSError) as error:
                    self.attached.missing[name] = f"{({**LISTING, **udp.ALL})[name]}: {error}"
        finally:
            struct.pack_into("<B", self._bss, self._bss_at["listing"], 0)
        # The second knows Weir's own namespace whole, the first all that is open anywhere.
        if udp.LISTING in self.attached.programs and (
            self.options.netns or "weir_list_files" in self.attached.programs
        ):
            self.udp.listed()
        (self.attached.listed,) = struct.unpack_from("<Q", self._bss, self._bss_at["listed"])

    def wait(self, timeout: float) -> bool:
        """Return after `timeout` seconds, sooner if a quarter of the ring is full (True) or a newcomer was seen."""
        self.udp.tend()
        self.noroutes.tend()
        self.nat.tend()
        return any(fd == self._events_fd for fd, _ in self._wake.poll(timeout))

    def newcomers(self) -> list[tuple[int, int]]:
        """Keys of processes that were seen for the first time since the last call."""
        raw = self._newcomers.drain(_NEWCOMERS)
        keys = np.frombuffer(raw[: len(raw) // self._newcomer.itemsize * self._newcomer.itemsize], self._newcomer)[
            "key"
        ]
        return list(zip(keys["pid"].tolist(), keys["start"].tolist(), strict=True))

    def drain(self, limit: int) -> bytes:
        """Whole ring records, at most `limit`, headers included."""
        return self.ring.drain(limit)

    def dns(self) -> bytes:
        """Whole records of DNS messages, headers included."""
        return self._dns.drain() if self._dns is not None else b""

    def counters(self) -> Counters:
        """The counts at one instant: read again until no record is being emitted and nothing moved in between."""
        at = self._bss_at["counters"]
        before = self._bss[at : at + _COUNTERS.size]
        for _ in range(_SETTLE_TRIES):
            held = self.ring.held()
            after = self._bss[at : at + _COUNTERS.size]
            begun, done, *rest = _COUNTERS.unpack(after)
            if before == after and begun == done:
                break
            before = after
        ring_full, filtered_self, flows_full, owners_failed, replaced, udp_full, udp_missed = rest
        exclude, include = _FILTERED.unpack_from(self._bss, self._bss_at["filtered"])
        return Counters(begun, ring_full, filtered_self, flows_full, owners_failed, replaced, held, exclude, include,
                        udp_full, udp_missed, runs_missed(self._state_fd), int(self.udp.sees_exits),
                        *(self._dns.lost() if self._dns is not None else (0, 0)))  # fmt: skip

    def run_pass(self, update_interval: int = 0) -> bytes:
        """One pass over the open sockets in scope: records one after the other. `update_interval` in ns, 0: no updates."""
        return self._walk(update_interval, shutdown=False)

    def _walk(self, update_interval: int, *, shutdown: bool) -> bytes:
        struct.pack_into("<Q", self._bss, self._bss_at["pass_update_interval"], update_interval)
        struct.pack_into("<B", self._bss, self._bss_at["pass_shutdown"], shutdown)
        links = ([self._pass] if self._pass is not None else []) + self.udp.passes()
        return b"".join(read_iterator(link) for link in links)

    def finish(self) -> Iterator[bytes]:
        """The last reports of every open flow, pass by pass; from here on no new flow is observed."""
        struct.pack_into("<B", self._bss, self._bss_at["stopping"], 1)
        self.noroutes.tend()
        for _ in range(_FINISH_PASSES):  # a pass that deletes may step over a neighbour: again until none is left
            raw = self._walk(0, shutdown=True)
            if not raw:
                return
            yield raw

    def owners(self, keys: Iterable[tuple[int, int]]) -> list[Owner | None]:
        """The owner entries of keys; None where the kernel has none (any more)."""
        return [self._read_owner(pid, start) for pid, start in keys]

    def _read_owner(self, pid: int, start: int) -> Owner | None:
        raw = lookup(self._owners_fd, _OWNER_KEY.pack(start, pid, 0), self._owner.itemsize)
        if raw is None:
            return None
        entry = np.frombuffer(raw, self._owner)[0]

        def text(name: str) -> bytes:
            value: bytes = entry[name].tobytes()
            return value.split(b"\0", 1)[0]

        return Owner(
            pid=pid & (1 << PID_BITS) - 1,
            start=start,
            uid=int(entry["uid"]),
            vpid=int(entry["vpid"]),
            pidns=int(entry["pidns"]),
            cgroup_id=int(entry["cgroup_id"]),
            comm=text("comm"),
            executable=text("executable"),
            cgroup_name=text("cgroup_name"),
            cgroup_parent=text("cgroup_parent"),
            execs=pid >> PID_BITS,
        )

    def boot_to_unix(self) -> int:
        """Nanoseconds to add to a boot-clock time to get unix time, as of now."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def detach(self) -> None:
        """Stop capture; records already in the ring stay readable."""
        self._object.detach()
        self.noroutes.detach()
        self.nat.detach()
        self.udp.detach()
        self._pass = None

    def close(self) -> None:
        """Detach and unload everything."""
        self._object.detach()
        self._wake.close()
        self.ring.close()
        self._newcomers.close()
        if self._dns is not None:
            self._dns.close()
        self._bss.close()
        self._object.close()


def own_netns() -> int:
    """The inode of Weir's own network namespace."""
    return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
