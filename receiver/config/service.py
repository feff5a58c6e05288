"""The schema of `service` and `extensions`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from receiver.config.durations import Duration
from receiver.config.opaque import Opaque
from receiver.config.strict import Strict


class Pipeline(Strict):
    """One signal's way."""

    receivers: list[str] = Field(description="Ids of receivers.", min_length=1)
    processors: list[str] = Field([], description="None: Weir has no processors.", max_length=0)
    exporters: list[str] = Field(description="Ids of exporters.", min_length=1)


class TelemetryLogs(Strict):
    """Own logs."""

    level: Literal["debug", "info", "warn", "error"] = Field("info", description="The least severe that is written.")
    encoding: Literal["console", "json"] = Field("console", description="How lines look.")


class TelemetryMetrics(Strict):
    """Own metrics."""

    level: Literal["none", "basic", "normal", "detailed"] = Field("normal", description="none: no own metrics.")
    readers: list[dict[str, Any]] = Field([], description="As in the Collector: adds Prometheus.")


class Telemetry(Strict):
    """Weir's own telemetry."""

    logs: TelemetryLogs = Field(default_factory=TelemetryLogs, description="Own logs, on standard error.")
    metrics: TelemetryMetrics = Field(
        default_factory=TelemetryMetrics, description="Own metrics, by the metrics pipeline."
    )


class Service(Strict):
    """What runs."""

    extensions: list[str] = Field(["health_check", "zpages"], description="Ids of extensions.")
    shutdown_timeout: Duration = Field(
        "10s", description="How long draining may take at the end.", validate_default=True
    )
    pipelines: dict[str, Pipeline] = Field({}, description="By signal: logs, metrics, traces; or signal/name.")
    telemetry: Telemetry = Field(default_factory=Telemetry, description="Weir's own telemetry.")


class FileStorage(Strict):
    """A directory for durable queues: sending_queue.storage names it."""

    directory: str = Field("/var/lib/weir/spool", min_length=1, description="Where requests are kept: for one Weir.")
    create_directory: bool = Field(True, description="Make it where it is missing, with rights for its owner only.")
    fsync: bool = Field(False, description="Survive the machine's crash too, not only Weir's: costs a write each.")
    max_size_mib: int = Field(1024, ge=1, le=1048576, description="The files take no more; the oldest are evicted.")


class BearerTokenAuth(Strict):
    """A bearer token on each call: exporters name it as auth.authenticator."""

    scheme: str = Field("Bearer", pattern=r"^[!-~]+$", description="The word before the token.")
    token: Opaque = Field("", description="The token.")
    filename: str = Field("", description="A file that holds it, and that may rotate.")

    @model_validator(mode="after")
    def _one_source(self) -> "BearerTokenAuth":
        if bool(self.token) == bool(self.filename):
            raise ValueError("exactly one of token and filename is needed")
        return self


class HealthCheck(Strict):
    """Liveness."""

    endpoint: str = Field("localhost:14133", description="host:port to listen on.")


class Zpages(Strict):
    """Pages for whoever looks into a running Weir."""

    endpoint: str = Field("localhost:14679", description="host:port to listen on; loopback only.")


class Observer(Strict):
    """The observer service."""

    endpoint: str = Field("unix:///run/weir/observer.sock", description="Where it listens.")


EXTENSIONS: dict[str, type[Strict]] = {
    "file_storage": FileStorage, "bearertokenauth": BearerTokenAuth, "health_check": HealthCheck, "zpages": Zpages, "observer": Observer
}  # fmt: skip
