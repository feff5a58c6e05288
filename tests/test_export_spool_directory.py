"""The spool's directory: who may have it, whose rights it has, and what is said where it cannot be had."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.export.directory import Name, file_name, parse_name
from receiver.export.segment import StorageError
from receiver.export.storage import FileStorage
from tests.spool_parts import LARGE, numbered, opened, spool_files

ROOT = Path(__file__).parents[1]
OWNER = """
import sys
from receiver.export.storage import FileStorage
storage = FileStorage(sys.argv[1], max_bytes=1 << 20)
print("mine", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directory_and_files_are_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        storage, spool = opened(tmp_path / "a" / "spool")
        spool.queue.put(numbered(1))
        assert mode(tmp_path / "a" / "spool") == 0o700
        assert [mode(path) for path in (tmp_path / "a" / "spool").iterdir()] == [0o600, 0o600]
        assert not any(os.get_inheritable(fd) for fd in (storage._directory.fd, storage._directory._lock))
        storage.close()
    finally:
        os.umask(before)


def test_a_missing_directory_is_made_only_when_wanted(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"/none: cannot be used as a spool: No such file.* Set create_directory"):
        FileStorage(tmp_path / "none", max_bytes=LARGE, create_directory=False)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="cannot be used as a spool"):
            FileStorage(path, max_bytes=LARGE)


def test_rights_that_are_too_wide_are_taken_away_from_a_spool(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path / "spool")
    spool.queue.put(numbered(1))
    storage.close()
    (tmp_path / "spool").chmod(0o755)
    storage, spool = opened(tmp_path / "spool")
    assert mode(tmp_path / "spool") == 0o700
    assert len(spool.drain()) == 1
    storage.close()


def test_a_directory_that_others_use_is_not_taken_from_them(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared").chmod(0o755)
    (tmp_path / "shared" / "notes").write_text("")
    with pytest.raises(StorageError, match=r"others may enter it \(mode 0755\), and it holds more than a spool"):
        FileStorage(tmp_path / "shared", max_bytes=LARGE)
    assert mode(tmp_path / "shared") == 0o755
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["notes"]


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(StorageError, match=f"belongs to uid {me}, and Weir is uid {me + 1}"):
        FileStorage(tmp_path / "theirs", max_bytes=LARGE)


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "spool" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match="symbolic links"):
        FileStorage(tmp_path / "spool", max_bytes=LARGE)
    assert (tmp_path / "victim").read_text() == "precious"


def test_one_process_has_it_until_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "spool")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as owner:  # fmt: skip
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "mine\n"
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(StorageError, match=f"{tmp_path}/spool: in use by process {owner.pid}[.]"):
                FileStorage(tmp_path / "spool", max_bytes=LARGE)
            assert len(os.listdir("/proc/self/fd")) == before
        finally:
            owner.kill()
    storage, spool = opened(tmp_path / "spool")
    with pytest.raises(StorageError, match=f"in use by process {os.getpid()}[.]"):
        FileStorage(tmp_path / "spool", max_bytes=LARGE)
    assert spool.queue.put(numbered(1))
    storage.close()
    storage.close()
    FileStorage(tmp_path / "spool", max_bytes=LARGE).close()
    assert len(spool_files(tmp_path / "spool")) == 1


@pytest.mark.parametrize("exporter_id", ["otlp_grpc", "otlp_grpc/b", "a.logs", "..", "a/../b", "%2F", "é\n", "x.spool"])
def test_a_name_says_whose_it_is(exporter_id: str) -> None:
    text = file_name(Name(exporter_id, "traces", 0xABC))
    assert parse_name(text) == (exporter_id, "traces", 0xABC)
    assert "/" not in text
    assert "\n" not in text


@pytest.mark.parametrize("text", ["lock", "a.logs.1.spool", "a.logs.000000000000000G.spool", ".logs.0000000000000001.spool", "A%2f.logs.0000000000000001.spool", "a b.logs.0000000000000001.spool"])  # fmt: skip
def test_other_names_are_of_nobody(text: str) -> None:
    assert parse_name(text) is None
