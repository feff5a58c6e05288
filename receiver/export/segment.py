"""Requests in, frames of one spool file out, and requests again; damage becomes a frame that says how much was lost.

A file is a header and frames, without space between them. Nothing that was written is changed, but for the state byte of a
frame. `begin` of a frame is the number of items that the queue was given before it: where headers are destroyed, the next one
that is whole says how many items are gone. A damaged stretch gets a new header over it, whose payload cannot be right: from
then on it is one frame like others, which its reader finds corrupt.
"""

import errno
import os
import struct
import zlib
from contextlib import suppress
from typing import Final, NamedTuple

from receiver.export.request import Request

VERSION: Final = 1
NEW: Final = 0x00  # far from each other in bits: a flipped bit makes none of them into another
TAKEN: Final = 0x0F  # by a consumer of this run or an earlier one: it may have been sent
DONE: Final = 0xFF

_MAGIC: Final = b"WEIRSPL\0"
_VERSION: Final = struct.Struct("<8sII")  # magic, version, CRC of both: so much holds for every version
_MARK: Final = struct.Struct("<QI")  # a number of items, its CRC
_BEGIN: Final = _VERSION.size
_END: Final = _BEGIN + _MARK.size
FILE_HEADER: Final = _END + _MARK.size
_FRAME: Final = struct.Struct("<IIIB3xQII")  # magic, length, items, state, begin, CRC of the payload, CRC of the header
_CHECKED: Final = struct.Struct("<IIIQI")  # the header without its state
FRAME_HEADER: Final = _FRAME.size
_STATE: Final = 12
_FRAME_MAGIC: Final = 0x4D465257  # "WRFM"
_FRAME_WORD: Final = struct.pack("<I", _FRAME_MAGIC)
_LIMIT: Final = 0xFFFFFFFF
_CHUNK: Final = 1 << 20  # B that are looked through at once


class StorageError(ValueError):
    """The spool cannot be used as it is; the text names what, and what to do."""


class Frame(NamedTuple):
    """One request's place in a file."""

    offset: int
    length: int
    items: int
    state: int
    begin: int
    checksum: int

    @property
    def stop(self) -> int:
        """Where the next one begins."""
        return self.offset + FRAME_HEADER + self.length

    @property
    def end(self) -> int:
        """`begin` of the next one."""
        return self.begin + self.items

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return FRAME_HEADER + self.length


class Segment:
    """One file. Not safe for several threads, but for reading beside `append` and `mark`."""

    __slots__ = ("_directory", "begin", "end", "fd", "gone", "held", "items", "name", "offset", "pins", "position", "requests",
                 "sequence", "size", "torn", "unread", "unread_held", "unread_items", "whole")  # fmt: skip

    def __init__(self, directory: int, name: str, sequence: int) -> None:
        self._directory, self.name, self.sequence = directory, name, sequence
        self.fd = -1
        self.size = self.offset = FILE_HEADER  # of the file; of the next frame to be read
        self.begin = self.position = self.end = 0  # items before the first frame, before the one at `offset`, in all
        self.requests = self.items = self.held = 0  # that are not done; `held` in bytes
        self.unread = self.unread_items = self.unread_held = 0  # of them, what this run has not taken yet
        self.torn = 0  # bytes at the end that were no whole frame when the file was loaded
        self.pins = 0  # readers and frames that are out
        self.whole = True  # whether the file ends where it should
        self.gone = False  # whether it was removed

    @classmethod
    def create(cls, directory: int, name: str, sequence: int, begin: int) -> "Segment":
        """A new file."""
        made = cls(directory, name, sequence)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made.fd = os.open(name, flags, 0o600, dir_fd=directory)
        made.begin = made.position = made.end = begin
        about = _MAGIC + VERSION.to_bytes(4, "little")
        header = about + zlib.crc32(about).to_bytes(4, "little") + made._marked("begin", begin) + bytes(_MARK.size)
        try:
            _write(made.fd, header, 0)
        except OSError:
            made.rest()
            os.unlink(name, dir_fd=directory)
            raise
        return made

    @classmethod
    def load(cls, directory: int, name: str, sequence: int, begin: int | None) -> "Segment | None":
        """A file of an earlier run; None where nothing in it is of Weir.

        `begin` is how many items the file before it ends with, where that is known. Raises OSError.
        """
        made = cls(directory, name, sequence)
        made.open()
        header = os.pread(made.fd, FILE_HEADER, 0).ljust(FILE_HEADER, b"\0")
        known = _version(header) is not None
        length = os.fstat(made.fd).st_size
        made.size = max(length, FILE_HEADER)
        start, end = made._mark_in(header, "begin", _BEGIN), made._mark_in(header, "end", _END)
        if start is None and length >= FILE_HEADER:
            found = made._search(FILE_HEADER, 0)
            if found is None and not known:
                made.rest()
                return None
            if found is not None and (found.offset == FILE_HEADER or begin is None):
                start = found.begin
        if start is None:
            start = begin if begin is not None else end or 0
        made.begin = made.position = start
        made._scan(end)
        return made

    def open(self) -> None:
        """Have the file open."""
        if self.fd < 0:
            self.fd = os.open(self.name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)

    def rest(self) -> None:
        """Close the file until it is needed again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def unlink(self) -> None:
        """Remove the file; who has it open may go on reading."""
        os.unlink(self.name, dir_fd=self._directory)

    def append(self, request: Request, checksum: int, state: int, *, sync: bool) -> Frame:
        """Write `request` at the end, whole or not at all. Raises OSError."""
        frame = Frame(self.size, len(request.data), request.items, state, self.end, checksum)
        self.open()
        try:
            _write(self.fd, self._header(frame), self.size, request.data)
            if sync:
                os.fdatasync(self.fd)
        except OSError:
            self._cut(self.size)
            raise
        self.size, self.end = frame.stop, frame.end
        self.hold(frame, 1)
        self.expect(frame, 1)
        return frame

    def mark(self, frame: Frame, state: int) -> None:
        """Change the state of `frame`. Raises OSError."""
        self.open()
        os.pwrite(self.fd, bytes((state,)), frame.offset + _STATE)

    def hold(self, frame: Frame, sign: int) -> None:
        """Count `frame` in or out."""
        self.requests += sign
        self.items += sign * frame.items
        self.held += sign * frame.size

    def expect(self, frame: Frame, sign: int) -> None:
        """Count `frame` in or out of what is still to be read."""
        self.unread += sign
        self.unread_items += sign * frame.items
        self.unread_held += sign * frame.size

    def seal(self) -> None:
        """Nothing more comes: write down how many items there are, so that damage at the end can be counted too."""
        self.open()
        os.pwrite(self.fd, self._marked("end", self.end), _END)

    def rewind(self) -> None:
        """Read from the first frame again: nothing is taken."""
        self.offset, self.position = FILE_HEADER, self.begin
        self.unread, self.unread_items, self.unread_held = self.requests, self.items, self.held

    def clear(self) -> None:
        """Use the file anew: all in it is done. Raises OSError."""
        os.ftruncate(self.fd, FILE_HEADER)
        os.pwrite(self.fd, self._marked("begin", self.end), _BEGIN)
        self.size = self.offset = FILE_HEADER
        self.begin = self.position = self.end

    def peek(self, offset: int, begin: int) -> Frame | None:
        """The frame at `offset`; None where there is none that is whole."""
        header = os.pread(self.fd, FRAME_HEADER, offset)
        if len(header) < FRAME_HEADER or not header.startswith(_FRAME_WORD):
            return None
        _, length, items, state, own, checksum, proof = _FRAME.unpack(header)
        frame = Frame(offset, length, items, state if state in (NEW, DONE) else TAKEN, own, checksum)
        right = proof == self._proof(frame) and own >= begin and frame.stop <= self.size
        return frame if right else None

    def frame(self, offset: int, begin: int) -> Frame:
        """The frame at `offset`, before `size`; where there is none, one made of the damage there. Raises OSError."""
        frame = self.peek(offset, begin)
        if frame is not None:
            return frame
        after = self._search(offset + 1, begin)
        stop, end = (after.offset, after.begin) if after else (max(self.size, offset + FRAME_HEADER), self.end)
        length = max(0, stop - offset - FRAME_HEADER)
        checksum = ~self._checksum(offset + FRAME_HEADER, length) & _LIMIT
        made = Frame(offset, length, min(end - begin, _LIMIT), NEW, begin, checksum)
        _write(self.fd, self._header(made), offset)
        self.size = max(self.size, made.stop)
        return made

    def payload(self, frame: Frame) -> bytes | None:
        """What is in `frame`; None where that is damaged."""
        try:
            data = os.pread(self.fd, frame.length, frame.offset + FRAME_HEADER)
        except OSError:
            return None
        return data if len(data) == frame.length and zlib.crc32(data) == frame.checksum else None

    def reread(self) -> None:
        """Look at what follows `offset` anew: frames were lost in damage. What cannot be read is gone as well."""
        requests, items, held = self.unread, self.unread_items, self.unread_held
        self.unread = self.unread_items = self.unread_held = 0
        offset, begin = self.offset, self.position
        with suppress(OSError):
            while offset < self.size:
                frame = self.frame(offset, begin)
                offset, begin = frame.stop, frame.end
                if frame.state != DONE:
                    self.expect(frame, 1)
        self.requests -= requests - self.unread
        self.items -= items - self.unread_items
        self.held -= held - self.unread_held

    def _scan(self, end: int | None) -> None:
        """Count what is in the file. What follows the last whole frame is torn, unless the file was sealed with more."""
        offset, begin = FILE_HEADER, self.begin
        self.end = max(begin, end or 0)
        while offset < self.size or begin < self.end:
            if self.peek(offset, begin) is None and begin >= self.end and self._search(offset + 1, begin) is None:
                break
            frame = self.frame(offset, begin)
            offset, begin = frame.stop, frame.end
            if frame.state != DONE:
                self.hold(frame, 1)
        self.end = max(begin, self.end)
        self.torn = max(0, self.size - offset)
        if self.torn or os.fstat(self.fd).st_size < FILE_HEADER:
            self._cut(offset)
        self.size = offset
        self.seal()
        self.rewind()

    def _search(self, offset: int, begin: int) -> Frame | None:
        """The first frame at or after `offset`."""
        while offset < self.size:
            chunk = os.pread(self.fd, _CHUNK, offset)
            at = chunk.find(_FRAME_WORD)
            while at >= 0:
                frame = self.peek(offset + at, begin)
                if frame is not None:
                    return frame
                at = chunk.find(_FRAME_WORD, at + 1)
            offset += max(len(chunk) - len(_FRAME_WORD) + 1, 1)
        return None

    def _checksum(self, offset: int, length: int) -> int:
        found, stop = 0, offset + length
        while offset < stop:
            chunk = os.pread(self.fd, min(_CHUNK, stop - offset), offset)
            if not chunk:
                break
            found = zlib.crc32(chunk, found)
            offset += len(chunk)
        return found

    def _header(self, frame: Frame) -> bytes:
        _, length, items, state, begin, checksum = frame
        return _FRAME.pack(_FRAME_MAGIC, length, items, state, begin, checksum, self._proof(frame))

    def _proof(self, frame: Frame) -> int:
        """The header's CRC. It begins with the file's number: a frame of another file is none of this one."""
        fields = _CHECKED.pack(_FRAME_MAGIC, frame.length, frame.items, frame.begin, frame.checksum)
        return zlib.crc32(fields, self.sequence & _LIMIT)

    def _marked(self, name: str, value: int) -> bytes:
        return _MARK.pack(value, zlib.crc32(value.to_bytes(8, "little") + name.encode(), self.sequence & _LIMIT))

    def _mark_in(self, header: bytes, name: str, offset: int) -> int | None:
        value = int(_MARK.unpack_from(header, offset)[0])
        return value if header[offset : offset + _MARK.size] == self._marked(name, value) else None

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self.fd, size)
        except OSError:
            self.whole = False


def check_version(directory: int, name: str) -> None:
    """Raises StorageError where `name` has a format that this Weir does not know."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        version = _version(os.pread(fd, _VERSION.size, 0))
    finally:
        os.close(fd)
    if version is not None and version > VERSION:
        raise StorageError(
            f"{name}: format version {version}, and this Weir knows versions up to {VERSION}. Run the newer Weir until its "
            "spool is empty, or name another directory."
        )


def _version(header: bytes) -> int | None:
    """The format's version; None where the header is damaged, or none of Weir's."""
    magic, version, checksum = _VERSION.unpack_from(header.ljust(_VERSION.size, b"\0"))
    right = magic == _MAGIC and checksum == zlib.crc32(header[: _VERSION.size - 4])
    return int(version) if right else None


def _write(fd: int, header: bytes, offset: int, data: bytes = b"") -> None:
    """Write both at `offset`, all of it. Raises OSError."""
    written = os.pwritev(fd, (header, data), offset)
    if written == len(header) + len(data):
        return
    left = memoryview(header + data)[written:]
    while left:
        count = os.pwrite(fd, left, offset + len(header) + len(data) - len(left))
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[count:]
