"""A failed call's code, text and details in, the decision what to do about it out. Pure: no I/O, no clock."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from receiver.export import faults
from receiver.export.errors import (
    Fault,
    OversizeError,
    PermanentError,
    RetryableError,
    SendError,
    UnimplementedError,
)
from receiver.export.faults import CODES, RESOURCE_EXHAUSTED, UNIMPLEMENTED
from receiver.export.walk import fields, signed
from receiver.ledger import Signal

Kind: TypeAlias = Literal["retry", "permanent", "oversize", "no_service", "compression"]

# OTLP specification, "OTLP/gRPC Response", "Failures": RESOURCE_EXHAUSTED only with a RetryInfo, the others never.
RETRYABLE: Final = frozenset({1, 4, 10, 11, 14, 15})
DETAILS_KEY: Final = "grpc-status-details-bin"
_MAX_DETAILS: Final = 65536  # bytes of a trailer that are looked at
_RETRY_INFO: Final = b"google.rpc.RetryInfo"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a failed call means for its request."""

    kind: Kind
    text: str  # in the words of grpc-go, as the Collector logs it
    fault: Fault
    delay: float = 0.0  # s, from a RetryInfo
    throttle: bool = False
    limit: int | None = None  # bytes, of an `oversize`

    def error(self) -> SendError:
        """The decision as the error that the senders know."""
        if self.kind == "retry":
            return RetryableError(self.text, self.fault, delay=self.delay, throttle=self.throttle)
        if self.kind == "oversize":
            return OversizeError(self.text, self.fault, limit=self.limit)
        return (UnimplementedError if self.kind == "no_service" else PermanentError)(self.text, self.fault)


def decide(code: int, text: str, details: bytes, signal: Signal, *, retry_resource_exhausted: bool = False) -> Decision:
    """What to do about a call that ended with `code`, `text` and the trailer `details` (empty where there was none).

    With `retry_resource_exhausted`, RESOURCE_EXHAUSTED is retryable even without a RetryInfo, unless the text says that
    the message is too large: the Collector's memory_limiter extension refuses that way.
    """
    name = CODES[code].name if code in CODES else f"Code({code})"
    words = f"rpc error: code = {name} desc = {text}"
    fault = faults.classify(code, text)
    if fault is faults.OVERSIZE:
        return Decision("oversize", words, fault, limit=faults.size_limit(text))
    if code == UNIMPLEMENTED and fault is faults.COMPRESSION:
        return Decision("compression", words, fault)
    if code == UNIMPLEMENTED and fault is faults.NO_SERVICE:
        return Decision("no_service", f"{words} ({signal})", fault)
    delay = retry_delay(details)
    exhausted = code == RESOURCE_EXHAUSTED and (delay is not None or retry_resource_exhausted)
    if code in RETRYABLE or (exhausted and fault is not faults.OVERSIZE_ANSWER):
        return Decision("retry", words, fault, delay=delay or 0.0, throttle=bool(delay))
    return Decision("permanent", words, fault)


def retry_delay(details: bytes) -> float | None:
    """Seconds of the RetryInfo in a serialised google.rpc.Status; None without one, or where it cannot be read."""
    if not details or len(details) > _MAX_DETAILS:
        return None
    try:
        for number, detail in fields(details):
            if number == 3 and isinstance(detail, bytes):  # noqa: PLR2004 - Status.details, an Any
                delay = _from_any(detail)
                if delay is not None:
                    return delay
    except ValueError:
        return None
    return None


def _from_any(data: bytes) -> float | None:
    parts = dict(fields(data))  # 1: type_url, 2: value
    url, value = parts.get(1), parts.get(2, b"")
    if not isinstance(url, bytes) or not isinstance(value, bytes) or url.rpartition(b"/")[2] != _RETRY_INFO:
        return None
    delay = dict(fields(value)).get(1, b"")  # RetryInfo.retry_delay, a Duration
    if not isinstance(delay, bytes):
        return None
    numbers = {number: signed(part) for number, part in fields(delay) if isinstance(part, int)}
    return max(0.0, numbers.get(1, 0) + numbers.get(2, 0) / 1e9)  # seconds, nanos
