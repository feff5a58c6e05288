"""Both ends of a flow to Community ID v1, equal from either side: `1:` and base64 of a SHA-1 over the ordered ends.

Specification: github.com/corelight/community-id-spec, version 1, seed 0.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

LENGTH: Final = 30
_ALPHABET: Final = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
_DIGEST: Final = 20
_V4: Final = 4


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


try:
    from _sha1 import sha1 as _c_sha1  # the interpreter's own: without OpenSSL's set-up at each call, 3 times faster
except ImportError:  # pragma: no cover - an interpreter built without it
    pass
else:

    def _sha1(data: bytes) -> bytes:
        return bytes(_c_sha1(data).digest())


def community_ids(
    family: NDArray[np.uint8],
    transport: NDArray[np.uint8],
    local: NDArray[np.uint8],
    local_port: NDArray[np.uint16],
    peer: NDArray[np.uint8],
    peer_port: NDArray[np.uint16],
) -> NDArray[np.uint8]:
    """(n, 30) ASCII. Addresses are (n, 16) u1 with IPv4 as ::ffff:a.b.c.d, `family` 4 or 6, ports in host order."""
    count = len(family)
    ends = np.empty((count, 2, 18), np.uint8)  # address and big-endian port: comparing the bytes orders the ends
    ends[:, 0, :16], ends[:, 1, :16] = local, peer
    ends[:, 0, 16:] = local_port.astype(">u2").view(np.uint8).reshape(count, 2)
    ends[:, 1, 16:] = peer_port.astype(">u2").view(np.uint8).reshape(count, 2)
    swap = _greater(ends[:, 0], ends[:, 1])
    ends[swap] = ends[swap][:, ::-1]
    digests = np.empty((count, _DIGEST), np.uint8)
    for first_byte, rows in ((12, family == _V4), (0, family != _V4)):
        if rows.any():
            digests[rows] = _digests(ends[rows], transport[rows], first_byte)
    return _base64(digests)


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


def _digests(ends: NDArray[np.uint8], transport: NDArray[np.uint8], first_byte: int) -> NDArray[np.uint8]:
    """SHA-1 of seed, both addresses, protocol, padding, both ports; one C call a row."""
    count, width = len(ends), 16 - first_byte
    message = np.zeros((count, 2 + 2 * width + 6), np.uint8)
    at = 2
    for end in (0, 1):
        message[:, at : at + width] = ends[:, end, first_byte:16]
        at += width
    message[:, at] = transport
    message[:, at + 2 : at + 4] = ends[:, 0, 16:]
    message[:, at + 4 : at + 6] = ends[:, 1, 16:]
    data, step = message.tobytes(), message.shape[1]
    joined = b"".join([_sha1(data[i : i + step]) for i in range(0, len(data), step)])
    return np.frombuffer(joined, np.uint8).reshape(count, _DIGEST)


def _base64(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    count = len(digests)
    padded = np.zeros((count, 7, 3), np.uint8)
    padded.reshape(count, 21)[:, :_DIGEST] = digests
    one, two, three = (padded[:, :, i] for i in range(3))
    sextets = np.empty((count, 7, 4), np.uint8)
    sextets[:, :, 0] = one >> 2
    sextets[:, :, 1] = (one & 3) << 4 | two >> 4
    sextets[:, :, 2] = (two & 15) << 2 | three >> 6
    sextets[:, :, 3] = three & 63
    text = np.empty((count, LENGTH), np.uint8)
    text[:, :2] = np.frombuffer(b"1:", np.uint8)
    text[:, 2:] = _ALPHABET[sextets].reshape(count, 28)
    text[:, LENGTH - 1] = ord("=")
    return text
