"""An OTLP/gRPC server that answers as a test tells it to, and remembers what it was sent."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc

from receiver.ledger import SIGNALS, Signal

LIMIT = 20.0  # s that a test waits for a condition at most
_SERVICES: dict[Signal, str] = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
FULL_SUCCESS = b"\x0a\x00"


def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Wait for a condition that another thread makes true; AssertionError if it does not come true."""
    end = time.monotonic() + limit
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        pause.wait(0.002)


def length_delimited(number: int, data: bytes) -> bytes:
    """One protobuf field with bytes in it."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def retry_info(seconds: float) -> bytes:
    """A serialised google.rpc.Status with one RetryInfo, as servers put it into `grpc-status-details-bin`."""
    whole, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    duration = (b"\x08" + varint(whole) if whole else b"") + (b"\x10" + varint(nanos) if nanos else b"")
    any_value = length_delimited(1, b"type.googleapis.com/google.rpc.RetryInfo")
    any_value += length_delimited(2, length_delimited(1, duration))
    return b"\x08\x0e" + length_delimited(2, b"text") + length_delimited(3, any_value)


def partial_success(rejected: int, message: str = "") -> bytes:
    """An Export*ServiceResponse."""
    inner = (b"\x08" + varint(rejected)) if rejected else b""
    return length_delimited(1, inner + (length_delimited(2, message.encode()) if message else b""))


@dataclass(frozen=True)
class Answer:
    """What one call gets."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    text: str = ""
    details: bytes = b""
    response: bytes = FULL_SUCCESS
    until: threading.Event | None = None  # set it to let the answer go


@dataclass(frozen=True)
class Received:
    """One call as it came in."""

    signal: Signal
    data: bytes
    metadata: dict[str, Any]
    time: float  # monotonic


@dataclass
class OtlpServer:
    """Serves on 127.0.0.1 (a free port, or `address`) while the `with` block runs; `script` is answered first, then OK."""

    script: Iterable[Answer] = ()
    services: tuple[Signal, ...] = SIGNALS
    max_bytes: int = 4 << 20
    credentials: Any = None
    address: str = "127.0.0.1:0"
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers: deque[Answer] = deque(self.script)
        self.otherwise = Answer()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        options = [("grpc.max_receive_message_length", self.max_bytes), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        self._server.add_generic_rpc_handlers((_Handler(self),))
        if self.credentials is not None:
            port = self._server.add_secure_port(self.address, self.credentials)
        else:
            port = self._server.add_insecure_port(self.address)
        self.endpoint = (
            self.address if self.address.startswith("unix:") else f"{self.address.rpartition(':')[0]}:{port}"
        )
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and break what is under way."""
        for answer in [*self.answers, self.otherwise]:
            if answer.until is not None:
                answer.until.set()
        self._server.stop(0).wait(LIMIT)

    def handle(self, signal: Signal, data: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        with self._lock:
            self.received.append(Received(signal, data, metadata, time.monotonic()))
            answer = self.answers.popleft() if self.answers else self.otherwise
        if answer.until is not None:
            answer.until.wait(LIMIT)
        if answer.details:
            context.set_trailing_metadata((("grpc-status-details-bin", answer.details),))
        if answer.code is not grpc.StatusCode.OK:
            context.abort(answer.code, answer.text)
        return answer.response


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, server: OtlpServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        for signal in self._server.services:
            if details.method == _SERVICES[signal]:
                return grpc.unary_unary_rpc_method_handler(
                    lambda data, context, signal=signal: self._server.handle(signal, data, context)
                )
        return None
