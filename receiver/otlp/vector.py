"""Numpy columns in, columns of fixed-width wire bytes out, so that a record is patched without a Python object each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from receiver.flows.texts import Texts
from receiver.otlp.wire import padded

MIN_WIDTH = 16  # bytes; the narrowest Texts that a window may start in the row before
_STEP = 9  # lengths that share one fragment width
_ONE_BYTE = 114  # the longest text whose AnyValue still has a one-byte length, padded or not
_LENGTH_MAX = 5  # bytes; upb refuses a longer length varint

_CLASS_MAX = 255
_HEX = np.frombuffer(b"".join(b"%02x" % value for value in range(256)), "<u2")
_FOLDS = [
    (np.uint64((1 << 28) - 1), np.uint64(4)),
    (np.uint64(0x3FFF00003FFF), np.uint64(2)),
    (np.uint64(0x7F007F007F007F), np.uint64(1)),
]
VARINT_MAX = (1 << 56) - 1


def spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each value below 2^56 with its 7-bit groups one to a byte, lowest first: a varint without continuation bits."""
    for low, shift in _FOLDS:
        kept = values & low
        values = ((values ^ kept) << shift) | kept
    return values


def continuation(width: int) -> np.uint64:
    """The continuation bits of a varint of `width` (1 to 8) bytes, to be or-ed onto `spread`."""
    return np.uint64(0x8080808080808080 & ((1 << 8 * (width - 1)) - 1))


def head(words: NDArray[np.uint64], width: int) -> NDArray[np.void]:
    """The first `width` bytes of each word, as a view."""
    return np.ndarray(len(words), f"V{width}", words, 0, words.strides)


def blocks(matrix: NDArray[np.uint8]) -> NDArray[np.void]:
    """The rows of an (n, width) matrix as n blocks of bytes."""
    return np.ascontiguousarray(matrix).view(f"V{matrix.shape[1]}").reshape(-1)


def hexadecimal(values: NDArray[np.uint64]) -> NDArray[np.void]:
    """Each value as 16 lower-case hexadecimal digits."""
    digits = _HEX[values.astype(">u8").view(np.uint8)]
    return digits.view("V16")


@dataclass(frozen=True, slots=True)
class Fragment:
    """Texts of neighbouring lengths in one width: what stands before the text is padded to make up for it."""

    width: int
    least: int  # the shortest length in it
    prefixes: NDArray[np.uint8]  # (lengths, width): the bytes before the text, zero where the text goes
    masks: NDArray[np.uint8]  # (lengths, width): 255 where the text goes

    def gather(self, texts: Texts, rows: NDArray[np.intp], lengths: NDArray[np.intp]) -> NDArray[np.void]:
        """The fragments of `rows` of `texts`, whose lengths are all of this width's, as n blocks."""
        flat = texts.matrix.reshape(-1)
        windows: NDArray[Any] = np.ndarray(flat.size - self.width + 1, f"V{self.width}", flat, 0, (1,))
        found: NDArray[np.void] = windows[rows * texts.width + lengths - self.width]  # ends where the text ends
        matrix = found.view(np.uint8).reshape(-1, self.width)
        kind = lengths - self.least
        matrix &= self.masks.take(kind, axis=0)
        matrix |= self.prefixes.take(kind, axis=0)
        return found


class Fragments:
    """The widths for texts of 1 to `longest` bytes; `classes[length]` is the number of its width, 0 for "absent".

    A record's width then depends on few classes, not on each length, so that most records of a batch share a template.
    """

    def __init__(self, longest: int, prefix: Callable[[int, int], bytes], tops: list[int]) -> None:
        self.classes = np.zeros(longest + 1, np.uint8)
        self.members: list[Fragment | None] = [None]
        least = 1
        if len(tops) > _CLASS_MAX or longest < MIN_WIDTH:
            message = f"a width of {longest} bytes is outside what a shape can tell apart"
            raise ValueError(message)
        for top in tops:
            before = [prefix(length, top) for length in range(least, top + 1)]
            width = len(before[-1]) + top
            prefixes = np.zeros((len(before), width), np.uint8)
            masks = np.zeros_like(prefixes)
            for row, text in enumerate(before):
                prefixes[row, : len(text)] = np.frombuffer(text, np.uint8)
                masks[row, len(text) :] = 0xFF
            self.classes[least : top + 1] = len(self.members)
            self.members.append(Fragment(width, least, prefixes, masks))
            least = top + 1

    def __getitem__(self, number: int) -> Fragment:
        """The width with that number."""
        member = self.members[number]
        if member is None:
            message = "class 0 stands for an absent text and has no fragment"
            raise LookupError(message)
        return member


def _tops(longest: int, steps: Callable[[int], int]) -> list[int]:
    tops = [6]  # then 15: all IPv4 addresses share a width
    while tops[-1] < longest:
        tops.append(tops[-1] + steps(tops[-1]))
    return tops


def _string_prefix(length: int, top: int) -> bytes:
    """Field 2 of a KeyValue up to a string's first byte, its two lengths padded by `top` - `length` bytes in all."""
    least = 1 if top <= _ONE_BYTE else 2
    slack = top - length
    inner = min(_LENGTH_MAX, least + slack)
    outer = least + slack - (inner - least)
    return b"\x12" + padded(1 + inner + length, outer) + b"\x0a" + padded(length, inner)


def string_fragments(longest: int) -> Fragments:
    """A text as the string value of a KeyValue."""
    tops = _tops(longest, lambda top: _STEP if top < _ONE_BYTE else _STEP - 2)
    return Fragments(longest, _string_prefix, tops)


def severity_fragments(longest: int) -> Fragments:
    """Ready attributes of a LogRecord with its severity INFO before them, whose varint takes up the slack."""
    return Fragments(
        longest, lambda length, top: b"\x10" + padded(9, 1 + top - length), _tops(longest, lambda _: _STEP)
    )


def dropped_fragments(longest: int) -> Fragments:
    """Ready attributes of a Span after its dropped_attributes_count, none, whose varint takes up the slack."""
    return Fragments(
        longest, lambda length, top: b"\x50" + padded(0, 1 + top - length), _tops(longest, lambda _: _STEP)
    )
