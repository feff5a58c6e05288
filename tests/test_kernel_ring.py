"""The ring's consumer, on memory laid out as the kernel lays it out."""

import mmap
import os
from collections.abc import Iterator

import pytest

from receiver.kernel.records import EVENT, STRIDE, decode_ring
from receiver.kernel.ring import BUSY, DISCARD, Ring, fence_for, stride_of
from tests.records import framed, record

SIZE = 1 << 16


class Producer:
    """Writes records into a memfd: consumer page, producer page, and the data at both of its mappings."""

    def __init__(self) -> None:
        self.page = mmap.PAGESIZE
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * self.page + 2 * SIZE)
        self.memory = mmap.mmap(self.fd, 2 * self.page + 2 * SIZE)
        self.position = 0

    def write(self, raw: bytes) -> None:
        for i, byte in enumerate(raw):
            at = 2 * self.page + (self.position + i) % SIZE
            self.memory[at] = self.memory[at + SIZE] = byte
        self.position += len(raw)
        self.memory[self.page : self.page + 8] = self.position.to_bytes(8, "little")

    def patch(self, position: int, raw: bytes) -> None:
        end, self.position = self.position, position
        self.write(raw)
        self.position = end
        self.memory[self.page : self.page + 8] = end.to_bytes(8, "little")

    def consumed(self) -> int:
        return int.from_bytes(self.memory[:8], "little")


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    made.memory.close()
    os.close(made.fd)


@pytest.fixture(params=["x86_64", "aarch64"])
def ring(producer: Producer, request: pytest.FixtureRequest) -> Iterator[Ring]:
    made = Ring(producer.fd, SIZE, EVENT.itemsize, machine=request.param)
    yield made
    made.close()


def event(number: int) -> bytes:
    return framed(record(instance_id=number).tobytes())


def test_nothing_is_empty(ring: Ring) -> None:
    assert ring.drain(10) == b""
    assert ring.held() == 0


def test_every_record_comes_once_and_in_order_over_many_wraps(ring: Ring, producer: Producer) -> None:
    seen = []
    number = 0
    for burst in [1, 7, 100, 300, 3, 310] * 3:
        for _ in range(burst):
            producer.write(event(number))
            number += 1
        assert ring.held() == burst
        while raw := ring.drain(64):
            seen += decode_ring(raw).records["instance_id"].tolist()
    assert seen == list(range(number))
    assert producer.consumed() == producer.position


def test_a_record_being_written_ends_the_span_and_comes_later(ring: Ring, producer: Producer) -> None:
    producer.write(event(1))
    busy_at = producer.position
    producer.write(framed(record(instance_id=2).tobytes(), bits=BUSY))
    producer.write(event(3))
    assert decode_ring(ring.drain(10)).records["instance_id"].tolist() == [1]
    assert ring.drain(10) == b""
    producer.patch(busy_at, event(2))
    assert decode_ring(ring.drain(10)).records["instance_id"].tolist() == [2, 3]


def test_a_discarded_record_is_skipped_and_is_no_loss(ring: Ring, producer: Producer) -> None:
    producer.write(event(1))
    producer.write(framed(record(instance_id=2).tobytes(), bits=DISCARD))
    producer.write(event(3))
    decoded = decode_ring(ring.drain(10))
    assert decoded.records["instance_id"].tolist() == [1, 3]
    assert not decoded.bad


def test_a_foreign_size_is_counted_and_the_reader_resynchronises(ring: Ring, producer: Producer) -> None:
    producer.write(event(1))
    producer.write(framed(b"x" * 40))
    for number in range(2, 60):
        producer.write(event(number))
    seen, bad = [], 0
    while raw := ring.drain(16):
        decoded = decode_ring(raw)
        seen += decoded.records["instance_id"].tolist()
        bad += decoded.bad.get("bad_size", 0)
    assert seen == list(range(1, 60))
    assert bad == 1


def test_a_length_that_cannot_be_loses_the_span_but_not_the_reader(ring: Ring, producer: Producer) -> None:
    producer.write(event(1))
    producer.write((1 << 29).to_bytes(4, "little") + bytes(STRIDE - 4))
    producer.write(event(2))
    decoded = decode_ring(ring.drain(10))
    assert decoded.records["instance_id"].tolist() == [1]
    assert decoded.bad["bad_size"] == 2
    producer.write(event(3))
    assert decode_ring(ring.drain(10)).records["instance_id"].tolist() == [3]


def test_strides_are_header_and_payload_rounded_to_eight() -> None:
    assert [stride_of(n) for n in (1, 8, 9, 192)] == [16, 16, 24, 200]


def test_only_x86_goes_without_a_fence() -> None:
    assert fence_for("x86_64") is not fence_for("aarch64")
    fence_for("aarch64")()
