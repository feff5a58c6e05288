"""DNS lookups in, OTLP out: a LogRecord each, and their durations as data points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from receiver.dns.durations import BOUNDS, Durations
from receiver.dns.lookups import Lookup
from receiver.flows.addresses import address_text
from receiver.flows.columns import TRANSPORTS
from receiver.otlp import wire
from receiver.otlp.encoded import Encoded
from receiver.otlp.envelope import Parts, pack
from receiver.otlp.metrics import HistogramPoints, Instrument, Temporality, point_attributes
from receiver.otlp.semconv import FLOW_SCOPE, OVERFLOW

EVENT_NAME: Final = "weir.dns.lookup"
MAX_ANSWERS: Final = 32  # addresses on an event
_ANY: Final = (bytes(16), bytes(10) + b"\xff\xff" + bytes(4))


def attributes_of(lookup: Lookup[Any]) -> dict[str, wire.Value]:
    """What an event says of its lookup."""
    asked = lookup.conversation
    values: dict[str, wire.Value] = {
        "dns.question.name": lookup.name,
        "weir.dns.question.type": lookup.type,
        "weir.dns.lookup.duration": lookup.duration * 1e-9,
        "weir.dns.attempts": lookup.attempts,
        "weir.dns.role": asked.role,
        "network.transport": TRANSPORTS[asked.transport],
    }
    answers = list(dict.fromkeys(address.text for address in lookup.addresses))
    if answers:
        values["dns.answers"] = answers[:MAX_ANSWERS]
    if lookup.rcode:
        values["weir.dns.response.code"] = lookup.rcode
    if lookup.error_type:
        values["error.type"] = lookup.error_type
    if lookup.truncated:
        values["weir.dns.response.truncated"] = True
    if lookup.cut or len(answers) > MAX_ANSWERS:
        values["weir.dns.answers.incomplete"] = True
    if asked.server_address and asked.server_address not in _ANY:
        values["server.address"] = address_text(asked.server_address)
    if asked.server_port:
        values["server.port"] = asked.server_port
    return values


@dataclass(frozen=True, slots=True)
class _Run:
    """The records of one Resource: an `envelope.Run`."""

    resource: int
    records: Sequence[bytes]

    @property
    def count(self) -> int:
        return len(self.records)

    def fits(self, at: int, room: int) -> int:
        sizes = np.cumsum([len(record) for record in self.records[at:]])
        return int(np.searchsorted(sizes, room, "right"))

    def cut(self, at: int, count: int, parts: Parts) -> int:
        taken = self.records[at : at + count]
        parts.extend(taken)
        return sum(map(len, taken))


class LookupEncoder:
    """Encodes lookups as LogRecords of scope `weir.l4`; no request is larger than `max_bytes` unless one record is."""

    def __init__(self, version: str = "", max_bytes: int = 1 << 20) -> None:
        self._scope = wire.scope(FLOW_SCOPE, version)
        self._max_bytes = max_bytes

    def encode(
        self,
        lookups: Sequence[Lookup[Any]],
        resource: NDArray[np.uint32],
        boot_to_unix: int,
        observed_time: int,
        resources: Sequence[bytes],
    ) -> list[Encoded]:
        """Requests with every lookup once; `resource` (n,) are indices of `resources`, the time is that of its end."""
        observed = b"\x59" + observed_time.to_bytes(8, "little") + wire.block(12, EVENT_NAME.encode()) + b"\x10\x09"
        by_resource: dict[int, list[bytes]] = {}
        for lookup, number in zip(lookups, resource.tolist(), strict=True):
            ended = lookup.started + lookup.duration + boot_to_unix
            record = b"\x09" + ended.to_bytes(8, "little") + observed + wire.attributes(6, attributes_of(lookup))
            by_resource.setdefault(number, []).append(wire.block(2, record))
        runs = [_Run(number, records) for number, records in sorted(by_resource.items())]
        return list(pack(runs, resources, self._scope, self._max_bytes))


def duration_instrument(temporality: Temporality) -> Instrument:
    """The metric as the semantic conventions declare it."""
    return Instrument("dns.lookup.duration", "s", "Time from a DNS query to its answer, or until it was given up.",
                      "histogram", temporality, BOUNDS)  # fmt: skip


def duration_points(durations: Durations, instrument: Instrument) -> list[HistogramPoints]:
    """A point for each series that holds something."""
    count = durations.histogram.count()
    live = [(key, row) for key, row in durations.live() if count[row]]
    if not live:
        return []
    rows = np.array([row for _, row in live], np.intp)
    series = []
    for key, _ in live:
        values: Mapping[str, wire.Value] = {OVERFLOW: True}
        if key is not None:
            error = {"error.type": key.error_type} if key.error_type else {}
            values = {"dns.question.name": key.name, **error}
        series.append(point_attributes(values))
    return [
        HistogramPoints(
            instrument, np.array([key.resource if key else 0 for key, _ in live], np.uint32), np.arange(len(live)),
            series, durations.start[rows], count[rows], durations.histogram.total[rows],
            durations.histogram.buckets[rows],
        )
    ]  # fmt: skip
