"""The Resource table: one number for equal attributes, valid until nobody holds it, bounded."""

import json
from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from receiver.enrich.resources import ResourceTable


def encode(attributes: Mapping[str, object]) -> bytes:
    return json.dumps(attributes).encode()


def held(*indices: int) -> np.ndarray:
    return np.array(indices, np.uint32)


def test_equal_attributes_share_a_number_and_types_tell_apart() -> None:
    table = ResourceTable(encode, 8, {"os.type": "linux"})
    assert table.intern({"a": 1}) == table.intern({"a": 1}) == 1
    assert table.intern({"a": True}) == 2
    assert table.intern({"os.type": "linux"}) == 0
    assert table.encoded[1] == b'{"a": 1}'


def test_a_number_lives_as_long_as_a_holder_or_a_row_needs_it() -> None:
    table = ResourceTable(encode, 8, {})
    index = table.intern({"a": 1})
    assert table.collect(held()) == 0
    table.release(held(index))
    assert table.collect(held(index)) == 0
    assert table.encoded[index] == b'{"a": 1}'
    assert table.collect(held()) == 1
    assert table.intern({"b": 2}) == index
    assert table.encoded[index] == b'{"b": 2}'


def test_a_released_resource_may_come_back_before_it_is_collected() -> None:
    table = ResourceTable(encode, 8, {})
    index = table.intern({"a": 1})
    table.release(held(index))
    assert table.intern({"a": 1}) == index
    assert table.collect(held()) == 0


def test_a_full_table_gives_host_only_and_counts() -> None:
    table = ResourceTable(encode, 4, {})
    assert [table.intern({"a": i}) for i in range(5)] == [1, 2, 3, 0, 0]
    assert table.overflow == 2
    assert table.crowded
    table.release(held(0, 0, 2))
    assert table.collect(held()) == 1
    assert table.intern({"a": 9}) == 2
    assert len(table) == 4


@given(st.lists(st.tuples(st.sampled_from(["intern", "release", "collect"]), st.integers(0, 9)), max_size=60))
def test_what_is_held_is_never_touched(steps: list[tuple[str, int]]) -> None:
    table = ResourceTable(encode, 5, {})
    holders: list[tuple[int, bytes]] = []
    for action, number in steps:
        if action == "intern":
            before = table.overflow
            index = table.intern({"n": number})
            if table.overflow == before:
                holders.append((index, encode({"n": number})))
            else:
                table.release(held(index))
        elif action == "release" and holders:
            table.release(held(holders.pop(number % len(holders))[0]))
        elif action == "collect":
            table.collect(held())
            assert len(table) == 1 + len({index for index, _ in holders})
        assert all(table.encoded[index] == data for index, data in holders)
        assert table.encoded[0] == b"{}"
        assert len(table.encoded) <= 5
