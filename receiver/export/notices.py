"""Log lines in, fewer of them out: the first of each kind at once, then one an interval with the number left out."""

import threading
from typing import Final, Protocol

from receiver.export.halt import Clock

INTERVAL: Final = 10.0  # s between two lines of one kind
MAX_KINDS: Final = 256  # kinds that are remembered; a kind is a message and a cause, so there are a few dozen


class Log(Protocol):
    """What is used of a logger: a message and fields."""

    def info(self, message: str, /, **fields: object) -> None:
        """Something happened that needs no one."""

    def warning(self, message: str, /, **fields: object) -> None:
        """Someone may want to look."""

    def error(self, message: str, /, **fields: object) -> None:
        """Data was lost."""


class Notices:
    """One exporter's log lines for one signal; any thread may write them."""

    def __init__(self, log: Log, clock: Clock, **fields: str) -> None:
        self._log, self._clock, self._fields = log, clock, fields
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, str], tuple[float, dict[str, int]]] = {}

    def info(self, message: str, /, **fields: object) -> None:
        """As `error`, at level info."""
        self._write("info", message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """As `error`, at level warning."""
        self._write("warning", message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Log `message`, unless a line of its kind (the message and `cause`) was logged within the last interval.

        A field whose name ends with `_items` is a count: what was left out is added to the next line of the kind.
        """
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, object]) -> None:
        kind = (message, str(fields.get("cause", "")))
        counts = {name: value for name, value in fields.items() if name.endswith("_items") and isinstance(value, int)}
        now = self._clock.now()
        with self._lock:
            last, left = self._kinds.get(kind, (None, {}))
            for name, value in counts.items():
                left[name] = left.get(name, 0) + value
            if last is not None and now - last < INTERVAL:
                left["suppressed"] = left.get("suppressed", 0) + 1
                return
            if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            self._kinds[kind] = (now, {})
        getattr(self._log, level)(message, **{**self._fields, **fields, **left})
