"""Commands in, processes out whose output is read as it comes and whose whole group is ended at the end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from integration.harness.waiting import PATIENCE, until

LOAD: Final = Path(__file__).resolve().parent.parent / "load"


class Program:
    """A running process, leader of its own group; lines of its standard output and error are kept as they come."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.command = [str(part) for part in command]
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env=None if env is None else {**os.environ, **env},
        )
        self.pid = self._process.pid
        self.output: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, into), daemon=True)
            for stream, into in ((self._process.stdout, self.output), (self._process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, into: list[str]) -> None:
        with stream:
            for line in stream:
                into.append(line.rstrip("\n"))  # noqa: PERF401 each as it comes

    def __str__(self) -> str:
        return f"{' '.join(self.command)} (pid {self.pid})"

    def running(self) -> bool:
        return self._process.poll() is None

    def facts(self) -> list[dict[str, Any]]:
        """The JSON objects that it has printed so far, one a line."""
        return [json.loads(line) for line in list(self.output) if line.startswith("{")]

    def wait_for_facts(self, count: int, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """At least `count` of them; AssertionError if it ends or takes too long before that."""

        def enough() -> bool:
            if not self.running() and len(self.facts()) < count:
                for reader in self._readers:
                    reader.join(seconds)
                if len(self.facts()) < count:
                    raise AssertionError(f"{self} ended with {self._process.returncode}: {self.errors[-20:]}")
            return len(self.facts()) >= count

        until(enough, f"{count} lines of {self}", seconds)
        return self.facts()

    def tell(self, line: str) -> None:
        """A line on its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        if self.running():
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, when all of its output was read."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} does not end: {self.errors[-20:]}") from None
        for reader in self._readers:
            reader.join(seconds)
        return code

    def done(self, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """What it printed, when it has ended with exit code 0."""
        code = self.wait(seconds)
        assert code == 0, f"{self} ended with {code}: {self.errors[-20:]}"
        return self.facts()

    def end(self) -> None:
        """Ends whatever of its group is still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        for reader in self._readers:
            reader.join(PATIENCE)


class Programs:
    """Starts programs, and ends all of them."""

    def __init__(self) -> None:
        self.started: list[Program] = []

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> Program:
        program = Program(command, env)
        self.started.append(program)
        return program

    def end(self) -> None:
        for program in reversed(self.started):
            program.end()
        self.started.clear()


def script(name: str, *arguments: object) -> list[str]:
    """The command of a traffic program in load/."""
    return [sys.executable, "-u", str(LOAD / name), *map(str, arguments)]


def stranger(cpu: int) -> list[str]:
    """The command of a busy stranger: on one CPU whenever nobody else wants it, and without any socket."""
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}}); os.nice(10)\nprint('{{}}')\nwhile True: pass"
    return [sys.executable, "-u", "-c", code]
