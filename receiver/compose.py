"""The composition root: one service built from one configuration, which knows the start and stop order."""

import resource as rusage
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from receiver import __version__, telemetry
from receiver.config.service import EXTENSIONS
from receiver.corridor import Corridor, LogsOutlet, MetricsOutlet, Settings
from receiver.enrich.host import host_attributes, pod_in_scope, read_namespaces, read_pod
from receiver.enrich.identity import Composer, for_metrics
from receiver.enrich.own import own_resource
from receiver.enrich.owners import Owners
from receiver.enrich.process import serves_own_namespace
from receiver.enrich.reader import ProcessReader
from receiver.enrich.resources import ResourceTable
from receiver.flows.series import SeriesTable
from receiver.flows.texts import Texts
from receiver.kernel.capture import Options, own_netns, ring_bytes
from receiver.kernel.recording import Replay
from receiver.kernel.source import Source
from receiver.ledger import SIGNALS, Ledger, Signal
from receiver.otlp.encoded import Encoded
from receiver.otlp.logs import LogEncoder
from receiver.otlp.metrics import Instrument, encode_metrics, points
from receiver.otlp.resource import encode_resource
from receiver.otlp.series import SeriesPoints

if TYPE_CHECKING:
    from receiver.admin.http import HttpServer
    from receiver.config import Config
    from receiver.config.receiver import Ebpf
    from receiver.export.exporter import Exporter

LOG_RESOURCES: Final = 16384
METRIC_RESOURCES: Final = 4096
OWN_SCOPE: Final = "weir.self"
_EXTRA_WIDTH: Final = 16
_PAGE: Final = 4096


class Service:
    """Everything between a source and the exporters, built once from one configuration."""

    def __init__(
        self, config: "Config", source: Source, environ: Mapping[str, str], fatal: Callable[..., None]
    ) -> None:
        self.config, self.source = config, source
        self.ledger = Ledger()
        self.capture = "starting"
        self._servers: list[HttpServer] = []
        self._fatal = fatal
        self._stop = threading.Event()
        self.started_at = time.time_ns()
        receiver = config.receiver
        self.exporters = self._build_exporters()
        self._build_enrichment(environ)
        delta = receiver.metrics.temporality == "delta"
        self.series = SeriesTable(receiver.limits.max_edges, peer_address=receiver.metrics.peer_address)
        self._series_points = SeriesPoints(self.series, receiver.metrics.temporality)
        logs, metrics = self._outlet("logs"), self._outlet("metrics")
        self.corridor = Corridor(
            source,
            self.owners,
            self.series,
            self.ledger,
            Settings(receiver.flows.update_interval, receiver.metrics.interval, delta=delta),
            self._log_resources.encoded,
            None,
            MetricsOutlet(self._collect, lambda encoded: self._offer("metrics", metrics, encoded)) if metrics else None,
        )
        if logs:
            self.corridor.logs = LogsOutlet(
                {
                    variant: LogEncoder(
                        self.corridor.addresses.texts,
                        Texts(2, _EXTRA_WIDTH),
                        receiver.attributes.families,
                        __version__,
                        owner_rule=variant,
                        max_bytes=min((e.max_request_bytes for e in logs), default=1 << 20),
                    )
                    for variant in sorted({exporter.wants_owner_rule for exporter in logs})
                },
                lambda variant, encoded: self._offer(
                    "logs", [e for e in logs if e.wants_owner_rule == variant], encoded
                ),
            )
        self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)

    # Building

    def _build_exporters(self) -> dict[str, "Exporter"]:
        from receiver.export.build import build  # noqa: PLC0415 grpc costs 15 MiB: only where an exporter needs it

        signals: dict[str, list[Signal]] = {}
        for pipeline, parts in self.config.service.pipelines.items():
            for exporter in parts.exporters:
                name = signal_of(pipeline)
                if name not in signals.setdefault(exporter, []):
                    signals[exporter].append(name)
        return {
            name: build(name, self.config.exporters[name], self.ledger, found, self._fatal)
            for name, found in signals.items()
        }

    def _outlet(self, name: Signal) -> list["Exporter"]:
        return [exporter for exporter in self.exporters.values() if name in exporter.signals]

    def _build_enrichment(self, environ: Mapping[str, str]) -> None:
        receiver = self.config.receiver
        namespaces = read_namespaces()
        host = host_attributes(namespaces, environ)
        offset = self.source.boot_to_unix()
        composer = Composer(
            host,
            __version__,
            lambda boot: boot + offset,
            pod=pod_in_scope(read_pod(environ), receiver.scope, namespaces),
            extra=receiver.resource.attributes,
            tenant=receiver.tenant,
        )
        self._log_resources = ResourceTable(encode_resource, LOG_RESOURCES, composer.host_only())
        self._metric_resources = ResourceTable(encode_resource, METRIC_RESOURCES, for_metrics(composer.host_only()))
        self._own = [encode_resource(own_resource(host, __version__))]
        proc = Path("/proc")
        # A recording names processes of another time, perhaps of another machine.
        alive = not isinstance(self.source, Replay)
        self._reader = ProcessReader(proc) if alive and serves_own_namespace(proc) else None
        self.owners = Owners(
            composer, self._log_resources, self._metric_resources, self.source.owners, self._reader, namespaces.pid
        )

    # The capture thread

    def _capture(self) -> None:
        try:
            self.corridor.run(self._stop)
        except BaseException as error:  # noqa: BLE001 whatever it is, the process must not live on without capture
            self._fatal("capture", error)

    def _offer(self, name: Signal, exporters: Sequence["Exporter"], encoded: Sequence[Encoded]) -> None:
        from receiver.export.request import Request  # noqa: PLC0415

        for part in encoded:
            request = Request(name, part.data, part.items)
            for exporter in exporters:
                exporter.offer(request)

    def _collect(self, now: int) -> list[Encoded]:
        """The flow metrics, then Weir's own."""
        made = encode_metrics(self._series_points.collect(), self._metric_resources.encoded, now, version=__version__)
        if self.config.service.telemetry.metrics.level != "none":
            groups = [
                points(Instrument(metric.name, metric.unit, metric.text, metric.kind), rows, self.started_at)
                for metric, rows in telemetry.checked(self.own_values()).items()
                if rows
            ]
            made += encode_metrics(groups, self._own, now, scope=OWN_SCOPE, version=__version__)
        return made

    def own_values(self) -> dict[str, list[telemetry.Value]]:
        """The current value of every declared metric of Weir's own."""
        counters, counts, owners = self.source.counters(), self.corridor.counts, self.owners.counters
        used = rusage.getrusage(rusage.RUSAGE_SELF)
        values: dict[str, list[telemetry.Value]] = {
            "weir.ledger.events": telemetry.ledger_values(self.ledger.snapshot()),
            "weir.kernel.flows.full": [({}, counters.flows_full)],
            "weir.kernel.flows.replaced": [({}, counters.replaced)],
            "weir.kernel.owners.failed": [({}, counters.owners_failed)],
            "weir.capture.drains": [({}, counts.drains)],
            "weir.capture.passes": [({}, counts.passes)],
            "weir.capture.unwaited": [({}, counts.unwaited)],
            "weir.series.count": [({}, self.series.keys.used)],
            "weir.series.overflowed": [({}, self.series.overflowed)],
            "weir.owner.events": [
                ({"weir.owner.event": name}, getattr(owners, name)) for name in owners.__dataclass_fields__
            ],
            "weir.process.cpu.time": [({"cpu.mode": "user"}, used.ru_utime), ({"cpu.mode": "system"}, used.ru_stime)],
            "weir.process.memory.usage": [({}, _resident())],
        }
        for name, exporter in self.exporters.items():
            for suffix, attributes, value in exporter.metrics():
                row = ({"exporter": name, **attributes}, value)
                values.setdefault(f"weir_exporter_{suffix}", []).append(row)
        return values

    # What an operator asks

    def _build_servers(self) -> "list[HttpServer]":
        """The HTTP endpoints that are asked for; AddressError for one that cannot be listened on."""
        from receiver.admin.http import HttpServer  # noqa: PLC0415 it costs 2 MiB: only where an endpoint is asked for
        from receiver.admin.pages import health_routes, zpages_routes  # noqa: PLC0415

        servers = []
        for name in self.config.service.extensions:
            kind = name.partition("/")[0]
            settings: Any = self.config.extensions.get(name) or EXTENSIONS[kind]()
            if kind == "health_check":
                servers.append(HttpServer(name, settings.endpoint, health_routes(self._thread.is_alive)))
            elif kind == "zpages":
                routes = zpages_routes(self.ledger.snapshot, self.status)
                servers.append(HttpServer(name, settings.endpoint, routes))
        return servers

    def status(self) -> dict[str, object]:
        """What runs, in short."""
        return {
            "version": __version__,
            "capture": self.capture,
            "pipelines": {name: parts.exporters for name, parts in self.config.service.pipelines.items()},
            "series": self.series.keys.used,
            "exporters": {name: exporter.status() for name, exporter in self.exporters.items()},
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }

    # Life

    def start(self) -> None:
        """Exporters first, the receiver last."""
        if self.config.service.extensions:
            self._servers = self._build_servers()
        for server in self._servers:
            server.start()
        for exporter in self.exporters.values():
            exporter.start()
        if self._reader is not None:
            self._reader.start()
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """In reverse, by `deadline` (monotonic): capture, then discovery, then each exporter drains what it can."""
        self._stop.set()
        self._thread.join(max(0.1, deadline - time.monotonic()))
        if self._reader is not None:
            self._reader.stop(max(0.0, min(1.0, deadline - time.monotonic())))
        for exporter in self.exporters.values():
            exporter.halt(deadline)  # all of them at once: none may use up the others' time
        for exporter in self.exporters.values():
            exporter.stop(deadline)
        for server in self._servers:
            server.stop()
        self.source.close()


def signal_of(pipeline: str) -> Signal:
    """The signal of a pipeline's id, `logs` or `logs/name`."""
    return SIGNALS[SIGNALS.index(pipeline.partition("/")[0])]


def capture_options(settings: "Ebpf") -> Options:
    """What capture is loaded with, by the receiver's configuration."""
    return Options(
        netns=own_netns() if settings.scope == "netns" else 0,
        ring_bytes=ring_bytes(settings.limits.ring_mib),
        max_flows=settings.limits.max_flows,
        start_events=settings.flows.start_events,
    )


def _resident() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
