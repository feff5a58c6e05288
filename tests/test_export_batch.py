"""Requests that are joined before they are sent: sizes, the time that they wait, and nothing lost between queue and chain."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.export.batch import Batcher, BatchSettings, fitting, join
from receiver.export.halt import MonotonicClock
from receiver.export.queue import SIZERS, MemoryQueue
from receiver.export.request import Request
from tests.export_parts import numbers_of, request


def batcher(queue: MemoryQueue, **chosen: object) -> Batcher:
    return Batcher(queue, BatchSettings(**chosen), MonotonicClock())  # type: ignore[arg-type]


def filled(*items: int) -> MemoryQueue:
    queue, start = MemoryQueue(1 << 20), 1
    for count in items:
        assert queue.put(request(count, start=start))
        start += count
    return queue


def test_requests_are_joined_until_the_batch_is_large_enough() -> None:
    taker = batcher(filled(3, 3, 3, 3), min_size=6, flush_timeout=60.0)
    first, second = taker.take(), taker.take()
    assert first is not None
    assert second is not None
    assert [len(first.taken), len(second.taken)] == [2, 2]
    assert numbers_of(first.requests[0].data) == [1, 2, 3, 4, 5, 6]
    assert second.requests[0].items == 6


def test_a_batch_waits_no_longer_than_the_flush_timeout() -> None:
    taker = batcher(filled(3), min_size=1000, flush_timeout=0.05)
    batch = taker.take()
    assert batch is not None
    assert batch.requests[0].items == 3


def test_a_closed_queue_is_not_waited_for() -> None:
    queue = filled(3)
    taker = batcher(queue, min_size=1000, flush_timeout=60.0)
    queue.close()
    begun = time.monotonic()
    batch = taker.take()
    assert batch is not None
    assert taker.take() is None
    assert time.monotonic() - begun < 30


def test_what_would_make_a_batch_too_large_begins_the_next_or_is_left() -> None:
    taker = batcher(filled(4, 4, 4), min_size=6, max_size=6, flush_timeout=0.05)
    first = taker.take()
    assert first is not None
    assert [part.items for part in first.requests] == [4]
    left = taker.leave()
    assert [numbers_of(one.data) for one in left] == [[5, 6, 7, 8]]
    assert taker.leave() == []


def test_a_request_that_is_too_large_alone_is_divided() -> None:
    taker = batcher(filled(9), min_size=1, max_size=4, flush_timeout=0.05)
    batch = taker.take()
    assert batch is not None
    assert len(batch.taken) == 1
    assert all(part.items <= 4 for part in batch.requests)
    assert [number for part in batch.requests for number in numbers_of(part.data)] == list(range(1, 10))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 20), st.sampled_from(["items", "bytes"]))
def test_whatever_the_sizes_every_item_is_in_one_request(counts: list[int], limit: int, sizer: str) -> None:
    queue = filled(*counts)
    queue.close()
    largest = limit if sizer == "items" else limit * 40
    taker = batcher(queue, sizer=sizer, min_size=min(limit, largest), max_size=largest, flush_timeout=0.01)
    numbers = []
    while (batch := taker.take()) is not None:
        for part in batch.requests:
            assert part.items == 1 or SIZERS[sizer](part) <= largest  # type: ignore[index]
            numbers += numbers_of(part.data)
        for one in batch.taken:
            queue.done(one)
    assert numbers == list(range(1, sum(counts) + 1))
    assert (queue.size, queue.items, queue.requests) == (0, 0, 0)


def test_joined_requests_remember_an_attempt() -> None:
    again = Request("logs", request(1).data, 1, attempted=True)
    assert join([request(1), again]).attempted
    assert not join([request(1), request(1)]).attempted
    assert all(part.attempted for part in fitting(join([again, again]), SIZERS["items"], 1))


def test_interrupt_wakes_who_waits_and_nobody_else() -> None:
    queue = MemoryQueue(1000)
    got: list[Request | None] = []
    waiting = threading.Thread(target=lambda: got.append(queue.get()))
    waiting.start()
    while waiting.is_alive():
        queue.interrupt()
        waiting.join(0.01)
    assert got == [None]
    assert queue.put(request(1))
    assert queue.get() is not None


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_put_back_is_the_oldest_again(closed: bool) -> None:
    queue = filled(2, 2)
    first = queue.get()
    assert first is not None
    if closed:
        queue.close()
    rest = Request("logs", request(1, start=2).data, 1, attempted=True)
    queue.put_back([first], [rest])
    assert (queue.items, queue.requests) == (3, 2)
    assert queue.get() is rest
    assert queue.get(0) is not None
    assert queue.get(0) is None
