"""One fault on a stage: a Weir and a Collector that misbehaves in; what was offered, arrived, was lost and came twice out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from integration.harness.collector import Collector
from integration.harness.namespaces import Namespace
from integration.harness.otlp import Event
from integration.harness.processes import script
from integration.harness.stage import Stage
from integration.harness.weir import Weir

Identity: TypeAlias = tuple[str, str, int]
Record: TypeAlias = Callable[[str, object], None]

PROPERTY: Final = "fault"  # of a test's report: its row of the table
# Small requests, so that some hundred records are many of them.
SMALL: Final = {"max_request_bytes": 16384}
ZPAGES: Final = 14679
ENDED: Final = "Exporting ended."


def identity(event: Event) -> Identity:
    """What makes a record this one and no other."""
    return event["weir.flow.instance.id"], event.name, event.time


@dataclass(frozen=True)
class Row:
    """Log records of one run with a fault."""

    fault: str
    does: str  # what Weir does about it
    offered: int
    arrived: int  # different records in the Collector's file
    exported: int
    lost: dict[str, int]  # counted, by stage/reason
    unwritten: int  # acknowledged by a Collector that was ended by SIGKILL before it wrote them
    copies: int  # records that were in the file already
    copied_requests: int  # requests in the file all of whose records were there already
    retried: int  # attempts that repeated one


class Trial:
    """A Weir in a namespace of its own with a Collector, before or after it begins to misbehave."""

    def __init__(
        self, stage: Stage, config: str = "basic.yaml", changes: Mapping[str, Any] | None = None, *, start: bool = True
    ) -> None:
        self.stage = stage
        self.space: Namespace = stage.namespace()
        self.collector: Collector = stage.collector(self.space, config=config, changes=changes, start=start)
        self._weir: Weir | None = None
        self._first, self.sent = 10_000, 0

    @property
    def weir(self) -> Weir:
        assert self._weir is not None
        return self._weir

    def start(
        self,
        exporter: Mapping[str, Any] | None = None,
        service: Mapping[str, Any] | None = None,
        receiver: Mapping[str, Any] | None = None,
    ) -> Weir:
        """Weir, with small requests where nothing else is said."""
        self._weir = self.stage.weir(self.space, self.collector, receiver, {**SMALL, **(exporter or {})}, service)
        return self._weir

    def talk(self, connections: int) -> None:
        """Connections, each with an event at both ends."""
        self.stage.talk(self.space, connections, self._first)
        self._first += connections
        self.sent += 2 * connections

    def burst(self, connload: Path, *arguments: object) -> None:
        """`connload conn` to a server of its own, with RATE SECS BYTES [MAXCONN]."""
        command = [str(connload), "conn", "127.0.0.1", "7000", *map(str, arguments)]
        (paced,) = self.stage.run(self.space, command).done(90)
        assert paced["failed"] == 0, paced
        self.sent += 2 * paced["completed"]

    def wait_for_all(self, seconds: float = 60) -> None:
        """Until the file holds every record that there can be."""
        self.collector.wait_for_events(self.sent, seconds=seconds)

    def cause(self, name: str, message: str | None = None) -> dict[str, Any]:
        """The first log line that tells of this kind of failure."""
        return next(line for line in self.weir.logs(message) if line.get("cause") == name)

    def asked(self, path: str) -> dict[str, Any]:
        """A page of its zpages; the connection that asks is a flow as well, with an event at both ends."""
        page: dict[str, Any] = json.loads(self.space.run(*script("ask.py", ZPAGES, path)))
        self.sent += 2
        return page

    def attempts(self, signal: str = "logs") -> tuple[int, int]:
        """Attempts of a Weir that has ended, and how many of them repeated one."""
        (line,) = [line for line in self.weir.logs(ENDED) if line["signal"] == signal]
        return line["requests"], line["retried_requests"]

    def end(
        self, record: Record, fault: str, does: str, *, errors: bool = False, unwritten: int = 0
    ) -> tuple[Row, dict[str, Any]]:
        """Stop both and judge: the row, which becomes a property of the test, and the final ledger of all signals.

        Checked: the ledger balances, what was offered is what was sent, every exported record is in the file, nothing
        is in the file that was not sent, and no request came twice but by an attempt that was counted as repeated.
        `unwritten` is the exception: how many records a SIGKILLed Collector had acknowledged and not yet written.
        """
        ledger = self.weir.stop(60, errors=errors)
        self.collector.stop()
        logs = ledger["logs"]
        requests = [[identity(event) for event in request] for request in self.collector.requests()]
        seen: set[Identity] = set()
        copies = copied_requests = 0
        for request in requests:
            again = seen.intersection(request)
            assert len(again) in {0, len(request)}, (
                f"{len(again)} of the {len(request)} records of a request were there"
            )
            copies += len(again)
            copied_requests += bool(again)
            seen.update(request)
        _, retried = self.attempts()
        row = Row(
            fault, does, logs["observed"] - sum(logs["filtered"].values()), len(seen), logs["exported"],
            logs["dropped"], unwritten, copies, copied_requests, retried,
        )  # fmt: skip
        record(PROPERTY, asdict(row))
        assert row.offered == self.sent, row
        assert len(seen) + copies == sum(map(len, requests)), "a record stands twice in one request"
        assert row.exported <= row.arrived + unwritten <= row.exported + sum(row.lost.values()), row
        assert row.copied_requests <= row.retried, row
        return row, ledger
