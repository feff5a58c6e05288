"""A path in; a directory that is this process's alone, and the names of the spool files in it, out."""

import fcntl
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from receiver.export.segment import StorageError
from receiver.ledger import SIGNALS, Signal

_LOCK: Final = "lock"
_OWN: Final = frozenset({_LOCK, "lost+found"})  # the latter is the file system's, where a volume is mounted here
_NAME: Final = re.compile(r"^(.+)\.([a-z]+)\.([0-9a-f]{16})\.spool$")
_LONGEST: Final = 255  # B of a file name
_OTHERS: Final = 0o077
_REMEDY: Final = "Name a directory of its own: Weir makes one with the right owner and rights where it is missing."


class Name(NamedTuple):
    """What a file's name says."""

    exporter_id: str
    signal: Signal
    sequence: int


def file_name(name: Name) -> str:
    """The name of a spool file. Raises StorageError where it would be too long."""
    text = f"{quote(name.exporter_id, safe='')}.{name.signal}.{name.sequence:016x}.spool"
    if len(text) > _LONGEST:
        raise StorageError(f"{name.exporter_id}: the id is too long for a file's name; give the exporter a shorter one")
    return text


def parse_name(text: str) -> Name | None:
    """What `text` names; None where it is not the name of a spool file."""
    match = _NAME.match(text)
    if match is None:
        return None
    for signal in SIGNALS:
        if signal == match[2]:
            name = Name(unquote(match[1]), signal, int(match[3], 16))
            return name if file_name(name) == text else None
    return None


class Directory:
    """The directory, locked; one process at a time has it, and the kernel unlocks it when that process ends."""

    def __init__(self, path: str, *, create: bool) -> None:
        self.path = path
        try:
            if create and not Path(path).is_dir():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).mkdir(mode=0o700, exist_ok=True)
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            missing = "" if create else " Set create_directory, or make it."
            raise StorageError(f"{path}: cannot be used as a spool: {error.strerror}.{missing}") from error
        try:
            self._own()
            self._lock = self._acquire()
        except OSError as error:
            os.close(self.fd)
            raise StorageError(f"{path}: cannot be used as a spool: {error.strerror}.") from error
        except StorageError:
            os.close(self.fd)
            raise

    def names(self) -> tuple[list[tuple[Name, str]], list[str]]:
        """Spool files, oldest first, and the names of everything else."""
        found, foreign = [], []
        for text in sorted(os.listdir(self.fd)):  # noqa: PTH208 - by its descriptor, whatever its path is now
            name = parse_name(text)
            if name is not None and stat.S_ISREG(os.stat(text, dir_fd=self.fd, follow_symlinks=False).st_mode):
                found.append((name, text))
            elif text not in _OWN:
                foreign.append(text)
        return found, foreign

    def sync(self) -> None:
        """Names that were made or removed outlive the machine's crash."""
        os.fsync(self.fd)

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)
        os.close(self.fd)

    def _own(self) -> None:
        """It is of this user, and of nobody else. Rights that are too wide are taken away where only a spool is in it."""
        about = os.fstat(self.fd)
        if about.st_uid != os.geteuid():
            raise StorageError(f"{self.path}: belongs to uid {about.st_uid}, and Weir is uid {os.geteuid()}. {_REMEDY}")
        if not about.st_mode & _OTHERS:
            return
        if self.names()[1]:
            raise StorageError(
                f"{self.path}: others may enter it (mode {stat.S_IMODE(about.st_mode):04o}), and it holds more than a "
                f"spool. {_REMEDY}"
            )
        os.fchmod(self.fd, 0o700)

    def _acquire(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(_LOCK, flags, 0o600, dir_fd=self.fd)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise StorageError(
                f"{self.path}: in use by process {holder or 'unknown'}. A spool directory is for one Weir: give each one "
                "its own."
            ) from error
        except OSError:
            os.close(lock)
            raise
        with suppress(OSError):  # it only helps who looks: a full disk is no reason not to start
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock
