"""Records in, which of them to keep out: one flow in N, chosen by a hash of its two ends, so that both ends agree.

The hash is fixed: whoever knows the addresses and ports of a flow comes to the same answer, on any host, in any version.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_Words = NDArray[np.uint64]
_SEED: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio


def hashes(records: NDArray[np.void]) -> _Words:
    """One hash a record: of its transport and its ends in order, the same from either side.

    An end is three words: both halves of its address (16 bytes, big endian; IPv4 as ::ffff:a.b.c.d), and its port. The
    lesser end comes first. Beginning with the seed, each of the seven words (transport, lesser end, greater end) is
    or-ed exclusively onto the hash, which then goes through splitmix64's finalizer.
    """
    local = _end(records["local_address"], records["local_port"])
    peer = _end(records["peer_address"], records["peer_port"])
    swap = _greater(local, peer)
    found = _mixed(records["transport"].astype(np.uint64) ^ _SEED)
    for one, other in ((local, peer), (peer, local)):
        for mine, theirs in zip(one, other, strict=True):
            found = _mixed(found ^ np.where(swap, theirs, mine))
    return found


def kept(records: NDArray[np.void], one_in: int) -> NDArray[np.bool_]:
    """Whether each record's flow is the one in `one_in` that is kept: its hash is a multiple of it.

    What is kept of one in 12 is also kept of one in 6, 4, 3 and 2.
    """
    result: NDArray[np.bool_] = hashes(records) % np.uint64(one_in) == 0
    return result


def _end(address: NDArray[Any], port: NDArray[Any]) -> tuple[_Words, _Words, _Words]:
    halves = np.ascontiguousarray(address).view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1], port.astype(np.uint64)


def _greater(one: tuple[_Words, ...], other: tuple[_Words, ...]) -> NDArray[np.bool_]:
    """Whether the words of `one` come after those of `other`."""
    result = np.zeros(len(one[0]), np.bool_)
    for left, right in zip(reversed(one), reversed(other), strict=True):
        result = (left > right) | ((left == right) & result)
    return result


def _mixed(words: _Words) -> _Words:
    """splitmix64's finalizer."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
