"""A seed in, a verdict out: `python -m integration.soak` (root) kills a Collector at random under load and compares sets.

The one loss that is allowed: what a Collector ended by SIGKILL had acknowledged and not yet written. Before each SIGKILL the
ledger is read, longer before than the Collector's flush interval, and again after it: what was acknowledged in between is the bound.
"""

import argparse
import json
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from integration.harness import needs
from integration.harness.collector import Collector, build
from integration.harness.namespaces import Namespace
from integration.harness.processes import Program, script
from integration.harness.stage import Stage
from integration.harness.tally import Count, Tail, Tally
from integration.harness.waiting import until
from integration.harness.weir import Weir, configuration

LIVES: Final = (2.0, 8.0)  # s that a Collector lives
OUTAGES: Final = (0.2, 1.2)  # s that there is none
FLUSH: Final = 0.05  # s between flushes of the Collector's file
FLUSHED: Final = 2 * FLUSH  # s after which all is flushed, on a machine that is busy too
BURST: Final = 0.01  # s that requests come in one after the other
GROWTH: Final = 0.05  # of the resident set, from the second quarter to the last, that is still flat
SHORTEST: Final = 20.0  # s
SHORT: Final = (
    300.0  # s: in a shorter run one long outage, with a full queue, fills a quarter: three times that is flat
)
_PAUSE: Final = 0.05
_BETWEEN_SAMPLES: Final = 0.5
_ZPAGES: Final = 14679
_EXPORTER: Final = {
    "retry_on_failure": {"initial_interval": "500ms", "max_interval": "500ms", "max_elapsed_time": "0s"},
    "max_request_bytes": 65536,  # many requests, so that a kill meets some
}
_SERVICE: Final = {"extensions": ["zpages"], "shutdown_timeout": "60s"}


def changes(path: Path) -> dict[str, Any]:
    """Changes to basic.yaml: log records to `path`, metrics to nowhere."""
    file = {"path": str(path), "append": True, "flush_interval": f"{FLUSH * 1000:.0f}ms"}
    return {
        "exporters": {"file/logs": file, "nop": {}, "file/metrics": None, "file/traces": None, "debug": None},
        "service": {
            "pipelines": {"logs": {"exporters": ["file/logs"]}, "metrics": {"exporters": ["nop"]}, "traces": None}
        },
    }


@dataclass
class Kills:
    """How often the Collector was ended, and what that may have cost."""

    terminated: int = 0
    killed: int = 0
    torn: int = 0  # files whose last line was
    bound: int = 0  # records acknowledged shortly before a SIGKILL


@dataclass
class Outcome:
    """What a soak found; `wrong` is empty where all of it holds."""

    connections: int
    rate: float
    offered: int
    exported: int
    lost: dict[str, int]
    missing: int
    requests: int
    retried: int
    count: Count
    kills: Kills
    rss: list[int]  # KiB, in order
    asked: int
    failed: int
    wrong: list[str] = field(default_factory=list)

    def quarter(self, number: int) -> float:
        """The median of one of the four quarters of the samples."""
        size = len(self.rss) // 4
        return statistics.median(self.rss[(number - 1) * size : number * size])

    @property
    def growth(self) -> float:
        return self.quarter(4) / self.quarter(2) - 1

    def judge(self, growth: float) -> None:
        """Say what does not hold; `growth` of the resident set is too much."""
        expected = 2 * (self.connections + self.asked)
        for holds, text in (
            (self.failed == 0, f"{self.failed} connections failed"),
            (self.offered == expected, f"{self.offered} records were offered, not {expected}"),
            (not self.lost, f"lost: {self.lost}"),
            (self.missing >= 0, f"{-self.missing} records are in the files that were not exported"),
            (
                self.missing <= self.kills.bound,
                f"{self.missing} records are missing, at most {self.kills.bound} may be",
            ),
            (self.count.mixed_requests == 0, f"{self.count.mixed_requests} requests are copies in part"),
            (
                self.count.copied_requests <= self.retried,
                f"{self.count.copied_requests} requests came again, {self.retried} were repeated",
            ),
            (self.growth < growth, f"the resident set grew by {self.growth:.1%}"),
            (self.kills.terminated + self.kills.killed > 0, "the Collector was never ended"),
        ):
            if not holds:
                self.wrong.append(text)

    def text(self) -> str:
        mib = [f"{kib / 1024:.1f}" for kib in (self.rss[0], statistics.median(self.rss), max(self.rss))]
        return "\n".join(
            (
                f"connections        {self.connections} at {self.rate:.0f}/s",
                f"records            {self.offered} offered, {self.exported} exported, {self.count.distinct} arrived, lost {self.lost or 0}",
                f"missing            {self.missing}; acknowledged shortly before a SIGKILL: {self.kills.bound}; torn lines: {self.kills.torn}",
                f"duplicates         {self.count.copies} records in {self.count.copied_requests} requests",
                f"attempts           {self.requests}, {self.retried} of them repeated",
                f"Collector ended    {self.kills.terminated} times by SIGTERM, {self.kills.killed} by SIGKILL",
                f"resident set       first {mib[0]}, median {mib[1]}, max {mib[2]} MiB; last quarter {self.growth:+.1%}",
                *(f"WRONG: {text}" for text in self.wrong),
                "all of it holds" if not self.wrong else "FAILED",
            )
        )  # fmt: skip


class Soak:
    """One run on a stage."""

    def __init__(
        self, stage: Stage, connload: Path, seconds: float, rate: int, seed: int, *, durable: bool = True
    ) -> None:
        self._stage, self._connload, self._seconds, self._rate = stage, connload, seconds, rate
        self._durable = durable
        self._chance = random.Random(seed)
        self._space: Namespace = stage.namespace()
        self._collector: Collector = stage.collector(self._space, start=False)
        self._tally, self._kills = Tally(), Kills()
        self._life, self._asked = 0, 0
        self._rss: list[int] = []
        self._sampled = 0.0

    def run(self) -> Outcome:
        """Load, kills, the end, and the outcome, judged."""
        self._begin()
        weir = self._stage.weirs.start(self._space, self._configuration())
        load = self._load()
        for moment in self._moments():
            if not self._follow(weir, load, moment):
                break
            self._kill(self._chance.choice((signal.SIGTERM, signal.SIGKILL)))
            pause = time.monotonic() + self._chance.uniform(*OUTAGES)
            self._follow(weir, load, pause)
            self._begin()
        (made,) = load.done()
        ledger = weir.stop(90, errors=True)["logs"]
        for line in weir.logs():
            if line["level"] in {"warn", "warning"} and line["msg"].startswith("The kernel did not show"):
                print(line)
        (ended,) = [line for line in weir.logs("Exporting ended.") if line["signal"] == "logs"]
        self._collector.stop()
        self._kills.torn += self._tail.end()
        count = self._tally.count()
        outcome = Outcome(
            made["completed"], made["rate"], ledger["observed"] - sum(ledger["filtered"].values()), ledger["exported"],
            ledger["dropped"], ledger["exported"] - count.distinct, ended["requests"], ended["retried_requests"], count,
            self._kills, self._rss, self._asked, made["failed"],
        )  # fmt: skip
        outcome.judge(GROWTH if self._seconds >= SHORT else 3 * GROWTH)
        return outcome

    def _configuration(self) -> dict[str, Any]:
        """With a durable queue, which holds an outage of any length; else with the default 16 MiB of memory."""
        made = configuration(self._collector.endpoint, None, _EXPORTER, _SERVICE)
        if self._durable:
            made["exporters"]["otlp_grpc"]["sending_queue"] = {"storage": "file_storage"}
            made["extensions"] = {"file_storage": {"directory": str(self._stage.directory / "spool")}}
            made["service"] = {**_SERVICE, **made["service"], "extensions": ["zpages", "file_storage"]}
        return made

    def _load(self) -> Program:
        self._stage.listen(self._space, self._connload, 7000)
        count = int(self._rate * self._seconds)
        command = [self._connload, "conn", "127.0.0.1", "7000", self._rate, self._seconds, 64, count]
        return self._stage.run(self._space, [str(part) for part in command])

    def _moments(self) -> Iterator[float]:
        """When to end a Collector that has just been started."""
        while True:
            yield time.monotonic() + self._chance.uniform(*LIVES)

    def _begin(self) -> None:
        """A new life of the Collector, with a file of its own."""
        self._life += 1
        path = self._stage.directory / f"life-{self._life}.jsonl"
        self._collector.configure(changes(path))
        self._collector.start()
        self._tail = Tail(path, self._tally)

    def _follow(self, weir: Weir, load: Program, end: float) -> bool:
        """Read and sample until `end`; whether the load goes on."""
        while (now := time.monotonic()) < end:
            if not load.running():
                return False
            if now - self._sampled >= _BETWEEN_SAMPLES:
                self._sampled = now
                found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{weir.pid}/status").read_text(), re.MULTILINE)
                assert found is not None
                self._rss.append(int(found[1]))
            if not self._tail.look():
                time.sleep(_PAUSE)
        return load.running()

    def _exported(self) -> int:
        """Records that Weir knows to be acknowledged."""
        self._asked += 1
        ledger = json.loads(self._space.run(*script("ask.py", _ZPAGES, "/debug/ledger")))
        return int(ledger["logs"]["exported"])

    def _kill(self, number: int) -> None:
        """End the Collector, and take in what it has written."""
        if number == signal.SIGTERM:
            self._in_a_burst()
            self._collector.stop()
            self._kills.terminated += 1
        else:
            before = self._exported()
            time.sleep(FLUSHED)
            self._in_a_burst()
            self._collector.kill()
            self._kills.killed += 1
            self._kills.bound += self._settled() - before
        self._kills.torn += self._tail.end()

    def _in_a_burst(self) -> None:
        """Wait until requests come in, and a moment more: what is between two bursts meets no call."""
        size = self._tail.size()
        until(lambda: self._tail.size() > size, "growth of the file", 5, between=0.001)
        time.sleep(self._chance.uniform(0, BURST))

    def _settled(self) -> int:
        """As `_exported`, when it changes no more: nothing answers."""
        last = [self._exported()]

        def same() -> bool:
            time.sleep(_PAUSE)
            last.append(self._exported())
            return last[-2] == last[-1]

        until(same, "end of acknowledgements")
        return last[-1]


def main() -> int:
    """0 if all of it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--rate", type=int, default=2000, help="connections a second; two records each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="a queue of 16 MiB in memory instead of a durable one")
    parser.add_argument("--json", action="store_true", help="also the outcome as one line of JSON")
    arguments = parser.parse_args()
    if arguments.seconds < SHORTEST:
        parser.error(f"--seconds: at least {SHORTEST:g}, so that there is something to compare")
    missing = needs.missing()
    if missing:
        print("missing:", "; ".join(missing), file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="weir-soak-") as scratch, Stage(Path(scratch), build()) as stage:
        soak = Soak(
            stage, needs.compiled("connload"), arguments.seconds, arguments.rate, arguments.seed,
            durable=not arguments.memory,
        )  # fmt: skip
        outcome = soak.run()
    print(f"{arguments.seconds:.0f} s at {arguments.rate} connections/s, seed {arguments.seed}")
    print(outcome.text())
    if arguments.json:
        print(json.dumps(asdict(outcome)))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
