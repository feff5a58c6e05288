"""Decoding: untrusted bytes to records, every reject counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.kernel.records import EVENT, STRIDE, LayoutMismatchError, check_layout, decode_pass, decode_ring
from tests.records import framed, record, records


def test_good_records_are_kept_as_they_are() -> None:
    made = records(record(instance_id=1), record(instance_id=2, kind=1, end_cause=0, state=1))
    decoded = decode_ring(b"".join(framed(row.tobytes()) for row in made))
    assert decoded.records.tobytes() == made.tobytes()
    assert decoded.bad == {}
    assert decode_pass(made.tobytes()).records.tobytes() == made.tobytes()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"version": 9}, "bad_version"),
        ({"version": 0}, "bad_version"),
        ({"kind": 0}, "bad_value"),
        ({"kind": 5}, "bad_value"),
        ({"role": 3}, "bad_value"),
        ({"family": 5}, "bad_value"),
        ({"transport": 1}, "bad_value"),
        ({"end_cause": 8}, "bad_value"),
        ({"end_cause": 0}, "bad_value"),
        ({"kind": 2, "end_cause": 1}, "bad_value"),
        ({"owner_rule": 6}, "bad_value"),
        ({"state": 13}, "bad_value"),
        ({"end_cause": 6}, "bad_value"),
        ({"transport": 17, "end_cause": 6, "state": 7}, "bad_value"),
        ({"transport": 17, "end_cause": 1, "state": 0}, "bad_value"),
    ],
)
def test_one_bad_record_is_counted_and_loses_nothing_else(values: dict[str, int], reason: str) -> None:
    made = records(record(instance_id=1), record(instance_id=2, **values), record(instance_id=3))
    for decoded in (decode_ring(b"".join(framed(row.tobytes()) for row in made)), decode_pass(made.tobytes())):
        assert decoded.records["instance_id"].tolist() == [1, 3]
        assert decoded.bad == {reason: 1}


@pytest.mark.parametrize(("kind", "cause"), [(1, 0), (2, 0), (3, 6), (3, 7), (4, 0)])
def test_udp_ends_idle_or_by_shutdown_and_has_no_state(kind: int, cause: int) -> None:
    made = record(transport=17, kind=kind, end_cause=cause, state=0)
    assert decode_pass(made.tobytes()).bad == {}


@given(st.binary(max_size=5 * STRIDE))
def test_any_bytes_at_all_raise_nothing(raw: bytes) -> None:
    decoded = decode_ring(raw)
    assert len(decoded.records) + sum(decoded.bad.values()) <= len(raw) // 8 + 1
    decode_pass(raw)


@given(st.lists(st.one_of(st.just(b""), st.binary(min_size=1, max_size=64)), max_size=12))
def test_each_foreign_record_is_one_bad_size(junk: list[bytes]) -> None:
    good = framed(record().tobytes())
    raw = b"".join(framed(item) if item else good for item in junk)
    decoded = decode_ring(raw)
    assert len(decoded.records) == sum(1 for item in junk if not item)
    assert decoded.bad.get("bad_size", 0) == sum(1 for item in junk if item)


def test_the_generated_layout_must_be_the_expected_one() -> None:
    check_layout(EVENT)
    fields = [(name, EVENT[name]) for name in EVENT.names or ()]
    swapped = np.dtype([("kind", "u1"), ("version", "u1"), *fields[2:]])
    with pytest.raises(LayoutMismatchError, match="version"):
        check_layout(swapped)
