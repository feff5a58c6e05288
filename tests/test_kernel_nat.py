"""Packets are looked at while conntrack has entries, and not longer."""

from pathlib import Path

import pytest

from receiver.kernel import nat
from receiver.kernel.libbpf import KernelError
from receiver.kernel.nat import LINGER, PROGRAM, Translations


class FakeLink:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeObject:
    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.links: list[FakeLink] = []
        self.tried: list[str] = []

    def attach(self, name: str) -> FakeLink:
        self.tried.append(name)
        if self.refuses:
            raise KernelError(2, "attach")
        self.links.append(FakeLink())
        return self.links[-1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr(nat.time, "monotonic", lambda: now[0])
    return now


def test_it_comes_with_the_first_entry_and_goes_after_the_last(tmp_path: Path, clock: list[float]) -> None:
    entries, kernel = tmp_path / "count", FakeObject()
    found = Translations(kernel, there=True, entries=entries)
    found.tend()
    assert not found.attached, "there is no conntrack"
    entries.write_text("3\n")
    found.tend()
    assert not found.attached, "it is looked up once a second"
    clock[0] += 1.5
    found.tend()
    assert found.attached
    assert kernel.tried == [PROGRAM]
    entries.write_text("0\n")
    clock[0] += LINGER - 1
    found.tend()
    assert found.attached
    clock[0] += 2
    found.tend()
    assert not found.attached
    assert kernel.links[0].closed
    entries.write_text("1\n")
    clock[0] += 2
    found.tend()
    assert found.attached


def test_what_is_refused_is_not_tried_again(tmp_path: Path, clock: list[float]) -> None:
    entries, kernel = tmp_path / "count", FakeObject(refuses=True)
    entries.write_text("3\n")
    found = Translations(kernel, there=True, entries=entries)
    for _ in range(3):
        found.tend()
        clock[0] += 2
    assert kernel.tried == [PROGRAM]
    assert not found.attached


@pytest.mark.usefixtures("clock")
def test_a_program_that_is_not_there_is_not_attached(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("3\n")
    kernel = FakeObject()
    Translations(kernel, there=False, entries=tmp_path / "count").tend()
    assert kernel.tried == []
