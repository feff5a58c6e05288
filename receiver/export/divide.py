"""Requests that are too large for their destination in; requests that are not, out."""

from collections import deque
from dataclasses import replace
from typing import Final

from receiver.export.errors import AbandonedError, OversizeError
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
        self._guessed = False  # whether the limit is no number that the destination named

    def send(self, request: Request) -> Receipt:
        """Send all parts; the receipt of them together. Raises AbandonedError, with the rest, where Weir ends before."""
        accepted, rejected = 0, 0
        parts = deque([request])
        while parts:
            part = parts.popleft()
            try:
                receipt = self._send_fitting(part)
            except AbandonedError as error:
                error.rest = (part, *parts)
                raise
            if receipt is None:
                halves = split(part.signal, part.data)
                if halves is not None:
                    parts.extendleft(replace(part, data=half.data, items=half.items) for half in reversed(halves))
                    continue
                receipt = self._oversize.send(part)
            accepted += receipt.accepted
            rejected += receipt.rejected
        return Receipt(accepted, rejected)

    def _send_fitting(self, part: Request) -> Receipt | None:
        """Send what is not too large; None for what is, or turns out to be."""
        if len(part.data) > self.limit and not (self._guessed and part.items == 1):
            return None
        try:
            return self._then.send(part)
        except OversizeError as error:
            self._learn(len(part.data), error)
            return None

    def _learn(self, size: int, error: OversizeError) -> None:
        """Remember the limit that the destination named, or else half of what it refused."""
        named = error.limit if error.limit is not None and 0 < error.limit < size else None
        limit = named if named is not None else max(1, size // 2)
        if limit >= self.limit:
            return
        self.limit, self._guessed = limit, named is None
        self._notices.warning(
            "The destination refuses requests of this size. Sending smaller ones.",
            size=size,
            limit=self.limit,
            **error.about(),
        )
