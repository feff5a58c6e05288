"""The composition root: one service built from one configuration, which knows the start and stop order."""

import resource as rusage
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from receiver import __version__, telemetry
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
from receiver.kernel.source import Source
from receiver.ledger import Ledger
from receiver.otlp.encoded import Encoded
from receiver.otlp.logs import LogEncoder
from receiver.otlp.metrics import Instrument, encode_metrics, points
from receiver.otlp.resource import encode_resource
from receiver.otlp.series import SeriesPoints

if TYPE_CHECKING:
    from receiver.config import Config
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

        signals: dict[str, list[str]] = {}
        for pipeline, parts in self.config.service.pipelines.items():
            for exporter in parts.exporters:
                name = pipeline.partition("/")[0]
                if name not in signals.setdefault(exporter, []):
                    signals[exporter].append(name)
        return {
            name: build(name, self.config.exporters[name], self.ledger, found, self._fatal)
            for name, found in signals.items()
        }

    def _outlet(self, name: str) -> list["Exporter"]:
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
        self._reader = ProcessReader(proc) if serves_own_namespace(proc) else None
        self.owners = Owners(
            composer, self._log_resources, self._metric_resources, self.source.owners, self._reader, namespaces.pid
        )

    # The capture thread

    def _capture(self) -> None:
        try:
            self.corridor.run(self._stop)
        except BaseException as error:  # noqa: BLE001 whatever it is, the process must not live on without capture
            self._fatal("capture", error)

    def _offer(self, name: str, exporters: Sequence["Exporter"], encoded: Sequence[Encoded]) -> None:
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

    # Life

    def start(self) -> None:
        """Exporters first, the receiver last."""
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
            exporter.stop(deadline)
        self.source.close()


def _resident() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
