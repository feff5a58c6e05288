"""Why a request was not delivered: the type says what to do about it, the text says it in the Collector's words."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receiver.export.request import Request


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of failure that an operator can tell from others."""

    name: str
    remedy: str  # one sentence: what to look at or change


class SendError(Exception):
    """A request, or one attempt to send it, failed."""

    def __init__(self, text: str, fault: Fault | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.fault = fault

    def about(self) -> dict[str, str]:
        """Fields for a log line."""
        more = {"cause": self.fault.name, "remedy": self.fault.remedy} if self.fault else {}
        return {"error": self.text, **more}


class RetryableError(SendError):
    """The same request may succeed later: after `delay` seconds at the earliest, where the destination named one."""

    def __init__(self, text: str, fault: Fault | None = None, *, delay: float = 0.0, throttle: bool = False) -> None:
        super().__init__(text, fault)
        self.delay = delay
        self.throttle = throttle  # the destination asks that nothing at all is sent before `delay` is over


class PermanentError(SendError):
    """The same request will never succeed."""


class UnimplementedError(PermanentError):
    """The destination does not take this signal."""


class OversizeError(SendError):
    """The request is larger than the destination takes: more than `limit` bytes, where it said so."""

    def __init__(self, text: str, fault: Fault | None = None, *, limit: int | None = None) -> None:
        super().__init__(text, fault)
        self.limit = limit


class ExhaustedError(SendError):
    """No attempt is left within the time that retries may take."""


class AbandonedError(SendError):
    """Weir ends; there is no time for the request any more. Its items stay in flight for whoever keeps them."""

    rest: "tuple[Request, ...]" = ()  # what is left of it, where a part was delivered
