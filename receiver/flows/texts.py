"""Strings interned as rows of one byte matrix, so that encoding gathers them by index without a Python object each."""

import numpy as np
from numpy.typing import NDArray


class Texts:
    """At most `limit` byte strings of at most `width` bytes; row 0 is the empty string and stands for "absent".

    `matrix` is (limit, width) u1, zero padded; `lengths` is (limit,) u2. Rows are filled by their owner, which also
    decides which row a string gets (a `KeyTable` slot, or the next free row).
    """

    def __init__(self, limit: int, width: int) -> None:
        self.width = width
        self.matrix: NDArray[np.uint8] = np.zeros((limit, width), np.uint8)
        self.lengths: NDArray[np.uint16] = np.zeros(limit, np.uint16)

    def put(self, row: int, text: bytes) -> None:
        """Store `text` (cut at `width`) in `row`."""
        text = text[: self.width]
        self.matrix[row, : len(text)] = np.frombuffer(text, np.uint8)
        self.matrix[row, len(text) :] = 0
        self.lengths[row] = len(text)

    def get(self, row: int) -> bytes:
        """The string in `row`."""
        return self.matrix[row, : self.lengths[row]].tobytes()
