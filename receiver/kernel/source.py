"""What the corridor reads from: the kernel, or a recording of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Counters:
    """The kernel's own counts, read together: records tried, lost and filtered, and those that wait in the ring."""

    begun: int = 0
    ring_full: int = 0
    filtered_self: int = 0
    flows_full: int = 0
    owners_failed: int = 0
    replaced: int = 0
    held: int = 0
    filtered_exclude: int = 0
    filtered_include: int = 0
    udp_full: int = 0
    udp_missed: int = 0
    missed: int = 0  # runs that the kernel left out, because a program would have interrupted itself
    udp_exits: int = 0  # 1 while the ends of system calls are looked at
    dns_lost: int = 0  # messages that found no room
    dns_unread: int = 0  # messages whose bytes could not be found


PID_BITS: Final = 22  # as in bpf/weir_event.h


@dataclass(frozen=True, slots=True)
class Owner:
    """What BPF wrote of a process when its program first used a socket in scope; names as bytes from the kernel."""

    pid: int  # as the initial pid namespace sees it
    start: int  # boot clock, ns
    uid: int
    vpid: int  # in its own pid namespace
    pidns: int  # that namespace's inode
    cgroup_id: int
    comm: bytes
    executable: bytes  # basename
    cgroup_name: bytes  # the last level of its cgroup's path
    cgroup_parent: bytes
    execs: int = 0  # lower bits of how many programs the process ran before this one

    @property
    def key(self) -> tuple[int, int]:
        """As records and tables name it: `execs` above the pid, and the start."""
        return self.execs << PID_BITS | self.pid, self.start


class Source(Protocol):
    """Ring bytes, passes over the open sockets, counters and owner entries."""

    def wait(self, timeout: float) -> bool:
        """Return after `timeout` seconds, sooner if the ring fills (True) or a newcomer was seen."""

    def newcomers(self) -> list[tuple[int, int]]:
        """Keys (`Owner.key`) of processes that were seen for the first time since the last call."""

    def drain(self, limit: int) -> bytes:
        """Whole ring records, at most `limit`, headers included."""

    def dns(self) -> bytes:
        """Whole records of DNS messages, headers included (`receiver.kernel.dns.decode`)."""

    def counters(self) -> Counters:
        """The source's own counts at one instant."""

    def run_pass(self, update_interval: int = 0) -> bytes:
        """Payloads of one pass over the open sockets; `update_interval` in ns makes updates of those that are due."""

    def finish(self) -> Iterator[bytes]:
        """The last passes: an end for every open flow; nothing new is observed from here on."""

    def owners(self, keys: Iterable[tuple[int, int]]) -> list[Owner | None]:
        """Owner entries of keys (`Owner.key`)."""

    def boot_to_unix(self) -> int:
        """Nanoseconds from the boot clock to unix time."""

    def detach(self) -> None:
        """Stop capture; what is in the ring stays readable."""

    def close(self) -> None:
        """Undo everything."""
