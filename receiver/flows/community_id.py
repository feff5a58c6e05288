"""Both ends of a flow to Community ID v1, equal from either side: `1:` and base64 of a SHA-1 over the ordered ends.

Specification: github.com/corelight/community-id-spec, version 1, seed 0.
"""

import binascii
from typing import Final

import numpy as np
from numpy.typing import NDArray

try:
    from _sha1 import sha1 as _sha1  # the interpreter's own: no set-up of OpenSSL's at each call
except ImportError:  # pragma: no cover - an interpreter built without it
    from hashlib import sha1 as _sha1

LENGTH: Final = 30
_PREFIX: Final = np.frombuffer(b"1:", np.uint8)
_DIGEST: Final = 20
_V4: Final = 4


def _message(address: str | tuple[str, tuple[int, ...]]) -> np.dtype[np.void]:
    """Seed, both addresses, protocol, padding, both ports."""
    first, second = ([("address" + n, *(address if isinstance(address, tuple) else (address,)))] for n in "12")
    rest = [("transport", "u1"), ("padding", "u1"), ("port1", ">u2"), ("port2", ">u2")]
    return np.dtype([("seed", ">u2"), *first, *second, *rest])


_MESSAGE_V4: Final = _message(">u4")
_MESSAGE_V6: Final = _message(("u1", (16,)))


def community_ids(
    family: NDArray[np.uint8],
    transport: NDArray[np.uint8],
    local: NDArray[np.uint8],
    local_port: NDArray[np.uint16],
    peer: NDArray[np.uint8],
    peer_port: NDArray[np.uint16],
) -> NDArray[np.uint8]:
    """(n, 30) ASCII. Addresses are (n, 16) u1 with IPv4 as ::ffff:a.b.c.d, `family` 4 or 6, ports in host order."""
    columns = (transport, local, local_port, peer, peer_port)
    digests = np.zeros((len(family), _DIGEST + 1), np.uint8)  # a byte more, so that base64 of a row is 28 characters
    v4 = family == _V4
    if v4.all():
        digests[:, :_DIGEST] = _digests(_messages_v4(*columns))
    else:
        digests[v4, :_DIGEST] = _digests(_messages_v4(*(column[v4] for column in columns)))
        digests[~v4, :_DIGEST] = _digests(_messages_v6(*(column[~v4] for column in columns)))
    text = np.empty((len(family), LENGTH), np.uint8)
    text[:, :2] = _PREFIX
    text[:, 2:] = np.frombuffer(binascii.b2a_base64(digests.tobytes(), newline=False), np.uint8).reshape(-1, LENGTH - 2)
    text[:, LENGTH - 1] = ord("=")
    return text


def _messages_v4(
    transport: NDArray[np.uint8],
    local: NDArray[np.uint8],
    local_port: NDArray[np.uint16],
    peer: NDArray[np.uint8],
    peer_port: NDArray[np.uint16],
) -> NDArray[np.void]:
    """What is hashed for IPv4: both ends as one number each, so that their order is a comparison."""
    ends = [
        np.ascontiguousarray(address[:, 12:]).view(">u4").ravel().astype(np.uint64) << np.uint64(16) | port
        for address, port in ((local, local_port), (peer, peer_port))
    ]
    made = np.zeros(len(transport), _MESSAGE_V4)
    for number, end in (("1", np.minimum(*ends)), ("2", np.maximum(*ends))):
        made["address" + number] = end >> np.uint64(16)
        made["port" + number] = end & np.uint64(0xFFFF)
    made["transport"] = transport
    return made


def _messages_v6(
    transport: NDArray[np.uint8],
    local: NDArray[np.uint8],
    local_port: NDArray[np.uint16],
    peer: NDArray[np.uint8],
    peer_port: NDArray[np.uint16],
) -> NDArray[np.void]:
    """What is hashed for IPv6."""
    count = len(transport)
    ends = np.empty((count, 2, 18), np.uint8)  # address and big-endian port: comparing the bytes orders the ends
    ends[:, 0, :16], ends[:, 1, :16] = local, peer
    ends[:, 0, 16:] = local_port.astype(">u2").view(np.uint8).reshape(count, 2)
    ends[:, 1, 16:] = peer_port.astype(">u2").view(np.uint8).reshape(count, 2)
    swap = _greater(ends[:, 0], ends[:, 1])
    ends[swap] = ends[swap][:, ::-1]
    made = np.zeros(count, _MESSAGE_V6)
    for i, number in enumerate("12"):
        made["address" + number] = ends[:, i, :16]
        made["port" + number] = ends[:, i, 16:].copy().view(">u2").ravel()
    made["transport"] = transport
    return made


def _greater(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Byte-wise left > right of (n, 18) rows."""
    result = np.zeros(len(left), np.bool_)
    open_rows = np.ones(len(left), np.bool_)
    for start, stop, form in ((0, 8, ">u8"), (8, 16, ">u8"), (16, 18, ">u2")):
        one = np.ascontiguousarray(left[:, start:stop]).view(form).ravel()
        two = np.ascontiguousarray(right[:, start:stop]).view(form).ravel()
        result |= open_rows & (one > two)
        open_rows &= one == two
    return result


def _digests(messages: NDArray[np.void]) -> NDArray[np.uint8]:
    """SHA-1 of each message: one C call a row."""
    data, step = messages.tobytes(), messages.itemsize
    joined = b"".join([_sha1(data[i : i + step]).digest() for i in range(0, len(data), step)])  # noqa: S324 no secret
    return np.frombuffer(joined, np.uint8).reshape(-1, _DIGEST)
