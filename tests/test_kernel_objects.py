"""Wall 3: only the object that was built is loaded."""

import hashlib
from pathlib import Path

import pytest

from receiver.kernel.allowlist import ForbiddenError
from receiver.kernel.objects import IntegrityError, read
from tests.elf_writer import EXIT, write_elf


def store(directory: Path, data: bytes, digest: str | None = None) -> None:
    (directory / "flow.x86_64.bpf.o").write_bytes(data)
    line = f"{digest or hashlib.sha256(data).hexdigest()}  flow.x86_64.bpf.o\n"
    (directory / "SHA256SUMS").write_text(line)


def test_what_was_built_is_read(tmp_path: Path) -> None:
    data = write_elf({"raw_tp/inet_sock_set_state": EXIT})
    store(tmp_path, data)
    assert read("flow", machine="x86_64", directory=tmp_path) == data


def test_one_changed_byte_is_refused(tmp_path: Path) -> None:
    data = write_elf({"raw_tp/inet_sock_set_state": EXIT})
    store(tmp_path, data)
    (tmp_path / "flow.x86_64.bpf.o").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="changed after it was built"):
        read("flow", machine="x86_64", directory=tmp_path)


def test_a_forbidden_object_is_refused_although_its_digest_is_right(tmp_path: Path) -> None:
    store(tmp_path, write_elf({"xdp": EXIT}))
    with pytest.raises(ForbiddenError, match="xdp"):
        read("flow", machine="x86_64", directory=tmp_path)


def test_a_missing_object_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="make bpf"):
        read("flow", machine="x86_64", directory=tmp_path)
    store(tmp_path, b"")
    with pytest.raises(IntegrityError, match="aarch64"):
        read("flow", machine="aarch64", directory=tmp_path)
