"""Reading one process: a real child, fake trees for what a test cannot cause, and pids that were used again."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.enrich import process
from receiver.enrich.process import Outcome, read_process, serves_own_namespace

TICKS = os.sysconf("SC_CLK_TCK")
TICK = 1_000_000_000 // TICKS
START = 4434 * TICK + 7  # boot clock ns, between two ticks
ID = "0123456789abcdef" * 4


def fake(root: Path, pid: int = 42, ticks: int = 4434, comm: str = "a) R (b", **files: bytes) -> Path:
    """A `/proc/PID` of a process that started at `ticks`."""
    place = root / str(pid)
    place.mkdir()
    fields = [str(n) for n in range(4, 22)] + [str(ticks)] + [str(n) for n in range(23, 53)]
    (place / "stat").write_text(f"{pid} ({comm}) S {' '.join(fields)}\n")
    (place / "exe").symlink_to(files.pop("exe", b"/usr/bin/prog").decode())
    for name, content in {"cgroup": b"0::/\n", "environ": b"", **files}.items():
        (place / name).write_bytes(content)
    return place


def read(root: Path, executable: bytes = b"", start: int = START) -> tuple[Outcome, process.Profile | None]:
    return read_process(root, 42, start, executable, TICKS)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for the end of its input."""
    environ = {"OTEL_SERVICE_NAME": "cart", "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop", "SECRET": "marked"}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout
        running.stdout.readline()
        yield running
        running.kill()


def start_of(pid: int) -> int:
    """What the kernel would hand over as start: somewhere inside the tick that `/proc` shows."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) * TICK + TICK - 1


def test_a_real_child_is_identified(child: subprocess.Popen[bytes]) -> None:
    path = os.path.realpath(sys.executable)
    outcome, profile = read_process(Path("/proc"), child.pid, start_of(child.pid), Path(path).name.encode(), TICKS)
    assert outcome is Outcome.READ
    assert profile is not None
    assert profile.executable_path == path
    assert (profile.declared.service_name, profile.declared.service_namespace) == ("cart", "shop")
    assert (profile.denied, profile.truncated) == (0, 0)
    assert "marked" not in repr(profile)


def test_a_real_child_of_another_start_is_not_read(child: subprocess.Popen[bytes]) -> None:
    for offset in (TICK, -TICK):
        outcome, profile = read_process(Path("/proc"), child.pid, start_of(child.pid) + offset, b"", TICKS)
        assert (outcome, profile) == (Outcome.RECYCLED, None)


def test_a_zombie_has_no_name_and_a_reaped_child_is_gone(child: subprocess.Popen[bytes]) -> None:
    start = start_of(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    outcome, profile = read_process(Path("/proc"), child.pid, start, b"", TICKS)
    assert outcome is Outcome.READ
    assert profile is not None
    assert (profile.executable_path, profile.declared.service_name) == (None, None)
    child.wait()
    assert read_process(Path("/proc"), child.pid, start, b"", TICKS) == (Outcome.GONE, None)


def test_everything_is_taken_from_the_files(tmp_path: Path) -> None:
    cgroup = f"0::/system.slice/docker-{ID}.scope\n".encode()
    environ = b"A=OTEL_SERVICE_NAME=no\0OTEL_SERVICE_NAME=first\0OTEL_SERVICE_NAME=second\0"
    fake(tmp_path, exe=b"/opt/prog (deleted)", cgroup=cgroup, environ=environ)
    outcome, profile = read(tmp_path, b"prog")
    assert outcome is Outcome.READ
    assert profile is not None
    assert profile.executable_path == "/opt/prog"
    assert profile.cgroup.container_id == ID
    assert profile.declared.service_name == "first"


def test_a_variable_at_the_very_start_is_found(tmp_path: Path) -> None:
    fake(tmp_path, environ=b"OTEL_SERVICE_NAME=cart\0HOME=/")
    profile = read(tmp_path)[1]
    assert profile is not None
    assert profile.declared.service_name == "cart"


def test_another_program_than_the_kernel_saw_is_not_taken(tmp_path: Path) -> None:
    fake(tmp_path, exe=b"/bin/bash")
    assert read(tmp_path, b"curl") == (Outcome.CHANGED, None)
    assert read(tmp_path, b"bas") == (Outcome.CHANGED, None)
    assert read(tmp_path, b"bash")[0] is Outcome.READ


def test_a_name_that_the_kernel_cut_still_agrees(tmp_path: Path) -> None:
    fake(tmp_path, exe=b"/bin/" + b"n" * 100)
    assert read(tmp_path, b"n" * 63)[0] is Outcome.READ


@pytest.mark.parametrize("offset", [-8, TICK - 7, -START])
def test_a_recycled_pid_is_never_read(tmp_path: Path, offset: int) -> None:
    fake(tmp_path, environ=b"OTEL_SERVICE_NAME=stranger\0")
    assert read(tmp_path, start=START + offset) == (Outcome.RECYCLED, None)


def test_a_pid_recycled_while_it_was_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = fake(tmp_path)
    real = process._read

    def swap(directory: int) -> tuple[bytes, process.Profile]:
        (place / "stat").write_text((place / "stat").read_text().replace(" 4434 ", " 9999 "))
        return real(directory)

    monkeypatch.setattr(process, "_read", swap)
    assert read(tmp_path) == (Outcome.RECYCLED, None)


def test_refused_files_are_absent_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path)
    real = os.open

    def refuse(path: str, flags: int, **more: int) -> int:
        if path in {"environ", "cgroup"}:
            raise PermissionError(errno.EACCES, "refused")
        return real(path, flags, **more)

    monkeypatch.setattr(process.os, "open", refuse)
    outcome, profile = read(tmp_path)
    assert outcome is Outcome.READ
    assert profile is not None
    assert (profile.executable_path, profile.denied) == ("/usr/bin/prog", 2)


@pytest.mark.parametrize("stat", [b"", b"42 (x", b"42 (x) S 1 2 3", b"42 (x) " + b"z " * 60, b"(" * 5000])
def test_a_stat_of_another_shape_is_unreadable(tmp_path: Path, stat: bytes) -> None:
    (fake(tmp_path) / "stat").write_bytes(stat)
    assert read(tmp_path) == (Outcome.UNREADABLE, None)


def test_no_process_is_gone(tmp_path: Path) -> None:
    assert read(tmp_path) == (Outcome.GONE, None)


def test_reads_are_bounded_and_a_torn_end_is_not_taken(tmp_path: Path) -> None:
    padding = b"X" * (process.ENVIRON_BYTES - 10) + b"\0"
    fake(tmp_path, environ=padding + b"OTEL_SERVICE_NAME=never\0", cgroup=b"1:a:/x\n" * 10_000)
    outcome, profile = read(tmp_path)
    assert outcome is Outcome.READ
    assert profile is not None
    assert (profile.declared.service_name, profile.truncated) == (None, 2)


def test_names_from_outside_are_cut_and_valid(tmp_path: Path) -> None:
    place = fake(tmp_path, environ=b"OTEL_SERVICE_NAME=" + b"\xff" * 4000 + b"\0")
    (place / "exe").unlink()
    (place / "exe").symlink_to("/" + "\xe9" * 500)
    profile = read(tmp_path)[1]
    assert profile is not None
    assert profile.executable_path == "/" + "\xe9" * 127
    assert profile.declared.service_name == "\ufffd" * 85


def test_a_proc_of_another_namespace_is_told_apart(tmp_path: Path) -> None:
    assert serves_own_namespace(Path("/proc"))
    (tmp_path / "self").symlink_to("1")
    assert not serves_own_namespace(tmp_path)
    assert not serves_own_namespace(tmp_path / "none")
