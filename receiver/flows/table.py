"""A vectorised open-addressing table: arrays of fixed-width keys in, one stable slot number a key out."""

import secrets
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = Sequence[NDArray[np.uint64]]
Slots: TypeAlias = NDArray[np.intp]

_S29 = np.uint64(29)
_S32 = np.uint64(32)


class KeyTable:
    """Keys of `words` 64-bit words, each found or placed by a seeded hash and an exact compare.

    Slots are stable until `keep` or `clear`. At most `limit` keys are held; a key that finds no room gets slot -1, and
    the caller counts it. The hash is seeded for each table, because remote addresses are chosen by whoever connects.
    """

    def __init__(self, words: int, limit: int) -> None:
        self.words = words
        self.limit = limit
        bits = max(4, (limit * 2 - 1).bit_length())
        self.size = 1 << bits
        self._mask = np.uint64(self.size - 1)
        self._seed = np.frombuffer(secrets.token_bytes(8 * (words + 1)), "<u8") | np.uint64(1)
        self.used = 0
        self._allocate()

    def _allocate(self) -> None:
        self._hash = np.zeros(self.size, np.uint64)
        self._keys = [np.zeros(self.size, np.uint64) for _ in range(self.words)]

    def _hashes(self, words: Words) -> NDArray[np.uint64]:
        value: NDArray[np.uint64] = words[0] * self._seed[0]
        for i in range(1, self.words):
            value ^= value >> _S29
            value += words[i]
            value *= self._seed[i]
        value ^= value >> _S32
        value *= self._seed[self.words]
        value ^= value >> _S29
        value[value == 0] = 1
        return value

    def slots(self, words: Words, *, insert: bool = True) -> Slots:
        """Slot of each key: `words` is one (n,) u8 array a key word; (n,) intp out, -1 where there is no room (or no key)."""
        return self.place(words, insert=insert)[0]

    def place(self, words: Words, *, insert: bool = True) -> tuple[Slots, Slots]:
        """As `slots`, and the slots that this call filled anew (each once)."""
        count = len(words[0])
        empty = np.empty(0, np.intp)
        if count == 0:
            return empty, empty
        hashes = self._hashes(words)
        slot = (hashes & self._mask).astype(np.intp)
        todo = np.flatnonzero(~self._match(slot, words, hashes, None))
        fresh: list[Slots] = []
        while todo.size:
            at = slot[todo]
            free = np.flatnonzero(self._hash[at] == 0)
            if free.size and not insert:
                slot[todo[free]] = -1
                todo = np.delete(todo, free)
            elif free.size:
                taken, first = np.unique(at[free], return_index=True)  # one claimant an empty slot
                claim = todo[free[first]]
                room = self.limit - self.used
                if room < taken.size:
                    taken, claim = taken[:room], claim[:room]
                self._hash[taken] = hashes[claim]
                for column, word in zip(self._keys, words, strict=True):
                    column[taken] = word[claim]
                self.used += taken.size
                fresh.append(taken)
                if self.used >= self.limit:
                    refused = todo[self._hash[slot[todo]] == 0]
                    slot[refused] = -1
                    todo = todo[slot[todo] >= 0]
            if not todo.size:
                break
            todo = todo[~self._match(slot[todo], words, hashes[todo], todo)]
            slot[todo] = (slot[todo] + 1) & int(self._mask)
        return slot, np.concatenate(fresh) if fresh else empty

    def _match(self, slot: Slots, words: Words, hashes: NDArray[np.uint64], rows: Slots | None) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self._hash[slot] == hashes
        for column, word in zip(self._keys, words, strict=True):
            same &= column[slot] == (word if rows is None else word[rows])
        return same

    def live(self) -> Slots:
        """The slots in use, in slot order."""
        return np.flatnonzero(self._hash)

    def keys(self, slots: Slots) -> list[NDArray[np.uint64]]:
        """The key words of `slots`, one (n,) u8 array a word."""
        return [column[slots] for column in self._keys]

    def keep(self, slots: Slots) -> Slots:
        """Forget every key but those of `slots`; their new slots, in the same order."""
        words = self.keys(slots)
        self.clear()
        return self.slots(words)

    def clear(self) -> None:
        """Forget every key."""
        self.used = 0
        self._allocate()
