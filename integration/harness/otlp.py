"""The Collector's JSON lines in, flat records out: events, spans, metric points, each with its Resource."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Attributes: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """A LogRecord; times in unix ns."""

    name: str
    time: int
    observed: int
    scope: str
    resource: Attributes
    attributes: Attributes

    def __getitem__(self, key: str) -> Any:
        """An attribute, of the record or else of its Resource; None where it has none."""
        return self.attributes.get(key, self.resource.get(key))

    @property
    def ports(self) -> tuple[int, int]:
        return self["network.local.port"], self["network.peer.port"]


@dataclass(frozen=True)
class Span:
    """Ids are hexadecimal, times unix ns, `kind` and `status` the numbers of OTLP."""

    name: str
    kind: int
    status: int
    trace: str
    id: str
    parent: str
    start: int
    end: int
    scope: str
    resource: Attributes
    attributes: Attributes

    def __getitem__(self, key: str) -> Any:
        """An attribute, of the span or else of its Resource; None where it has none."""
        return self.attributes.get(key, self.resource.get(key))


@dataclass(frozen=True)
class Point:
    """A data point: `value` of a sum or gauge; `count` and `value` (its sum) of a histogram."""

    name: str
    unit: str
    kind: str
    scope: str
    start: int
    time: int
    value: float
    count: int
    resource: Attributes
    attributes: Attributes
    cumulative: bool = True
    monotonic: bool = False
    buckets: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[Any, ...]:
        """What a backend keeps apart: name, Resource, attributes."""
        return self.name, _frozen(self.resource), _frozen(self.attributes)


def _frozen(attributes: Attributes) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in attributes.items()))


def _value(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [_value(part) for part in content.get("values", [])]
    return content


def _attributes(rows: Iterable[Mapping[str, Any]]) -> Attributes:
    found: Attributes = {}
    for row in rows:
        assert row["key"] not in found, f"{row['key']} stands twice"
        found[row["key"]] = _value(row["value"])
    return found


def _resource(part: Mapping[str, Any]) -> Attributes:
    return _attributes(part["resource"].get("attributes", []))


def events(request: Mapping[str, Any]) -> Iterator[Event]:
    """The LogRecords of one request."""
    for resource_logs in request.get("resourceLogs", []):
        resource = _resource(resource_logs)
        assert resource_logs["schemaUrl"] == "https://opentelemetry.io/schemas/1.44.0"
        for scope_logs in resource_logs["scopeLogs"]:
            for record in scope_logs["logRecords"]:
                yield Event(
                    record.get("eventName", ""), int(record["timeUnixNano"]), int(record["observedTimeUnixNano"]),
                    scope_logs["scope"]["name"], resource, _attributes(record.get("attributes", [])),
                )  # fmt: skip


def spans(request: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of one request."""
    for resource_spans in request.get("resourceSpans", []):
        resource = _resource(resource_spans)
        assert resource_spans["schemaUrl"] == "https://opentelemetry.io/schemas/1.44.0"
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                yield Span(
                    span["name"], span["kind"], span.get("status", {}).get("code", 0), span["traceId"], span["spanId"],
                    span.get("parentSpanId", ""), int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]),
                    scope_spans["scope"]["name"], resource, _attributes(span.get("attributes", [])),
                )  # fmt: skip


def points(request: Mapping[str, Any]) -> Iterator[Point]:
    """The data points of one request."""
    for resource_metrics in request.get("resourceMetrics", []):
        resource = _resource(resource_metrics)
        for scope_metrics in resource_metrics["scopeMetrics"]:
            for metric in scope_metrics["metrics"]:
                (kind,) = metric.keys() & {"sum", "gauge", "histogram"}
                for point in metric[kind]["dataPoints"]:
                    yield Point(
                        metric["name"], metric.get("unit", ""), kind, scope_metrics["scope"]["name"],
                        int(point.get("startTimeUnixNano", 0)), int(point["timeUnixNano"]),
                        float(point.get("sum", point.get("asDouble", point.get("asInt", 0)))), int(point.get("count", 0)),
                        resource, _attributes(point.get("attributes", [])),
                        metric[kind].get("aggregationTemporality", 2) == 2, metric[kind].get("isMonotonic", False),
                        tuple(int(n) for n in point.get("bucketCounts", ())), tuple(point.get("explicitBounds", ())),
                    )  # fmt: skip


@dataclass
class Lines:
    """A file of JSON lines that grows: each look reads what is new, whole lines only."""

    path: Path
    requests: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    def look(self) -> list[dict[str, Any]]:
        """Every request so far."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read += len(whole)
            self.requests += [json.loads(line) for line in whole.splitlines()]
        return self.requests
