"""Weir's own metrics: each declared once, here; values come from whoever counts them.

Names with dots are Weir's; those with underscores are the Collector's exporter metrics under Weir's prefix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["sum", "updown", "gauge"]
Value: TypeAlias = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One declaration: what the docs, the OTLP metric and the Prometheus metric are made from."""

    name: str
    unit: str
    kind: Kind
    text: str
    attributes: tuple[str, ...] = ()


_EXPORTER: Final = ("exporter",)
_UNITS: Final = {"log_records": "{record}", "metric_points": "{datapoint}", "spans": "{span}"}

DECLARED: Final[tuple[Metric, ...]] = (
    Metric(
        "weir.ledger.events", "{item}", "updown",
        "The ledger: items of a signal for an exporter, by outcome; observed + recovered equals the sum of the others.",
        ("weir.ledger.signal", "weir.ledger.exporter", "weir.ledger.outcome", "weir.ledger.stage", "weir.ledger.reason"),
    ),
    Metric("weir.kernel.flows.full", "{flow}", "sum",
           "Sockets that found no room in the kernel's flow table: reported, but without start, role and owner."),
    Metric("weir.kernel.flows.replaced", "{flow}", "sum", "Flows whose end was missed before their socket was used again."),
    Metric("weir.kernel.runs.missed", "{run}", "sum",
           "Changes of a TCP state that the kernel did not show, because it showed another one on that CPU: ends are made up for."),
    Metric("weir.kernel.udp.full", "{datagram}", "sum",
           "Datagrams that found no room for their flow in the kernel's table: counted as of an unknown peer."),
    Metric("weir.kernel.udp.missed", "{datagram}", "sum", "Datagrams that are in no flow, because no table had room."),
    Metric("weir.kernel.udp.exits", "{program}", "gauge",
           "1 while the ends of system calls are looked at, because a program asks who sent it a datagram."),
    Metric("weir.dns.messages", "{message}", "sum", "DNS messages that were seen, by what became of them.",
           ("weir.dns.outcome",)),
    Metric("weir.dns.events", "{event}", "sum", "What happened to DNS lookups and to the names that they told.",
           ("weir.dns.event",)),
    Metric("weir.kernel.owners.failed", "{process}", "sum", "Owner entries that the kernel could not write."),
    Metric("weir.capture.drains", "{drain}", "sum", "Times that records were taken from the ring."),
    Metric("weir.capture.passes", "{pass}", "sum", "Passes over the open sockets."),
    Metric("weir.capture.unwaited", "{record}", "sum",
           "Records that left without waiting for their owner, because too many already waited."),
    Metric("weir.series.count", "{series}", "gauge", "Metric series in the table."),
    Metric("weir.series.overflowed", "{record}", "sum", "Records that were added to the overflow series."),
    Metric("weir.owner.events", "{event}", "sum", "What happened in the cache of owners.", ("weir.owner.event",)),
    Metric("weir.process.cpu.time", "s", "sum", "CPU time that Weir used.", ("cpu.mode",)),
    Metric("weir.process.memory.usage", "By", "gauge", "Weir's resident memory."),
    *(
        Metric(f"weir_exporter_{outcome}_{what}", unit, "sum", text.format(what=what.replace("_", " ")), _EXPORTER)
        for outcome, text in (
            ("sent", "Number of {what} successfully sent to the destination."),
            ("send_failed", "Number of {what} in failed attempts to send to the destination."),
            ("enqueue_failed", "Number of {what} that could not be added to the sending queue."),
        )
        for what, unit in _UNITS.items()
    ),
    Metric("weir_exporter_queue_size", "1", "gauge", "Current size of the sending queue, in its sizer's unit.",
           ("exporter", "data_type")),
    Metric("weir_exporter_queue_capacity", "1", "gauge", "Capacity of the sending queue.", ("exporter", "data_type")),
    Metric("weir_exporter_requests", "{request}", "sum", "Attempts to send a request.", ("exporter", "data_type")),
    Metric("weir_exporter_retried_requests", "{request}", "sum",
           "Attempts that repeated one: no more requests than these can have arrived twice.", ("exporter", "data_type")),
    Metric("weir_exporter_in_flight_requests", "{request}", "updown", "Requests that are being sent.",
           ("exporter", "data_type")),
)  # fmt: skip

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in DECLARED}


def ledger_values(snapshot: Mapping[str, Any]) -> list[Value]:
    """`weir.ledger.events` from a ledger snapshot: one value for each signal, exporter and outcome."""
    values: list[Value] = []
    for signal, terms in snapshot.items():
        for exporter, view in terms["exporters"].items():
            base = {"weir.ledger.signal": signal, "weir.ledger.exporter": exporter}
            plain = ("observed", "recovered", "exported", "in_flight")
            values += [({**base, "weir.ledger.outcome": outcome}, view[outcome]) for outcome in plain]
            filtered = {**base, "weir.ledger.outcome": "filtered"}
            values += [
                ({**filtered, "weir.ledger.reason": reason}, count) for reason, count in view["filtered"].items()
            ]
            values += [({**base, **_dropped(place)}, count) for place, count in view["dropped"].items()]
    return values


def _dropped(place: str) -> dict[str, str]:
    stage, _, reason = place.partition("/")
    return {"weir.ledger.outcome": "dropped", "weir.ledger.stage": stage, "weir.ledger.reason": reason}


def checked(values: Mapping[str, Sequence[Value]]) -> dict[Metric, Sequence[Value]]:
    """Values by declaration; KeyError for a metric or an attribute that is not declared."""
    found = {}
    for name, rows in values.items():
        metric = BY_NAME[name]
        for attributes, _ in rows:
            unknown = attributes.keys() - set(metric.attributes)
            if unknown:
                message = f"{name}: attributes that are not declared: {sorted(unknown)}"
                raise KeyError(message)
        found[metric] = rows
    return found
