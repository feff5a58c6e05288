"""The vectorised table against a dict."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.flows.table import KeyTable

KEYS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2**64 - 1) | st.integers(0, 3)), max_size=60)


def words(keys: list[tuple[int, int]]) -> list[np.ndarray]:
    return [np.array([key[i] for key in keys], np.uint64) for i in (0, 1)]


@settings(max_examples=200)
@given(st.lists(KEYS, max_size=8), st.integers(1, 100))
def test_it_behaves_as_a_bounded_dict(batches: list[list[tuple[int, int]]], limit: int) -> None:
    table = KeyTable(2, limit)
    expected: dict[tuple[int, int], int] = {}
    for batch in batches:
        slots, fresh = table.place(words(batch))
        for key, slot in zip(batch, slots.tolist(), strict=True):
            if slot < 0:
                assert key not in expected
            elif key in expected:
                assert expected[key] == slot
            else:
                assert slot not in expected.values()
                assert slot in fresh
                expected[key] = slot
        assert table.used == len(expected) <= limit
        if any(slots < 0):
            assert table.used == limit
        assert table.slots(words(batch), insert=False).tolist() == [expected.get(key, -1) for key in batch]
    assert sorted(table.live().tolist()) == sorted(expected.values())


def test_keep_renumbers_and_forgets_the_rest() -> None:
    table = KeyTable(1, 100)
    keys = [np.arange(80, dtype=np.uint64)]
    slots = table.slots(keys)
    kept = table.keep(slots[10:20])
    assert table.used == 10
    assert table.keys(kept)[0].tolist() == list(range(10, 20))
    assert table.slots(keys, insert=False)[:10].tolist() == [-1] * 10
