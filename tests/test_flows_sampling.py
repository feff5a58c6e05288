"""One flow in N: both ends agree, whatever else a record says, and N is what is kept."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from receiver.flows.events import span_rows
from receiver.flows.sampling import hashes, kept
from receiver.kernel.records import EVENT
from tests.records import address, record, records

MASK = (1 << 64) - 1
ADDRESS = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=4, max_size=4).map(lambda four: bytes(10) + b"\xff\xff" + four),
    st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "::"]).map(address),
)
PORT = st.one_of(st.sampled_from([0, 80, 65535]), st.integers(0, 65535))
END = st.tuples(ADDRESS, PORT)


def finalized(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def reference(transport: int, *ends: tuple[bytes, int]) -> int:
    """The hash as docs/flows.md has it, one number at a time."""
    found = finalized(0x9E3779B97F4A7C15 ^ transport)
    for host, port in sorted(ends):
        for word in (int.from_bytes(host[:8], "big"), int.from_bytes(host[8:], "big"), port):
            found = finalized(found ^ word)
    return found


def seen_from(local: tuple[bytes, int], peer: tuple[bytes, int], **values: Any) -> NDArray[np.void]:
    return record(local_address=local[0], local_port=local[1], peer_address=peer[0], peer_port=peer[1], **values)


@given(flows=st.lists(st.tuples(END, END, st.sampled_from([6, 17])), min_size=1, max_size=20))
def test_the_hash_is_the_documented_one_from_either_side(
    flows: list[tuple[tuple[bytes, int], tuple[bytes, int], int]],
) -> None:
    expected = [reference(transport, one, two) for one, two, transport in flows]
    for swapped in (False, True):
        rows = [
            seen_from(*((two, one) if swapped else (one, two)), transport=transport, role=1 + swapped)
            for one, two, transport in flows
        ]
        assert hashes(records(*rows)).tolist() == expected


def test_the_hash_stays_what_it_is() -> None:
    """Other versions, on other hosts, have to agree: this number never changes."""
    assert hashes(record()).tolist() == [0xAAC50E6202CA1493]


def test_a_start_an_update_and_an_end_of_a_flow_share_the_decision() -> None:
    rows = [
        record(kind=kind, local_port=port, time=5 + kind, transmit_bytes=kind, state=kind, role=kind % 3)
        for port in range(1000, 1200)
        for kind in (1, 2, 3)
    ]
    decisions = kept(records(*rows), 3).reshape(-1, 3)
    assert (decisions == decisions[:, :1]).all()
    assert 0 < decisions.sum() < decisions.size


def _many(count: int, seed: int) -> NDArray[np.void]:
    """As a busy client has them: two addresses, one server port, ports that count up; and as the whole world has them."""
    random = np.random.default_rng(seed)
    rows = np.zeros(count, EVENT)
    rows["transport"] = 6
    rows["local_address"] = np.frombuffer(address("10.0.0.1"), np.uint8)
    rows["peer_address"] = np.frombuffer(address("10.0.0.2"), np.uint8)
    rows["peer_port"] = 443
    half = count // 2
    rows["local_port"][:half] = 10_000 + np.arange(half) % 50_000
    rows["local_address"][:half, 15] = np.arange(half) // 50_000
    rows["local_address"][half:, 12:] = random.integers(0, 256, (count - half, 4))
    rows["local_port"][half:] = random.integers(1024, 65536, count - half)
    return rows


@pytest.mark.parametrize("one_in", [2, 3, 10, 64, 100, 1000])
def test_one_in_n_is_kept(one_in: int) -> None:
    count = 100_000
    rows = _many(count, one_in)
    share = 1 / one_in
    for part in (rows, rows[: count // 2], rows[count // 2 :]):
        deviation = math.sqrt(len(part) * share * (1 - share))
        assert abs(int(kept(part, one_in).sum()) - len(part) * share) < 4 * deviation


def test_no_bit_of_the_hash_is_biased() -> None:
    found = hashes(_many(100_000, 1))
    ones = [int((found >> np.uint64(bit) & np.uint64(1)).sum()) for bit in range(64)]
    assert all(abs(count - 50_000) < 5 * math.sqrt(25_000) for count in ones)
    assert len(np.unique(found)) == len(np.unique(_many(100_000, 1)[["local_address", "local_port"]]))


@given(
    flows=st.lists(st.tuples(END, END), min_size=1, max_size=50), one_in=st.integers(1, 20), times=st.integers(1, 20)
)
def test_a_thinner_sample_is_part_of_a_thicker_one(
    flows: list[tuple[tuple[bytes, int], tuple[bytes, int]]], one_in: int, times: int
) -> None:
    rows = records(*(seen_from(*flow) for flow in flows))
    assert (kept(rows, one_in) >= kept(rows, one_in * times)).all()


def test_nothing_of_nothing() -> None:
    assert kept(records(), 10).tolist() == []


def test_spans_are_of_flows_that_ended_and_whose_start_was_seen() -> None:
    rows = records(
        record(),
        record(kind=1),
        record(kind=2),
        record(kind=4),
        record(end_cause=7),
        record(flags=1),
        record(start_time=0),
        record(end_cause=3, error=111, flags=2),
    )
    assert span_rows(rows).tolist() == [True, False, False, False, False, False, False, True]
