"""Requests that are too large for their destination in; requests that are not, out."""

from collections import deque
from typing import Final

from receiver.export.errors import OversizeError
from receiver.export.notices import Notices
from receiver.export.request import Receipt, Request, Sender
from receiver.otlp.split import split

# OTLP specification, "OTLP/gRPC": a client should send no larger request, uncompressed.
MAX_REQUEST: Final = 64 << 20


class Divide:
    """Halves what the destination refuses by size, and what is known to be over its limit from then on.

    `oversize` receives one item that is too large alone.
    """

    def __init__(self, then: Sender, oversize: Sender, notices: Notices) -> None:
        self._then, self._oversize, self._notices = then, oversize, notices
        self.limit = MAX_REQUEST  # bytes of a request; learned

    def send(self, request: Request) -> Receipt:
        """Send all parts; the receipt of them together. Raises AbandonedError where Weir ends before the last."""
        accepted, rejected = 0, 0
        parts = deque([request])
        while parts:
            part = parts.popleft()
            try:
                if len(part.data) > self.limit:
                    raise OversizeError(f"the request has {len(part.data)} bytes, over the limit of {self.limit}")
                receipt = self._then.send(part)
            except OversizeError as error:
                self._learn(len(part.data), error)
                halves = split(part.signal, part.data)
                if halves is None:
                    receipt = self._oversize.send(part)
                else:
                    parts.extendleft(Request(part.signal, half.data, half.items) for half in reversed(halves))
                    continue
            accepted += receipt.accepted
            rejected += receipt.rejected
        return Receipt(accepted, rejected)

    def _learn(self, size: int, error: OversizeError) -> None:
        """Remember the limit that the destination named, or else half of what it refused."""
        if size > self.limit:
            return  # our own refusal teaches nothing
        named = error.limit
        self.limit = named if named is not None and 0 < named < size else max(1, size // 2)
        self._notices.warning(
            "The destination refuses requests of this size. Sending smaller ones.",
            size=size,
            limit=self.limit,
            **error.about(),
        )
