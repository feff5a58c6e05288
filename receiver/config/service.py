"""The schema of `service` and `extensions`."""

from typing import Any, Literal

from pydantic import Field

from receiver.config.durations import Duration
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
    """A durable queue."""

    directory: str = Field("/var/lib/weir/spool", description="Where requests are kept.")


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
    "file_storage": FileStorage, "health_check": HealthCheck, "zpages": Zpages, "observer": Observer
}  # fmt: skip
