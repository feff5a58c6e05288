"""Pieces of TCP streams in, DNS messages out: each stands behind its length in two octets (RFC 1035, section 4.2.2).

Bounded: so many streams, the longest unused forgotten first, and of a message no more than is parsed. Where octets are
missing, a message that goes on past them ends as cut; where they hide the beginning of another one, the stream is given up.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from receiver.dns.message import MAX_BYTES

MAX_STREAMS: Final = 256
_PREFIX: Final = 2

Piece = tuple[bytes, int]  # what there is of a message, and its whole size


class _Stream:
    """One direction of one connection."""

    def __init__(self) -> None:
        self.given_up = False
        self._prefix = b""
        self._body = bytearray()
        self._size = 0  # of the message under way; 0: its length is not known yet
        self._passed = 0  # octets of it that went by
        self._cut = False  # it has been handed out already

    def push(self, data: bytes, size: int) -> list[Piece]:
        """The next `size` octets, of which `data` are the first."""
        found: list[Piece] = []
        at = 0
        while at < len(data):
            if not self._size:
                missing = _PREFIX - len(self._prefix)
                self._prefix += data[at : at + missing]
                at += missing
                if len(self._prefix) == _PREFIX:
                    self._size = int.from_bytes(self._prefix, "big")
                    self._prefix = b""
                continue
            taken = data[at : at + self._size - self._passed]
            at += len(taken)
            self._passed += len(taken)
            if not self._cut:
                self._body += taken[: MAX_BYTES - len(self._body)]
            if self._passed == self._size:
                self._end(found)
        if size > len(data):
            self._skip(size - len(data), found)
        return found

    def _skip(self, unseen: int, found: list[Piece]) -> None:
        self._passed += unseen
        if not self._size or self._passed > self._size:
            self.given_up = True
        if self._size and not self._cut:
            found.append((bytes(self._body), self._size))
            self._cut = True
        if self._passed >= self._size:
            self._end([])

    def _end(self, found: list[Piece]) -> None:
        if not self._cut:
            found.append((bytes(self._body), self._size))
        self._body.clear()
        self._size = self._passed = 0
        self._cut = False


class Streams:
    """The streams under way, by what tells them apart."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        self.gaps = 0  # pieces of streams that were given up
        self._limit = limit
        self._streams: OrderedDict[Hashable, _Stream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def push(self, key: Hashable, data: bytes, size: int) -> list[Piece]:
        """The messages that end with the next `size` octets of the stream `key`, of which `data` are the first."""
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= self._limit:
                self._streams.popitem(last=False)
            stream = self._streams[key] = _Stream()
        else:
            self._streams.move_to_end(key)
        if stream.given_up:
            self.gaps += 1
            return []
        found = stream.push(data, size)
        self.gaps += stream.given_up
        return found

    def give_up(self, key: Hashable) -> None:
        """What this stream brings is no DNS: take no more of it."""
        if key in self._streams:
            self._streams[key].given_up = True
