"""Files that are not as they were written: torn, flipped, cut, newer, strange. What is lost is counted to the item."""

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.export.request import Request
from receiver.export.segment import FILE_HEADER, FRAME_HEADER, NEW, Segment, StorageError
from receiver.export.storage import FileStorage
from tests.spool_parts import LARGE, Opened, kill, number_of, numbered, opened, spool_files

ITEMS = {number: number + 2 for number in range(1, 7)}  # no two subsets of neighbours have the same sum


def written(directory: Path, *, goodbye: bool = True) -> bytes:
    """Six requests in one file; what is in it."""
    storage, spool = opened(directory)
    for number, items in ITEMS.items():
        assert spool.queue.put(numbered(number, items, size=20))
    if goodbye:
        storage.close()
    else:
        kill(storage)
    (file,) = spool_files(directory)
    return file.read_bytes()


def read_again(directory: Path) -> tuple[int, list[int], dict[str, int], FileStorage]:
    """Items recovered, numbers that came out, what was lost; the queue is empty then."""
    storage, spool = opened(directory)
    recovered = spool.queue.recovered
    numbers = [number_of(request) for request in spool.drain()]
    assert spool.queue.items == spool.queue.requests == spool.queue.size == 0
    return recovered, numbers, spool.lost, storage


def damage(file: Path, at: int, count: int) -> None:
    with file.open("r+b") as changed:
        changed.seek(at)
        changed.write(b"?" * count)


def test_a_frame_comes_back_as_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    storage = FileStorage(directory, max_bytes=LARGE)
    fd = storage._directory.fd
    segment = Segment.create(fd, "a", 7, 1000)
    for number, items in ITEMS.items():
        request = numbered(number, items, size=number)
        segment.append(request, zlib.crc32(request.data), NEW, sync=False)
    offset, begin = FILE_HEADER, 1000
    for number, items in ITEMS.items():
        frame = segment.frame(offset, begin)
        assert (frame.items, frame.begin, frame.state, frame.length) == (items, begin, NEW, 8 + number)
        assert segment.payload(frame) == numbered(number, items, size=number).data
        offset, begin = frame.stop, frame.end
    assert (offset, begin) == (segment.size, segment.end)
    segment.rest()
    loaded = Segment.load(fd, "a", 7, None)
    assert loaded is not None
    assert (loaded.begin, loaded.end, loaded.requests, loaded.items) == (1000, begin, 6, sum(ITEMS.values()))
    loaded.rest()
    storage.close()


def test_what_is_torn_was_never_taken_and_nothing_else_is_missing(tmp_path: Path) -> None:
    whole = written(tmp_path / "spool", goodbye=False)
    last = len(whole) - FRAME_HEADER - 28
    (file,) = spool_files(tmp_path / "spool")
    for length in range(last, len(whole)):
        file.write_bytes(whole[:length])
        storage, spool = opened(tmp_path / "spool")
        assert storage.torn == (length > last)
        assert spool.queue.recovered == sum(ITEMS.values()) - ITEMS[6]
        assert spool.queue.put(numbered(9)), length
        assert [number_of(request) for request in spool.drain()] == [1, 2, 3, 4, 5, 9]
        assert spool.lost == {}
        warned = [line for line in spool.log.lines if "not written to its end" in line[1]]
        assert [line[2]["torn_bytes"] for line in warned] == [length - last] * (length > last)
        storage.close()


def test_an_unfinished_file_is_no_loss(tmp_path: Path) -> None:
    whole = written(tmp_path / "spool", goodbye=False)
    (file,) = spool_files(tmp_path / "spool")
    for length in range(FILE_HEADER + 1):
        file.write_bytes(whole[:length])
        recovered, numbers, lost, storage = read_again(tmp_path / "spool")
        assert (recovered, numbers, lost) == (0, [], {})
        assert spool_files(tmp_path / "spool") == []
        storage.close()


def test_any_flipped_byte_loses_at_most_its_request_and_is_counted(tmp_path: Path) -> None:
    whole = written(tmp_path / "spool")
    (file,) = spool_files(tmp_path / "spool")
    frame = FRAME_HEADER + 28
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        recovered, numbers, lost, storage = read_again(tmp_path / "spool")
        assert recovered == sum(ITEMS.values()), at
        hit = ({(at - FILE_HEADER) // frame + 1} & ITEMS.keys()) - set(numbers)
        assert numbers == [number for number in ITEMS if number not in hit], at
        assert lost == ({"corrupt": ITEMS[min(hit)]} if hit else {}), at
        harmless = at < FILE_HEADER or 12 <= (at - FILE_HEADER) % frame < 16  # the file's header; the state
        assert bool(hit) != harmless, at
        storage.close()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damaged_stretch_is_counted(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("damage") / "spool"
    whole = written(directory)
    (file,) = spool_files(directory)
    at = data.draw(st.integers(FILE_HEADER, len(whole) - 1))
    rubbish = data.draw(st.binary(min_size=1, max_size=len(whole) - at))
    file.write_bytes(whole[:at] + rubbish + whole[at + len(rubbish) :])
    storage, spool = opened(directory)
    total = sum(ITEMS.values())
    if spool.queue.recovered != total:  # a state byte may say "done" now, and nothing can tell
        assert b"\xff" in rubbish
    for _ in range(2):
        spool.queue.get(0)
    lost_before, left = dict(spool.lost), spool.queue.items
    assert left == spool.queue.recovered - sum(lost_before.values())
    storage.close()
    recovered, numbers, lost, storage = read_again(directory)
    assert recovered == left  # what was counted as lost is not counted again
    assert sum(ITEMS[number] for number in numbers) + sum(lost.values()) == recovered
    assert set(lost) | set(lost_before) <= {"corrupt"}
    storage.close()


def test_the_end_of_a_finished_file_may_be_cut_off(tmp_path: Path) -> None:
    whole = written(tmp_path / "spool")
    (file,) = spool_files(tmp_path / "spool")
    for length in range(FILE_HEADER, len(whole), 7):
        file.write_bytes(whole[:length])
        kept = [n for n in ITEMS if FILE_HEADER + n * (FRAME_HEADER + 28) <= length]
        recovered, numbers, lost, storage = read_again(tmp_path / "spool")
        assert recovered == sum(ITEMS.values())
        assert numbers == kept
        assert lost == {"corrupt": sum(items for number, items in ITEMS.items() if number not in kept)}
        storage.close()


@pytest.mark.parametrize("at", [FILE_HEADER + 3, FILE_HEADER + FRAME_HEADER + 3])
def test_damage_that_comes_later_is_found_when_it_is_read(tmp_path: Path, at: int) -> None:
    written(tmp_path / "spool")
    (file,) = spool_files(tmp_path / "spool")
    storage, spool = opened(tmp_path / "spool")
    damage(file, at, FRAME_HEADER + 28)  # two requests
    assert [number_of(request) for request in spool.drain()] == [3, 4, 5, 6]
    assert spool.lost == {"corrupt": ITEMS[1] + ITEMS[2]}
    assert spool.queue.items == spool.queue.requests == spool.queue.size == 0
    assert spool.log.fields("The spool is damaged. Dropping data.")["directory"] == str(tmp_path / "spool")
    storage.close()


def test_a_file_that_somebody_removed_is_a_loss_and_no_more(tmp_path: Path) -> None:
    written(tmp_path / "spool")
    (file,) = spool_files(tmp_path / "spool")
    storage, spool = opened(tmp_path / "spool")
    file.unlink()
    assert spool.queue.put(numbered(9))
    assert [number_of(request) for request in spool.drain()] == [9]
    assert spool.lost == {"corrupt": sum(ITEMS.values())}
    storage.close()


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    whole = written(tmp_path / "spool", goodbye=False)
    (file,) = spool_files(tmp_path / "spool")
    about = b"WEIRSPL\0" + struct.pack("<I", 2)
    newer = about + struct.pack("<I", zlib.crc32(about)) + b"whatever it is"
    second = file.with_name(file.name.replace("1.spool", "2.spool"))
    second.write_bytes(newer)
    file.write_bytes(whole[:-5])  # would be cut
    with pytest.raises(StorageError, match=r"2\.spool: format version 2, and this Weir knows versions up to 1"):
        FileStorage(tmp_path / "spool", max_bytes=LARGE)
    assert (file.read_bytes(), second.read_bytes()) == (whole[:-5], newer)
    second.unlink()
    recovered, _, _, storage = read_again(tmp_path / "spool")
    assert recovered == sum(ITEMS.values()) - ITEMS[6]
    storage.close()


def test_what_is_not_of_the_spool_is_left_alone_and_named(tmp_path: Path) -> None:
    whole = written(tmp_path / "spool")
    (file,) = spool_files(tmp_path / "spool")
    foreign = {
        "notes.txt": b"mine",
        "a.logs.0000000000000001.spool.bak": whole,
        "a.events.0000000000000001.spool": whole,  # no such signal
        "a%2f.logs.0000000000000001.spool": whole,  # never written so
        "b.logs.0000000000000001.spool": b"x" * 100,  # the name of one, and nothing of it inside
    }
    for name, content in foreign.items():
        (file.parent / name).write_bytes(content)
    (file.parent / "c.logs.0000000000000001.spool").symlink_to(file)
    storage, spool = opened(tmp_path / "spool")
    assert set(storage.foreign) == {*foreign, "c.logs.0000000000000001.spool"}
    assert len(spool.drain()) == 6
    for exporter_id in "bc":  # they use other names
        other = Opened(storage, exporter_id)
        assert other.queue.put(numbered(1, items=3))
        assert (other.queue.items, len(other.drain())) == (3, 1)
    storage.close()
    assert {name: (file.parent / name).read_bytes() for name in foreign} == foreign


def test_a_frame_of_another_file_is_none_of_this_one(tmp_path: Path) -> None:
    """What a disk brings back after a crash may be an old block."""
    written(tmp_path / "spool")
    (file,) = spool_files(tmp_path / "spool")
    file.rename(file.with_name(file.name.replace("1.spool", "2.spool")))
    storage, spool = opened(tmp_path / "spool")
    assert spool.drain() == []
    assert spool.queue.put(numbered(9))
    storage.close()


def test_the_image_of_an_earlier_frame_inside_of_another_is_none(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path / "spool")
    assert spool.queue.put(numbered(1, items=3))
    (file,) = spool_files(tmp_path / "spool")
    image = file.read_bytes()[FILE_HEADER:]
    outer = FILE_HEADER + len(image)
    assert spool.queue.put(Request("logs", (2).to_bytes(8, "little") + image, 4))
    assert spool.queue.put(numbered(3, items=5))
    storage.close()
    damage(file, outer, 8)
    recovered, numbers, lost, storage = read_again(tmp_path / "spool")
    assert (recovered, numbers, lost) == (12, [1, 3], {"corrupt": 4})
    storage.close()


def test_a_file_that_was_emptied_knows_where_it_begins(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path / "spool")
    for number in range(3):
        assert spool.queue.put(numbered(number, items=100, size=500_000))
    assert len(spool.drain()) == 3
    (file,) = spool_files(tmp_path / "spool")
    assert file.stat().st_size == FILE_HEADER
    assert spool.queue.put(numbered(4, items=5))
    assert spool.queue.put(numbered(6, items=7))
    storage.close()
    damage(file, FILE_HEADER, 8)
    recovered, numbers, lost, storage = read_again(tmp_path / "spool")
    assert (recovered, numbers, lost) == (12, [6], {"corrupt": 5})
    storage.close()


def test_the_count_goes_on_over_files_and_runs(tmp_path: Path) -> None:
    for run in range(3):
        storage, spool = opened(tmp_path / "spool")
        assert spool.queue.recovered == 10 * run
        assert spool.queue.put(numbered(run, 5))
        assert spool.queue.put(numbered(10 + run, 5))
        storage.close()
    _, middle, _ = spool_files(tmp_path / "spool")
    damage(middle, 16, FILE_HEADER - 16)  # where it begins and ends
    storage, spool = opened(tmp_path / "spool")
    assert [segment.begin for segment in spool.queue._shelf.segments] == [0, 10, 20]
    storage.close()
    damage(middle, 16, FILE_HEADER - 16 + 8)  # and its first frame: the file before it says it too
    storage, spool = opened(tmp_path / "spool")
    assert [number_of(request) for request in spool.drain()] == [0, 10, 11, 2, 12]
    assert spool.lost == {"corrupt": 5}
    storage.close()
