"""A destination's wish to be left alone in; a pause of every request to it, whatever its signal, out."""

import threading
from typing import Final

from receiver.export.errors import AbandonedError, RetryableError
from receiver.export.halt import Halt
from receiver.export.request import Receipt, Request, Sender

MAX_HOLD: Final = 3600.0  # s; a destination cannot silence Weir for longer by one answer


class Gate:
    """When the next request to a destination may leave; all its senders share one."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt
        self._lock = threading.Lock()
        self._opens = 0.0

    def hold(self, seconds: float) -> None:
        """Let nothing through for `seconds` from now on."""
        until = self._halt.clock.now() + min(seconds, MAX_HOLD)
        with self._lock:
            self._opens = max(self._opens, until)

    def wait(self) -> None:
        """Until the gate is open. Raises AbandonedError where Weir ends before that."""
        clock = self._halt.clock
        while (left := self._opens - clock.now()) > 0:
            if self._halt.is_set():
                if left >= self._halt.remaining():
                    raise AbandonedError("the destination asked for a pause that ends too late")
                clock.wait(threading.Event(), left)
            else:
                self._halt.sleep(left)


class Throttle:
    """Passes requests through the gate, and holds the gate where the answer asks for it."""

    def __init__(self, gate: Gate, then: Sender) -> None:
        self._gate, self._then = gate, then

    def send(self, request: Request) -> Receipt:
        """As soon as the gate is open."""
        self._gate.wait()
        try:
            return self._then.send(request)
        except RetryableError as error:
            if error.throttle:
                self._gate.hold(error.delay)
            raise
