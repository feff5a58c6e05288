"""Columns of flows that have ended in, OTLP trace export requests out: one span a flow."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from receiver.flows.columns import CAUSE_FAILED, CAUSE_TIMEOUT, ROLE_CLIENT, ROLE_SERVER, EventColumns
from receiver.flows.texts import Texts
from receiver.otlp import vector, wire
from receiver.otlp.encoded import Encoded
from receiver.otlp.encoder import EventEncoder
from receiver.otlp.forms import Forms
from receiver.otlp.layout import FAMILIES, Template

TRACE_ID_WIDTH: Final = 16
_INTERNAL, _SERVER, _CLIENT = 1, 2, 3  # Span.SpanKind
_KINDS: Final = {ROLE_CLIENT: _CLIENT, ROLE_SERVER: _SERVER}
_ERROR: Final = b"\x7a\x02\x18\x02"  # Span.status, code ERROR
_FAILURES: Final = frozenset({CAUSE_FAILED, CAUSE_TIMEOUT})
_UNNAMED: Final = "flow"  # of a transport that has no word


class SpanTemplate(Template):
    """A Span: the name is the transport, the kind is the role; the status is an error where this end met one."""

    ATTRIBUTE = 9

    def _before(self) -> None:
        shape = self.shape
        self._raw(b"\x0a\x10")
        self._hole("trace_id", f"V{TRACE_ID_WIDTH}", TRACE_ID_WIDTH)
        self._raw(b"\x12\x08")
        self._hole("span_id", ">u8", 8)
        self._raw(wire.block(5, (shape.transport or _UNNAMED).encode()))
        self._raw(b"\x30" + wire.varint(_KINDS.get(shape.role, _INTERNAL)))
        self._raw(b"\x39")
        self._hole("start", "<u8", 8)
        self._raw(b"\x41")
        self._hole("time", "<u8", 8)
        if shape.error or shape.cause in _FAILURES:
            self._raw(_ERROR)


class SpanEncoder(EventEncoder):
    """Encodes the ends of flows as Spans without parents; each is a trace of its own.

    `entropy(n)` gives n random bytes, for trace ids. The span id is the flow's instance id. `extras` holds attributes of
    a Span (field 9), in the rows in which a LogEncoder's has those of a LogRecord.
    """

    TEMPLATE = SpanTemplate

    def __init__(  # noqa: PLR0913 what every encoder has, and entropy
        self,
        entropy: Callable[[int], bytes],
        addresses: Texts,
        extras: Texts,
        families: Sequence[str] = FAMILIES,
        version: str = "",
        *,
        owner_rule: bool = False,
        sampling: int = 1,
        names: Texts | None = None,
        max_bytes: int = 1 << 20,
    ) -> None:
        super().__init__(
            addresses, extras, families, version, owner_rule=owner_rule, sampling=sampling, names=names,
            max_bytes=max_bytes,
        )  # fmt: skip
        self._entropy = entropy

    def encode(self, columns: EventColumns, resources: Sequence[bytes]) -> list[Encoded]:
        """Requests with every flow once, as `requests`. Raises ValueError for an event without the flow's start."""
        if len(columns) and np.isnan(columns.duration).any():
            row = int(np.flatnonzero(np.isnan(columns.duration))[0])
            message = f"event {row}: no span without a start"
            raise ValueError(message)
        return self.requests(columns, resources)

    @staticmethod
    def extra_fragments(longest: int) -> vector.Fragments:
        """Attributes with the count of those dropped."""
        return vector.dropped_fragments(longest)

    def forms(self, columns: EventColumns) -> Forms:
        """Also the ids and the start."""
        out = super().forms(columns)
        random = self._entropy(TRACE_ID_WIDTH * len(columns))
        out["trace_id"] = np.frombuffer(random, f"V{TRACE_ID_WIDTH}")
        out["span_id"] = np.maximum(columns.instance_id, np.uint64(1))  # an id of zeros is none
        out["start"] = columns.time - np.rint(columns.duration * 1e9).astype(np.uint64)
        return out
