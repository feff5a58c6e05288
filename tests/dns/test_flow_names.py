"""The names of flows: of clients, by the network namespace, at the connection's start; as the reference has it one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from receiver.dns.flow_names import FlowNames
from receiver.dns.names import Names
from tests.records import address, record, records

S = 1_000_000_000


def text(found: FlowNames, row: int) -> str:
    return found.texts.get(row).decode()


def test_only_clients_whose_start_was_seen_are_named() -> None:
    names = Names()
    names.give(9, address("10.0.0.2"), "db.test", 60, S)
    found = FlowNames(names)
    given_at = {"netns": 9, "start_time": 2 * S}
    rows = found.rows(
        records(record(**given_at), record(role=2, **given_at), record(role=0, **given_at), record(flags=1, **given_at),
                record(netns=8, start_time=2 * S), record(netns=9, start_time=S // 2), record(peer_address="10.0.0.3", **given_at))
    )  # fmt: skip
    assert [text(found, row) for row in rows] == ["db.test", *[""] * 6]


def test_the_address_asked_for_comes_before_the_one_reached() -> None:
    names = Names()
    names.give(9, address("10.96.0.1"), "service.test", 60, S)
    names.give(9, address("10.0.0.2"), "pod.test", 60, S)
    found = FlowNames(names)
    flow = {"netns": 9, "start_time": 2 * S}
    rows = found.rows(
        records(record(asked_address="10.96.0.1", asked_port=80, **flow), record(asked_address="10.96.0.9", asked_port=80, **flow))
    )  # fmt: skip
    assert [text(found, row) for row in rows] == ["service.test", "pod.test"]


def test_a_table_that_is_full_leaves_flows_without_a_name() -> None:
    names = Names()
    for number in range(4):
        names.give(9, address(f"10.0.0.{number}"), f"n{number}.test", 60, S)
    found = FlowNames(names, limit=2)
    flows = records(*(record(netns=9, start_time=2 * S, peer_address=f"10.0.0.{number}") for number in range(4)))
    assert np.count_nonzero(found.rows(flows)) == 2
    last = found.rows(flows[3:])
    assert [text(found, row) for row in last] == ["n3.test"], "room is made for the next ones"


@given(
    told=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.sampled_from("abc"), st.integers(0, 9), st.integers(1, 20))),
    flows=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 30), st.sampled_from([0, 1, 2])), min_size=1),
)  # fmt: skip
def test_names_equal_those_looked_up_one_by_one(
    told: list[tuple[int, int, str, int, int]], flows: list[tuple[int, int, int, int]]
) -> None:
    names = Names()
    for netns, host, name, ttl, when in sorted(told, key=lambda row: row[-1]):
        names.give(netns, address(f"10.0.0.{host}"), name, ttl, when * S)
    found = FlowNames(names)
    rows = found.rows(
        records(*(record(netns=netns, peer_address=f"10.0.0.{host}", start_time=start * S, role=role)
                  for netns, host, start, role in flows))
    )  # fmt: skip
    wanted = [
        names.lookup(netns, address(f"10.0.0.{host}"), start * S) if role == 1 else ""
        for netns, host, start, role in flows
    ]
    assert [text(found, row) for row in rows] == wanted
