"""The spool against a simple model of it: any order of calls, ends and new beginnings."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from receiver.export.request import Request
from receiver.export.segment import FRAME_HEADER
from receiver.export.storage import FileStorage
from receiver.ledger import Signal
from tests.spool_parts import LARGE, Opened, kill, number_of, numbered

SIGNALS: tuple[Signal, ...] = ("logs", "metrics")


@dataclass
class Entry:
    """A request that the queue must have."""

    number: int
    items: int
    attempted: bool = False


class Side:
    """One queue, and what must be in it."""

    def __init__(self, storage: FileStorage, signal: Signal) -> None:
        self.signal = signal
        self.waiting: list[Entry] = []  # in the order of their numbers
        self.out: list[tuple[Request, Entry]] = []
        self.offered = self.settled = self.gone = 0  # `gone`: known to be evicted
        self.lost = 0
        self.open(storage)

    def open(self, storage: FileStorage) -> None:
        self.opened = Opened(storage, signal=self.signal)
        self.queue = self.opened.queue

    def reported(self) -> int:
        return self.lost + sum(self.opened.lost.values())

    def adrift(self) -> int:
        """Items of evicted files that a consumer still has."""
        return sum(entry.items for request, entry in self.out if self.evicted(request))

    def evicted(self, request: Request) -> bool:
        place = self.queue._out[id(request)].place
        return place is not None and place.segment.gone


class Spool(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.next_number = 0

    @initialize(max_bytes=st.sampled_from([3000, 20_000, LARGE]), fsync=st.booleans())
    def begin(self, max_bytes: int, fsync: bool) -> None:
        self.max_bytes, self.fsync = max_bytes, fsync
        self.storage = self.new_storage()
        self.sides = {signal: Side(self.storage, signal) for signal in SIGNALS}

    def new_storage(self) -> FileStorage:
        return FileStorage(Path(self.directory.name), max_bytes=self.max_bytes, fsync=self.fsync)

    def number(self) -> int:
        self.next_number += 1
        return self.next_number

    @rule(signal=st.sampled_from(SIGNALS), items=st.integers(1, 9), size=st.integers(0, 900))
    def put(self, signal: Signal, items: int, size: int) -> None:
        side, number = self.sides[signal], self.number()
        assert side.queue.put(numbered(number, items, size, signal))
        side.offered += items
        side.waiting.append(Entry(number, items))

    @rule(signal=st.sampled_from(SIGNALS))
    def get(self, signal: Signal) -> None:
        side = self.sides[signal]
        request = side.queue.get(0)
        if request is None:
            side.gone += sum(entry.items for entry in side.waiting)
            side.waiting.clear()
            return
        while side.waiting and side.waiting[0].number != number_of(request):
            side.gone += side.waiting.pop(0).items  # oldest first: what is left out must have been evicted
        assert side.waiting, "a request that nobody put"
        entry = side.waiting.pop(0)
        assert (request.items, request.attempted, request.signal) == (entry.items, entry.attempted, signal)
        assert set(request.data[8:]) <= {0xA5}
        entry.attempted = True
        side.out.append((request, entry))

    @precondition(lambda self: any(side.out for side in self.sides.values()))
    @rule(data=st.data(), how=st.sampled_from(["done", "back", "part"]))
    def end(self, data: st.DataObject, how: str) -> None:
        side = data.draw(st.sampled_from([side for side in self.sides.values() if side.out]))
        request, entry = side.out.pop(data.draw(st.integers(0, len(side.out) - 1)))
        if how == "done":
            side.queue.done(request)
            side.settled += entry.items
        elif how == "back":
            if side.evicted(request):  # written afresh, behind all others
                entry = Entry(self.number(), entry.items, attempted=True)
                object.__setattr__(request, "data", entry.number.to_bytes(8, "little") + request.data[8:])
            side.queue.put_back([request], [request])
            side.waiting.append(entry)
            side.waiting.sort(key=lambda entry: entry.number)
        else:
            rest = numbered(self.number(), data.draw(st.integers(1, entry.items)), 10, side.signal)
            side.queue.put_back([request], [rest])
            side.settled += entry.items - rest.items
            side.waiting.append(Entry(number_of(rest), rest.items, attempted=True))

    @rule(goodbye=st.booleans())
    def restart(self, goodbye: bool) -> None:
        for side in self.sides.values():
            for request, entry in side.out:
                if side.evicted(request):
                    side.gone += entry.items
                    side.lost += entry.items
                else:
                    side.waiting.append(entry)
            side.out.clear()
            side.waiting.sort(key=lambda entry: entry.number)
        before = {signal: side.queue.items for signal, side in self.sides.items()}
        if goodbye:
            self.storage.close()
        else:
            kill(self.storage)
        self.storage = self.new_storage()
        for signal, side in self.sides.items():
            side.lost += sum(side.opened.lost.values())
            side.open(self.storage)
            assert side.queue.recovered == before[signal]
            side.queue.used = True  # its consumers wait

    @invariant()
    def all_is_accounted_for(self) -> None:
        for side in getattr(self, "sides", {}).values():
            in_flight = side.offered - side.settled - side.reported()
            assert side.queue.items == in_flight - side.adrift()
            assert side.queue.size >= side.queue.requests * FRAME_HEADER
            if self.max_bytes == LARGE:
                assert side.reported() == 0
                assert side.queue.requests == len(side.waiting) + len(side.out)

    @invariant()
    def the_bound_holds(self) -> None:
        if hasattr(self, "sides"):
            on_disk = sum(path.stat().st_size for path in Path(self.directory.name).glob("*.spool"))
            assert self.storage.file_bytes == on_disk <= self.max_bytes

    def teardown(self) -> None:
        for side in getattr(self, "sides", {}).values():
            for request in side.opened.drain():
                while side.waiting[0].number != number_of(request):
                    side.gone += side.waiting.pop(0).items
                side.waiting.pop(0)
            side.gone += sum(entry.items for entry in side.waiting)
            assert side.gone == side.reported()
            assert set(side.opened.lost) <= {"evicted"}
        with suppress(AttributeError):
            self.storage.close()
        self.directory.cleanup()


TestSpool = Spool.TestCase
TestSpool.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
