"""Messages out of TCP streams: whole however they are cut into pieces, cut where octets are missing, never made up."""

from hypothesis import given
from hypothesis import strategies as st

from receiver.dns.message import MAX_BYTES
from receiver.dns.streams import Streams


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


@given(messages=st.lists(st.binary(min_size=1, max_size=40), max_size=8), cuts=st.lists(st.integers(1, 30), min_size=1))
def test_messages_come_whole_however_the_stream_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream, streams, found = b"".join(map(framed, messages)), Streams(), []
    turn = 0
    while stream:
        piece, stream = stream[: cuts[turn % len(cuts)]], stream[cuts[turn % len(cuts)] :]
        found += streams.push("a", piece, len(piece))
        turn += 1
    assert found == [(message, len(message)) for message in messages]
    assert streams.gaps == 0


@given(
    messages=st.lists(st.binary(min_size=12, max_size=60), min_size=1, max_size=6),
    limit=st.integers(0, 40),
    cuts=st.lists(st.integers(1, 50), min_size=1),
)
def test_what_is_missing_is_never_made_up(messages: list[bytes], limit: int, cuts: list[int]) -> None:
    """Of each piece only the first `limit` octets are there: what comes out is the beginning of a real message."""
    stream, streams, found = b"".join(map(framed, messages)), Streams(), []
    turn = 0
    while stream:
        piece, stream = stream[: cuts[turn % len(cuts)]], stream[cuts[turn % len(cuts)] :]
        found += streams.push("a", piece[:limit], len(piece))
        turn += 1
    for (data, size), message in zip(found, messages, strict=False):
        assert size == len(message)
        assert message.startswith(data)
    assert len(found) <= len(messages)
    assert len(found) == len(messages) or streams.gaps


def test_a_message_that_is_cut_ends_and_the_next_one_is_read() -> None:
    streams = Streams()
    long = framed(b"x" * 800)
    assert streams.push("a", long[:511], len(long)) == [(b"x" * 509, 800)]
    assert streams.push("a", framed(b"next"), 6) == [(b"next", 4)]
    assert streams.push("a", long[:100], 100) == []
    assert streams.push("a", long[100:400], 500) == [(b"x" * 398, 800)], "cut in the middle"
    assert streams.push("a", long[600:], 202) == [], "the rest of it"
    assert streams.push("a", framed(b"next"), 6) == [(b"next", 4)]
    assert streams.gaps == 0


def test_a_beginning_that_is_missing_gives_the_stream_up() -> None:
    streams = Streams()
    two = framed(b"x" * 600) + framed(b"lost")
    assert streams.push("a", two[:511], len(two)) == [(b"x" * 509, 600)]
    assert streams.push("a", framed(b"next"), 6) == []
    assert streams.gaps == 2
    assert streams.push("b", framed(b"next"), 6) == [(b"next", 4)], "another stream"


def test_memory_is_bounded() -> None:
    streams = Streams(limit=2)
    huge = framed(b"x" * 60000)
    streams.push(0, huge[:30000], 30000)
    for key in (1, 2):
        streams.push(key, b"\0", 1)
    assert len(streams) == 2
    (found,) = streams.push(9, huge, len(huge))
    assert found == (b"x" * MAX_BYTES, 60000)
