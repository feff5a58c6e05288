"""A command in, the same command as nobody out: with the capabilities that are named and no other, and able to read the checkout."""

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from integration.harness.weir import REPOSITORY

NOBODY: Final = 65534
TWO: Final = ("bpf", "perfmon")


def _closed(path: Path) -> Path | None:
    """The outermost folder above `path` that others may not enter."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


@contextmanager
def nobody(capabilities: Sequence[str] | None, *readable: Path) -> Iterator[list[str]]:
    """What stands before a command that runs as uid 65534 with `capabilities` alone; nothing for None, which is root.

    A folder that nobody may enter (root's home, with its Python) is covered, for this command only, by one that shows nothing
    but what the command needs: the interpreter, the checkout, `readable`.
    """
    if capabilities is None:
        yield []
        return
    needed = {path.resolve() for path in (Path(sys.base_prefix), Path(sys.prefix), REPOSITORY, *readable)}
    closed = {path: folder for path in sorted(needed) if (folder := _closed(path))}
    with tempfile.TemporaryDirectory(prefix="weir-") as stash:
        lines = ["set -e"]
        for number, path in enumerate(closed):
            (Path(stash) / str(number)).mkdir()
            lines.append(f"mount --bind {shlex.quote(str(path))} {stash}/{number}")
        lines += [
            f"mount -t tmpfs -o mode=0755 none {shlex.quote(str(folder))}" for folder in sorted(set(closed.values()))
        ]
        for number, path in enumerate(closed):
            quoted = shlex.quote(str(path))
            lines.append(f"mkdir -p {quoted} && mount --bind {stash}/{number} {quoted}")
        lines.append('cd / && exec "$@"')
        some = ",".join(["-all", *(f"+{name}" for name in capabilities)])
        yield [
            "unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines), "sh",
            "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"--inh-caps={some}",
            f"--ambient-caps={some}", f"--bounding-set={some}", "--no-new-privs",
        ]  # fmt: skip


def effective(pid: int) -> set[int]:
    """The numbers of the capabilities that any thread of the process has."""
    held: set[int] = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines())
        bits = int(status["CapEff"], 16)
        held |= {bit for bit in range(64) if bits >> bit & 1}
    return held
