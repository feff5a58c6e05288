"""Request bytes in, unary OTLP/gRPC calls over one channel out. Nothing is encoded or decoded here."""

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

# gRPC's C-core writes its own lines to stderr, where only Weir's log belongs; what matters is in the calls' status.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from receiver import __version__
from receiver.export.answer import read_answer
from receiver.export.credentials import Bearer, Pem, TlsSettings, Token, read_pem
from receiver.export.endpoint import Endpoint
from receiver.export.errors import AbandonedError
from receiver.export.faults import DEADLINE_EXCEEDED, UNKNOWN
from receiver.export.halt import Halt
from receiver.export.notices import Notices
from receiver.export.request import Receipt, Request, Sender
from receiver.export.status import DETAILS_KEY, Decision, decide
from receiver.ledger import Signal

Compression: TypeAlias = Literal["auto", "gzip", "none"]
_Call: TypeAlias = Callable[..., bytes]

METHODS: Final[Mapping[Signal, str]] = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
USER_AGENT: Final = f"weir/{__version__} OTel-OTLP-Exporter-Python/{__version__}"
MAX_ANSWER: Final = 4 << 20  # bytes
# Short, because the intervals between attempts are the retry sender's business: an attempt should really be one.
_RECONNECT_MS: Final = 1000
_CONNECT_TIMEOUT_MS: Final = 5000
_LAST_WAIT: Final = 1.5  # s: a destination that came back is not given up because gRPC still pauses before it connects
_TIMEOUTS_BEFORE_RECONNECT: Final = 3  # calls in a row: the peer's host may be gone without a word


@dataclass(frozen=True, slots=True)
class Keepalive:
    """`keepalive`: seconds. Without it no pings are sent."""

    time: float
    timeout: float = 20.0
    permit_without_stream: bool = False


@dataclass(frozen=True, slots=True)
class Transport:
    """How to reach the destination, and how to speak to it."""

    endpoint: Endpoint
    tls: TlsSettings = field(default_factory=TlsSettings)
    compression: Compression = "auto"
    timeout: float = 5.0  # s an attempt; 0 is no limit
    headers: tuple[tuple[str, str], ...] = ()
    bearer: Bearer | None = None
    wait_for_ready: bool = False
    keepalive: Keepalive | None = None
    user_agent: str = ""  # in place of ours
    authority: str = ""  # in place of the endpoint's host
    balancer_name: str = ""  # empty: round_robin for dns:///, else pick_first
    retry_resource_exhausted: bool = False
    extra_options: tuple[tuple[str, str | int], ...] = ()  # of the channel


class OtlpGrpc:
    """One destination: a channel, made anew where TLS files rotate or the peer falls silent."""

    def __init__(self, transport: Transport) -> None:
        """Read certificates and token now: ValueError names what cannot be read."""
        self.transport = transport
        endpoint = transport.endpoint
        self._secure = not (transport.tls.insecure if endpoint.plaintext is None else endpoint.plaintext)
        self._pem = read_pem(transport.tls) if self._secure else None
        self._token = Token(transport.bearer) if transport.bearer else None
        gzip = transport.compression == "gzip" or (transport.compression == "auto" and not endpoint.local)
        self.compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False
        self._checked = 0.0
        self._timeouts = 0

    def sender(self, signal: Signal, halt: Halt, notices: Notices) -> Sender:
        """What calls the service of `signal`."""
        return Push(self, signal, halt, notices)

    def close(self) -> None:
        """Cancel what is under way and close the connection, for good."""
        with self._lock:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.channel.close()

    def call(self, request: Request, halt: Halt) -> bytes:
        """One attempt; the answer's bytes. Raises grpc.RpcError, or AbandonedError where no time is left for it."""
        timeout = min(self.transport.timeout or float("inf"), halt.remaining())
        if timeout <= 0:
            raise AbandonedError("no time is left to send")
        headers = self.transport.headers
        if self._token is not None:
            headers = (*headers, ("authorization", self._token.header()))
        line = self._take(halt)
        if halt.is_set():
            line.wait_ready(min(_LAST_WAIT, timeout))
        try:
            answer = line.calls[request.signal](
                request.data,
                timeout=None if timeout == float("inf") else timeout,
                metadata=headers,
                wait_for_ready=self.transport.wait_for_ready,
                compression=self.compression,
            )
        except grpc.RpcError as error:
            self._give_back(line, timed_out=_code(error) == DEADLINE_EXCEEDED)
            raise
        except ValueError as error:  # gRPC's word for a channel that was closed under the call
            self._give_back(line)
            if self._closed:
                raise AbandonedError("the connection was closed") from error
            raise
        self._give_back(line)
        return answer

    def without_compression(self) -> None:
        """From now on: the destination cannot decompress."""
        self.compression = grpc.Compression.NoCompression

    def _take(self, halt: Halt) -> "_Line":
        """The current line, with one more call on it."""
        now = halt.clock.now()
        with self._lock:
            if self._closed:
                raise AbandonedError("the connection is closed")
            interval = self.transport.tls.reload_interval
            if self._secure and interval and now - self._checked >= interval:
                self._checked = now
                self._reload()
            if self._line is None:
                self._line = _Line(self._channel())
            self._line.in_use += 1
            return self._line

    def _give_back(self, line: "_Line", *, timed_out: bool = False) -> None:
        with self._lock:
            line.in_use -= 1
            self._timeouts = self._timeouts + 1 if timed_out else 0
            if self._timeouts >= _TIMEOUTS_BEFORE_RECONNECT and line is self._line:
                self._line, self._timeouts = None, 0
            unused = line is not self._line and line.in_use == 0
        if unused:
            line.channel.close()

    def _reload(self) -> None:
        """Take rotated files: calls that are under way end on the old line. Files that cannot be read change nothing."""
        try:
            pem = read_pem(self.transport.tls)
        except ValueError:
            return
        if pem != self._pem:
            self._pem = pem
            line, self._line = self._line, None
            if line is not None and line.in_use == 0:
                line.channel.close()

    def _channel(self) -> Any:  # noqa: ANN401 - grpc carries no types
        target, options = self.transport.endpoint.target, list(self._options().items())
        if self._pem is None:
            return grpc.insecure_channel(target, options=options)
        return grpc.secure_channel(target, _tls(self._pem), options=options)

    def _options(self) -> dict[str, str | int]:
        transport = self.transport
        options: dict[str, str | int] = {
            "grpc.enable_retries": 0,  # every attempt is the retry sender's, and counted
            "grpc.primary_user_agent": transport.user_agent or USER_AGENT,
            "grpc.max_send_message_length": -1,
            "grpc.max_receive_message_length": MAX_ANSWER,
            "grpc.use_local_subchannel_pool": 1,  # else a new channel inherits the back-off of another
            "grpc.initial_reconnect_backoff_ms": _RECONNECT_MS,
            "grpc.max_reconnect_backoff_ms": _RECONNECT_MS,
            "grpc.min_reconnect_backoff_ms": _CONNECT_TIMEOUT_MS,  # how long one connect may take
            "grpc.lb_policy_name": transport.balancer_name
            or ("round_robin" if transport.endpoint.balanced else "pick_first"),
        }
        if transport.endpoint.local:
            options["grpc.enable_http_proxy"] = 0
        if transport.tls.server_name_override:
            options["grpc.ssl_target_name_override"] = transport.tls.server_name_override
            options["grpc.default_authority"] = transport.tls.server_name_override
        if transport.authority:
            options["grpc.default_authority"] = transport.authority
        if transport.keepalive is not None:
            options |= {
                "grpc.keepalive_time_ms": round(transport.keepalive.time * 1000),
                "grpc.keepalive_timeout_ms": round(transport.keepalive.timeout * 1000),
                "grpc.keepalive_permit_without_calls": int(transport.keepalive.permit_without_stream),
                "grpc.http2.max_pings_without_data": 0,
            }
        return options | dict(transport.extra_options)


class Push:
    """The end of the chain for one signal: one call for each request."""

    def __init__(self, destination: OtlpGrpc, signal: Signal, halt: Halt, notices: Notices) -> None:
        self._destination, self._signal, self._halt, self._notices = destination, signal, halt, notices

    def send(self, request: Request) -> Receipt:
        """Call the service once; a second time without compression, where the destination cannot decompress."""
        try:
            return read_answer(self._destination.call(request, self._halt), request)
        except grpc.RpcError as error:
            decision = self._decide(error)
        if decision.kind == "compression" and self._destination.compression != grpc.Compression.NoCompression:
            self._destination.without_compression()
            self._notices.warning("The destination cannot decompress. Sending without compression.", **_about(decision))
            try:
                return read_answer(self._destination.call(request, self._halt), request)
            except grpc.RpcError as error:
                decision = self._decide(error)
        raise decision.error()

    def _decide(self, error: grpc.RpcError) -> Decision:
        return decide(
            _code(error),
            error.details() or "",
            _details(error),
            self._signal,
            retry_resource_exhausted=self._destination.transport.retry_resource_exhausted,
        )


class _Line:
    """A channel, its methods, and how many calls are under way on it."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401 - grpc carries no types
        self.channel = channel
        self._waiting, self._waited = threading.Lock(), False
        # Without serializers gRPC takes and gives bytes.
        self.calls: dict[Signal, _Call] = {signal: channel.unary_unary(path) for signal, path in METHODS.items()}
        self.in_use = 0

    def wait_ready(self, seconds: float) -> None:
        """Once, before the last attempts: give the channel time to connect.

        One future for all callers: a second one that is asked for while gRPC's thread still polls for the first makes that
        thread look at the channel once more, and if it is closed by then a trace of it lands on standard error.
        """
        with self._waiting:
            if self._waited:
                return
            self._waited = True
            future = grpc.channel_ready_future(self.channel)
            with suppress(grpc.FutureTimeoutError):
                future.result(timeout=seconds)
            future.cancel()  # where it timed out: nothing polls for it any more


def _tls(pem: Pem) -> Any:  # noqa: ANN401 - grpc carries no types
    return grpc.ssl_channel_credentials(pem.roots, pem.key, pem.chain)


def _code(error: grpc.RpcError) -> int:
    code = error.code()
    return int(code.value[0]) if code is not None else UNKNOWN


def _details(error: grpc.RpcError) -> bytes:
    """The serialised google.rpc.Status of the trailers; empty where there is none."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return value
    return b""


def _about(decision: Decision) -> dict[str, str]:
    return decision.error().about()
