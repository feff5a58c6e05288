"""The end of an exporter: one event that wakes every sleep, the deadline that comes with it, and the clock of both."""

import math
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time, and sleep that an event ends; tests turn their own."""

    def now(self) -> float:
        """Seconds, on a clock that never goes back."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep for `seconds` or until `event` is set; whether it is."""


class MonotonicClock:
    """The system's clock."""

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep for `seconds` or until `event` is set; whether it is."""
        return event.wait(min(seconds, threading.TIMEOUT_MAX))


class Halt:
    """Whether an exporter ends, and until when it may still send."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.deadline = math.inf
        self._event = threading.Event()

    def set(self, deadline: float) -> None:
        """End by `deadline`, in the clock's seconds; an earlier one that is set already stands."""
        self.deadline = min(self.deadline, deadline)
        self._event.set()

    def is_set(self) -> bool:
        """Whether the exporter ends."""
        return self._event.is_set()

    def remaining(self) -> float:
        """Seconds until the deadline; infinite while nothing ends."""
        return self.deadline - self.clock.now()

    def sleep(self, seconds: float) -> bool:
        """Sleep, no longer than until the exporter ends; whether it does."""
        return self.clock.wait(self._event, seconds)
