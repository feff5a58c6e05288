"""The durable queue: order, what outlives the process, eviction, a disk that takes nothing, several threads."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receiver.export.request import Request
from receiver.export.segment import FILE_HEADER, StorageError
from receiver.export.storage import FileStorage, Stranger
from tests.otlp_server import until
from tests.spool_parts import LARGE, Opened, frame_bytes, kill, number_of, numbered, opened, spool_files

ROOT = Path(__file__).parents[1]


def numbers(requests: list[Request]) -> list[int]:
    return [number_of(request) for request in requests]


def test_the_oldest_comes_first_and_room_is_given_back(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path)
    queue = spool.queue
    for number in range(5):
        assert queue.put(numbered(number, items=3))
    assert (queue.items, queue.requests, queue.size) == (15, 5, 5 * queue.measure(numbered(0)))
    first, second = queue.get(), queue.get()
    assert first is not None
    assert second is not None
    assert numbers([first, second]) == [0, 1]
    assert queue.items == 15  # what is being sent is held too
    queue.done(second)
    queue.done(second)
    assert queue.items == 12
    queue.put_back([first], [first])
    assert queue.items == 12
    assert numbers(spool.drain()) == [0, 2, 3, 4]
    assert (queue.items, queue.requests, queue.size) == (0, 0, 0)
    assert queue.durable
    storage.close()
    assert spool_files(tmp_path) == []


def test_the_next_run_has_what_was_left_and_knows_what_may_have_been_sent(tmp_path: Path) -> None:
    for goodbye in (True, False):
        storage, spool = opened(tmp_path)
        for number in range(4):
            spool.queue.put(numbered(number, items=2))
        taken = [spool.queue.get(0) for _ in range(2)]
        assert taken[1] is not None
        spool.queue.done(taken[1])
        assert spool.queue.items == 6
        if goodbye:
            storage.close()
        else:
            kill(storage)
        storage, spool = opened(tmp_path)
        assert (spool.queue.recovered, spool.queue.items, spool.lost) == (6, 6, {})
        assert [(number_of(one), one.attempted, one.items) for one in spool.drain()] == [
            (0, True, 2), (2, False, 2), (3, False, 2),
        ]  # fmt: skip
        storage.close()


def test_what_is_left_of_a_batch_stays_and_what_was_sent_goes(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path)
    queue = spool.queue
    for number in range(3):
        queue.put(numbered(number, items=4))
    first, second = queue.get(), queue.get()
    assert first is not None
    assert second is not None
    queue.close()
    queue.put_back([first, second], [numbered(8, items=5), numbered(9, items=1)])
    assert (queue.items, queue.requests) == (10, 3)
    assert not queue.put(numbered(5))
    storage.close()
    storage, spool = opened(tmp_path)
    assert spool.queue.recovered == 10
    assert [(number_of(one), one.items, one.attempted) for one in spool.drain()] == [
        (2, 4, False), (8, 5, True), (9, 1, True),
    ]  # fmt: skip
    storage.close()


def test_queues_share_a_directory_and_nothing_else(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path, max_bytes=LARGE)
    ids = ["otlp_grpc", "otlp_grpc/b c", "../../x", "a.logs", "é"]
    queues = {(i, s): Opened(storage, i, s) for i in ids for s in ("logs", "metrics")}
    for number, spool in enumerate(queues.values()):
        assert spool.queue.put(numbered(number, signal=spool.queue._shelf.signal))
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*.spool"))
    assert len(spool_files(tmp_path)) == len(queues)
    with pytest.raises(StorageError, match="open already"):
        Opened(storage, "otlp_grpc")
    with pytest.raises(StorageError, match="too long"):
        Opened(storage, "x" * 250)
    storage.close()
    storage = FileStorage(tmp_path, max_bytes=LARGE)
    for number, (exporter_id, signal) in enumerate(queues):
        assert numbers(Opened(storage, exporter_id, signal).drain()) == [number]
    storage.close()


def test_a_queue_that_nobody_opens_is_named(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path)
    spool.queue.put(numbered(1, items=7))
    storage.close()
    storage = FileStorage(tmp_path, max_bytes=LARGE)
    size = FILE_HEADER + frame_bytes(numbered(1))
    assert storage.strangers() == [Stranger("otlp_grpc", "logs", 7, size)]
    spool = Opened(storage)
    assert storage.strangers() == []
    spool.queue.release()  # a configuration without it
    assert storage.strangers() == [Stranger("otlp_grpc", "logs", 7, size)]
    again = Opened(storage)
    assert (again.queue.recovered, numbers(again.drain())) == (7, [1])
    storage.close()


def test_the_oldest_file_goes_when_there_is_no_room_and_is_counted_to_the_item(tmp_path: Path) -> None:
    one = numbered(0, size=1000)
    storage, spool = opened(tmp_path, 8 * (FILE_HEADER + 2 * frame_bytes(one)))  # two requests in each of eight files
    queue = spool.queue
    for number in range(16):
        assert queue.put(numbered(number, items=number + 1, size=1000))
    assert (len(spool_files(tmp_path)), spool.lost) == (8, {})
    held, done = queue.get(), queue.get()
    assert held is not None
    assert done is not None
    queue.done(done)
    assert queue.put(numbered(16, items=17, size=1000))  # the file of 0, which is out, and of 1, which is done, goes
    assert spool.lost == {}
    assert queue.items == sum(range(3, 18))
    queue.put(numbered(17, items=18, size=1000))
    queue.put(numbered(18, items=19, size=1000))  # the file of 2 and 3 goes
    assert spool.lost == {"evicted": 3 + 4}
    queue.put_back([held], [held])  # its file is gone: it is written afresh
    assert queue.items == sum(range(5, 20)) + 1
    assert numbers(spool.drain()) == [*range(4, 19), 0]
    line = spool.log.fields("The spool is full. Dropping the oldest data.")
    assert (line["dropped_items"], line["cause"]) == (7, "spool_full")
    storage.close()


def test_what_was_given_back_comes_first_in_its_order_and_may_be_evicted(tmp_path: Path) -> None:
    one = numbered(0, size=1000)
    storage, spool = opened(tmp_path, 8 * (FILE_HEADER + 4 * frame_bytes(one)))
    queue = spool.queue
    for number in range(32):
        assert queue.put(numbered(number, items=number + 1, size=1000))
    taken = [queue.get(0) for _ in range(4)]
    held = [one for one in taken if one is not None]
    queue.put_back(held[::-1], held[::-1])
    first, second = queue.get(0), queue.get(0)
    assert first is not None
    assert second is not None
    assert (numbers([first, second]), first.attempted) == ([0, 1], True)
    queue.put_back([second], [second])
    queue.put(numbered(32, items=33, size=1000))  # the file of 0, which is out, and of 1, 2 and 3, which are not, goes
    assert spool.lost == {"evicted": 2 + 3 + 4}
    queue.done(first)
    assert queue.items == sum(range(5, 34))
    assert numbers(spool.drain()) == list(range(4, 33))
    storage.close()


def test_the_largest_queue_gives_way_also_one_that_nobody_opened(tmp_path: Path) -> None:
    storage, large = opened(tmp_path, 40_000)
    small = Opened(storage, "small")
    while not large.lost:
        large.queue.put(numbered(1, size=900))
    before = dict(large.lost)
    for _ in range(5):
        assert small.queue.put(numbered(2, items=3, size=900))
    assert small.lost == {}
    assert large.lost["evicted"] > before["evicted"]
    storage.close()
    storage = FileStorage(tmp_path, max_bytes=40_000)
    (stranger, _) = storage.strangers()
    small = Opened(storage, "small")
    for _ in range(10):
        assert small.queue.put(numbered(2, items=3, size=900))
    assert small.lost == {}
    assert storage.strangers()[0].items < stranger.items
    assert small.queue.get(0) is not None
    assert small.log.fields("The spool is full. Dropping the oldest data.")["exporter"] == "otlp_grpc"
    storage.close()


def test_what_a_closed_account_says_is_there_stays_as_long_as_others_can_give_way(tmp_path: Path) -> None:
    storage, first = opened(tmp_path, 20_000)
    second = Opened(storage, "second")
    for number in range(12):
        assert first.queue.put(numbered(number, size=900))
    kept = first.queue.items
    first.queue.release()
    for number in range(30):
        assert second.queue.put(numbered(number, size=900))
    assert second.lost
    storage.close()
    storage, first = opened(tmp_path, 20_000)
    assert first.queue.recovered == kept
    storage.close()


def test_nothing_is_evicted_before_its_owner_knows_of_it(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path, 20_000)
    while not spool.lost:
        spool.queue.put(numbered(1, size=900))
    storage.close()
    storage, spool = opened(tmp_path, 20_000)
    other = Opened(storage, "other")
    assert not other.queue.put(numbered(2, size=4000))
    assert spool.queue.get(0) is not None
    assert other.queue.put(numbered(2, size=4000))
    assert spool.lost
    storage.close()


def test_what_can_never_fit_is_refused(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path, 10_000)
    largest = 10_000 - FILE_HEADER - frame_bytes(numbered(0))
    assert spool.queue.put(numbered(1, size=largest))
    assert not spool.queue.put(numbered(2, size=largest + 1))
    assert spool.lost == {}
    assert spool.queue.put(numbered(3, size=largest))
    assert spool.lost == {"evicted": 1}
    storage.close()


def test_other_settings_hold_at_once(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path, 40_000)
    for number in range(30):
        assert spool.queue.put(numbered(number, items=2, size=900))
    assert spool.lost == {}
    storage.change(max_bytes=20_000, fsync=True)
    assert sum(path.stat().st_size for path in spool_files(tmp_path)) <= 20_000
    assert spool.lost == {"evicted": 60 - spool.queue.items}
    left = spool.queue.requests
    storage.change(max_bytes=80_000, fsync=False)
    for number in range(30, 60):
        assert spool.queue.put(numbered(number, items=2, size=900))
    assert numbers(spool.drain()) == list(range(30 - left, 60))
    storage.close()


def test_capacity_is_what_others_leave(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path, 50_000)
    other = Opened(storage, "other")
    other.queue.put(numbered(1, size=10_000))
    while spool.queue.size <= spool.queue.capacity - spool.queue.measure(numbered(2, size=900)):
        spool.queue.put(numbered(2, size=900))
    assert (spool.lost, other.lost) == ({}, {})  # who waits for room loses nothing
    assert spool.queue.requests > 35
    storage.close()


def test_a_file_is_used_again_once_it_is_empty(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path)
    for number in range(40):
        spool.queue.put(numbered(number, size=200_000))
        assert numbers(spool.drain()) == [number]
    (file,) = spool_files(tmp_path)
    assert file.stat().st_size < 2 << 20
    spool.queue.put(numbered(41, items=6))
    kill(storage)
    storage, spool = opened(tmp_path)
    assert (spool.queue.recovered, numbers(spool.drain()), spool.lost) == (6, [41], {})
    storage.close()


def test_many_files_need_few_descriptors(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path, 200_000)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for number in range(100):
            spool.queue.put(numbered(number, size=1900))
        assert len(spool_files(tmp_path)) >= 7
        assert len(os.listdir("/proc/self/fd")) <= before + 3
        spool.drain()
    storage.close()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Opened, list[Request | None], Callable[[], None]]]:
    """A queue, and a consumer that waits in it."""
    storage, spool = opened(tmp_path)
    found: list[Request | None] = []
    thread = threading.Thread(target=lambda: found.append(spool.queue.get()))
    thread.start()
    until(lambda: spool.queue._changed._waiters)
    yield spool, found, thread.join
    spool.queue.close()
    thread.join()
    storage.close()


def test_who_waits_is_woken_by_a_request(waiting: tuple[Opened, list[Request | None], Callable[[], None]]) -> None:
    spool, found, join = waiting
    spool.queue.put(numbered(3))
    join()
    assert [number_of(one) for one in found if one] == [3]


@pytest.mark.parametrize("how", ["interrupt", "close", "release"])
def test_who_waits_is_woken_with_nothing(
    waiting: tuple[Opened, list[Request | None], Callable[[], None]], how: str
) -> None:
    spool, found, join = waiting
    getattr(spool.queue, how)()
    join()
    assert found == [None]


def test_who_waits_is_told_what_put_has_to_say(
    waiting: tuple[Opened, list[Request | None], Callable[[], None]],
) -> None:
    spool, found, _ = waiting
    with spool.queue._changed:
        spool.queue.say("error", "Something.")
    until(lambda: spool.log.messages() == ["Something."])
    assert found == []


def test_waiting_ends(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path)
    assert spool.queue.get(0.01) is None
    assert not spool.queue.closed
    spool.queue.release()
    assert spool.queue.get() is None
    assert not spool.queue.put(numbered(1))
    storage.close()


def test_several_consumers_get_each_request_once(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path, 40 << 20)
    found: list[int] = []
    lock = threading.Lock()

    def consume() -> None:
        while (request := spool.queue.get()) is not None:
            assert len(set(request.data[8:])) == 1
            with lock:
                found.append(number_of(request))
            spool.queue.done(request)

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(600):
        assert spool.queue.put(numbered(number, items=2, size=3000))
    spool.queue.close()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(600))
    assert (spool.queue.items, spool.queue.requests, spool.queue.size, spool.lost) == (0, 0, 0, {})
    storage.close()
    assert spool_files(tmp_path) == []


def test_consumers_and_eviction_together_account_for_everything(tmp_path: Path) -> None:
    storage, spool = opened(tmp_path, 60_000)
    delivered: list[int] = []
    lock = threading.Lock()

    def consume() -> None:
        while (request := spool.queue.get()) is not None:
            with lock:
                delivered.append(number_of(request))
            spool.queue.done(request)

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        assert spool.queue.put(numbered(number, size=3000))
    spool.queue.close()
    for thread in threads:
        thread.join()
    assert len(delivered) == len(set(delivered))
    assert len(delivered) + spool.lost.get("evicted", 0) == 2000
    assert set(spool.lost) <= {"evicted"}
    assert spool.queue.items == spool.queue.requests == spool.queue.size == 0
    storage.close()
