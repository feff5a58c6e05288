"""The composition root: one service built from a configuration, and changed to another; it knows start and stop order."""

import resource as rusage
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from receiver import __version__, telemetry
from receiver.config.service import EXTENSIONS
from receiver.enrich.host import host_attributes, read_namespaces
from receiver.enrich.own import own_resource
from receiver.intake import Intake, Place
from receiver.kernel.source import Source
from receiver.ledger import SIGNALS, Ledger, Signal
from receiver.logs import get_logger
from receiver.otlp.encoded import Encoded
from receiver.otlp.metrics import Instrument, encode_metrics, points
from receiver.otlp.resource import encode_resource

if TYPE_CHECKING:
    from receiver.admin.http import HttpServer
    from receiver.config import Config
    from receiver.export.exporter import Exporter
    from receiver.export.storage import FileStorage

log = get_logger("weir")
OWN_SCOPE: Final = "weir.self"
_PAGE: Final = 4096


class Service:
    """A source's intake, the exporters, and what an operator looks at. Raises ValueError for what cannot be built."""

    def __init__(
        self, config: "Config", source: Source, environ: Mapping[str, str], fatal: Callable[[str, BaseException], None]
    ) -> None:
        self.config = config
        self.ledger = Ledger()
        self.capture = "starting"
        self._fatal = fatal
        self.started_at = time.time_ns()
        namespaces = read_namespaces()
        self._place = Place(environ, namespaces, host_attributes(namespaces, environ))
        self._own = [encode_resource(own_resource(self._place.host, __version__))]
        self._servers: dict[str, HttpServer] = {}
        self._storages: dict[str, FileStorage] = {}
        try:
            self._open_storages(config)
            self.exporters = {name: self._exporter(name, config) for name in wanted(config)}
            self._build_servers(config)
        except ValueError:
            self._release()
            raise
        self._say_strangers()
        self.intake = self._intake(source)
        self.intake.connect(list(self.exporters.values()), self._connected)

    # Building

    def _intake(self, source: Source) -> Intake:
        return Intake(self.config.receiver, source, self._place, self.ledger, self._own_metrics, self._fatal)

    def _exporter(self, name: str, config: "Config", previous: "Exporter | None" = None) -> "Exporter":
        from receiver.export.build import build  # noqa: PLC0415 grpc costs 15 MiB: only where an exporter needs it

        settings = config.exporters[name]
        return build(name, settings, self.ledger, wanted(config)[name], self._fatal,
                     extensions=config.extensions, storages=self._storages, previous=previous)  # fmt: skip

    def _connected(self) -> None:
        """Tell the ledger who is offered what, in the moment in which that changes."""
        self.ledger.connect(
            {signal: [e.id for e in self.exporters.values() if signal in e.signals] for signal in SIGNALS}
        )

    def _open_storages(self, config: "Config") -> None:
        """The file_storage extensions that are asked for and not open yet."""
        for name in config.service.extensions:
            if name.partition("/")[0] != "file_storage":
                continue
            from receiver.export.segment import StorageError  # noqa: PLC0415 only where one is asked for
            from receiver.export.storage import FileStorage  # noqa: PLC0415

            settings = _extension(config, name)
            size = settings.max_size_mib << 20
            if name in self._storages and self._storages[name].path == settings.directory:
                self._storages[name].change(max_bytes=size, fsync=settings.fsync)
                continue
            if name in self._storages:
                raise ValueError(f"extensions::{name}::directory: cannot be changed while Weir runs: restart it")
            try:
                self._storages[name] = FileStorage(
                    settings.directory, max_bytes=size, fsync=settings.fsync, create_directory=settings.create_directory
                )
            except StorageError as error:
                raise ValueError(f"extensions::{name}::directory: {error}") from error

    def _say_strangers(self) -> None:
        for storage in self._storages.values():
            for stranger in storage.strangers():
                log.warning(
                    "The spool holds data of an exporter that does not use it.", exporter=stranger.exporter_id,
                    data_type=stranger.signal, items=stranger.items, bytes=stranger.size, directory=storage.path,
                )  # fmt: skip
            if storage.foreign:
                log.warning("The spool's directory holds files that are not Weir's.", directory=storage.path,
                            files=storage.foreign[:10])  # fmt: skip

    def _build_servers(self, config: "Config") -> None:
        """The HTTP endpoints that are asked for and not there yet; AddressError for one that cannot be listened on."""
        for name in config.service.extensions:
            kind = name.partition("/")[0]
            if kind not in {"health_check", "zpages"} or name in self._servers:
                continue
            from receiver.admin.http import HttpServer  # noqa: PLC0415 it costs 2 MiB: only where an endpoint is asked for
            from receiver.admin.pages import health_routes, zpages_routes  # noqa: PLC0415

            health = kind == "health_check"
            routes = health_routes(self._is_capturing) if health else zpages_routes(self.ledger.snapshot, self.status)
            server = self._servers[name] = HttpServer(name, _extension(config, name).endpoint, routes)
            server.start()

    def _is_capturing(self) -> bool:
        return self.intake.is_alive()

    def _release(self) -> None:
        for server in self._servers.values():
            server.stop()
        for storage in self._storages.values():
            storage.close()

    # What an operator asks

    def _own_metrics(self, now: int) -> list[Encoded]:
        """Weir's own metrics, encoded."""
        if self.config.service.telemetry.metrics.level == "none":
            return []
        groups = [
            points(Instrument(metric.name, metric.unit, metric.text, metric.kind), rows, self.started_at)
            for metric, rows in telemetry.checked(self.own_values()).items()
            if rows
        ]
        return encode_metrics(groups, self._own, now, scope=OWN_SCOPE, version=__version__)

    def own_values(self) -> dict[str, list[telemetry.Value]]:
        """The current value of every declared metric of Weir's own."""
        used = rusage.getrusage(rusage.RUSAGE_SELF)
        values: dict[str, list[telemetry.Value]] = {
            "weir.ledger.events": telemetry.ledger_values(self.ledger.snapshot()),
            **self.intake.values(),
            "weir.process.cpu.time": [({"cpu.mode": "user"}, used.ru_utime), ({"cpu.mode": "system"}, used.ru_stime)],
            "weir.process.memory.usage": [({}, _resident())],
        }
        for name, exporter in self.exporters.items():
            for suffix, attributes, value in exporter.metrics():
                row = ({"exporter": name, **attributes}, value)
                values.setdefault(f"weir_exporter_{suffix}", []).append(row)
        return values

    def status(self) -> dict[str, object]:
        """What runs, in short."""
        return {
            "version": __version__,
            "capture": self.capture,
            "pipelines": {name: parts.exporters for name, parts in self.config.service.pipelines.items()},
            "series": self.intake.series.keys.used,
            "exporters": {name: exporter.status() for name, exporter in self.exporters.items()},
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }

    # Life

    def start(self) -> None:
        """Exporters first, the receiver last."""
        for exporter in self.exporters.values():
            exporter.start()
        self.intake.start()

    def change(self, config: "Config", source: Source | None, attach: Callable[[], None]) -> None:
        """Run by `config` from now on; `source` is a new one where the receiver changed, and `attach` attaches it.

        What did not change goes on untouched. Raises ValueError, with nothing changed, for what cannot be built.
        """
        old, before = self.config, dict(self.exporters)
        same = {name for name in before.keys() & wanted(config).keys() if _all_of(name, old) == _all_of(name, config)}
        self._move_servers(config)
        self._open_storages(config)
        made = {name: self._exporter(name, config, before.get(name)) for name in wanted(config).keys() - same}
        deadline = time.monotonic() + config.service.shutdown_timeout
        self.config = config
        self.exporters = {name: before[name] if name in same else made[name] for name in wanted(config)}
        if source is not None:
            self.intake.stop(deadline)  # its last reports go where they always went
            with self.ledger.boundary():
                for signal in SIGNALS:
                    self.ledger.signal(signal).fold()
            self.intake = self._intake(source)
        self.intake.connect(list(self.exporters.values()), self._connected)
        if source is not None:
            self.intake.start()
            attach()  # before an exporter ends: capture must see whose its connections are
        for name, exporter in before.items():
            if name in made:
                exporter.hand_over(made[name], deadline)
            elif name not in same:
                exporter.stop(deadline)
        for exporter in made.values():
            exporter.start()
        for name in self._storages.keys() - set(config.service.extensions):
            self._storages.pop(name).close()

    def _move_servers(self, config: "Config") -> None:
        """Servers whose settings changed; where that fails, the old ones serve again."""
        gone = [
            name for name in self._servers
            if name not in config.service.extensions or _extension(config, name) != _extension(self.config, name)
        ]  # fmt: skip
        for name in gone:
            self._servers.pop(name).stop()
        try:
            self._build_servers(config)
        except ValueError:
            self._move_servers(self.config)
            raise

    def stop(self, deadline: float) -> None:
        """In reverse, by `deadline` (monotonic): capture, then discovery, then each exporter drains what it can."""
        self.intake.stop(deadline)
        for exporter in self.exporters.values():
            exporter.halt(deadline)  # all of them at once: none may use up the others' time
        for exporter in self.exporters.values():
            exporter.stop(deadline)
        self._release()


def wanted(config: "Config") -> dict[str, list[Signal]]:
    """Exporters that pipelines name, with their signals."""
    found: dict[str, list[Signal]] = {}
    for pipeline, parts in config.service.pipelines.items():
        signal = SIGNALS[SIGNALS.index(pipeline.partition("/")[0])]
        for exporter in parts.exporters:
            if signal not in found.setdefault(exporter, []):
                found[exporter].append(signal)
    return found


def _all_of(name: str, config: "Config") -> tuple[object, ...]:
    """Everything that an exporter is made of."""
    settings = config.exporters[name]
    queue, auth = getattr(settings, "sending_queue", None), getattr(settings, "auth", None)
    used = [queue.storage if queue else "", auth.authenticator if auth else ""]
    return settings, wanted(config)[name], [config.extensions.get(extension) for extension in used]


def _extension(config: "Config", name: str) -> Any:  # noqa: ANN401 each has a schema of its own
    return config.extensions.get(name) or EXTENSIONS[name.partition("/")[0]]()


def _resident() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
