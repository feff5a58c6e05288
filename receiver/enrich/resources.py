"""Attribute sets interned as numbered, ready-encoded Resources: bounded, counted, freed once nobody holds them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

AttributeValue: TypeAlias = str | int | bool | float | Sequence[str]
Attributes: TypeAlias = dict[str, AttributeValue]
Encode: TypeAlias = Callable[[Mapping[str, AttributeValue]], bytes]
Indices: TypeAlias = NDArray[np.uint32]

_CROWDED = 0.75


class ResourceTable:
    """At most `limit` Resources, each the bytes that `encode` gives; index 0 is `first` (host only) and stays.

    Equal bytes get one index. Indices never move: one stays what it is until a `collect` finds that no cached owner
    holds it and the caller did not list it as held. Whoever keeps indices past a drain boundary (events that wait for
    their owner, a series table) lists them there. One thread uses a table.
    """

    def __init__(self, encode: Encode, limit: int, first: Mapping[str, AttributeValue]) -> None:
        self.limit = limit
        self.overflow = 0  # times a Resource found no room and became index 0
        self.encoded: list[bytes] = [encode(first)]
        self._encode = encode
        self._index: dict[bytes, int] = {self.encoded[0]: 0}
        self._free: list[int] = []
        self._holders = np.zeros(limit, np.int32)
        self._holders[0] = 1

    def __len__(self) -> int:
        """How many Resources are held."""
        return len(self.encoded) - len(self._free)

    @property
    def crowded(self) -> bool:
        """Whether it is time for a `collect`: three quarters are in use."""
        return len(self) >= self.limit * _CROWDED

    def intern(self, attributes: Mapping[str, AttributeValue]) -> int:
        """The index of `attributes`, which has one more holder from now on; 0 where there is no room (counted)."""
        data = self._encode(attributes)
        index = self._index.get(data)
        if index is None:
            if self._free:
                index = self._free.pop()
                self.encoded[index] = data
            elif len(self.encoded) < self.limit:
                index = len(self.encoded)
                self.encoded.append(data)
            else:
                self.overflow += 1
                index = 0
                data = self.encoded[0]
            self._index[data] = index
        self._holders[index] += 1
        return index

    def release(self, indices: Indices) -> None:
        """One holder less for each of `indices` (repeats count each)."""
        np.subtract.at(self._holders, indices, 1)

    def collect(self, held: Indices) -> int:
        """Free every Resource without a holder that is not among `held`; how many were freed."""
        count = len(self.encoded)
        unheld = self._holders[:count] == 0
        unheld[held] = False
        freed = 0
        for index in np.flatnonzero(unheld).tolist():
            data = self.encoded[index]
            if data:  # an empty one is free already
                del self._index[data]
                self.encoded[index] = b""
                self._free.append(index)
                freed += 1
        return freed
