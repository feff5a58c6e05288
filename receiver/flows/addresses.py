"""Addresses as 16 bytes to their text, interned: formatted once while they stay known."""

import ipaddress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.flows.table import KeyTable
from receiver.flows.texts import Texts

_WIDTH: Final = 39
_MAPPED: Final = bytes(10) + b"\xff\xff"


def address_words(addresses: NDArray[np.uint8]) -> list[NDArray[np.uint64]]:
    """(n, 16) u1 to two (n,) u8 key words."""
    pair = np.ascontiguousarray(addresses).view(np.uint64).reshape(-1, 2)
    return [np.ascontiguousarray(pair[:, 0]), np.ascontiguousarray(pair[:, 1])]


def address_text(address: bytes) -> str:
    """Text of 16 bytes: a v4-mapped address as IPv4, IPv6 as RFC 5952 has it."""
    if address[:12] == _MAPPED:
        return ".".join(map(str, address[12:]))
    return ipaddress.IPv6Address(address).compressed


class Addresses:
    """Interned address texts. Rows of `texts` stay valid until the next `begin`."""

    def __init__(self, limit: int = 16384) -> None:
        self._table = KeyTable(2, limit)
        self.texts = Texts(self._table.size + 1, _WIDTH)

    def begin(self, most: int) -> None:
        """Make room for `most` addresses not seen before: forget all when they might not fit."""
        if self._table.used + most > self._table.limit:
            self._table.clear()

    def rows(self, addresses: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Row in `texts` of each of (n, 16) u1 addresses."""
        words = address_words(addresses)
        slots, fresh = self._table.place(words)
        for slot in fresh.tolist():
            key = b"".join(word.tobytes() for word in self._table.keys(np.array([slot])))
            self.texts.put(slot + 1, address_text(key).encode())
        return (slots + 1).astype(np.uint32)
