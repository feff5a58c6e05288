"""Records of DNS messages are believed only if they are what the kernel side writes; anything else is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.kernel.dns import STRIDE, decode
from receiver.kernel.ring import DISCARD
from tests.dns.captured import captured
from tests.dns.wire import query
from tests.records import framed

GOOD = captured(query("www.test"))


def test_good_records_come_out_as_they_are() -> None:
    found, bad = decode(framed(GOOD.tobytes()) * 3)
    assert bad == 0
    assert (found == np.repeat(GOOD, 3)).all()


@pytest.mark.parametrize(
    "values", [{"version": 2}, {"transport": 1}, {"family": 5}, {"captured": 512}, {"size": 3}, {"flags": 8}]
)
def test_a_record_that_cannot_be_is_counted(values: dict[str, int]) -> None:
    wrong = GOOD.copy()
    for name, value in values.items():
        wrong[name] = value
    found, bad = decode(framed(GOOD.tobytes()) + framed(wrong.tobytes()))
    assert (len(found), bad) == (1, 1)


def test_a_discarded_record_is_none() -> None:
    assert [
        len(part) if isinstance(part, np.ndarray) else part for part in decode(framed(GOOD.tobytes(), bits=DISCARD))
    ] == [0, 0]


def test_a_torn_span_is_counted() -> None:
    found, bad = decode(framed(GOOD.tobytes()) + b"torn")
    assert (len(found), bad) == (1, 1)


@given(st.binary(max_size=3 * STRIDE))
def test_any_bytes_are_taken(raw: bytes) -> None:
    found, bad = decode(raw)
    assert len(found) + bad <= -(-len(raw) // STRIDE)
