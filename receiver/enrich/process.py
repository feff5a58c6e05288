"""One `/proc/PID` into what it tells of a process: executable path, cgroup identity, what its environ declares."""

import errno
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from receiver.enrich.cgroup import NOTHING, CgroupIdentity, identify_file
from receiver.enrich.service import UNDECLARED, VARIABLES, Declared, declared
from receiver.enrich.text import text

STAT_BYTES = 4096
CGROUP_BYTES = 32 * 1024
ENVIRON_BYTES = 256 * 1024
_DELETED = b" (deleted)"
_CUT = 63  # bytes that the kernel's owner entry has for a name
_START_FIELD = 19  # starttime is field 22 of proc_pid_stat(5), and the state, which follows the name, is field 3
_GONE = {errno.ENOENT, errno.ESRCH}
_NANOSECONDS = 1_000_000_000


class Outcome(Enum):
    """How the read of a process ended."""

    READ = "read"
    GONE = "gone"  # no such process any more
    RECYCLED = "recycled"  # the pid belongs to a process that started at another time
    CHANGED = "changed"  # it runs another executable than when it owned the flow
    UNREADABLE = "unreadable"  # its stat could not be read or understood


@dataclass(frozen=True, slots=True)
class Profile:
    """What was read of a process; None and empty for what could not be."""

    executable_path: str | None = None
    cgroup: CgroupIdentity = NOTHING
    declared: Declared = UNDECLARED
    denied: int = 0  # reads refused (permissions) or failed
    truncated: int = 0  # reads that met their bound


def read_process(proc: Path, pid: int, start: int, executable: bytes, ticks: int) -> tuple[Outcome, Profile | None]:
    """Read process `pid` below `proc`, if it is the one that started at `start` (boot clock ns) and runs `executable`.

    `executable` is the name the kernel saw (empty: not known), `ticks` the clock ticks a second of `/proc/PID/stat`.
    The directory is held open, so that every file is of the same process, and the start is compared before and after.
    Blocks as long as the kernel does; raises nothing for what a process or a permission can cause.
    """
    try:
        directory = os.open(proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return _failure(error), None
    try:
        expected = start // (_NANOSECONDS // ticks)
        before = _start_ticks(directory)
        if before != expected:
            return (before if isinstance(before, Outcome) else Outcome.RECYCLED), None
        path, profile = _read(directory)
        after = _start_ticks(directory)
        if after != expected:
            return (after if isinstance(after, Outcome) else Outcome.RECYCLED), None
        if path and executable and not _same_name(path, executable):
            return Outcome.CHANGED, None
        return Outcome.READ, profile
    finally:
        os.close(directory)


def serves_own_namespace(proc: Path) -> bool:
    """Whether the procfs at `proc` numbers processes as this process's own pid namespace does."""
    try:
        return (proc / "self").readlink().name == str(os.getpid())
    except OSError:
        return False


def _start_ticks(directory: int) -> int | Outcome:
    try:
        stat = _bounded(directory, "stat", STAT_BYTES)
    except OSError as error:
        return _failure(error)
    fields = stat.rpartition(b")")[2].split()  # the name before it may hold spaces and parentheses
    if len(fields) <= _START_FIELD or not fields[_START_FIELD].isdigit():
        return Outcome.UNREADABLE
    return int(fields[_START_FIELD])


def _read(directory: int) -> tuple[bytes, Profile]:
    path, cgroup, environ, denied, truncated = b"", b"", b"", 0, 0
    try:
        path = os.fsencode(os.readlink("exe", dir_fd=directory))
    except OSError as error:
        denied += error.errno not in _GONE  # ENOENT is also how a zombie and a kernel thread answer
    try:
        cgroup = _bounded(directory, "cgroup", CGROUP_BYTES)
    except OSError as error:
        denied += error.errno not in _GONE
    try:
        environ = _bounded(directory, "environ", ENVIRON_BYTES)
    except OSError as error:
        denied += error.errno not in _GONE
    if len(cgroup) == CGROUP_BYTES:
        cgroup, truncated = cgroup.rpartition(b"\n")[0], truncated + 1
    if len(environ) == ENVIRON_BYTES:
        environ, truncated = environ.rpartition(b"\0")[0], truncated + 1
    profile = Profile(
        text(path.removesuffix(_DELETED)) or None,
        identify_file(cgroup),
        declared(_variables(environ)),
        denied,
        truncated,
    )
    return path, profile


def _variables(environ: bytes) -> dict[bytes, bytes]:
    """The two variables that are wanted, each as getenv(3) would give it; the rest is dropped here."""
    wanted: dict[bytes, bytes] = {}
    for name in VARIABLES:
        mark = b"\0" + name + b"="
        found = environ.startswith(mark[1:]), environ.find(mark)
        if found[0] or found[1] >= 0:
            at = len(mark) - 1 if found[0] else found[1] + len(mark)
            wanted[name] = environ[at:].partition(b"\0")[0]
    return wanted


def _bounded(directory: int, name: str, most: int) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        parts: list[bytes] = []
        while most > 0 and (part := os.read(file, most)):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(file)


def _same_name(path: bytes, executable: bytes) -> bool:
    """Whether `path` ends in the name the kernel saw; its entry may have cut it, procfs may have added to it."""
    name = path.rpartition(b"/")[2]
    return executable in {name, name.removesuffix(_DELETED)} or (
        len(executable) >= _CUT and name.startswith(executable)
    )


def _failure(error: OSError) -> Outcome:
    return Outcome.GONE if error.errno in _GONE else Outcome.UNREADABLE
