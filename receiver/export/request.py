"""One OTLP request on its way to a destination, and what became of it."""

from dataclasses import dataclass
from typing import Protocol

from receiver.ledger import Signal


@dataclass(frozen=True, slots=True)
class Request:
    """Encoded bytes, never changed: the exporters of a pipeline share one Request."""

    signal: Signal
    data: bytes  # a serialised Export{Logs,Metrics,Trace}ServiceRequest
    items: int  # log records, data points or spans in it
    attempted: bool = False  # whether an attempt may have been made before: by an earlier run, or configuration


@dataclass(frozen=True, slots=True)
class Receipt:
    """A destination's answer that is not an error."""

    accepted: int
    rejected: int = 0
    message: str = ""  # the destination's words, of a partial success or of a warning


class Sender(Protocol):
    """One link of the chain."""

    def send(self, request: Request) -> Receipt:
        """Deliver `request`, in whole or in part. Raises a SendError where that did not happen."""
