"""Frames of one queue in, oldest first out: its files, what each still holds, and which goes next when room is needed."""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from receiver.export.directory import Directory, Name, file_name
from receiver.export.request import Request
from receiver.export.segment import DONE, FILE_HEADER, FRAME_HEADER, Frame, Segment
from receiver.ledger import Signal

_REUSE: Final = 1 << 20  # B; a file with so much in it, all of it done, is emptied instead of being filled further


@dataclass(slots=True)
class Place:
    """A frame that a consumer has, or gave back."""

    segment: Segment
    frame: Frame


class Shelf:
    """Not safe for several threads: one lock for all shelves of a storage is held by who calls."""

    def __init__(self, directory: Directory, exporter_id: str, signal: Signal, *, sync: bool) -> None:
        self.exporter_id, self.signal = exporter_id, signal
        self._directory = directory
        self.sync = sync  # whether the disk is waited for
        self.segments: deque[Segment] = deque()
        self.returned: list[Place] = []  # taken and given back, in no order
        self._active: Segment | None = None
        self._sequence = self._end = 0
        self.requests = self.items = self.held = 0  # that are not done; `held` in bytes of frames
        self.waiting = 0  # requests that nobody has
        self.file_bytes = 0
        self.left = False  # whether a queue of this run used it, and does not any more
        self.torn = 0  # bytes that an earlier run did not write to the end of a request

    def load(self, name: Name, text: str) -> Segment | None:
        """Take up a file of an earlier run; files come in their order. None where it is none of Weir's. Raises as `Segment`."""
        self._sequence = max(self._sequence, name.sequence)
        last = self.segments[-1] if self.segments else None
        end = last.end if last is not None and last.sequence + 1 == name.sequence else None
        segment = Segment.load(self._directory.fd, text, name.sequence, end)
        if segment is None:
            return None
        segment.rest()
        self._end = max(self._end, segment.end)
        self.segments.append(segment)
        self.file_bytes += segment.size
        self.torn += segment.torn
        self.waiting += segment.unread
        self._count(segment, 1)
        return segment

    def adds(self, size: int, segment_bytes: int) -> int:
        """How many bytes a frame of `size` bytes will add to the files."""
        return size if self._fits(size, segment_bytes) else size + FILE_HEADER

    def append(self, request: Request, checksum: int, state: int, segment_bytes: int) -> None:
        """Write `request` behind all others. Raises OSError, and nothing has changed."""
        size = FRAME_HEADER + len(request.data)
        if not self._fits(size, segment_bytes):
            self.roll()
            self._active = self._create()
        segment = self._active
        if segment is None:
            raise RuntimeError("a file that was just made is gone")
        before = segment.size
        try:
            frame = segment.append(request, checksum, state, sync=self.sync)
        except OSError:
            if not segment.whole:
                self._active = None  # it ends in what could not be taken back: nothing may follow
            raise
        self._end = frame.end
        self.file_bytes += segment.size - before
        self._hold(frame, 1)
        self.waiting += 1

    def roll(self) -> None:
        """What comes next begins a new file."""
        segment, self._active = self._active, None
        if segment is None:
            return
        with suppress(OSError):  # without the seal, damage at the very end would not be counted
            segment.seal()
        self.tidy(segment)
        if segment.unread == segment.requests and segment.pins == 0:
            segment.rest()

    def next(self) -> Segment | None:
        """The file with the oldest request that was not taken in this run."""
        return next((segment for segment in self.segments if segment.unread), None)

    def take(self, segment: Segment, frame: Frame) -> None:
        """`frame`, the next one of `segment`, has been read."""
        segment.offset, segment.position = frame.stop, frame.end
        segment.expect(frame, -1)
        self.waiting -= 1

    def skip(self, segment: Segment, frame: Frame) -> None:
        """`frame`, the next one of `segment`, was done already."""
        segment.offset, segment.position = frame.stop, frame.end

    def give_back(self, place: Place) -> None:
        """A frame that was taken waits again."""
        self.returned.append(place)
        self.waiting += 1

    def take_returned(self) -> Place | None:
        """The oldest of those that were given back."""
        if not self.returned:
            return None
        place = min(self.returned, key=lambda place: (place.segment.sequence, place.frame.offset))
        self.returned.remove(place)
        self.waiting -= 1
        return place

    def finish(self, place: Place) -> OSError | None:
        """The end of a frame that was taken: what hindered writing it down, if anything did."""
        segment, frame, error = place.segment, place.frame, None
        try:
            segment.mark(frame, DONE)
        except OSError as found:
            error = found
        segment.hold(frame, -1)
        self._hold(frame, -1)
        return error

    def mend(self, segment: Segment) -> int:
        """The next frame of `segment` is damaged, since the file was loaded: how many items are gone."""
        items, unread = segment.items, segment.unread
        self._count(segment, -1)
        try:
            frame = segment.frame(segment.offset, segment.position)
            segment.mark(frame, DONE)
            self.skip(segment, frame)
        except OSError:
            segment.offset, segment.position = segment.size, segment.end
        segment.reread()
        self._count(segment, 1)
        self.waiting += segment.unread - unread
        return items - segment.items

    def tidy(self, segment: Segment) -> OSError | None:
        """Let go of a file in which everything is done."""
        if segment.requests or segment.pins or segment not in self.segments:
            return None
        if segment is not self._active:
            return self.remove(segment)
        if segment.size < _REUSE:
            return None
        self.file_bytes -= segment.size - FILE_HEADER
        try:
            segment.clear()
        except OSError as error:
            self._active = None
            self.file_bytes += segment.size - FILE_HEADER
            return self.remove(segment) or error
        return None

    def evict(self) -> tuple[int, OSError | None]:
        """Remove the oldest file: how many items are gone that nobody had, and what hindered its removal."""
        segment = self.segments[0]
        returned = [place for place in self.returned if place.segment is segment]
        self.returned = [place for place in self.returned if place.segment is not segment]
        self.waiting -= segment.unread + len(returned)
        items = segment.unread_items + sum(place.frame.items for place in returned)
        self.requests -= segment.requests
        self.items -= segment.items
        self.held -= segment.held
        if segment is self._active:
            self._active = None
        return items, self.remove(segment)

    def remove(self, segment: Segment) -> OSError | None:
        """Remove a file that nothing is expected of any more: what hindered that, if anything did."""
        self.segments.remove(segment)
        self.file_bytes -= segment.size
        segment.gone = True
        if segment.pins == 0:
            segment.rest()
        try:
            segment.unlink()
            if self.sync:
                self._directory.sync()
        except OSError as error:
            return error
        return None

    def release(self) -> None:
        """Close all files, and forget who has what: as if the run had just begun."""
        self.roll()
        for segment in list(self.segments):
            segment.pins = 0
            self.tidy(segment)
            segment.rest()
            segment.rewind()
        self.returned.clear()
        self.waiting = self.requests

    def _fits(self, size: int, segment_bytes: int) -> bool:
        active = self._active
        return active is not None and (active.size == FILE_HEADER or active.size + size <= segment_bytes)

    def _create(self) -> Segment:
        segment = None
        while segment is None:
            self._sequence += 1
            text = file_name(Name(self.exporter_id, self.signal, self._sequence))
            with suppress(FileExistsError):  # something foreign has the name: it keeps it
                segment = Segment.create(self._directory.fd, text, self._sequence, self._end)
        self.segments.append(segment)
        self.file_bytes += segment.size
        if self.sync:
            self._directory.sync()
        return segment

    def _count(self, segment: Segment, sign: int) -> None:
        self.requests += sign * segment.requests
        self.items += sign * segment.items
        self.held += sign * segment.held

    def _hold(self, frame: Frame, sign: int) -> None:
        self.requests += sign
        self.items += sign * frame.items
        self.held += sign * frame.size
