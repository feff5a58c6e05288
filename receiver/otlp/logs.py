"""Flow event columns in, OTLP log export requests out: one LogRecord an event."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from receiver.flows.columns import EVENT_NAMES, EventColumns
from receiver.otlp import vector, wire
from receiver.otlp.encoded import Encoded
from receiver.otlp.encoder import EventEncoder
from receiver.otlp.layout import Template


class LogTemplate(Template):
    """A LogRecord; the time of observation stands at `observed`."""

    ATTRIBUTE = 6

    def _before(self) -> None:
        self._raw(b"\x09")
        self._hole("time", "<u8", 8)
        self._raw(b"\x59")
        self._observed = self._size
        self._raw(bytes(8))
        self._raw(wire.block(12, EVENT_NAMES[self.shape.kind].encode()))

    def _without_extra(self) -> None:
        self._raw(b"\x10\x09")  # severity INFO

    @property
    def observed(self) -> int:
        """Where the time of observation stands in `data`."""
        return self.begins + self._observed


class LogEncoder(EventEncoder):
    """Encodes flow events as LogRecords."""

    TEMPLATE = LogTemplate
    _observed: NDArray[np.uint8]

    def encode(self, columns: EventColumns, observed_time: int, resources: Sequence[bytes]) -> list[Encoded]:
        """Requests with every event once, as `requests`; `observed_time` is unix ns."""
        self._observed = np.frombuffer(observed_time.to_bytes(8, "little"), np.uint8)
        return self.requests(columns, resources)

    @staticmethod
    def extra_fragments(longest: int) -> vector.Fragments:
        """Attributes with the severity."""
        return vector.severity_fragments(longest)

    def prepare(self, template: LogTemplate) -> None:
        """Write the time of observation into it."""
        template.data[template.observed : template.observed + 8] = self._observed
