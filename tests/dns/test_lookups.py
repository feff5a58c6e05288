"""Queries and answers paired: sent again, late, forged, cut, over TCP, too many, never answered."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dns.lookups import MAX_ATTEMPTS, MAX_NAME, TCP, TIMEOUT_NS, UDP, Conversation, Lookup, Lookups
from receiver.dns.message import Message, parse
from tests.dns.wire import AAAA, ANSWER, ASKED, A, answer, asked, header, mapped, query, record, v4

SERVER: Final = mapped("10.96.0.10")
HERE: Final = (mapped("10.0.0.5"), 40001)
UDP_CLIENT: Final = Conversation("socket 1", SERVER, 53, UDP, "client")
TCP_CLIENT: Final = UDP_CLIENT._replace(local="socket 2", transport=TCP)
MS: Final = 1_000_000
S: Final = 1_000_000_000
WWW: Final = "www.example.com"


def asks(name: str = WWW, kind: int = A, number: int = 7) -> Message:
    return parse(query(name, kind, number))


def says(
    name: str = WWW, *addresses: str, kind: int = A, number: int = 7, rcode: int = 0, flags: int = ANSWER
) -> Message:
    records = [record(ASKED, A, v4(address), ttl=30) for address in addresses]
    return parse(answer(name, *records, kind=kind, number=number, rcode=rcode, flags=flags))


def counted(table: Lookups[str]) -> dict[str, int]:
    return {name: count for name, count in asdict(table.counters).items() if count}


def done(lookup: Lookup[str] | None) -> Lookup[str]:
    assert lookup is not None
    return lookup


def test_a_query_and_its_answer_are_a_lookup() -> None:
    table = Lookups[str]()
    assert table.add(asks(), UDP_CLIENT, "dig", 5 * S) is None
    answered = says(WWW, "192.0.2.1", "192.0.2.2")
    assert table.add(answered, UDP_CLIENT, "dig", 5 * S + 3 * MS) == Lookup(
        owner="dig",
        conversation=UDP_CLIENT,
        name=WWW,
        type="A",
        klass="IN",
        rcode="NOERROR",
        error_type="",
        addresses=answered.addresses,
        answer_count=2,
        truncated=False,
        cut=False,
        attempts=1,
        started=5 * S,
        duration=3 * MS,
    )
    assert counted(table) == {"lookups": 1}
    assert len(table) == 0


def test_a_and_aaaa_at_once() -> None:
    table = Lookups[str]()
    table.add(asks(number=1), UDP_CLIENT, "curl", 0)
    table.add(asks(kind=AAAA, number=1), UDP_CLIENT, "curl", 1)
    assert done(table.add(says(kind=AAAA, number=1), UDP_CLIENT, "curl", 10)).type == "AAAA"
    assert done(table.add(says(WWW, "10.0.0.1", number=1), UDP_CLIENT, "curl", 11)).type == "A"


@pytest.mark.parametrize(("rcode", "name"), [(2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED")])
def test_a_failure_is_a_lookup_with_an_error(rcode: int, name: str) -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "dig", 0)
    lookup = done(table.add(says(rcode=rcode), UDP_CLIENT, "dig", MS))
    assert (lookup.rcode, lookup.error_type, lookup.addresses) == (name, name, ())


def test_the_case_of_a_question_does_not_part_it_from_its_answer() -> None:
    table = Lookups[str]()
    table.add(asks("wWw.eXample.cOm"), UDP_CLIENT, "unbound", 0)
    assert done(table.add(says(), UDP_CLIENT, "unbound", 1)).name == WWW


@pytest.mark.parametrize(
    "other",
    [
        says("other.example.com"),
        says(kind=AAAA),
        says(number=8),
        UDP_CLIENT._replace(server_address=mapped("10.96.0.11")),
        UDP_CLIENT._replace(server_port=5353),
        UDP_CLIENT._replace(local="socket 3"),
        UDP_CLIENT._replace(role="server"),
        UDP_CLIENT._replace(transport=TCP),
    ],
    ids=["name", "type", "id", "server", "port", "socket", "role", "transport"],
)
def test_an_answer_to_something_else_is_not_believed(other: Message | Conversation) -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "dig", 0)
    message, conversation = (other, UDP_CLIENT) if isinstance(other, Message) else (says(), other)
    assert table.add(message, conversation, "dig", 1) is None
    assert counted(table) == {"unpaired": 1}
    assert done(table.add(says(), UDP_CLIENT, "dig", 2)).duration == 2


def test_a_second_answer_counts_as_unpaired() -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "dig", 0)
    done(table.add(says(), UDP_CLIENT, "dig", 1))
    assert table.add(says(), UDP_CLIENT, "dig", 2) is None
    assert counted(table) == {"lookups": 1, "unpaired": 1}


def test_a_query_sent_again_counts_from_the_first() -> None:
    table = Lookups[str](timeout=10 * S)
    table.add(asks(), UDP_CLIENT, "first", 1 * S)
    table.add(asks(), UDP_CLIENT, "second", 6 * S)
    assert table.expire(15 * S) == []  # the second attempt is 9 s old
    lookup = done(table.add(says(), UDP_CLIENT, "second", 15 * S))
    assert (lookup.owner, lookup.attempts, lookup.started, lookup.duration) == ("first", 2, 1 * S, 14 * S)
    assert counted(table) == {"lookups": 1, "repeated": 1}


def test_a_query_without_an_answer_times_out() -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "dig", 1 * S)
    table.add(asks("late.test"), UDP_CLIENT, "dig", 2 * S)
    assert table.expire(TIMEOUT_NS + 1 * S - 1) == []
    (lookup,) = table.expire(TIMEOUT_NS + 1 * S + 50 * MS)
    assert (lookup.name, lookup.error_type, lookup.rcode, lookup.addresses) == (WWW, "timeout", "", ())
    assert (lookup.started, lookup.duration, lookup.attempts) == (1 * S, TIMEOUT_NS, 1)
    assert table.add(says(), UDP_CLIENT, "dig", 12 * S) is None
    assert counted(table) == {"timeouts": 1, "unpaired": 1}
    assert len(table) == 1


def test_a_query_sent_again_does_not_hold_up_the_others() -> None:
    table = Lookups[str](timeout=10 * S)
    table.add(asks("again.test"), UDP_CLIENT, "dig", 0)
    table.add(asks("once.test"), UDP_CLIENT, "dig", 1 * S)
    table.add(asks("again.test"), UDP_CLIENT, "dig", 5 * S)
    assert [lookup.name for lookup in table.expire(11 * S)] == ["once.test"]
    assert [lookup.name for lookup in table.expire(15 * S)] == ["again.test"]


def test_a_query_sent_for_ever_times_out_too() -> None:
    table = Lookups[str](timeout=10 * S)
    for second in range(MAX_ATTEMPTS + 5):
        table.add(asks(), UDP_CLIENT, "stubborn", second * S)
    assert table.expire((MAX_ATTEMPTS + 8) * S) == []
    (lookup,) = table.expire((MAX_ATTEMPTS + 9) * S)
    assert (lookup.attempts, lookup.duration) == (MAX_ATTEMPTS + 5, (MAX_ATTEMPTS + 9) * S)


def test_a_truncated_answer_ends_the_lookup_and_tcp_is_another() -> None:
    table = Lookups[str]()
    table.add(asks("big.test"), UDP_CLIENT, "dig", 0)
    assert done(table.add(says("big.test", flags=ANSWER | 0x0200), UDP_CLIENT, "dig", 1)).truncated
    table.add(asks("big.test"), TCP_CLIENT, "dig", 2)
    lookup = done(table.add(says("big.test", "10.0.0.1"), TCP_CLIENT, "dig", 5))
    assert (lookup.conversation.transport, lookup.attempts, lookup.duration) == (TCP, 1, 3)


def test_a_waiting_query_that_goes_on_over_tcp_is_one_lookup() -> None:
    # getaddrinfo: the answer for A is truncated, so the one for AAAA is never read, and both are asked over TCP.
    table = Lookups[str]()
    table.add(asks(kind=AAAA), UDP_CLIENT, "curl", 1 * S)
    table.add(asks(kind=AAAA), TCP_CLIENT, "curl", 2 * S)
    assert len(table) == 1
    lookup = done(table.add(says(kind=AAAA), TCP_CLIENT, "curl", 3 * S))
    assert (lookup.conversation, lookup.attempts, lookup.started, lookup.duration) == (TCP_CLIENT, 2, 1 * S, 2 * S)
    assert table.expire(100 * S) == []
    assert counted(table) == {"lookups": 1, "repeated": 1}


def test_a_query_over_tcp_takes_nothing_from_another_owner_or_question() -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "curl", 0)
    table.add(asks(), TCP_CLIENT, "wget", 1)
    table.add(asks("other.test"), TCP_CLIENT, "curl", 2)
    assert [lookup.owner for lookup in table.expire(100 * S)] == ["curl", "wget", "curl"]
    assert counted(table) == {"timeouts": 3}


def test_an_error_without_its_question_is_paired_by_the_id() -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "dig", 0)
    lookup = done(table.add(parse(header(7, ANSWER | 1, qd=0)), UDP_CLIENT, "dig", 4))
    assert (lookup.name, lookup.rcode, lookup.duration) == (WWW, "FORMERR", 4)


def test_an_error_without_its_question_is_not_guessed_at() -> None:
    table = Lookups[str]()
    bare = parse(header(7, ANSWER | 1, qd=0))
    assert table.add(bare, UDP_CLIENT, "dig", 0) is None
    table.add(asks(), UDP_CLIENT, "dig", 1)
    assert table.add(bare, UDP_CLIENT._replace(local="socket 3"), "dig", 1) is None
    table.add(asks(kind=AAAA), UDP_CLIENT, "dig", 1)
    assert table.add(bare, UDP_CLIENT, "dig", 2) is None
    assert counted(table) == {"unpaired": 2, "ambiguous": 1}
    assert len(table) == 2


def test_a_cut_answer_says_so() -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "dig", 0)
    whole = answer(WWW, *(record(ASKED, A, v4(f"10.0.0.{i}")) for i in range(40)), number=7)
    lookup = done(table.add(parse(whole[:511], len(whole)), UDP_CLIENT, "dig", 1))
    assert (lookup.cut, lookup.answer_count, len(lookup.addresses)) == (True, 40, 29)


def test_what_is_no_ordinary_query_is_counted() -> None:
    table = Lookups[str]()
    table.add(parse(header(flags=4 << 11) + asked("zone.test")), UDP_CLIENT, "primary", 0)
    table.add(parse(header(flags=0x8000 | 4 << 11) + asked("zone.test")), UDP_CLIENT, "primary", 0)
    table.add(parse(header(qd=0)), UDP_CLIENT, "odd", 0)
    assert counted(table) == {"other": 2, "unasked": 1}


def test_a_full_table_forgets_the_oldest() -> None:
    table = Lookups[str](limit=3)
    for number in range(5):
        table.add(asks(number=number), UDP_CLIENT, "dig", number)
    assert len(table) == 3
    assert table.add(says(number=1), UDP_CLIENT, "dig", 9) is None
    assert done(table.add(says(number=2), UDP_CLIENT, "dig", 9)).started == 2
    assert counted(table) == {"evicted": 2, "unpaired": 1, "lookups": 1}


def test_a_full_table_still_takes_a_query_that_goes_on_over_tcp() -> None:
    table = Lookups[str](limit=1)
    table.add(asks(), UDP_CLIENT, "curl", 0)
    table.add(asks(), TCP_CLIENT, "curl", 1)
    assert (len(table), counted(table)) == (1, {"repeated": 1})


def test_times_that_are_out_of_order() -> None:
    table = Lookups[str]()
    table.add(asks(), UDP_CLIENT, "dig", 5)
    table.add(asks(), UDP_CLIENT, "dig", 3)
    lookup = done(table.add(says(), UDP_CLIENT, "dig", 1))
    assert (lookup.started, lookup.duration) == (3, 0)


def test_a_long_name_leaves_cut_and_is_paired_whole() -> None:
    labels = ["\x01" * 60] * 3
    one, two = ".".join([*labels, "a"]), ".".join([*labels, "b"])
    table = Lookups[str]()
    table.add(asks(one), UDP_CLIENT, "dig", 0)
    table.add(asks(two), UDP_CLIENT, "dig", 1)
    lookup = done(table.add(says(two), UDP_CLIENT, "dig", 3))
    assert (len(lookup.name), lookup.duration) == (MAX_NAME, 2)


@pytest.mark.parametrize(
    ("transmit", "response", "role"),
    [(True, False, "client"), (False, True, "client"), (False, False, "server"), (True, True, "server")],
)
def test_the_role_is_told_by_the_message(transmit: bool, response: bool, role: str) -> None:
    peer = (mapped("10.0.0.9"), 53)
    found = Conversation.of(
        says() if response else asks(), transmit=transmit, local=1, here=HERE, peer=peer, transport=UDP
    )
    assert found == Conversation(1, *(peer if role == "client" else HERE), UDP, role)


def test_a_server_on_the_same_host_has_its_own_lookup() -> None:
    # Both ends see the same addresses and ports; the client's end and the server's are two lookups.
    ends = {"local": (HERE, (SERVER, 53))}
    table = Lookups[str]()
    found = []
    for message, at in ((asks(), 0), (says(), 10)):
        sent = (
            Conversation.of(message, transmit=True, here=HERE, peer=(SERVER, 53), transport=UDP, **ends)
            if at == 0
            else Conversation.of(message, transmit=False, here=HERE, peer=(SERVER, 53), transport=UDP, **ends)
        )
        served = Conversation.of(message, transmit=at > 0, here=(SERVER, 53), peer=HERE, transport=UDP, **ends)
        found += [table.add(message, sent, "app", at), table.add(message, served, "dnsmasq", at + 2)]
    assert [
        (lookup.owner, lookup.conversation.role, lookup.conversation.server_port) for lookup in found if lookup
    ] == [("app", "client", 53), ("dnsmasq", "server", 53)]


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"timeout": 0}])
def test_bounds_must_be_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Lookups[str](**wrong)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["query", "answer", "bare", "expire"]),
        st.integers(0, 3),  # id
        st.sampled_from(["a", "b"]),
        st.sampled_from([UDP_CLIENT, TCP_CLIENT, UDP_CLIENT._replace(local="socket 3")]),
        st.sampled_from(["p", "q"]),
        st.integers(0, 30),  # s that go by
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 5))
def test_every_query_is_accounted_for(
    steps: Sequence[tuple[str, int, str, Conversation, str, int]], limit: int
) -> None:
    table = Lookups[str](limit)
    now = queries = ended = 0
    for what, number, name, conversation, owner, seconds in steps:
        now += seconds * S
        if what == "expire":
            gone = table.expire(now)
            ended += sum(lookup.attempts for lookup in gone)
            assert all(lookup.started + lookup.duration <= now for lookup in gone)
            continue
        message = {
            "query": asks(name, number=number),
            "answer": says(name, number=number),
            "bare": parse(header(number, ANSWER, qd=0)),
        }[what]
        queries += what == "query"
        lookup = table.add(message, conversation, owner, now)
        if lookup:
            ended += lookup.attempts
            assert lookup.duration == now - lookup.started
        assert len(table) <= limit
    counters = table.counters
    assert queries == counters.lookups + counters.timeouts + counters.repeated + counters.evicted + len(table)
    if not counters.evicted:
        assert ended + sum(lookup.attempts for lookup in table.expire(now + 1000 * S)) == queries
        assert len(table) == 0
        assert table._ids == {}
