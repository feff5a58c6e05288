"""Messages as they are captured: whole, cut, wrong, and made to hurt."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.dns.message import (
    MAX_BYTES,
    MAX_NAMES,
    MAX_POINTERS,
    MAX_RECORDS,
    Address,
    DnsError,
    Message,
    Question,
    parse,
)
from tests.dns.wire import (
    AAAA,
    ANSWER,
    ASKED,
    CNAME,
    HTTPS,
    MX,
    NS,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    answer,
    asked,
    header,
    mapped,
    name,
    opt,
    query,
    record,
    v4,
)

WWW = "www.example.com"
V6 = bytes.fromhex("20010db8000000000000000000000001")
FOUR = answer(WWW, *(record(ASKED, A, v4(f"192.0.2.{i}")) for i in range(4)))
# www -> edge.example.net -> node.example.net, the last two names compressed against each other
CHAIN_ALIAS = name("edge.example.net")
CHAIN = answer(
    WWW,
    record(ASKED, CNAME, CHAIN_ALIAS, ttl=300),  # its data at octet 45
    record(b"\xc0\x2d", CNAME, b"\x04node\xc0\x32", ttl=20),  # .example.net at 45 + 5
    record(b"\x04node\xc0\x32", A, v4("192.0.2.7"), ttl=60),
    record(b"\x04node\xc0\x32", AAAA, V6, ttl=10),
    record(name("other.example.net"), A, v4("192.0.2.99")),
)


def test_a_query() -> None:
    assert parse(query("www.Example.COM", AAAA)) == Message(
        id=0x1234,
        response=False,
        opcode=0,
        truncated=False,
        rcode="NOERROR",
        question=Question(WWW, "AAAA", "IN"),
        addresses=(),
        answer_count=0,
        answer_types={},
        cut=False,
    )


def test_an_answer_with_addresses() -> None:
    message = parse(FOUR)
    assert (message.response, message.rcode, message.cut, message.answer_count) == (True, "NOERROR", False, 4)
    assert message.addresses[1] == Address(WWW, "A", 60, mapped("192.0.2.1"))
    assert [address.text for address in message.addresses] == [f"192.0.2.{i}" for i in range(4)]


def test_aliases_are_followed_and_the_least_ttl_counts() -> None:
    message = parse(CHAIN)
    assert message.addresses == (
        Address("node.example.net", "A", 20, mapped("192.0.2.7")),
        Address("node.example.net", "AAAA", 10, V6),
    )
    assert [address.text for address in message.addresses] == ["192.0.2.7", "2001:db8::1"]
    assert (message.answer_count, message.answer_types) == (5, {"CNAME": 2, "A": 2, "AAAA": 1})


def test_aliases_in_another_order_are_followed_too() -> None:
    records = record(name("b"), A, v4("10.0.0.1")), record(name("a"), CNAME, name("b")), record(ASKED, CNAME, name("a"))
    assert [address.text for address in parse(answer(WWW, *records)).addresses] == ["10.0.0.1"]


def test_the_least_ttl_on_the_way_counts_wherever_it_stands() -> None:
    ttls = {"first": (5, 300, 60), "middle": (300, 5, 60), "last": (300, 60, 5), "none": (0, 9, 9)}
    for one, two, three in ttls.values():
        records = record(ASKED, CNAME, name("a"), one), record(name("a"), CNAME, name("b"), two)
        message = parse(answer(WWW, *records, record(name("b"), A, v4("10.0.0.1"), three)))
        assert [address.ttl for address in message.addresses] == [min(one, two, three)]


def test_of_two_aliases_of_one_name_the_first_counts() -> None:
    records = record(ASKED, CNAME, name("a")), record(ASKED, CNAME, name("b")), record(name("a"), A, v4("10.0.0.1"))
    assert [address.text for address in parse(answer(WWW, *records)).addresses] == ["10.0.0.1"]


@pytest.mark.parametrize("target", [WWW, "a"], ids=["itself", "circle"])
def test_aliases_in_a_circle_end(target: str) -> None:
    records = record(ASKED, CNAME, name(target)), record(name("a"), CNAME, ASKED), record(name("a"), A, v4("10.0.0.1"))
    texts = [address.text for address in parse(answer(WWW, *records)).addresses]
    assert texts == ([] if target == WWW else ["10.0.0.1"])


def test_aliases_without_end_are_not_followed_to_it() -> None:
    chain = [record(name(f"n{i}"), CNAME, name(f"n{i + 1}")) for i in range(40)]
    reached = parse(
        answer("n0", *chain, record(name("n16"), A, v4("10.0.0.1")), record(name("n17"), A, v4("10.0.0.2")))
    )
    assert [address.text for address in reached.addresses] == ["10.0.0.1"]


def test_other_types_are_counted_and_not_decoded() -> None:
    records = [
        record(ASKED, MX, b"\0\x0a" + name("mail")),
        record(ASKED, TXT, b"\x06secret"),
        record(ASKED, SRV, bytes(6) + name("x")),
        record(ASKED, PTR, name("x")),
        record(ASKED, HTTPS, b"\0\1\0"),
        record(ASKED, 65280, b""),
        record(ASKED, A, b"no address of the Internet", klass=3),
    ]
    message = parse(answer(WWW, *records, kind=255))
    assert message.question == Question(WWW, "ANY", "IN")
    assert message.answer_types == {"MX": 1, "TXT": 1, "SRV": 1, "PTR": 1, "HTTPS": 1, "TYPE65280": 1, "A": 1}
    assert message.addresses == ()
    assert "secret" not in repr(message)


@pytest.mark.parametrize(
    ("number", "rcode"),
    [(0, "NOERROR"), (1, "FORMERR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (4, "NOTIMP"), (5, "REFUSED"), (15, "RCODE15")],
)
def test_response_codes(number: int, rcode: str) -> None:
    assert parse(answer("nx.test", rcode=number)).rcode == rcode


def test_nxdomain_with_the_zone_in_the_authority_section() -> None:
    soa = record(b"\xc0\x0f", SOA, name("ns.test") + name("admin.test") + struct.pack(">5I", 1, 2, 3, 4, 5))
    message = parse(header(flags=ANSWER | 3, ns=1, ar=1) + asked("nx.test") + soa + opt())
    assert (message.rcode, message.answer_count, message.addresses) == ("NXDOMAIN", 0, ())


def test_the_extended_response_code_is_put_together() -> None:
    ns = record(ASKED, NS, name("ns.test"))
    assert parse(header(flags=ANSWER | 7, ns=1, ar=1) + asked("x") + ns + opt(extended=1)).rcode == "BADCOOKIE"
    assert parse(header(flags=ANSWER, ar=1) + asked("x") + opt(extended=1)).rcode == "BADVERS"


@pytest.mark.parametrize("rest", [b"", b"\x80", b"\x05ab", ASKED, name("x") + b"\0\1"])
def test_what_is_wrong_behind_the_answers_spoils_nothing(rest: bytes) -> None:
    message = parse(header(flags=ANSWER | 2, an=1, ar=1) + asked("x") + record(ASKED, A, v4("10.0.0.1")) + rest)
    assert (message.rcode, message.cut, message.addresses[0].text) == ("SERVFAIL", False, "10.0.0.1")


def test_the_server_says_that_its_answer_did_not_fit() -> None:
    assert parse(answer("big.test", flags=ANSWER | 0x0200)).truncated
    assert not parse(FOUR).truncated


def test_other_operations_are_told() -> None:
    message = parse(header(flags=5 << 11 | 0x8000, an=9) + asked("zone.test", SOA))  # an update's sections differ
    assert (message.opcode, message.question, message.cut) == (5, Question("zone.test", "SOA", "IN"), False)


def test_several_questions_the_first_counts() -> None:
    head = header(flags=ANSWER, qd=3, an=1) + asked("one") + asked("two") + asked("three")
    message = parse(head + record(ASKED, A, v4("10.0.0.1")))
    assert message.question == Question("one", "A", "IN")
    assert message.addresses[0].text == "10.0.0.1"


def test_no_question() -> None:
    message = parse(header(flags=ANSWER | 1, qd=0))
    assert (message.question, message.rcode, message.cut) == (None, "FORMERR", False)


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0, 0), (2**31 - 1, 2**31 - 1), (2**31, 0), (2**32 - 1, 0)], ids=["0", "most", "sign", "all"]
)
def test_a_ttl_with_its_sign_set_is_zero(ttl: int, seconds: int) -> None:
    assert parse(answer("x", record(ASKED, A, v4("10.0.0.1"), ttl=ttl))).addresses[0].ttl == seconds


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "."),
        ([b"_sip", b"_tcp", b"x-Y"], "_sip._tcp.x-y"),
        ([b"a.b", b"c"], r"a\.b.c"),
        ([b"a\\b"], r"a\\b"),
        ([b'";@$()'], r"\"\;\@\$\(\)"),
        ([b"\0 \x7f\xc3\xa9\n"], r"\000\032\127\195\169\010"),
        ([b"A\x00B"], r"a\000b"),
        ([b"*", b"test"], "*.test"),
    ],
)
def test_names_in_presentation_format(labels: list[bytes], text: str) -> None:
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    message = parse(header() + wire + b"\0\1\0\1")
    assert message.question is not None
    assert message.question.name == text


def test_the_longest_name() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])  # 255 octets
    assert parse(query(longest)).question == Question(longest, "A", "IN")
    with pytest.raises(DnsError, match="a name of more than 255 octets"):
        parse(query(longest + "d"))


def test_classes_without_a_name() -> None:
    question = parse(header() + asked("version.bind", TXT, 3)).question, parse(header() + asked("x", A, 4660)).question
    assert question == (Question("version.bind", "TXT", "CH"), Question("x", "A", "CLASS4660"))


@pytest.mark.parametrize("size", range(len(CHAIN) + 1))
def test_a_cut_message_is_a_state(size: int) -> None:
    whole = parse(CHAIN)
    if size < 12:
        with pytest.raises(DnsError, match="header"):
            parse(CHAIN[:size], len(CHAIN))
        return
    message = parse(CHAIN[:size], len(CHAIN))
    assert (message.id, message.rcode, message.answer_count) == (whole.id, whole.rcode, 5)
    assert message.question == (whole.question if size >= 33 else None)
    assert message.addresses == whole.addresses[: len(message.addresses)]
    assert message.cut == (size < len(CHAIN) - len(opt()))
    assert sum(message.answer_types.values()) == 5 or message.cut


@pytest.mark.parametrize("size", range(len(CHAIN) - len(opt())))
def test_a_whole_message_that_ends_early_is_an_error(size: int) -> None:
    with pytest.raises(DnsError, match=rf"early, at octet {size}$"):
        parse(CHAIN[:size])


def test_more_is_captured_than_the_message_has() -> None:
    assert parse(FOUR + b"rest of the slot", len(FOUR)) == parse(FOUR)
    with pytest.raises(DnsError, match="at octet 0"):
        parse(FOUR, -1)


LOOP = header() + b"\xc0\x0c\0\1\0\1"
FORWARD = header() + b"\xc0\x40\0\1\0\1" + bytes(100)
PAIR = header(flags=ANSWER, an=1) + asked("x") + b"\xc0\x15\xc0\x13" + bytes(20)


@pytest.mark.parametrize(
    ("data", "what", "offset"),
    [
        (b"", "a header of 12 octets ends early", 0),
        (LOOP, "a compression pointer to octet 12 does not point back", 12),
        (FORWARD, "a compression pointer to octet 64 does not point back", 12),
        (PAIR, "a compression pointer to octet 21 does not point back", 19),
        (header() + b"\x01a\xc0\x0c\0\1\0\1", "a compression pointer to octet 12 does not point back", 14),
        (header() + b"\x40a\0\0\1\0\1", "a label of the unknown kind 1", 12),
        (header() + b"\x01a\x80\0\1\0\1", "a label of the unknown kind 2", 14),
        (header(flags=ANSWER, qd=999) + asked("x"), "999 questions", 19),
        (answer("x", record(ASKED, A, b"\1\2\3")), "a record of type A with 3 octets", 31),
        (answer("x", record(ASKED, AAAA, bytes(17))), "a record of type AAAA with 17 octets", 31),
        (answer("x", record(ASKED, CNAME, name("y") + b"!")), "a CNAME that does not fill its record", 31),
        (answer("x", record(b"\xc0\x02", TXT, b"")), "a label of the unknown kind 2", 2),
    ],
)
def test_an_error_says_what_and_where(data: bytes, what: str, offset: int) -> None:
    with pytest.raises(DnsError) as error:
        parse(data)
    assert (error.value.what, error.value.offset) == (what, offset)
    assert str(error.value) == f"{what}, at octet {offset}"


def test_an_error_in_a_cut_message_is_still_one() -> None:
    with pytest.raises(DnsError, match="point back"):
        parse(LOOP, 4000)


def test_pointers_over_pointers_are_bounded() -> None:
    def message(count: int) -> bytes:
        text = b"\x01x\0"
        at = 12 + 7 + 12  # where the first record's data begin
        last = at
        for _ in range(count - 1):
            text += struct.pack(">H", 0xC000 | last)
            last = at + len(text) - 2
        return answer("y", record(ASKED, TXT, text), record(struct.pack(">H", 0xC000 | last), A, v4("10.0.0.1")))

    assert parse(message(MAX_POINTERS)).answer_types == {"TXT": 1, "A": 1}
    with pytest.raises(DnsError, match=f"more than {MAX_POINTERS} compression pointers"):
        parse(message(MAX_POINTERS + 1))


def test_names_are_bounded_in_all() -> None:
    # Each record's name is a label of its own and a pointer to one long name: 2 + 200 + 2 octets to decode.
    long = name(".".join(["x" * 9] * 20))[:-1]
    tail = name("q") + struct.pack(">HH", A, 1)
    first = record(ASKED, TXT, long + b"\0")
    pointer = struct.pack(">H", 0xC000 | 12 + len(tail) + 12)

    def message(count: int) -> bytes:
        records = [record(b"\x01" + bytes([97 + i]) + pointer, A, v4("10.0.0.1")) for i in range(count)]
        return header(flags=ANSWER, an=1 + count) + tail + first + b"".join(records)

    fit = (MAX_NAMES - 3) // (2 + len(long) + 1 + 2)
    assert parse(message(fit)).answer_types == {"TXT": 1, "A": fit}
    with pytest.raises(DnsError, match=f"names of more than {MAX_NAMES} octets in all"):
        parse(message(fit + 1))


def test_records_are_bounded() -> None:
    records = [record(ASKED, A, v4("10.0.0.1"))] * (MAX_RECORDS + 1)
    assert not parse(answer("x", *records[1:])).cut
    message = parse(answer("x", *records))
    assert message.cut
    assert (len(message.addresses), message.answer_count) == (MAX_RECORDS, MAX_RECORDS + 1)


def test_octets_are_bounded() -> None:
    message = parse(answer("x", record(ASKED, A, v4("10.0.0.1")), record(ASKED, TXT, bytes(MAX_BYTES))))
    assert (message.cut, [address.text for address in message.addresses]) == (True, ["10.0.0.1"])


def check(data: bytes, size: int | None) -> None:
    """Any bytes give a message within its bounds, or a DnsError within the bytes."""
    try:
        message = parse(data, size)
    except DnsError as error:
        assert 0 <= error.offset <= len(data)
        return
    assert len(message.addresses) <= sum(message.answer_types.values()) <= min(message.answer_count, MAX_RECORDS)
    if message.question:
        assert message.question.name.isascii()
        assert message.question.name.isprintable()
        assert len(message.question.name) <= 4 * 254
    assert all(len(address.address) == 16 and 0 <= address.ttl < 2**31 for address in message.addresses)


@given(st.binary(max_size=600), st.none() | st.integers(-5, 5000))
@example(LOOP, None)
def test_any_bytes(data: bytes, size: int | None) -> None:
    check(data, size)


@given(
    st.sampled_from([FOUR, CHAIN, query(WWW)]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, 400),
)
def test_a_message_with_wrong_octets(data: bytes, changes: list[tuple[int, int]], size: int | None) -> None:
    spoiled = bytearray(data)
    for place, octet in changes:
        spoiled[place % len(spoiled)] = octet
    check(bytes(spoiled), size)


NAMES = st.lists(st.binary(min_size=1, max_size=12), max_size=6)


@given(NAMES, st.lists(st.ip_addresses(v=4), max_size=5), st.lists(st.ip_addresses(v=6), max_size=5), NAMES)
def test_what_was_put_together_is_read(
    labels: list[bytes], v4s: list[object], v6s: list[object], alias: list[bytes]
) -> None:
    def wire(parts: list[bytes]) -> bytes:
        return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"

    records = [record(ASKED, CNAME, wire(alias))]
    records += [record(wire(alias), A, address.packed) for address in v4s]
    records += [record(wire(alias), AAAA, address.packed) for address in v6s]
    data = header(flags=ANSWER, an=len(records)) + wire(labels) + b"\0\1\0\1" + b"".join(records)
    message = parse(data)
    expected = [b"\0" * 10 + b"\xff\xff" + address.packed for address in v4s] + [address.packed for address in v6s]
    assert [address.address for address in message.addresses] == expected
    assert not message.cut
