"""Captured records to lookups: both ends, TCP, what Weir itself asks, several servers, and the bound on what is parsed."""

import numpy as np

from receiver.dns.watch import Watch
from receiver.kernel.dns import MESSAGE, SELF, SEVERAL
from receiver.kernel.records import Records
from tests.dns.captured import CLIENT, SERVER, S, captured
from tests.dns.wire import ASKED, A, answer, mapped, query, record, v4

ANSWER = answer("www.test", record(ASKED, A, v4("192.0.2.1"), ttl=30))


def taken(*records: Records, watch: Watch | None = None, now: int = 2 * S) -> list[tuple[str, str, str, int]]:
    found = (watch or Watch()).take(np.concatenate(records), now)
    return [(x.name, x.conversation.role, x.error_type, x.duration) for x in found]


def test_a_client_and_a_server_each_have_their_lookup() -> None:
    server = {"cookie": 12, "local_address": SERVER[0], "local_port": 53, "peer_address": "0.0.0.0", "peer_port": 0}
    replied = server | {"peer_address": CLIENT[0], "peer_port": CLIENT[1]}
    watch = Watch()
    found = taken(
        captured(query("www.test"), time=S),
        captured(query("www.test"), transmit=False, time=S + 10, **server),
        captured(ANSWER, time=S + 20, **replied),
        captured(ANSWER, transmit=False, time=S + 30),
        watch=watch,
    )
    assert found == [("www.test", "server", "", 10), ("www.test", "client", "", 30)]
    assert watch.names.lookup(9, mapped("192.0.2.1"), 2 * S) == "www.test"
    assert watch.names.lookup(8, mapped("192.0.2.1"), 2 * S) == "", "another network namespace was not told"


def test_messages_over_tcp_stand_behind_their_length() -> None:
    def framed(message: bytes) -> bytes:
        return len(message).to_bytes(2, "big") + message

    both = framed(query("www.test")) + framed(query("b.test", number=7))
    back = framed(ANSWER) + framed(answer("b.test", number=7, rcode=3))
    found = taken(
        captured(both, transport=6),
        captured(back[:2], transport=6, transmit=False, time=S + 1),
        captured(back[2:], transport=6, transmit=False, time=S + 2),
    )
    assert found == [("www.test", "client", "", 2), ("b.test", "client", "NXDOMAIN", 2)]


def test_a_stream_that_is_no_dns_is_given_up() -> None:
    watch = Watch()
    assert taken(captured(b"\0\3abc", transport=6), captured(b"\0\4abcd", transport=6), watch=watch) == []
    assert watch.counters.malformed == 1
    assert watch.streams.gaps == 1


def test_what_weir_asks_is_nobodys_lookup_at_the_server() -> None:
    watch = Watch()
    unknown = {"local_port": 53, "peer_port": 0, "peer_address": "0.0.0.0"}
    found = taken(
        captured(query("www.test"), transmit=False, **unknown),  # from a socket that is not known to be Weir's
        captured(ANSWER, flags=SELF, local_port=53, peer_port=999),
        captured(query("b.test"), transmit=False, flags=SELF, local_port=53),
        watch=watch,
    )
    assert found == []
    assert not len(watch.lookups)


def test_which_of_several_servers_answered_is_not_guessed() -> None:
    (found,) = Watch().take(
        np.concatenate([captured(query("www.test")), captured(ANSWER, transmit=False, flags=SEVERAL)]), 2 * S
    )
    assert (found.conversation.server_address, found.conversation.server_port) == (b"", 0)


def test_a_query_without_an_answer_times_out() -> None:
    watch = Watch()
    assert taken(captured(query("www.test")), watch=watch) == []
    assert taken(np.empty(0, MESSAGE), watch=watch, now=12 * S) == [("www.test", "client", "timeout", 10 * S)]


def test_where_messages_were_lost_no_timeout_is_claimed() -> None:
    watch = Watch()
    nothing = np.empty(0, MESSAGE)
    watch.take(np.concatenate([captured(query("early.test"), time=S)]), 2 * S, 0)
    watch.take(nothing, 3 * S, 1)
    watch.take(np.concatenate([captured(query("late.test"), time=4 * S)]), 4 * S, 1)
    assert watch.take(nothing, 12 * S, 1) == []
    assert watch.counters.unsure == 1
    assert [(found.name, found.error_type) for found in watch.take(nothing, 15 * S, 1)] == [("late.test", "timeout")]


def test_what_was_not_parsed_makes_no_timeout_sure() -> None:
    watch = Watch(rate=1)
    for _ in range(2):
        watch.take(np.concatenate([captured(query("www.test"), time=100 * S)] * 2), 100 * S)
    assert watch.counters.rate == 2
    assert watch.take(np.empty(0, MESSAGE), 120 * S) == []
    assert watch.counters.unsure == 1


def test_only_so_many_are_parsed_in_a_second() -> None:
    watch = Watch(rate=10)
    many = [captured(query("www.test", number=number)) for number in range(30)]
    taken(*many, watch=watch, now=100 * S)
    assert (watch.counters.parsed, watch.counters.rate) == (20, 10)
    taken(*many, watch=watch, now=100 * S + S // 2)
    assert (watch.counters.parsed, watch.counters.rate) == (25, 35)


def test_bytes_that_are_no_message_are_counted() -> None:
    watch = Watch()
    assert taken(captured(b"hello"), captured(ANSWER[:40], transmit=False), watch=watch) == []
    assert watch.counters.malformed == 2


def test_a_message_that_was_cut_says_so() -> None:
    long = answer("www.test", *[record(ASKED, A, v4("192.0.2.1"), ttl=30)] * 60)
    (found,) = Watch().take(np.concatenate([captured(query("www.test")), captured(long, transmit=False)]), 2 * S)
    assert found.cut
    assert 0 < len(found.addresses) < 60
