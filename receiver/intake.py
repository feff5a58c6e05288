"""One source in, requests to the exporters out: capture, enrichment, flows and encoding of one receiver's configuration."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from receiver import __version__, telemetry
from receiver.corridor import Corridor, LogsOutlet, MetricsOutlet, Settings, TracesOutlet
from receiver.enrich.host import Namespaces, pod_in_scope, read_namespaces, read_pod
from receiver.enrich.identity import Composer, for_metrics
from receiver.enrich.owners import Owners
from receiver.enrich.process import serves_own_namespace
from receiver.enrich.reader import ProcessReader
from receiver.enrich.resources import ResourceTable
from receiver.flows.series import SeriesTable
from receiver.flows.texts import Texts
from receiver.kernel.capture import Options, own_netns, ring_bytes
from receiver.kernel.filters import Filter, Filters
from receiver.kernel.recording import Replay
from receiver.kernel.sizing import fit, memory_limit
from receiver.kernel.source import Source
from receiver.ledger import Ledger, Signal
from receiver.logs import get_logger
from receiver.lookups import LookupStage
from receiver.otlp.encoded import Encoded
from receiver.otlp.logs import LogEncoder
from receiver.otlp.lookups import LookupEncoder, duration_instrument, duration_points
from receiver.otlp.metrics import encode_metrics
from receiver.otlp.resource import encode_resource
from receiver.otlp.series import SeriesPoints
from receiver.otlp.spans import SpanEncoder

if TYPE_CHECKING:
    from receiver.config.receiver import Ebpf
    from receiver.export.exporter import Exporter
    from receiver.export.request import Request

log = get_logger("weir")
LOG_RESOURCES: Final = 16384
METRIC_RESOURCES: Final = 4096
_EXTRA_WIDTH: Final = 16
MOST_BETWEEN_PASSES: Final = 15.0  # s between two looks for UDP flows that are idle
_TAKEN_WITHIN: Final = 30.0  # s in which the capture thread takes up other exporters


@dataclass(frozen=True, slots=True)
class Place:
    """Where Weir runs."""

    environ: Mapping[str, str]
    namespaces: Namespaces
    host: Mapping[str, str]


class Intake:
    """Everything between a source and the exporters. `start` begins the capture thread."""

    def __init__(
        self,
        receiver: "Ebpf",
        source: Source,
        place: Place,
        ledger: Ledger,
        own: Callable[[int], list[Encoded]],
        fatal: Callable[[str, BaseException], None],
    ) -> None:
        self.receiver, self.source = receiver, source
        self._own, self._fatal = own, fatal
        self._stop = threading.Event()
        self._build_enrichment(place)
        self.series = SeriesTable(receiver.limits.max_edges, peer_address=receiver.metrics.peer_address)
        self._points = SeriesPoints(self.series, receiver.metrics.temporality)
        self._lookup_duration = duration_instrument(receiver.metrics.temporality)
        delta = receiver.metrics.temporality == "delta"
        self.corridor = Corridor(
            source,
            self.owners,
            self.series,
            ledger,
            Settings(
                receiver.flows.update_interval,
                receiver.metrics.interval,
                delta,
                receiver.sample.flows,
                min(receiver.flows.udp_idle_timeout / 2, MOST_BETWEEN_PASSES),
            ),
            self._log_resources.encoded,
            None,
            None,
        )
        if reads_dns(receiver):
            self.corridor.lookups = LookupStage(source, self.owners, events=receiver.dns.events)
        self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)

    def _build_enrichment(self, place: Place) -> None:
        receiver = self.receiver
        offset = self.source.boot_to_unix()
        composer = Composer(
            place.host,
            __version__,
            lambda boot: boot + offset,
            pod=pod_in_scope(read_pod(place.environ), receiver.scope, place.namespaces),
            extra=receiver.resource.attributes,
            tenant=receiver.tenant,
        )
        self._log_resources = ResourceTable(encode_resource, LOG_RESOURCES, composer.host_only())
        self._metric_resources = ResourceTable(encode_resource, METRIC_RESOURCES, for_metrics(composer.host_only()))
        proc = Path("/proc")
        # A recording names processes of another time, perhaps of another machine.
        alive = not isinstance(self.source, Replay)
        self._reader = ProcessReader(proc) if alive and serves_own_namespace(proc) else None
        self.owners = Owners(
            composer, self._log_resources, self._metric_resources, self.source.owners, self._reader,
            place.namespaces.pid,
        )  # fmt: skip

    # Exporters

    def connect(self, exporters: Sequence["Exporter"], then: Callable[[], None]) -> None:
        """From the next step on, what is captured goes to `exporters`; `then` is called in that moment.

        Returns when it is done. Raises TimeoutError where the capture thread does not come to it.
        """

        def change() -> None:
            self._connect_logs([exporter for exporter in exporters if "logs" in exporter.signals])
            self._connect_metrics([exporter for exporter in exporters if "metrics" in exporter.signals])
            self._connect_traces([exporter for exporter in exporters if "traces" in exporter.signals])
            then()

        if not self._thread.is_alive():
            change()
            return
        taken = threading.Event()

        def change_and_say() -> None:
            change()
            taken.set()

        self.corridor.before_next_step(change_and_say)
        if not taken.wait(_TAKEN_WITHIN):
            raise TimeoutError("the capture thread did not take up the new exporters")

    def _connect_logs(self, exporters: Sequence["Exporter"]) -> None:
        if not exporters:
            self.corridor.logs = None
            return
        by_variant, lookups = _by_variant(exporters), self.corridor.lookups
        encoders = {
            variant: LogEncoder(
                self.corridor.addresses.texts,
                Texts(2, _EXTRA_WIDTH),
                self.receiver.attributes.families,
                __version__,
                owner_rule=variant,
                sampling=self.receiver.sample.flows,
                names=lookups.names.texts if lookups is not None else None,
                max_bytes=min(exporter.max_request_bytes for exporter in exporters),
            )
            for variant in by_variant
        }
        self.corridor.logs = LogsOutlet(
            encoders,
            lambda variant, encoded: _offer("logs", by_variant[variant], encoded),
            lambda variant, encoded: self._wait_for_room("logs", by_variant[variant], encoded),
            lambda: self._wait_for_result("logs", exporters),
            LookupEncoder(__version__, min(exporter.max_request_bytes for exporter in exporters)),
        )

    def _connect_traces(self, exporters: Sequence["Exporter"]) -> None:
        if not exporters or not self.receiver.flows.spans:
            self.corridor.traces = None
            return
        by_variant, lookups = _by_variant(exporters), self.corridor.lookups
        encoders = {
            variant: SpanEncoder(
                os.urandom,
                self.corridor.addresses.texts,
                Texts(2, _EXTRA_WIDTH),
                self.receiver.attributes.families,
                __version__,
                owner_rule=variant,
                sampling=self.receiver.sample.flows,
                names=lookups.names.texts if lookups is not None else None,
                max_bytes=min(exporter.max_request_bytes for exporter in exporters),
            )
            for variant in by_variant
        }
        self.corridor.traces = TracesOutlet(
            encoders,
            lambda variant, encoded: _offer("traces", by_variant[variant], encoded),
            lambda variant, encoded: self._wait_for_room("traces", by_variant[variant], encoded),
            lambda: self._wait_for_result("traces", exporters),
        )

    def _connect_metrics(self, exporters: Sequence["Exporter"]) -> None:
        if not exporters:
            self.corridor.metrics = None
            return
        self.corridor.metrics = MetricsOutlet(
            self._collect,
            lambda encoded: _offer("metrics", exporters, encoded),
            lambda encoded: self._wait_for_room("metrics", exporters, encoded),
            lambda: self._wait_for_result("metrics", exporters),
        )

    def _wait_for_room(self, signal: Signal, exporters: Sequence["Exporter"], encoded: Sequence[Encoded]) -> None:
        requests = _requests(signal, encoded)
        for exporter in exporters:
            exporter.wait_for_room(requests, self._stop)

    def _wait_for_result(self, signal: Signal, exporters: Sequence["Exporter"]) -> None:
        for exporter in exporters:
            exporter.wait_for_result(signal, self._stop)

    def _collect(self, now: int) -> list[Encoded]:
        """The flow metrics, then Weir's own."""
        groups = self._points.collect()
        if self.corridor.lookups is not None:
            groups += duration_points(self.corridor.lookups.durations, self._lookup_duration)
        found = encode_metrics(groups, self._metric_resources.encoded, now, version=__version__)
        return found + self._own(now)

    def values(self) -> dict[str, list[telemetry.Value]]:
        """The current value of each of Weir's own metrics that is about capture, owners and series."""
        counters, counts, owners = self.source.counters(), self.corridor.counts, self.owners.counters
        return {
            "weir.kernel.flows.full": [({}, counters.flows_full)],
            "weir.kernel.flows.replaced": [({}, counters.replaced)],
            "weir.kernel.runs.missed": [({}, counters.missed)],
            "weir.kernel.udp.full": [({}, counters.udp_full)],
            "weir.kernel.udp.missed": [({}, counters.udp_missed)],
            "weir.kernel.udp.exits": [({}, counters.udp_exits)],
            **(self.corridor.lookups.values() if self.corridor.lookups is not None else {}),
            "weir.kernel.owners.failed": [({}, counters.owners_failed)],
            "weir.capture.drains": [({}, counts.drains)],
            "weir.capture.passes": [({}, counts.passes)],
            "weir.capture.unwaited": [({}, counts.unwaited)],
            "weir.series.count": [({}, self.series.keys.used)],
            "weir.series.overflowed": [({}, self.series.overflowed)],
            "weir.owner.events": [
                ({"weir.owner.event": name}, getattr(owners, name)) for name in owners.__dataclass_fields__
            ],
        }

    # Life

    def is_alive(self) -> bool:
        """Whether the capture thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to take what the source has."""
        if self._reader is not None:
            self._reader.start()
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """The last passes, the rest of the ring, then discovery; by `deadline` (monotonic). Closes the source."""
        self._stop.set()
        self._thread.join(max(0.1, deadline - time.monotonic()))
        if self._reader is not None:
            self._reader.stop(max(0.0, min(1.0, deadline - time.monotonic())))
        counters = self.source.counters()
        if counters.missed or counters.replaced:
            log.warning(
                "The kernel did not show every change of a state: it leaves out what interrupts itself.",
                missed=counters.missed, ends_missed=counters.replaced,
            )  # fmt: skip
        self.source.close()

    def _capture(self) -> None:
        try:
            self.corridor.run(self._stop)
        except BaseException as error:  # noqa: BLE001 whatever it is, the process must not live on without capture
            self._fatal("capture", error)


def capture_options(settings: "Ebpf") -> Options:
    """What capture is loaded with, by the receiver's configuration and the container's memory limit."""
    ring = ring_bytes(settings.limits.ring_mib)
    return Options(
        netns=own_netns() if settings.scope == "netns" else 0,
        ring_bytes=ring,
        max_flows=fit(settings.limits.max_flows, ring, memory_limit()).max_flows,
        start_events=settings.flows.start_events,
        udp_idle_timeout=settings.flows.udp_idle_timeout,
        dns_ports=tuple(dict.fromkeys(settings.dns.ports)) if reads_dns(settings) else (),
        filters=Filters(Filter(**settings.exclude.model_dump()), Filter(**settings.include.model_dump())),
    )


def reads_dns(settings: "Ebpf") -> bool:
    """Whether DNS is read: where it is asked for, and never that of a whole machine."""
    return not _in_machines_network() and settings.dns.enabled and settings.scope == "netns"


@cache  # asked first at start, before privileges are dropped that the answer may need
def _in_machines_network() -> bool:
    return "net" in read_namespaces().initial


def _by_variant(exporters: Sequence["Exporter"]) -> dict[bool, list["Exporter"]]:
    """The exporters whose records carry the rule that found their owner, and the others."""
    found: dict[bool, list[Exporter]] = {}
    for exporter in exporters:
        found.setdefault(exporter.wants_owner_rule, []).append(exporter)
    return found


def _requests(signal: Signal, encoded: Sequence[Encoded]) -> "list[Request]":
    from receiver.export.request import Request  # noqa: PLC0415

    return [Request(signal, part.data, part.items) for part in encoded]


def _offer(signal: Signal, exporters: Sequence["Exporter"], encoded: Sequence[Encoded]) -> None:
    for request in _requests(signal, encoded):
        for exporter in exporters:
            exporter.offer(request)
