"""Weir itself as a user runs it: a configuration file and the command in; log lines and the final ledger out."""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from integration.harness.namespaces import Namespace
from integration.harness.processes import Program, Programs
from integration.harness.waiting import PATIENCE, until

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
READY: Final = "Everything is ready. Begin running and processing data."
UNAVAILABLE: Final = "Capture is unavailable."
FINAL: Final = "Final ledger."
# Short waits between attempts: a Collector that comes back is found at once.
QUICK_RETRY: Final = {
    "initial_interval": "200ms", "max_interval": "500ms", "randomization_factor": 0.1, "max_elapsed_time": "120s"
}  # fmt: skip


def command() -> list[str]:
    """The command `weir`: $WEIR, else the checkout's."""
    return [os.environ.get("WEIR", str(REPOSITORY / ".venv/bin/weir"))]


def configuration(
    endpoint: str,
    receiver: Mapping[str, Any] | None = None,
    exporter: Mapping[str, Any] | None = None,
    service: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Logs and metrics to the Collector at `endpoint`, with what is given for receiver, exporter and service."""
    return {
        "receivers": {"ebpf": {"scope": "netns", **(receiver or {})}},
        "exporters": {
            "otlp_grpc": {
                "endpoint": endpoint, "tls": {"insecure": True}, "retry_on_failure": QUICK_RETRY, **(exporter or {})
            }
        },
        "service": {
            "extensions": [],
            "telemetry": {"logs": {"encoding": "json"}},
            "pipelines": {
                signal_name: {"receivers": ["ebpf"], "exporters": ["otlp_grpc"]} for signal_name in ("logs", "metrics")
            },
            **(service or {}),
        },
    }  # fmt: skip


def _parse(line: str) -> dict[str, Any]:
    """A log line of either encoding; empty for what is none, such as gRPC's own."""
    if line.startswith("{"):
        return dict(json.loads(line))
    parts = line.split("\t", 4)
    if len(parts) < 4:
        return {}
    fields = json.loads(parts[4]) if len(parts) > 4 else {}
    return {"ts": parts[0], "level": parts[1], "caller": parts[2], "msg": parts[3], **fields}


class Weir:
    """One run of a verb of `weir`, in a namespace; `config` is its configuration file, if it has one."""

    def __init__(self, program: Program, config: Path | None = None) -> None:
        self._program = program
        self._config = config
        self.pid = program.pid

    @property
    def config(self) -> Path:
        assert self._config is not None
        return self._config

    @property
    def errors(self) -> list[str]:
        """Its standard error, line by line."""
        return list(self._program.errors)

    @property
    def output(self) -> list[str]:
        """Its standard output, line by line."""
        return list(self._program.output)

    def running(self) -> bool:
        return self._program.running()

    def logs(self, message: str | None = None) -> list[dict[str, Any]]:
        """Its log lines, with keys level, ts, caller, msg and the fields; all, or those of one message."""
        found = [line for line in map(_parse, self.errors) if line]
        return [line for line in found if message in {None, line["msg"]}]

    def wait_for_log(self, message: str, count: int = 1, seconds: float = PATIENCE) -> dict[str, Any]:
        """The `count`th line with this message; AssertionError if the process ends before."""

        def there() -> dict[str, Any] | None:
            lines = self.logs(message)
            assert len(lines) >= count or self.running(), f"Weir ended: {self.errors[-20:]}"
            return lines[count - 1] if len(lines) >= count else None

        found = until(there, f"log line {message!r}", seconds)
        assert found is not None
        return found

    def signal(self, number: int) -> None:
        self._program.signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, when it ends by itself."""
        return self._program.wait(seconds)

    def wait_for_failure(self, seconds: float = PATIENCE) -> None:
        """Until it has said that an attempt to export failed."""
        until(
            lambda: [line for line in self.logs() if line["msg"].startswith("Exporting failed.")],
            "failed attempt",
            seconds,
        )

    def stop(self, seconds: float = PATIENCE, *, errors: bool = False) -> dict[str, Any]:
        """SIGTERM, and then as `end`."""
        self.signal(signal.SIGTERM)
        return self.end(seconds, errors=errors)

    def end(self, seconds: float = PATIENCE, *, errors: bool = False) -> dict[str, Any]:
        """The final ledger, which must be the last line, of a process that ends with 0.

        Checked: it balances, and no line is an error, but where losses are what the test is about (`errors`).
        """
        code = self._program.wait(seconds)
        assert code == 0, f"exit code {code}: {self.errors[-20:]}"
        last = self.logs()[-1]
        assert last["msg"] == FINAL, self.errors[-20:]
        balance(last["ledger"])
        serious = [line for line in self.logs() if line["level"] in {"error", "fatal"}]
        assert errors or not serious, serious
        assert not [line for line in self.errors if "Traceback" in line], self.errors
        ledger: dict[str, Any] = last["ledger"]
        return ledger

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._program.wait()


def balance(ledger: Mapping[str, Any]) -> None:
    """Each signal of a final ledger, and each exporter in it, balances exactly; the top is the sum; nothing is in flight."""
    for name, terms in ledger.items():
        for where, view in [("sum", terms), *terms["exporters"].items()]:
            came = view["observed"] + view["recovered"]
            went = sum(view["filtered"].values()) + view["exported"] + sum(view["dropped"].values()) + view["in_flight"]
            assert came == went, f"{name} of {where} does not balance: {came} came, {went} went: {view}"
        for key in ("exported", "in_flight"):
            assert terms[key] == sum(view[key] for view in terms["exporters"].values()), f"{name}: {key}: {terms}"
        assert terms["in_flight"] == 0, terms


class Runner:
    """Starts Weirs."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        self._programs, self._directory = programs, directory
        self._number = 0

    def write(self, config: Mapping[str, Any]) -> Path:
        """The configuration as a file."""
        self._number += 1
        path = self._directory / f"weir-{self._number}.yaml"
        self._directory.chmod(0o755)  # for a Weir that is not root
        path.write_text(yaml.safe_dump(dict(config)))
        return path

    def start(
        self, space: Namespace, config: Mapping[str, Any], *, wait: str = READY, before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Weir:  # fmt: skip
        """A Weir in `space`, when it has logged the message `wait`; `before` stands before its command (setpriv ...)."""
        path = self.write(config)
        made = space.inside([*before, *command(), "run", "--config", str(path)])
        weir = Weir(self._programs.start(made, env), path)
        if wait:
            weir.wait_for_log(wait)
        return weir
