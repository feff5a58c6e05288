"""The spool on real file systems: one that is full, and one that takes no writes."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receiver.export.segment import StorageError
from receiver.export.storage import FileStorage
from tests.spool_parts import LARGE, number_of, numbered, opened


def mount(*options: str, at: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", *options, "weir-test", str(at)], check=True, timeout=20)


@pytest.fixture
def small_disk(machine: None, tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """1 MiB that nothing else uses, and a way to mount it with other options."""
    at = tmp_path / "disk"
    at.mkdir()
    mount("-o", "size=1m,mode=0700", at=at)
    try:
        yield at, lambda options: mount("-o", f"remount,{options}", at=at)
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True, timeout=20)
        at.rmdir()


def test_a_full_disk_costs_the_oldest_and_not_the_newest(small_disk: tuple[Path, Callable[[str], None]]) -> None:
    disk, _ = small_disk
    storage, spool = opened(disk / "spool", 3 << 20)  # more than there is
    for number in range(300):
        assert spool.queue.put(numbered(number, items=2, size=10_000)), number
    found = [number_of(request) for request in spool.drain()]
    lost = spool.lost.get("evicted", 0)
    assert lost > 0
    assert set(spool.lost) == {"evicted"}
    assert 2 * len(found) + lost == 600
    assert found[-1] == 299
    assert found == sorted(found)
    storage.close()


def test_a_disk_that_somebody_else_filled_is_lived_with(small_disk: tuple[Path, Callable[[str], None]]) -> None:
    disk, _ = small_disk
    storage, spool = opened(disk / "spool")
    assert spool.queue.put(numbered(0, size=100))
    spool.drain()
    with pytest.raises(OSError, match="No space left"), (disk / "others").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    for number in range(1, 40):
        assert spool.queue.put(numbered(number, size=50_000)), number
    found = [number_of(request) for request in spool.drain()]
    assert found == list(range(1, 40))  # a destination that is up gets its data
    message = "The spool cannot write. Holding data in memory."
    assert spool.log.fields(message)["error"] == "No space left on device"
    assert spool.log.fields(message)["directory"] == str(disk / "spool")
    (disk / "others").unlink()
    assert spool.queue.put(numbered(50, items=7))
    assert spool.queue.items == 7
    spool.drain()
    assert "The spool can write again." in spool.log.messages()
    assert spool.lost == {}
    storage.close()


def test_a_disk_without_writes_is_an_error_that_names_it(small_disk: tuple[Path, Callable[[str], None]]) -> None:
    disk, remount = small_disk
    storage, spool = opened(disk / "spool")
    spool.queue.put(numbered(1))
    storage.close()
    remount("ro")
    for path in (disk / "spool", disk / "new"):
        with pytest.raises(StorageError, match=f"{path}: cannot be used as a spool: Read-only file system"):
            FileStorage(path, max_bytes=LARGE)
    remount("rw")
    storage, spool = opened(disk / "spool")
    assert [number_of(request) for request in spool.drain()] == [1]
    storage.close()
