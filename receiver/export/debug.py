"""OTLP bytes in, text on standard output out: one line a flow, or every attribute.

The one exporter that decodes what was encoded, with the reference library; it is imported only where it is used.
"""

import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from receiver.export.errors import AbandonedError, Fault, PermanentError
from receiver.export.flowline import FLOW_EVENTS, flow_line, owner, text, timestamp
from receiver.export.halt import Halt
from receiver.export.notices import Notices
from receiver.export.request import Receipt, Request, Sender
from receiver.ledger import Signal

Verbosity: TypeAlias = Literal["basic", "normal", "detailed"]

STDOUT: Final = 1
_POLL: Final = 0.2  # s between two looks at whether Weir ends, while nobody reads standard output
_CLOSED: Final = Fault("stdout", "Standard output is closed: nobody reads it any more.")


class Debug:
    """Standard output as a destination."""

    def __init__(self, verbosity: Verbosity = "basic", file: int = STDOUT) -> None:
        self._detailed = verbosity == "detailed"
        self._file = file
        self._lock = threading.Lock()  # lines of two signals do not mix

    def sender(self, signal: Signal, halt: Halt, notices: Notices) -> Sender:  # noqa: ARG002 - the destination's interface
        """What prints requests of `signal`."""
        return Print(_LINES[signal, self._detailed], self._write, halt)

    def close(self) -> None:
        """Standard output stays open."""

    def _write(self, data: bytes, halt: Halt) -> None:
        """All of `data`. Raises PermanentError where nobody can read it, AbandonedError where nobody does in time."""
        rest = memoryview(data)
        with self._lock:
            while rest:
                try:
                    if select.select([], [self._file], [], max(0.0, min(_POLL, halt.remaining())))[1]:
                        # No more than a pipe that is ready has room for, so that the write does not block.
                        rest = rest[os.write(self._file, rest[: select.PIPE_BUF]) :]
                    elif halt.remaining() <= 0:
                        raise AbandonedError("nobody reads standard output")
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise PermanentError(f"standard output: {error}", _CLOSED) from error


class Print:
    """The end of the chain for one signal."""

    def __init__(
        self, lines: Callable[[bytes], Iterable[str]], write: Callable[[bytes, Halt], None], halt: Halt
    ) -> None:
        self._lines, self._write, self._halt = lines, write, halt

    def send(self, request: Request) -> Receipt:
        """Print all of it."""
        printed = "".join(f"{line}\n" for line in self._lines(request.data))
        self._write(printed.encode("utf-8", "backslashreplace"), self._halt)
        return Receipt(request.items)


def log_lines(data: bytes) -> Iterator[str]:
    """One line a log record, in the order of time: encoding groups them by their shape."""
    for resource, _, record in sorted(_logs(data), key=lambda row: int(row[2].time_unix_nano)):
        attributes = _attributes(record.attributes)
        time = record.time_unix_nano or record.observed_time_unix_nano
        if record.event_name in FLOW_EVENTS:
            yield flow_line(record.event_name, time, resource, attributes)
        else:
            body = [text(_value(record.body))] if record.HasField("body") else []
            pairs = [f"{text(key)}={text(value)}" for key, value in attributes.items()]
            yield " ".join([timestamp(time), text(record.event_name or "log"), owner(resource), *body, *pairs])


def log_details(data: bytes) -> Iterator[str]:
    """Every attribute of every log record and its Resource."""
    for resource, scope, record in _logs(data):
        yield f"{timestamp(record.time_unix_nano)} {text(record.event_name or 'log')}"
        yield from _detail("resource", resource)
        yield f"  scope {text(scope.name)} {text(scope.version)}"
        yield from _detail("attribute", _attributes(record.attributes))


def metric_lines(data: bytes) -> Iterator[str]:
    """One line a request: how many points of which metrics."""
    counts: dict[str, int] = {}
    resources, latest = 0, 0
    request = ExportMetricsServiceRequest.FromString(data)
    for group in request.resource_metrics:
        resources += 1
        for metric in (metric for scope in group.scope_metrics for metric in scope.metrics):
            points = _points(metric)
            counts[metric.name] = counts.get(metric.name, 0) + len(points)
            latest = max([latest, *(point.time_unix_nano for point in points)])
    listed = ", ".join(f"{text(name)} {count}" for name, count in sorted(counts.items()))
    yield f"{timestamp(latest)} metrics {sum(counts.values())} points, {resources} resources: {listed}"


def metric_details(data: bytes) -> Iterator[str]:
    """Every point with its attributes."""
    request = ExportMetricsServiceRequest.FromString(data)
    for group in request.resource_metrics:
        yield "metrics"
        yield from _detail("resource", _attributes(group.resource.attributes))
        for scope in group.scope_metrics:
            yield f"  scope {text(scope.scope.name)} {text(scope.scope.version)}"
            for metric in scope.metrics:
                for point in _points(metric):
                    pairs = [f"{text(k)}={text(v)}" for k, v in _attributes(point.attributes).items()]
                    value = f"{_number(point)} {text(metric.unit)}"
                    yield " ".join(["  ", timestamp(point.time_unix_nano), text(metric.name), value, *pairs])


def span_lines(data: bytes) -> Iterator[str]:
    """One line a span."""
    for resource, span in _spans(data):
        pairs = [f"{text(key)}={text(value)}" for key, value in _attributes(span.attributes).items()]
        took = f"{(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6:.2f}ms"
        yield " ".join([timestamp(span.end_time_unix_nano), "span", owner(resource), text(span.name), took, *pairs])


def span_details(data: bytes) -> Iterator[str]:
    """Every attribute of every span and its Resource."""
    for resource, span in _spans(data):
        yield f"{timestamp(span.end_time_unix_nano)} span {text(span.name)} {span.trace_id.hex()}/{span.span_id.hex()}"
        yield from _detail("resource", resource)
        yield from _detail("attribute", _attributes(span.attributes))


_LINES: Final[dict[tuple[Signal, bool], Callable[[bytes], Iterator[str]]]] = {
    ("logs", False): log_lines,
    ("logs", True): log_details,
    ("metrics", False): metric_lines,
    ("metrics", True): metric_details,
    ("traces", False): span_lines,
    ("traces", True): span_details,
}


def _logs(data: bytes) -> Iterator[tuple[dict[str, object], Any, Any]]:
    """Resource, scope and record of each log record."""
    for group in ExportLogsServiceRequest.FromString(data).resource_logs:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_logs:
            for record in scope.log_records:
                yield resource, scope.scope, record


def _spans(data: bytes) -> Iterator[tuple[dict[str, object], Any]]:
    for group in ExportTraceServiceRequest.FromString(data).resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield resource, span


def _points(metric: Any) -> Any:  # noqa: ANN401 - protobuf messages
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _number(point: Any) -> str:  # noqa: ANN401 - a protobuf message
    if hasattr(point, "as_int"):
        return text(point.as_double if point.WhichOneof("value") == "as_double" else point.as_int)
    return f"count={point.count} sum={text(point.sum)}"


def _attributes(pairs: Any) -> dict[str, object]:  # noqa: ANN401 - protobuf messages
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> object:  # noqa: ANN401 - a protobuf message
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(part) for part in value.array_value.values]
    if kind == "kvlist_value":
        return [f"{pair.key}={text(_value(pair.value))}" for pair in value.kvlist_value.values]
    if kind == "bytes_value":
        return str(value.bytes_value.hex())
    return getattr(value, kind) if kind else ""


def _detail(label: str, attributes: dict[str, object]) -> Iterator[str]:
    for key, value in attributes.items():
        yield f"  {label} {text(key)}={text(value)}"
