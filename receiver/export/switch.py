"""Requests of a signal that the destination does not take in; none of them, but for a rare probe, out."""

import threading
from typing import Final

from receiver.export.errors import PermanentError, UnimplementedError
from receiver.export.halt import Clock
from receiver.export.notices import Notices
from receiver.export.request import Receipt, Request, Sender

PROBE_INTERVAL: Final = 60.0  # s


class Switch:
    """Turns one signal off when the destination says that it has no such service, and on again when a probe passes."""

    def __init__(self, then: Sender, clock: Clock, notices: Notices) -> None:
        self._then, self._clock, self._notices = then, clock, notices
        self._lock = threading.Lock()
        self._refusal: UnimplementedError | None = None
        self._next_probe = 0.0

    @property
    def on(self) -> bool:
        """Whether the signal is sent."""
        return self._refusal is None

    def send(self, request: Request) -> Receipt:
        """Send, or refuse at once while the signal is off. Raises PermanentError then."""
        with self._lock:
            refusal = self._refusal
            if refusal is not None:
                if self._clock.now() < self._next_probe:
                    raise PermanentError(f"the signal is off: {refusal.text}", refusal.fault)
                self._next_probe = self._clock.now() + PROBE_INTERVAL
        try:
            receipt = self._then.send(request)
        except UnimplementedError as error:
            self._turn_off(error)
            raise
        self._turn_on()
        return receipt

    def _turn_off(self, error: UnimplementedError) -> None:
        with self._lock:
            first = self._refusal is None
            self._refusal = error
            if first:
                self._next_probe = self._clock.now() + PROBE_INTERVAL
        if first:
            self._notices.error(
                "The destination does not take this signal. Its data is dropped until it does.",
                probe_interval=f"{PROBE_INTERVAL:.0f}s",
                **error.about(),
            )

    def _turn_on(self) -> None:
        with self._lock:
            if self._refusal is None:
                return
            self._refusal = None
        self._notices.info("The destination takes this signal again.")
