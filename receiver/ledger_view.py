"""One exporter's side of a signal, and the time in which it was connected to what is observed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict


class View(TypedDict):
    """One exporter's side of a signal, or the sum over them. Keys of `dropped` are `stage/reason`; zeros are left out."""

    observed: int
    recovered: int
    filtered: dict[str, int]
    exported: int
    dropped: dict[str, int]
    in_flight: int


NOTHING: Final[View] = {"observed": 0, "recovered": 0, "filtered": {}, "exported": 0, "dropped": {}, "in_flight": 0}


class Window:
    """The part of a signal's own terms that concerns one exporter: that of the time in which it was connected."""

    def __init__(self) -> None:
        self._past: View = NOTHING
        self._base: View | None = NOTHING  # connected, from the beginning

    def connect(self, source: View) -> None:
        """From now on. What is held now is still to come."""
        if self._base is None:
            self._base = _before_held(source)

    def disconnect(self, source: View) -> None:
        """No longer. What is held now does not come any more."""
        if self._base is not None:
            self._past = self.view(_before_held(source))
            self._base = None

    def view(self, source: View) -> View:
        """The terms of all the time in which it was connected."""
        if self._base is None:
            return self._past
        if self._base is NOTHING and self._past is NOTHING:
            return source
        return _combined(self._past, _combined(source, self._base, -1), 1)


def add_counts(into: dict[Any, int], counts: Mapping[Any, int]) -> None:
    """Add `counts` to those in `into`."""
    for name, items in counts.items():
        into[name] = into.get(name, 0) + items


def added(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum by name, without zeros."""
    total: dict[str, int] = {}
    for part in parts:
        add_counts(total, part)
    return {name: items for name, items in total.items() if items}


def _before_held(source: View) -> View:
    """`source` as if what is held had not been observed."""
    return {**source, "observed": source["observed"] - source["in_flight"], "in_flight": 0}


def _combined(one: View, other: View, sign: int) -> View:
    """`one`, plus or minus what the signal's own terms in `other` are."""
    return {
        "observed": one["observed"] + sign * other["observed"],
        "recovered": 0,
        "filtered": added([one["filtered"], {name: sign * items for name, items in other["filtered"].items()}]),
        "exported": 0,
        "dropped": added([one["dropped"], {name: sign * items for name, items in other["dropped"].items()}]),
        "in_flight": one["in_flight"] + sign * other["in_flight"],
    }
