"""What the tests of the export hop share: a clock that they turn, a log that remembers, requests of known size."""

import threading
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from receiver.export.errors import SendError
from receiver.export.notices import Notices
from receiver.export.request import Receipt, Request
from receiver.ledger import Signal


class TurnedClock:
    """Time that passes only when something sleeps, and at once."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        self.slept.append(seconds)
        self.time += seconds
        return False


class Remembered:
    """A logger: every line as (level, message, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, message: str, /, **fields: object) -> None:
        self.lines.append(("info", message, fields))

    def warning(self, message: str, /, **fields: object) -> None:
        self.lines.append(("warning", message, fields))

    def error(self, message: str, /, **fields: object) -> None:
        self.lines.append(("error", message, fields))

    def messages(self) -> list[str]:
        return [line[1] for line in self.lines]

    def fields(self, message: str) -> dict[str, Any]:
        """The fields of the first line with `message`."""
        return next(line[2] for line in self.lines if line[1] == message)


class Scripted:
    """A sender that answers as told, in turn; without anything left, it accepts."""

    def __init__(self, *answers: SendError | Receipt | BaseException) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    def send(self, request: Request) -> Receipt:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else Receipt(request.items)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def notices(clock: TurnedClock | None = None) -> tuple[Notices, Remembered]:
    log = Remembered()
    return Notices(log, clock or TurnedClock()), log


def request(items: int = 1, size: int = 0, signal: Signal = "logs", start: int = 1) -> Request:
    """A real request of numbered items (by their time), each with `size` bytes of body."""
    numbers = range(start, start + items)
    message: Any
    if signal == "logs":
        message = ExportLogsServiceRequest()
        records = message.resource_logs.add().scope_logs.add().log_records
        for number in numbers:
            record = records.add(time_unix_nano=number)
            record.body.string_value = "x" * size
    elif signal == "metrics":
        message = ExportMetricsServiceRequest()
        metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="m" + "x" * size)
        for number in numbers:
            metric.gauge.data_points.add(time_unix_nano=number, as_int=number)
    else:
        message = ExportTraceServiceRequest()
        spans = message.resource_spans.add().scope_spans.add().spans
        for number in numbers:
            spans.add(start_time_unix_nano=number, name="s" + "x" * size)
    return Request(signal, message.SerializeToString(), items)


def numbers_of(data: bytes) -> list[int]:
    """The numbers of a logs request's items."""
    found = ExportLogsServiceRequest.FromString(data)
    return [
        record.time_unix_nano
        for group in found.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]
