"""Counts of what every hop did with an item in, one exact balance for each signal and exporter out.

    observed + recovered = filtered + exported + dropped + in_flight

An item is what its signal counts: a log record, a metric data point, a span. The terms before the exporters are kept
once for each signal and are part of every exporter's view; the other terms belong to one exporter. All of them move
under one lock, so a snapshot balances at any moment, as long as whoever moves items from the source to the exporters
does both sides of that step within `Ledger.boundary`.
"""

import threading
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from receiver.ledger_view import NOTHING, View, Window, add_counts, added

Signal: TypeAlias = Literal["logs", "metrics", "traces"]
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)

# Every place where an item may be lost, and the reasons there. The set is closed: a name that is not here is an error.
DROPS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "kernel": frozenset({"ring_full", "map_full"}),
        "decode": frozenset({"bad_size", "bad_version", "bad_value"}),
        "enrich": frozenset({"overflow"}),
        "parse": frozenset({"gap", "rate", "state_full"}),
        "queue": frozenset({"full"}),
        "spool": frozenset({"evicted", "corrupt"}),
        "export": frozenset({"rejected", "permanent", "oversize", "retries_exhausted"}),
        "shutdown": frozenset({"abandoned"}),
    }
)
FILTERS: Final = frozenset({"self", "exclude", "include", "sample"})
# Where items may be held before they are offered to the exporters.
PLACES: Final = frozenset({"ring", "identity", "batch"})


class Terms(View):
    """One signal: the sum over its exporters, and each of them."""

    exporters: dict[str, View]


Snapshot: TypeAlias = dict[str, Terms]


class SignalAccount:
    """The terms of one signal before its exporters. What is `set` and what is added count together."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._observed = 0
        self._observed_total = 0
        self._filtered: dict[str, int] = {}
        self._filtered_before: dict[str, int] = {}
        self._dropped: dict[tuple[str, str], int] = {}
        self._dropped_totals: dict[tuple[str, str], int] = {}
        self._held: dict[str, int] = {}

    def observe(self, items: int) -> None:
        """`items` more were observed."""
        _check_number("observed", items)
        with self._lock:
            self._observed += items

    def drop(self, stage: str, reason: str, items: int) -> None:
        """`items` more were lost before they were offered to an exporter."""
        _check_drop(stage, reason, items)
        with self._lock:
            self._dropped[stage, reason] = self._dropped.get((stage, reason), 0) + items

    def hold(self, place: str, items: int) -> None:
        """`items` are now held at `place`, not yet offered."""
        _check_place(place, items)
        with self._lock:
            self._held[place] = items

    def set(
        self,
        *,
        observed: int | None = None,
        filtered: Mapping[str, int] | None = None,
        dropped: Mapping[tuple[str, str], int] | None = None,
        held: Mapping[str, int] | None = None,
    ) -> None:
        """Totals as the source counts them: absolute, each replacing what was set under its name before.

        Raises ValueError for an unknown name or a negative number, before anything is changed.
        """
        if observed is not None:
            _check_number("observed", observed)
        for reason, items in (filtered or {}).items():
            if reason not in FILTERS:
                message = f"filtered: unknown reason {reason!r}; there are {sorted(FILTERS)}"
                raise ValueError(message)
            _check_number(f"filtered/{reason}", items)
        for (stage, reason), items in (dropped or {}).items():
            _check_drop(stage, reason, items)
        for place, items in (held or {}).items():
            _check_place(place, items)
        with self._lock:
            if observed is not None:
                self._observed_total = observed
            self._filtered.update(filtered or {})
            self._dropped_totals.update(dropped or {})
            self._held.update(held or {})

    def fold(self) -> None:
        """Keep what was set as if it had been added: the source that counted it ends, and another one counts from zero."""
        with self._lock:
            self._observed, self._observed_total = self._observed + self._observed_total, 0
            for kept, totals in ((self._filtered_before, self._filtered), (self._dropped, self._dropped_totals)):
                add_counts(kept, totals)
                totals.clear()
            self._held.clear()

    def view(self) -> View:
        """These terms alone, as part of each exporter's view; the caller holds the lock."""
        dropped: dict[str, int] = {}
        for counts in (self._dropped_totals, self._dropped):
            _add_drops(dropped, counts)
        return {
            "observed": self._observed_total + self._observed,
            "recovered": 0,
            "filtered": added([self._filtered_before, self._filtered]),
            "exported": 0,
            "dropped": dropped,
            "in_flight": sum(self._held.values()),
        }


class ExporterAccount:
    """What one exporter did with the items of one signal."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._recovered = 0
        self._exported = 0
        self._dropped: dict[tuple[str, str], int] = {}
        self._in_flight = 0
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Items that were offered and have no outcome yet."""
        return self._in_flight

    def offer(self, items: int) -> None:
        """`items` were handed to the exporter."""
        _check_number("offered", items)
        with self._lock:
            self._in_flight += items
            if self._closed:
                self._settle(items)
                self._add_drop("shutdown", "abandoned", items)

    def reopen(self) -> None:
        """The exporter runs again, after it was closed by an earlier configuration."""
        with self._lock:
            self._closed = False

    def recover(self, items: int) -> None:
        """`items` that an earlier run left are in flight again."""
        _check_number("recovered", items)
        with self._lock:
            self._recovered += items
            self._in_flight += items

    def exported(self, items: int) -> None:
        """The destination took `items`. Raises ValueError where so many are not in flight."""
        _check_number("exported", items)
        with self._lock:
            if not self._closed:
                self._settle(items)
                self._exported += items

    def dropped(self, stage: str, reason: str, items: int) -> None:
        """`items` are lost. Raises ValueError where so many are not in flight, or for an unknown stage or reason."""
        _check_drop(stage, reason, items)
        with self._lock:
            if not self._closed:
                self._settle(items)
                self._add_drop(stage, reason, items)

    def close(self, kept: int = 0) -> int:
        """End of this run: all in flight but `kept` (what a spool holds) is abandoned; how many that were.

        What a thread that could not be ended reports afterwards changes nothing any more.
        """
        with self._lock:
            if self._closed:
                return 0
            self._closed = True
            abandoned = self._in_flight - kept
            self._settle(abandoned)
            self._add_drop("shutdown", "abandoned", abandoned)
            return abandoned

    def add_to(self, source: View) -> View:
        """The exporter's view, on top of its signal's terms; the caller holds the lock."""
        dropped = dict(source["dropped"])
        _add_drops(dropped, self._dropped)
        return {
            "observed": source["observed"],
            "recovered": self._recovered,
            "filtered": dict(source["filtered"]),
            "exported": self._exported,
            "dropped": dropped,
            "in_flight": source["in_flight"] + self._in_flight,
        }

    def _settle(self, items: int) -> None:
        if not 0 <= items <= self._in_flight:
            message = f"{items} items cannot have an outcome: {self._in_flight} are in flight"
            raise ValueError(message)
        self._in_flight -= items

    def _add_drop(self, stage: str, reason: str, items: int) -> None:
        self._dropped[stage, reason] = self._dropped.get((stage, reason), 0) + items


class Ledger:
    """Every account of a run, under one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._signals: dict[Signal, SignalAccount] = {signal: SignalAccount(self._lock) for signal in SIGNALS}
        self._exporters: dict[Signal, dict[str, ExporterAccount]] = {signal: {} for signal in SIGNALS}
        self._windows: dict[Signal, dict[str, Window]] = {signal: {} for signal in SIGNALS}
        self._chosen = False  # whether anybody has said which exporters are connected

    def boundary(self) -> AbstractContextManager[bool]:
        """The lock: what is done within happens at once for every snapshot."""
        return self._lock

    def signal(self, name: str) -> SignalAccount:
        """The terms of `name` that all its exporters share."""
        return self._signals[_known(name)]

    def exporter(self, signal: str, exporter_id: str) -> ExporterAccount:
        """The account of one exporter of `signal`, opened when it is first asked for.

        It is connected until `connect` says otherwise; one that is first asked for after that is not.
        """
        name = _known(signal)
        with self._lock:
            if exporter_id not in self._windows[name]:
                self._windows[name][exporter_id] = window = Window()
                if self._chosen:
                    window.disconnect(NOTHING)
            return self._exporters[name].setdefault(exporter_id, ExporterAccount(self._lock))

    def connect(self, connected: Mapping[Signal, Collection[str]]) -> None:
        """From now on exactly these exporters, by signal, are offered what is observed."""
        with self._lock:
            self._chosen = True
            for signal, windows in self._windows.items():
                source = self._signals[signal].view()
                for name, window in windows.items():
                    if name in connected.get(signal, ()):
                        window.connect(source)
                    else:
                        window.disconnect(source)

    def snapshot(self) -> Snapshot:
        """All terms of this moment, in the shape that pages and the final log line show."""
        with self._lock:
            return {signal: self._terms(signal) for signal in SIGNALS}

    def _terms(self, signal: Signal) -> Terms:
        source = self._signals[signal].view()
        windows = self._windows[signal]
        exporters = {
            name: account.add_to(windows[name].view(source))
            for name, account in sorted(self._exporters[signal].items())
        }
        views = exporters.values()
        return {
            "observed": sum(view["observed"] for view in views),
            "recovered": sum(view["recovered"] for view in views),
            "filtered": added([view["filtered"] for view in views]),
            "exported": sum(view["exported"] for view in views),
            "dropped": added([view["dropped"] for view in views]),
            "in_flight": sum(view["in_flight"] for view in views),
            "exporters": exporters,
        }


def imbalance(snapshot: Mapping[str, Terms]) -> list[str]:
    """One sentence for each view that does not balance; none where all is well."""
    found = []
    for signal, terms in snapshot.items():
        views: dict[str, View] = {"all": terms, **terms["exporters"]}
        for name, view in views.items():
            came = view["observed"] + view["recovered"]
            went = sum(view["filtered"].values()) + view["exported"] + sum(view["dropped"].values()) + view["in_flight"]
            if came != went:
                found.append(
                    f"{signal}/{name}: observed {view['observed']} + recovered {view['recovered']} = {came}, but "
                    f"filtered {view['filtered']} + exported {view['exported']} + dropped {view['dropped']} + "
                    f"in_flight {view['in_flight']} = {went}"
                )
    return found


def _known(signal: str) -> Signal:
    for name in SIGNALS:
        if name == signal:
            return name
    message = f"unknown signal {signal!r}; there are {list(SIGNALS)}"
    raise ValueError(message)


def _check_number(what: str, items: int) -> None:
    if items < 0:
        message = f"{what}: {items} is negative"
        raise ValueError(message)


def _check_drop(stage: str, reason: str, items: int) -> None:
    if reason not in DROPS.get(stage, ()):
        message = f"dropped: unknown stage and reason {stage}/{reason}"
        raise ValueError(message)
    _check_number(f"dropped {stage}/{reason}", items)


def _check_place(place: str, items: int) -> None:
    if place not in PLACES:
        message = f"held: unknown place {place!r}; there are {sorted(PLACES)}"
        raise ValueError(message)
    _check_number(f"held {place}", items)


def _add_drops(into: dict[str, int], counts: Mapping[tuple[str, str], int]) -> None:
    for (stage, reason), items in counts.items():
        if items:
            name = f"{stage}/{reason}"
            into[name] = into.get(name, 0) + items
