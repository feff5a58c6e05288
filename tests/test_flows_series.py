"""The series table against sums computed one record at a time."""

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.flows.last_pass import LastPass
from receiver.flows.series import IDLE_INTERVALS, SeriesTable
from tests.records import address, record, records

CLIENT, SERVER, UNKNOWN = 1, 2, 0


def resources(count: int, value: int = 1) -> np.ndarray:
    return np.full(count, value, np.uint32)


ROW = st.fixed_dictionaries(
    {
        "role": st.sampled_from([CLIENT, SERVER, UNKNOWN]),
        "peer_address": st.sampled_from(["10.0.0.2", "10.0.0.3", "fd00::1"]),
        "local_port": st.sampled_from([80, 81]),
        "peer_port": st.sampled_from([443, 8080]),
        "transmit_bytes": st.integers(1000, 10**12),
        "counted_transmit": st.integers(0, 1000),
        "receive_bytes": st.integers(10, 10**6),
        "counted_receive": st.integers(0, 10),
        "retransmits": st.integers(5, 9),
        "counted_retransmits": st.integers(0, 5),
        "flags": st.sampled_from([0, 1, 2, 3, 7]),
        "error": st.sampled_from([0, 111, 110]),
        "kind": st.sampled_from([2, 3, 4]),
    }
)


def key_of(row: dict[str, Any], resource: int) -> tuple[Any, ...]:
    family = 6 if ":" in row["peer_address"] else 4
    if row["role"] == SERVER:
        return resource, SERVER, address("10.0.0.1"), row["local_port"], family
    port = row["peer_port"] if row["role"] == CLIENT else 0
    return resource, row["role"], address(row["peer_address"]), port, family


@settings(max_examples=100)
@given(st.lists(st.tuples(ROW, st.integers(0, 2)), max_size=40))
def test_sums_are_exact(rows: list[tuple[dict[str, Any], int]]) -> None:
    table = SeriesTable(limit=64)
    expected: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    failures: dict[tuple[Any, ...], int] = defaultdict(int)
    made = []
    for row, resource in rows:
        values = row | {"family": 6 if ":" in row["peer_address"] else 4, "end_cause": 1 if row["kind"] == 3 else 0}
        made.append(record(**values))
        key = key_of(row, resource)
        sums = expected[key]
        sums[0] += row["transmit_bytes"] - row["counted_transmit"]
        sums[1] += row["receive_bytes"] - row["counted_receive"]
        sums[2] += row["retransmits"] - row["counted_retransmits"]
        if row["flags"] & 2 and not row["flags"] & 4:
            if row["kind"] == 3 and not row["flags"] & 1 and row["error"]:
                failures[*key, row["error"]] += 1
            else:
                sums[3] += 1
    half = len(made) // 2
    for part in (slice(None, half), slice(half, None)):
        table.add(records(*made[part]), np.array([resource for _, resource in rows[part]], np.uint32), 7)
    live = table.live()
    keys = table.describe(live)
    seen = {}
    for i, row_number in enumerate(live.tolist()):
        key = (
            int(keys.resource[i]), int(keys.role[i]), keys.address[i].tobytes(), int(keys.port[i]), int(keys.family[i])
        )  # fmt: skip
        columns = (table.transmit, table.receive, table.retransmits, table.connections)
        seen[key] = [int(column[row_number]) for column in columns]
        assert table.start[row_number] == 7
    assert seen == dict(expected)
    at = dict(zip(live.tolist(), seen, strict=True))
    failed = table.failures()
    assert {
        (*at[row], error): count
        for row, error, count in zip(failed.row.tolist(), failed.error.tolist(), failed.count.tolist(), strict=True)
    } == dict(failures)


def test_what_finds_no_room_adds_up_in_the_overflow_row() -> None:
    table = SeriesTable(limit=4)
    made = records(*(record(peer_port=1000 + i, transmit_bytes=10) for i in range(50)))
    table.add(made, resources(50), 7)
    assert table.keys.used == 4
    assert int(table.transmit.sum()) == 500
    assert int(table.transmit[table.overflow_row]) == 460
    assert table.overflowed == 46
    assert table.live()[-1] == table.overflow_row


def test_an_idle_series_leaves_after_ten_collections_and_returns_at_zero() -> None:
    table = SeriesTable(limit=8)
    table.add(records(record(peer_port=1)), resources(1), 100)
    table.add(records(record(peer_port=2, error=111, flags=2, end_cause=3)), resources(1), 100)
    for _ in range(IDLE_INTERVALS):
        assert len(table.live()) == 2
        table.add(records(record(peer_port=2, error=111, flags=2, end_cause=3)), resources(1), 150)
        table.handed_over(200, delta=False)
    assert len(table.live()) == 2
    table.add(records(record(peer_port=2)), resources(1), 150)
    table.handed_over(200, delta=False)
    assert table.describe(table.live()).port.tolist() == [2]
    assert table.failures().count.tolist() == [1 + IDLE_INTERVALS]
    table.add(records(record(peer_port=1, transmit_bytes=5)), resources(1), 300)
    live = table.live()
    back = int(live[table.describe(live).port == 1][0])
    assert (int(table.transmit[back]), int(table.start[back])) == (5, 300)


def test_an_open_flow_keeps_its_series() -> None:
    table = SeriesTable(limit=8)
    sample = records(record(kind=4, end_cause=0, state=1))
    rows = table.add(sample, resources(1), 1)
    table.set_active(sample, rows)
    for _ in range(IDLE_INTERVALS * 2):
        table.handed_over(2, delta=False)
    assert len(table.live()) == 1
    assert int(table.active[table.live()[0]]) == 1


def test_delta_starts_anew_after_each_collection() -> None:
    table = SeriesTable(limit=8)
    table.add(records(record(error=111, flags=2, end_cause=3)), resources(1), 1)
    table.handed_over(50, delta=True)
    row = int(table.live()[0])
    assert int(table.transmit[row]) == int(table.connections[row]) == int(table.duration.count()[row]) == 0
    assert table.failures().count.size == 0
    assert int(table.start[row]) == 50


def test_histograms_put_a_value_on_a_bound_below_it() -> None:
    table = SeriesTable(limit=8)
    table.add(records(record(start_time=1, time=5_000_001)), resources(1), 1)
    row = int(table.live()[0])
    assert table.duration.buckets[row].tolist()[:2] == [1, 0]
    assert int(table.duration.count()[row]) == 1
    assert abs(float(table.duration.total[row]) - 0.005) < 1e-12


def test_an_end_copied_before_the_pass_is_counted_once() -> None:
    last = LastPass()
    sample = records(record(kind=4, end_cause=0, state=1, instance_id=5, transmit_bytes=60, receive_bytes=0))
    last.remember(sample)
    ends = records(
        record(instance_id=4, flags=3),
        record(instance_id=5, flags=3, transmit_bytes=100),
        record(instance_id=6, flags=7, counted_transmit=1),
    )
    settled = last.settle(ends)
    assert settled["counted_transmit"].tolist() == [0, 60, 1]
    assert settled["flags"].tolist() == [3, 7, 7]
    assert ends["flags"].tolist() == [3, 3, 7]
    up_to_date = records(record(instance_id=5, flags=7, transmit_bytes=100, counted_transmit=60))
    assert last.settle(up_to_date) is up_to_date


def test_resets_count_at_the_side_that_sent_and_at_the_one_that_met_them() -> None:
    table = SeriesTable(limit=8)
    made = records(
        record(flags=3, end_cause=2, error=0),  # sent by this side
        record(flags=3, end_cause=2, error=104),
        record(flags=3, end_cause=2, error=32),
        record(flags=2, end_cause=3, error=111),
        record(flags=2, end_cause=3, error=113),  # unreachable: nobody reset
        record(flags=3, end_cause=1, error=0),
    )
    table.add(made, resources(6), 1)
    assert (int(table.resets_sent.sum()), int(table.resets_received.sum())) == (1, 3)
    table.handed_over(2, delta=True)
    assert (int(table.resets_sent.sum()), int(table.resets_received.sum())) == (0, 0)
