"""The schema of exporters: keys and defaults as the Collector's OTLP/gRPC exporter has them."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from receiver.config.durations import Duration
from receiver.config.opaque import Opaque
from receiver.config.strict import Strict

_HEADER = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_ENDPOINT = re.compile(r"(?:(?:https?|dns)://|unix:|[^/\s]+:\d+$)")


def _headers(value: dict[str, str]) -> dict[str, str]:
    made = {}
    for name, text in value.items():
        lower = name.lower()
        if not _HEADER.fullmatch(lower):
            raise ValueError(f"{name!r} is not a header name")
        if lower.startswith("grpc-") or lower.endswith("-bin"):
            raise ValueError(f"{name!r} is gRPC's own: every call would fail")
        if not _VALUE.fullmatch(text):
            raise ValueError(f"the value of {name!r} is not printable ASCII: every call would fail")
        made[lower] = text
    return made


class Tls(Strict):
    """Transport security."""

    insecure: bool = Field(False, description="Plaintext.")
    insecure_skip_verify: bool = Field(False, description="Not possible with this gRPC library: refused.")
    ca_file: str = Field("", description="PEM file of the authorities to trust; empty: the system's.")
    ca_pem: Opaque = Field("", description="The same as text.")
    include_system_ca_certs_pool: bool = Field(False, description="Trust the system's authorities too.")
    cert_file: str = Field("", description="PEM file of the client certificate.")
    cert_pem: Opaque = Field("", description="The same as text.")
    key_file: str = Field("", description="PEM file of the client's key.")
    key_pem: Opaque = Field("", description="The same as text.")
    server_name_override: str = Field("", description="The name that the server's certificate must have.")
    min_version: Literal["", "1.2", "1.3"] = Field("", description="1.2 is what this gRPC library does in any case.")
    max_version: Literal["", "1.2", "1.3"] = Field("", description="Accepted as an assertion only.")
    reload_interval: Duration = Field(
        "0s", description="How often changed files are looked for; 0s: never.", validate_default=True
    )
    cipher_suites: list[str] = Field([], description="Not possible with this gRPC library: refused.")

    @field_validator("insecure_skip_verify")
    @classmethod
    def _cannot_skip(cls, value: bool) -> bool:  # noqa: FBT001
        if value:
            raise ValueError(
                "not possible with grpcio: put the server's certificate in ca_file, and its name in server_name_override"
            )
        return value

    @field_validator("cipher_suites")
    @classmethod
    def _cannot_choose(cls, value: list[str]) -> list[str]:
        if value:
            raise ValueError("not possible with grpcio: set the environment variable GRPC_SSL_CIPHER_SUITES")
        return value

    @model_validator(mode="after")
    def _one_form(self) -> "Tls":
        for name in ("ca", "cert", "key"):
            if getattr(self, f"{name}_file") and getattr(self, f"{name}_pem"):
                raise ValueError(f"{name}_file and {name}_pem exclude each other")
        if bool(self.cert_file or self.cert_pem) != bool(self.key_file or self.key_pem):
            raise ValueError("a client certificate needs its key, and a key its certificate")
        return self


class Retry(Strict):
    """When a request is sent again."""

    enabled: bool = Field(True, description="Whether a request is sent again.")
    initial_interval: Duration = Field("5s", description="The first wait.", validate_default=True)
    randomization_factor: float = Field(
        0.5, ge=0, le=1, description="Each wait is this part longer or shorter, by chance."
    )
    multiplier: float = Field(1.5, ge=1, description="Each wait is this much longer than the one before.")
    max_interval: Duration = Field("30s", description="The longest wait.", validate_default=True)
    max_elapsed_time: Duration = Field(
        "300s", description="After this long a request is dropped; 0s: never.", validate_default=True
    )
    retry_resource_exhausted: Literal["with_retry_info", "unless_oversize"] = Field(
        "with_retry_info", description="When RESOURCE_EXHAUSTED is worth another attempt."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Retry":
        if min(self.initial_interval, self.max_interval, self.max_elapsed_time) < 0:
            raise ValueError("intervals must not be negative")
        if self.max_elapsed_time and self.max_elapsed_time < max(self.initial_interval, self.max_interval):
            raise ValueError("max_elapsed_time must be 0s, or at least initial_interval and max_interval")
        return self


class Batch(Strict):
    """Requests that are joined before they are sent."""

    sizer: Literal["", "items", "bytes"] = Field("", description="What sizes count; empty: as the queue, else items.")
    min_size: int = Field(8192, ge=0, description="A batch waits until it is this large.")
    max_size: int = Field(0, ge=0, description="No batch is larger; 0: no limit.")
    flush_timeout: Duration = Field("200ms", description="A batch waits no longer.", validate_default=True)

    @model_validator(mode="after")
    def _ordered(self) -> "Batch":
        if self.flush_timeout <= 0:
            raise ValueError("flush_timeout must be greater than 0s")
        if self.max_size and self.max_size < self.min_size:
            raise ValueError("max_size must be 0, or at least min_size")
        return self


class Queue(Strict):
    """The queue before each exporter and signal."""

    enabled: bool = Field(True, description="Off: one request at a time.")
    sizer: Literal["requests", "items", "bytes"] = Field("bytes", description="What queue_size counts.")
    queue_size: int = Field(16777216, ge=1, description="What the queue holds at most; full refuses the newest.")
    num_consumers: int = Field(2, ge=1, le=64, description="Requests in flight at once.")
    block_on_overflow: bool = Field(False, description="Wait for room instead.")
    wait_for_result: bool = Field(False, description="Wait until the request was answered.")
    storage: str = Field("", description="The file_storage extension that makes the queue durable.")
    batch: Batch | None = Field(None, description="Joins requests: {sizer, min_size, max_size, flush_timeout}.")

    @property
    def limited(self) -> bool:
        """Whether queue_size was asked for, and so bounds a durable queue too, beside the extension's max_size_mib."""
        return "queue_size" in self.model_fields_set

    @property
    def batch_sizer(self) -> str:
        """What the sizes of a batch count."""
        given = "sizer" in self.model_fields_set and self.sizer != "requests"
        return (self.batch.sizer if self.batch else "") or (self.sizer if given else "items")

    @model_validator(mode="after")
    def _possible(self) -> "Queue":
        if self.storage and self.wait_for_result:
            raise ValueError("wait_for_result and storage exclude each other")
        if not self.enabled:
            for name in ("storage", "batch", "block_on_overflow"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs the queue: enabled is false")
        batch = self.batch
        if batch is not None and self.batch_sizer == self.sizer and batch.min_size > self.queue_size:
            raise ValueError("batch::min_size must not be larger than queue_size")
        return self


class Auth(Strict):
    """Who says who Weir is."""

    authenticator: str = Field(description="The id of a bearertokenauth extension.")


class Keepalive(Strict):
    """Pings."""

    time: Duration = Field(
        "300s", description="A ping after this long without data; servers refuse less than 5m.", validate_default=True
    )
    timeout: Duration = Field("20s", description="A ping is answered within this.", validate_default=True)
    permit_without_stream: bool = Field(False, description="Also without a call in flight.")


def _compression(value: Any) -> Any:
    if value in {"snappy", "zstd", "deflate", "lz4"}:
        raise ValueError(f"{value} is not possible with grpcio: use gzip or none")
    return value


Compression = Annotated[Literal["auto", "gzip", "none"], BeforeValidator(_compression)]
HeaderMap = Annotated[dict[str, Opaque], AfterValidator(_headers)]


class OtlpGrpc(Strict):
    """OTLP over gRPC."""

    endpoint: str = Field("localhost:4317", description="host:port, http://, https://, dns:///, unix:.")
    tls: Tls = Field(default_factory=Tls, description="Transport security.")
    compression: Compression = Field("auto", description="auto: none to loopback and unix sockets, else gzip.")
    timeout: Duration = Field("5s", description="Of each attempt; 0s: none.", validate_default=True)
    auth: Auth | None = Field(None, description="A token on each call: {authenticator: bearertokenauth}.")
    headers: HeaderMap = Field({}, description="Metadata on each call; values are never shown.")
    retry_on_failure: Retry = Field(default_factory=Retry, description="When a request is sent again.")
    sending_queue: Queue = Field(default_factory=Queue, description="The queue before each exporter and signal.")
    keepalive: Keepalive | None = Field(None, description="Pings: {time, timeout, permit_without_stream}.")
    wait_for_ready: bool = Field(
        False, description="Wait for a connection within the timeout instead of failing at once."
    )
    user_agent: str = Field("", description="In place of weir's own.")
    authority: str = Field("", description="In place of the endpoint's host.")
    balancer_name: Literal["", "round_robin", "pick_first"] = Field(
        "", description="How calls are spread over the addresses of dns:///."
    )
    max_request_bytes: int = Field(
        1048576, ge=16384, le=67108864, description="No request is larger (a receiver takes 4 MiB by default)."
    )

    @model_validator(mode="after")
    def _one_authorization(self) -> "OtlpGrpc":
        if self.auth is not None and "authorization" in self.headers:
            raise ValueError("auth and a header authorization exclude each other")
        return self

    @field_validator("endpoint")
    @classmethod
    def _has_a_form(cls, value: str) -> str:
        if not value:
            raise ValueError('requires a non-empty "endpoint"')
        if not _ENDPOINT.match(value):
            raise ValueError(f"{value!r} is none of host:port, http://, https://, dns:///, unix:")
        return value


class Debug(Strict):
    """Flows on standard output."""

    verbosity: Literal["basic", "detailed"] = Field(
        "basic", description="basic: one line a flow; detailed: all attributes."
    )
    max_request_bytes: int = Field(1048576, ge=16384, le=67108864, description="No request is larger.")


TYPES: dict[str, type[OtlpGrpc | Debug]] = {"otlp_grpc": OtlpGrpc, "otlp": OtlpGrpc, "debug": Debug}
