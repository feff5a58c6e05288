"""The spool when the disk takes nothing, and when the process is killed: what was taken is there, or counted."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from receiver.export import segment as segment_module
from receiver.export.request import Request
from receiver.export.spool import MEMORY
from tests.spool_parts import frame_bytes, number_of, numbered, opened, spool_files

ROOT = Path(__file__).parents[1]


def numbers(requests: list[Request]) -> list[int]:
    return [number_of(request) for request in requests]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_takes_nothing_leaves_a_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    storage, spool = opened(tmp_path)
    queue = spool.queue
    assert queue.put(numbered(0, items=2))
    broken, real = threading.Event(), os.pwritev

    def pwritev(fd: int, buffers: tuple[bytes, ...], offset: int) -> int:
        if broken.is_set():
            raise OSError(number, os.strerror(number))
        return real(fd, buffers, offset)

    monkeypatch.setattr(segment_module.os, "pwritev", pwritev)
    broken.set()
    evicted = 2 if number in (errno.ENOSPC, errno.EDQUOT) else 0
    put = 0
    while queue.put(numbered(put + 1, items=3, size=500_000)):
        put += 1
    assert put == MEMORY // 500_008
    assert spool.lost == ({"evicted": evicted} if evicted else {})
    assert queue.items == 2 - evicted  # what is in memory does not outlive the process
    assert queue.requests == put + (not evicted)
    got = queue.get(0)
    assert got is not None
    assert number_of(got) == (1 if evicted else 0)
    queue.done(got)
    message = "The spool cannot write. Holding data in memory."
    assert spool.log.messages().count(message) == 1
    assert spool.log.fields(message)["error"] == os.strerror(number)
    assert spool.log.fields(message)["directory"] == str(tmp_path)
    broken.clear()
    assert queue.put(numbered(99, items=1))
    left = put - bool(evicted)
    assert queue.items == 1 + 3 * left  # all of it is on disk now
    assert sorted(numbers(spool.drain())) == [*range(put - left + 1, put + 1), 99]
    assert "The spool can write again." in spool.log.messages()
    assert queue.requests == queue.size == 0
    storage.close()


def test_a_full_disk_costs_one_file_and_not_the_whole_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, spool = opened(tmp_path, 80_000)
    for number in range(30):
        spool.queue.put(numbered(number, size=2000))
    files = len(spool_files(tmp_path))

    def pwritev(fd: int, buffers: tuple[bytes, ...], offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(segment_module.os, "pwritev", pwritev)
    for number in range(20):
        assert spool.queue.put(numbered(number, size=2000))
    assert len(spool_files(tmp_path)) == files - 1
    storage.close()


def test_a_write_that_stops_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, spool = opened(tmp_path)
    spool.queue.put(numbered(1))
    (file,) = spool_files(tmp_path)
    before, write = file.stat().st_size, os.pwrite

    def pwritev(fd: int, buffers: tuple[bytes, ...], offset: int) -> int:
        return write(fd, b"".join(buffers)[:50], offset)

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(segment_module.os, "pwritev", pwritev)
        assert spool.queue.put(numbered(2, size=100))  # a short write that goes on
        assert file.stat().st_size == before + frame_bytes(numbered(2, size=100))
        patch.setattr(segment_module.os, "pwrite", pwrite)
        assert spool.queue.put(numbered(3, size=100))  # in memory
        assert file.stat().st_size == before + frame_bytes(numbered(2, size=100))
    assert spool.queue.put(numbered(4, size=100))
    assert numbers(spool.drain()) == [1, 2, 4, 3]
    storage.close()


def test_what_is_in_memory_at_the_end_is_written_if_the_disk_takes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, spool = opened(tmp_path)

    def pwritev(fd: int, buffers: tuple[bytes, ...], offset: int) -> int:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(segment_module.os, "pwritev", pwritev)
        for number in range(3):
            spool.queue.put(numbered(number, items=2))
        held = spool.queue.get(0)
    assert held is not None
    assert spool.queue.items == 0
    spool.queue.close()
    assert spool.queue.items == 4
    spool.queue.put_back([held], [held])
    assert spool.queue.items == 6
    storage.close()
    storage, spool = opened(tmp_path)
    assert [(number_of(one), one.attempted) for one in spool.drain()] == [(1, False), (2, False), (0, True)]
    storage.close()


CHILD = """
import sys
from receiver.export.request import Request
from receiver.export.storage import FileStorage
from tests.spool_parts import Opened, numbered, number_of
storage = FileStorage(sys.argv[1], max_bytes=1 << 30)
queue = Opened(storage).queue
number = int(sys.argv[2])
while True:
    number += 1
    assert queue.put(numbered(number, items=3, size=number * 7919 % 9000))
    print("put", number, flush=True)
    if number % 3 == 0:
        request = queue.get()
        print("taken", number_of(request), flush=True)
        if number % 2 == 0:
            print("done", number_of(request), flush=True)  # said before, so that it may also be there again
            queue.done(request)
"""


def test_sigkill_loses_nothing_that_was_taken(tmp_path: Path) -> None:
    put: set[int] = set()
    done: set[int] = set()
    last = 0
    for run in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(last)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if not line.endswith("\n"):
                    break  # said by half
                word, number = line.split()
                {"put": put, "done": done}.get(word, set()).add(int(number))
                if len(put) == 150 * (run + 1):
                    child.kill()
            assert child.wait() == -9
        last = max(put) + 1  # it may have put one more, unsaid
    storage, spool = opened(tmp_path, 1 << 30)
    recovered = spool.queue.recovered
    found = spool.drain()
    assert put - done <= set(numbers(found))
    assert len(found) == len(set(numbers(found)))
    assert recovered == sum(request.items for request in found) == 3 * len(found)
    assert spool.lost == {}
    assert len(put) >= 750
    assert len(done) >= 100
    storage.close()


def test_with_fsync_files_and_names_are_synced_before_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, name=name, real=real: (synced.append(name), real(fd))[1])
    storage, spool = opened(tmp_path, fsync=True)
    assert spool.queue.put(numbered(1))
    assert synced == ["fsync", "fdatasync"]
    assert spool.queue.put(numbered(2))
    assert synced == ["fsync", "fdatasync", "fdatasync"]
    assert numbers(spool.drain()) == [1, 2]
    storage.close()
    assert synced[-1] == "fsync"  # of the name that is gone
    quiet, spool = opened(tmp_path)
    count = len(synced)
    assert spool.queue.put(numbered(1))
    assert len(synced) == count
    quiet.close()
