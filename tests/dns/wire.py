"""DNS messages put together octet by octet, as resolvers and servers send them."""

import struct
from typing import Final

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT, HTTPS = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 65
ASKED: Final = b"\xc0\x0c"  # a pointer to the name of the question, right behind the header
QUERY, ANSWER = 0x0100, 0x8180  # flags: recursion desired; and, of an answer, available


def name(text: str) -> bytes:
    """Labels without compression; the text has no escapes."""
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in text.split(".") if label) + b"\0"


def header(number: int = 0x1234, flags: int = QUERY, *, qd: int = 1, an: int = 0, ns: int = 0, ar: int = 0) -> bytes:
    return struct.pack(">6H", number, flags, qd, an, ns, ar)


def asked(text: str, kind: int = A, klass: int = 1) -> bytes:
    return name(text) + struct.pack(">HH", kind, klass)


def record(owner: bytes, kind: int, data: bytes, ttl: int = 60, klass: int = 1) -> bytes:
    return owner + struct.pack(">HHIH", kind, klass, ttl, len(data)) + data


def v4(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


def mapped(text: str) -> bytes:
    return bytes(10) + b"\xff\xff" + v4(text)


def opt(extended: int = 0) -> bytes:
    """EDNS0 with a cookie (RFC 7873)."""
    return record(b"\0", OPT, b"\x00\x0a\x00\x08cookie!!", ttl=extended << 24, klass=1232)


def query(text: str, kind: int = A, number: int = 0x1234) -> bytes:
    return header(number, ar=1) + asked(text, kind) + opt()


def answer(
    text: str, *records: bytes, kind: int = A, number: int = 0x1234, rcode: int = 0, flags: int = ANSWER
) -> bytes:
    return header(number, flags | rcode, an=len(records), ar=1) + asked(text, kind) + b"".join(records) + opt()
