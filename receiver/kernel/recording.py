"""A file of real ring bytes, passes and owner entries: written beside a live source, or read in its place.

Format: the magic, a u32 length and that many bytes of JSON (`layout`, `record_size`, `version`), then frames of
`u8 kind, u32 length, i64 boot-to-unix offset in ns` and their payload, little endian.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from receiver.kernel.records import EVENT, LAYOUT_VERSION, STRIDE
from receiver.kernel.source import Counters, Owner, Source

MAGIC: Final = b"WEIRREC1"
_LENGTH: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<BIq")
_RING, _PASS, _OWNER, _FINISH = 1, 2, 3, 4
_MAX_FRAME: Final = 64 << 20
_MAX_HEADER: Final = 65536
_NAMES: Final = ("comm", "executable", "cgroup_name", "cgroup_parent")
_NUMBERS: Final = ("pid", "start", "uid", "vpid", "pidns", "cgroup_id")


class RecordingError(ValueError):
    """A file that is not a recording, is torn, or has another layout version."""


class Recorder:
    """A source that passes everything through and writes it down; it stops writing at `limit` bytes, and says so."""

    def __init__(self, source: Source, file: IO[bytes], version: str, limit: int) -> None:
        self._source, self._file, self._left = source, file, limit
        self.full = False
        header = json.dumps({"layout": LAYOUT_VERSION, "record_size": EVENT.itemsize, "version": version}).encode()
        file.write(MAGIC + _LENGTH.pack(len(header)) + header)

    def _write(self, kind: int, payload: bytes) -> bytes:
        if payload and not self.full:
            self._left -= len(payload) + _FRAME.size
            self.full = self._left < 0
            if not self.full:
                self._file.write(_FRAME.pack(kind, len(payload), self._source.boot_to_unix()) + payload)
        return payload

    def wait(self, timeout: float) -> bool:
        """As the source."""
        return self._source.wait(timeout)

    def newcomers(self) -> list[tuple[int, int]]:
        """As the source."""
        return self._source.newcomers()

    def drain(self, limit: int) -> bytes:
        """As the source, written down."""
        return self._write(_RING, self._source.drain(limit))

    def dns(self) -> bytes:
        """As the source; not written down: a recording holds no DNS."""
        return self._source.dns()

    def counters(self) -> Counters:
        """As the source."""
        return self._source.counters()

    def run_pass(self, update_interval: int = 0) -> bytes:
        """As the source, written down."""
        return self._write(_PASS, self._source.run_pass(update_interval))

    def finish(self) -> Iterator[bytes]:
        """As the source, written down."""
        for raw in self._source.finish():
            yield self._write(_FINISH, raw)

    def owners(self, keys: Iterable[tuple[int, int]]) -> list[Owner | None]:
        """As the source, written down."""
        found = self._source.owners(keys)
        for owner in found:
            if owner is not None:
                entry = {name: getattr(owner, name) for name in (*_NUMBERS, "execs")}
                entry |= {name: getattr(owner, name).decode("latin-1") for name in _NAMES}
                self._write(_OWNER, json.dumps(entry).encode())
        return found

    def boot_to_unix(self) -> int:
        """As the source."""
        return self._source.boot_to_unix()

    def detach(self) -> None:
        """As the source."""
        self._source.detach()

    def close(self) -> None:
        """As the source; the file is closed too."""
        self._source.close()
        self._file.close()


class Replay:
    """A recording in a source's place: its frames in order, as fast as they are taken."""

    def __init__(self, path: Path) -> None:
        self._owners: dict[tuple[int, int], Owner] = {}
        self._frames: list[tuple[int, int, bytes]] = []
        self._next = 0
        self._offset = 0
        self._begun = 0
        with path.open("rb") as file:
            self._read(file, str(path))
        self._offset = self._frames[0][1] if self._frames else 0

    def _read(self, file: IO[bytes], name: str) -> None:
        if file.read(len(MAGIC)) != MAGIC:
            message = f"{name}: not a recording"
            raise RecordingError(message)
        (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size, name))
        if length > _MAX_HEADER:
            message = f"{name}: header of {length} bytes"
            raise RecordingError(message)
        try:
            header = json.loads(_exactly(file, length, name))
        except ValueError as error:
            message = f"{name}: header is not JSON"
            raise RecordingError(message) from error
        if not isinstance(header, dict) or header.get("layout") != LAYOUT_VERSION:
            message = f"{name}: layout version {header.get('layout') if isinstance(header, dict) else '?'}, not {LAYOUT_VERSION}"
            raise RecordingError(message)
        while head := file.read(_FRAME.size):
            if len(head) < _FRAME.size:
                message = f"{name}: torn after {len(self._frames)} frames"
                raise RecordingError(message)
            kind, length, offset = _FRAME.unpack(head)
            if kind not in {_RING, _PASS, _OWNER, _FINISH} or length > _MAX_FRAME:
                message = f"{name}: frame {len(self._frames)}: kind {kind}, {length} bytes"
                raise RecordingError(message)
            payload = _exactly(file, length, name)
            if kind == _OWNER:
                self._add_owner(payload, name)
            else:
                self._frames.append((kind, offset, payload))

    def _add_owner(self, payload: bytes, name: str) -> None:
        try:
            entry = json.loads(payload)
            numbers = {key: int(entry[key]) for key in _NUMBERS}
            execs = int(entry.get("execs", 0))  # not in the oldest recordings
            texts = {key: entry[key].encode("latin-1") for key in _NAMES}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{name}: bad owner entry"
            raise RecordingError(message) from error
        fields: dict[str, Any] = {**numbers, **texts, "execs": execs}
        owner = Owner(**fields)
        self._owners[owner.key] = owner

    def _take(self, kind: int) -> bytes:
        if self._next >= len(self._frames) or self._frames[self._next][0] != kind:
            return b""
        _, self._offset, payload = self._frames[self._next]
        self._next += 1
        return payload

    @property
    def kind(self) -> str:
        """What comes next: `ring`, `pass`, `finish` or `end`."""
        if self._next >= len(self._frames):
            return "end"
        return {_RING: "ring", _PASS: "pass", _FINISH: "finish"}[self._frames[self._next][0]]

    def wait(self, timeout: float) -> bool:  # noqa: ARG002
        """Do not wait."""
        return True

    def newcomers(self) -> list[tuple[int, int]]:
        """None: nobody is there any more to be looked at."""
        return []

    def drain(self, limit: int) -> bytes:  # noqa: ARG002 a frame was bounded when it was recorded
        """The next frame, if it is of the ring."""
        raw = self._take(_RING)
        self._begun += len(raw) // STRIDE
        return raw

    def dns(self) -> bytes:
        """None: a recording holds no DNS."""
        return b""

    def counters(self) -> Counters:
        """What was read so far; a recording has no losses of its own."""
        return Counters(begun=self._begun)

    def run_pass(self, update_interval: int = 0) -> bytes:  # noqa: ARG002
        """The next frame, if it is a pass."""
        return self._counted(self._take(_PASS))

    def finish(self) -> Iterator[bytes]:
        """The last passes that follow here."""
        while raw := self._take(_FINISH):
            yield self._counted(raw)

    def _counted(self, raw: bytes) -> bytes:
        kinds = raw[1 :: EVENT.itemsize]  # weir_event.kind: all but samples are events
        self._begun += len(kinds) - kinds.count(4)
        return raw

    def owners(self, keys: Iterable[tuple[int, int]]) -> list[Owner | None]:
        """Owner entries as recorded."""
        return [self._owners.get(key) for key in keys]

    def boot_to_unix(self) -> int:
        """The offset when the last frame was recorded."""
        return self._offset

    def detach(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def _exactly(file: IO[bytes], length: int, name: str) -> bytes:
    data = file.read(length)
    if len(data) != length:
        message = f"{name}: torn: {length} bytes expected, {len(data)} there"
        raise RecordingError(message)
    return data
