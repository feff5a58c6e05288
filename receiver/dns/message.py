"""Captured bytes of one DNS message in; its header, its first question and the addresses that its answers lead to out.

RFC 1035, with the extended response code of RFC 6891. Bounded whatever the bytes are: at most MAX_BYTES of a message and
MAX_RECORDS of its records are looked at; a name takes at most 255 octets and MAX_POINTERS pointers, each of which points
further back, and all names together MAX_NAMES octets. Of the sections after the answers only the extended response code
is looked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from receiver.dns.codes import AAAA, CNAME, IN, OPT, QUERY, A, class_name, rcode_name, type_name
from receiver.flows.addresses import address_text

MAX_BYTES: Final = 4096
MAX_RECORDS: Final = 128
MAX_POINTERS: Final = 32
MAX_NAMES: Final = 4096  # a pointer counts as the two octets that it is
MAX_ALIASES: Final = 16  # CNAMEs followed from a question: more than resolvers follow (8 to 12)

_HEADER: Final = Struct(">6H")  # id, flags, counts of questions, answers, authority and additional records
_QUESTION: Final = Struct(">HH")  # type, class
_RECORD: Final = Struct(">HHIH")  # type, class, TTL, octets of data
_LONGEST: Final = 255  # octets of a name, with the length before each label and the root's
_POINTER: Final = 0xC0
_MAPPED: Final = bytes(10) + b"\xff\xff"
_WIDTHS: Final = {A: 4, AAAA: 16}
_TTL_SIGN: Final = 1 << 31  # RFC 2181, section 8: such a TTL is 0

_SPECIAL: Final = b'"().;\\@$'  # what RFC 1035 section 5.1 gives a meaning to, in a label
_ESCAPED: Final = tuple(
    "\\" + chr(octet) if octet in _SPECIAL else chr(octet).lower() if 0x20 < octet < 0x7F else f"\\{octet:03d}"  # noqa: PLR2004 - printable ASCII
    for octet in range(256)
)
_PLAIN: Final = bytes(octet for octet in range(256) if len(_ESCAPED[octet]) == 1) + b"."


class DnsError(ValueError):
    """Bytes that are no DNS message: what is wrong, and at which octet."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(f"{what}, at octet {offset}")
        self.what = what
        self.offset = offset


class _EndsEarlyError(DnsError):
    """The bytes end too early: an error in a whole message, to be expected in one that was cut."""


class Question(NamedTuple):
    """The first question."""

    name: str  # presentation format in lower case, without the final dot; "." is the root
    type: str
    klass: str


class Address(NamedTuple):
    """An A or AAAA record of the question's name, or of the name that its CNAMEs end at."""

    name: str  # of the record itself
    type: str
    ttl: int  # s; the least of the record and of the CNAMEs that led to it
    address: bytes  # 16 octets, IPv4 as ::ffff:a.b.c.d

    @property
    def text(self) -> str:
        """The address as text; made when it is asked for, because most are not."""
        return address_text(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What one message says."""

    id: int
    response: bool
    opcode: int  # 0: an ordinary query
    truncated: bool  # the server says that its answer did not fit
    rcode: str  # of a query "NOERROR", because the field is 0 there
    question: Question | None  # None: there is none, or `cut` before its end
    addresses: tuple[Address, ...]  # in the order of the message
    answer_count: int  # what the header says
    answer_types: Mapping[str, int]  # how many answers of each type were read
    cut: bool  # the captured bytes, or the bounds of this module, end before the answers do


def parse(data: bytes, size: int | None = None) -> Message:
    """The message whose first octets are `data`, of `size` octets in all; without `size`, `data` is the whole.

    A message that is longer than what there is of it gives what was read of it, with `cut` set. Raises DnsError for bytes
    that are no message, and for fewer than a header.
    """
    whole = len(data) if size is None else size
    data = bytes(data[: min(max(whole, 0), MAX_BYTES)])
    if len(data) < _HEADER.size:
        raise DnsError(f"a header of {_HEADER.size} octets ends early", len(data))
    number, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    response, opcode, rcode = bool(flags & 0x8000), flags >> 11 & 15, flags & 15
    question: Question | None = None
    found = _Answers()
    cut = answers > MAX_RECORDS
    names = _Names(data)
    try:
        offset = _HEADER.size
        if questions:
            question, offset = _question(data, names, offset)
        if response and opcode == QUERY:
            offset = _past_questions(data, offset, questions - 1)
            offset = _answers(data, names, offset, answers, found)
            if not cut:
                rcode |= _extended_rcode(data, offset, authority + additional)
    except _EndsEarlyError:
        if whole <= len(data):
            raise
        cut = True
    return Message(
        id=number,
        response=response,
        opcode=opcode,
        truncated=bool(flags & 0x0200),
        rcode=rcode_name(rcode),
        question=question,
        addresses=found.of(question.name) if question and found.addresses else (),
        answer_count=answers,
        answer_types={type_name(kind): count for kind, count in found.types.items()},
        cut=cut,
    )


def _question(data: bytes, names: "_Names", offset: int) -> tuple[Question, int]:
    """The question at `offset`, and where it ends."""
    end = _past_name(data, offset)
    name = names.at(offset)
    if end + _QUESTION.size > len(data):
        raise _EndsEarlyError("a question ends early", len(data))
    kind, klass = _QUESTION.unpack_from(data, end)
    return Question(name, type_name(kind), class_name(klass)), end + _QUESTION.size


def _past_questions(data: bytes, offset: int, more: int) -> int:
    """Where the questions end, after `more` that nobody asks for (RFC 9619 allows one)."""
    if more > MAX_RECORDS:
        raise DnsError(f"{more + 1} questions", offset)
    for _ in range(more):
        offset = _past_name(data, offset) + _QUESTION.size
    return offset


def _answers(data: bytes, names: "_Names", offset: int, count: int, found: "_Answers") -> int:
    """Put up to MAX_RECORDS of `count` answers into `found`; where the last one read ends."""
    for _ in range(min(count, MAX_RECORDS)):
        start = offset
        kind, klass, ttl, begin, offset = _record(data, start)
        if offset > len(data):
            raise _EndsEarlyError("a record's data end early", len(data))
        if klass == IN and kind in _WIDTHS:
            if offset - begin != _WIDTHS[kind]:
                raise DnsError(f"a record of type {type_name(kind)} with {offset - begin} octets", begin)
            found.addresses.append((names.at(start), kind, ttl, data[begin:offset]))
        elif klass == IN and kind == CNAME:
            if _past_name(data, begin) != offset:
                raise DnsError("a CNAME that does not fill its record", begin)
            found.aliases.setdefault(names.at(start), (names.at(begin), ttl))
        else:
            names.at(start)  # a name that is none spoils any record
        found.types[kind] = found.types.get(kind, 0) + 1
    return offset


def _extended_rcode(data: bytes, offset: int, count: int) -> int:
    """The bits above the header's four, of the OPT record among the `count` that follow; 0 where none is found.

    What does not hold together here ends the search and no more: the workload's resolver does not look here either.
    """
    try:
        for _ in range(min(count, MAX_RECORDS)):
            kind, _, ttl, _, offset = _record(data, offset)
            if kind == OPT:
                return ttl >> 24 << 4
    except DnsError:
        pass
    return 0


def _record(data: bytes, offset: int) -> tuple[int, int, int, int, int]:
    """Type, class, TTL, and where the data begin and end, of the record at `offset`."""
    fixed = _past_name(data, offset)
    begin = fixed + _RECORD.size
    if begin > len(data):
        raise _EndsEarlyError("a record ends early", len(data))
    kind, klass, ttl, size = _RECORD.unpack_from(data, fixed)
    return kind, klass, ttl, begin, begin + size


def _past_name(data: bytes, offset: int) -> int:
    """Where the name at `offset` ends; its pointers are not followed."""
    start, end = offset, len(data)
    while offset < end and offset - start < _LONGEST:
        size = data[offset]
        if size == 0:
            return offset + 1
        if size >= _POINTER:
            return offset + 2
        if size & _POINTER:
            raise DnsError(f"a label of the unknown kind {size >> 6}", offset)
        offset += 1 + size
    if offset < end:
        raise DnsError(f"a name of more than {_LONGEST} octets", start)
    raise _EndsEarlyError("a name ends early", end)


class _Names:
    """The names of a message, each decoded once: most records point to the question's."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._known: dict[int, str] = {}
        self._left = MAX_NAMES

    def at(self, offset: int) -> str:
        """The name at `offset` in presentation format."""
        if self._data[offset] >= _POINTER:
            known = self._known.get(self._target(offset, offset))
            if known is not None:
                return known
        name = self._known[offset] = _presentation(self._labels(offset))
        return name

    def _labels(self, offset: int) -> list[bytes]:
        data, end = self._data, len(self._data)
        labels: list[bytes] = []
        octets, pointers, before = 1, 0, offset
        start = offset
        while True:
            if offset >= end:
                raise _EndsEarlyError("a name ends early", end)
            size = data[offset]
            if size == 0:
                self._left -= octets + 2 * pointers
                if self._left < 0:
                    raise DnsError(f"names of more than {MAX_NAMES} octets in all", start)
                return labels
            if size >= _POINTER:
                pointers += 1
                if pointers > MAX_POINTERS:
                    raise DnsError(f"a name of more than {MAX_POINTERS} compression pointers", offset)
                offset = before = self._target(offset, before)
                continue
            if size & _POINTER:
                raise DnsError(f"a label of the unknown kind {size >> 6}", offset)
            octets += 1 + size
            if octets > _LONGEST:
                raise DnsError(f"a name of more than {_LONGEST} octets", offset)
            if offset + 1 + size > end:
                raise _EndsEarlyError("a label ends early", end)
            labels.append(data[offset + 1 : offset + 1 + size])
            offset += 1 + size

    def _target(self, offset: int, before: int) -> int:
        """Where the pointer at `offset` points: in front of `before`, further back each time, so a loop cannot be."""
        if offset + 1 >= len(self._data):
            raise _EndsEarlyError("a compression pointer ends early", len(self._data))
        target = (self._data[offset] & 0x3F) << 8 | self._data[offset + 1]
        if target >= before:
            raise DnsError(f"a compression pointer to octet {target} does not point back", offset)
        return target


def _presentation(labels: list[bytes]) -> str:
    r"""RFC 1035 section 5.1, in lower case: `\\.` is a dot in a label, `\\DDD` an octet that is not printable."""
    joined = b".".join(labels)
    if not joined.translate(None, _PLAIN) and joined.count(b".") == len(labels) - 1:
        return joined.decode("ascii").lower()
    return ".".join("".join([_ESCAPED[octet] for octet in label]) for label in labels) or "."


class _Answers:
    """The answers of a message, while they are read."""

    def __init__(self) -> None:
        self.addresses: list[tuple[str, int, int, bytes]] = []  # name, type, TTL, data
        self.aliases: dict[str, tuple[str, int]] = {}  # name to the name that its CNAME says, and the TTL
        self.types: dict[int, int] = {}

    def of(self, name: str) -> tuple[Address, ...]:
        """The addresses of `name`, and of the names that its CNAMEs lead to."""
        limits = {name: _TTL_SIGN}  # names on the way, and the least TTL up to each
        limit = _TTL_SIGN
        while name in self.aliases and len(limits) <= MAX_ALIASES:
            name, ttl = self.aliases[name]
            if name in limits:  # in a circle
                break
            limit = limits[name] = min(limit, _seconds(ttl))
        return tuple(
            Address(owner, type_name(kind), min(limits[owner], _seconds(ttl)), raw if kind == AAAA else _MAPPED + raw)
            for owner, kind, ttl, raw in self.addresses
            if owner in limits
        )


def _seconds(ttl: int) -> int:
    return 0 if ttl >= _TTL_SIGN else ttl
