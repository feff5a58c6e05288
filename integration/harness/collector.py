"""A real Collector, started and stopped at will in a network namespace, whose files are read back as flat records."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from integration.harness.namespaces import Namespace
from integration.harness.otlp import Event, Lines, Point, Span, events, points, spans
from integration.harness.processes import Program, Programs
from integration.harness.waiting import PATIENCE, until

OTELCOL: Final = Path(__file__).resolve().parent.parent / "otelcol"
PORT: Final = 4317  # nobody else is in the namespace
_LISTEN: Final = "0A"


def build() -> Path:
    """The Collector's binary, built if it must be."""
    made = subprocess.run([OTELCOL / "build.sh"], capture_output=True, text=True, timeout=900, check=False)
    assert made.returncode == 0, f"the Collector could not be built: {made.stderr}"
    return Path(made.stdout.strip())


def listens(pid: int, port: int) -> bool:
    """Whether somebody in the network namespace of `pid` listens on TCP `port`; read, not tried, so that no flow is made."""
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            return False
        for row in rows:
            parts = row.split()
            if parts[3] == _LISTEN and int(parts[1].rpartition(":")[2], 16) == port:
                return True
    return False


def in_namespace(pid: int, space: Namespace) -> bool:
    """Whether the process has arrived in `space`."""
    return os.stat(f"/proc/{pid}/ns/net").st_ino == space.inode


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: mappings are merged, all else is replaced, and None removes."""
    found = dict(base)
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found


class Collector:
    """`basic.yaml` (or another configuration of otelcol/, with changes) in a namespace. Files survive a restart."""

    def __init__(
        self,
        programs: Programs,
        space: Namespace,
        binary: Path,
        directory: Path,
        config: str = "basic.yaml",
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        self._programs, self._space, self._binary = programs, space, binary
        self._directory, self._config = directory, directory / config
        self.configure(changes or {})
        self._program: Program | None = None
        self._logs, self._metrics = Lines(directory / "logs.jsonl"), Lines(directory / "metrics.jsonl")
        self._traces = Lines(directory / "traces.jsonl")
        self.endpoint = f"127.0.0.1:{PORT}"

    def configure(self, changes: Mapping[str, Any]) -> None:
        """The configuration with these changes only, from the next start on."""
        base = yaml.safe_load((OTELCOL / self._config.name).read_text())
        self._config.write_text(yaml.safe_dump(merged(base, changes)))

    @property
    def pid(self) -> int:
        assert self._program is not None
        return self._program.pid

    def start(self) -> None:
        """Until it listens."""
        command = self._space.inside([str(self._binary), "--config", str(self._config)])
        program = self._programs.start(command, {"OUT_DIR": str(self._directory), "OTLP_PORT": str(PORT)})
        self._program = program

        def ready() -> bool:
            assert program.running(), f"the Collector ended: {program.errors[-20:]}"
            return in_namespace(program.pid, self._space) and listens(program.pid, PORT)

        until(ready, "listening Collector")

    def stop(self) -> None:
        """In order: what it has taken is in its files."""
        assert self._program is not None
        self._program.signal(signal.SIGTERM)
        assert self._program.wait() == 0, self._program.errors[-20:]

    def signal(self, number: int) -> None:
        assert self._program is not None
        self._program.signal(number)

    def kill(self) -> None:
        """At once: what it has taken and not yet flushed is lost with it."""
        assert self._program is not None
        self._program.signal(signal.SIGKILL)
        self._program.wait()

    def received(self) -> int:
        """Bytes that have come in over connections that are open."""
        table = self._space.run("ss", "-tinH", "state", "established", "sport", "=", f":{PORT}")
        return sum(int(count) for count in re.findall(r"\bbytes_received:(\d+)", table))

    def requests(self) -> list[list[Event]]:
        """The log records of each request so far."""
        return [list(events(request)) for request in self._logs.look()]

    def events(self) -> list[Event]:
        """Every log record so far."""
        return [event for request in self._logs.look() for event in events(request)]

    def spans(self) -> list[Span]:
        """Every span so far."""
        return [span for request in self._traces.look() for span in spans(request)]

    def points(self) -> list[Point]:
        """Every metric data point so far."""
        return [point for request in self._metrics.look() for point in points(request)]

    def latest(self) -> list[Point]:
        """The last point of each series."""
        return list({point.series: point for point in self.points()}.values())

    def wait_for_events(
        self, count: int, chosen: Callable[[Event], bool] = lambda _: True, seconds: float = PATIENCE
    ) -> list[Event]:
        """The events that are `chosen`, when there are at least `count`."""
        found: list[Event] = []

        def enough() -> bool:
            found[:] = filter(chosen, self.events())
            return len(found) >= count

        try:
            until(enough, f"{count} events", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {len(found)} of {count} events in the Collector's file") from None
        return found

    def wait_for_points(self, chosen: Callable[[Point], bool], what: str, seconds: float = PATIENCE) -> list[Point]:
        """The points that are `chosen`, when there is one."""
        return until(lambda: [point for point in self.points() if chosen(point)], what, seconds)
