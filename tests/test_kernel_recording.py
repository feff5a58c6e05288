"""What is recorded comes back: frame by frame, with its owners; a broken file says where."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from receiver.kernel.recording import MAGIC, Recorder, RecordingError, Replay
from receiver.kernel.source import Counters, Owner
from tests.records import framed, record

OWNER = Owner(7, 8, 0, 7, 1, 9, b"cu\xffrl", b"curl", b"name", b"parent", execs=3)


class Fixed:
    """A source with two ring spans, a pass with one sample and one update, and a last pass."""

    def __init__(self) -> None:
        self.spans = [framed(record(instance_id=i).tobytes()) for i in (1, 2)]

    def wait(self, timeout: float) -> bool:
        return timeout > 0

    def newcomers(self) -> list[tuple[int, int]]:
        return [OWNER.key]

    def drain(self, limit: int) -> bytes:
        assert limit
        return self.spans.pop(0) if self.spans else b""

    def dns(self) -> bytes:
        return b""

    def counters(self) -> Counters:
        return Counters(begun=2)

    def run_pass(self, update_interval: int = 0) -> bytes:
        assert update_interval >= 0
        sample, update = record(kind=4, end_cause=0, state=1), record(kind=2, end_cause=0, state=1)
        return sample.tobytes() + update.tobytes()

    def finish(self) -> Iterator[bytes]:
        yield record(end_cause=7).tobytes()

    def owners(self, keys: Iterable[tuple[int, int]]) -> list[Owner | None]:
        return [OWNER if key == OWNER.key else None for key in keys]

    def boot_to_unix(self) -> int:
        return 1234

    def detach(self) -> None:
        pass

    def close(self) -> None:
        pass


def make(path: Path, limit: int = 1 << 20) -> Recorder:
    recorder = Recorder(Fixed(), path.open("wb"), "0.0.0", limit)
    while recorder.drain(10):
        pass
    recorder.run_pass(1)
    recorder.owners([OWNER.key, (1, 1)])
    list(recorder.finish())
    recorder.close()
    return recorder


def test_it_replays_in_order_and_counts_events(tmp_path: Path) -> None:
    make(tmp_path / "r")
    replay = Replay(tmp_path / "r")
    assert replay.drain(1) + replay.drain(1) == b"".join(Fixed().spans)
    assert replay.drain(1) == b""
    assert replay.kind == "pass"
    assert replay.run_pass() == Fixed().run_pass()
    assert replay.boot_to_unix() == 1234
    assert list(replay.finish()) == list(Fixed().finish())
    assert replay.kind == "end"
    assert replay.counters() == Counters(begun=4)
    assert replay.owners([OWNER.key, (1, 1)]) == [OWNER, None]


def test_a_full_recording_stops_and_says_so(tmp_path: Path) -> None:
    recorder = make(tmp_path / "r", limit=500)
    assert recorder.full
    assert Replay(tmp_path / "r").kind == "ring"
    assert (tmp_path / "r").stat().st_size < 600


def test_every_torn_length_is_an_error_that_names_the_file_or_reads_whole_frames(tmp_path: Path) -> None:
    make(tmp_path / "r")
    whole = (tmp_path / "r").read_bytes()
    outcomes = set()
    for length in range(len(whole)):
        (tmp_path / "torn").write_bytes(whole[:length])
        try:
            Replay(tmp_path / "torn")
            outcomes.add("whole frames")
        except RecordingError as error:
            assert "torn" in str(error)
            outcomes.add("error")
    assert outcomes == {"whole frames", "error"}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04", "not a recording"),
        (MAGIC + b"\xff\xff\xff\xff", "header of"),
        (MAGIC + b"\x02\0\0\0{}", "layout version"),
        (MAGIC + b"\x02\0\0\0[]", "layout version"),
        (MAGIC + b"\x02\0\0\0{-", "not JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(RecordingError, match=what):
        Replay(tmp_path / "r")
