"""One test's world: namespaces, Collectors, Weirs and traffic, made on request and all gone at the end."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from integration.harness.collector import Collector, in_namespace, listens
from integration.harness.namespaces import Namespace, Namespaces
from integration.harness.processes import Program, Programs, script, stranger
from integration.harness.truth import End, ends
from integration.harness.waiting import until
from integration.harness.weir import Runner, Weir, configuration


class Server:
    """A serving traffic program: its port, and what it says of the connections that it has handled."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.port: int = program.wait_for_facts(1)[0]["port"]

    def ends(self, count: int) -> list[End]:
        """At least `count` connections' ends."""
        return ends(self._program.wait_for_facts(count + 1))


class Client:
    """A dialling traffic program: it lives on when its connections are over, so that it can be looked at."""

    def __init__(self, program: Program, count: int) -> None:
        self._program, self._count = program, count

    def ends(self) -> list[End]:
        """All of its connections' ends, when they are over."""
        return ends(self._program.wait_for_facts(self._count))


class Stage:
    """Made by a fixture; `directory` is the test's own."""

    def __init__(self, directory: Path, otelcol: Path) -> None:
        self.directory, self._otelcol = directory, otelcol
        self._stack = ExitStack()
        self._namespaces, self.programs = Namespaces(), Programs()
        self._stack.callback(self._namespaces.end)
        self._late: list[Callable[[], None]] = []  # when no program is left
        self._stack.callback(self._end_late)
        self._stack.callback(self.programs.end)  # first: who lives in a namespace keeps it
        self.weirs = Runner(self.programs, directory)
        self.namespace, self.pair = self._namespaces.new, self._namespaces.pair

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end_late(self) -> None:
        while self._late:
            self._late.pop()()

    def collector(
        self,
        space: Namespace,
        *,
        start: bool = True,
        config: str = "basic.yaml",
        changes: Mapping[str, Any] | None = None,
    ) -> Collector:
        """A Collector in `space` with files of its own."""
        directory = self.directory / space.name
        directory.mkdir()
        collector = Collector(self.programs, space, self._otelcol, directory, config, changes)
        if start:
            collector.start()
        return collector

    def weir(
        self, space: Namespace, collector: Collector, receiver: Mapping[str, Any] | None = None,
        exporter: Mapping[str, Any] | None = None, service: Mapping[str, Any] | None = None,
    ) -> Weir:  # fmt: skip
        """A Weir in `space` that pushes to `collector`, capturing."""
        return self.weirs.start(space, configuration(collector.endpoint, receiver, exporter, service))

    def mounted(self, path: Path, options: str) -> None:
        """A tmpfs at `path`, which is made, for as long as the stage stands."""
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)

        def unmount() -> None:
            subprocess.run(["umount", str(path)], check=True)
            assert not path.is_mount()
            path.rmdir()

        self._late.append(unmount)

    def run(self, space: Namespace, command: Sequence[str], env: Mapping[str, str] | None = None) -> Program:
        """A command in `space`."""
        return self.programs.start(space.inside(command), env)

    def listen(self, space: Namespace, connload: Path, port: int) -> Program:
        """load/connload.c as a server on 127.0.0.1, listening; SIGTERM makes it print its totals."""
        program = self.run(space, [str(connload), "server", "127.0.0.1", str(port)])
        until(lambda: in_namespace(program.pid, space) and listens(program.pid, port), "listening connload")
        return program

    def serve(self, space: Namespace, address: str, who: str = "thread", what: str = "talk") -> Server:
        """load/serve.py, listening."""
        return Server(self.run(space, script("serve.py", address, who, what)))

    def dial(
        self, space: Namespace, address: str, port: int, count: int, first: int, what: str = "talk", threads: int = 1
    ) -> Client:
        """load/dial.py: `count` connections from the ports `first` and up."""
        return Client(self.run(space, script("dial.py", address, port, what, count, first, threads)), count)

    def talk(self, space: Namespace, count: int, first: int) -> list[End]:
        """Both ends of `count` connections over IPv4 loopback, when they are over."""
        server = self.serve(space, "127.0.0.1")
        return self.dial(space, "127.0.0.1", server.port, count, first).ends() + server.ends(count)

    def fail(self, space: Namespace, how: str, port: int = 0, address: str = "127.0.0.1") -> Program:
        """load/fail.py."""
        return self.run(space, script("fail.py", how, address, port))

    def strangers(self) -> None:
        """A busy stranger on each CPU, from now on."""
        for cpu in sorted(os.sched_getaffinity(0)):
            self.programs.start(stranger(cpu)).wait_for_facts(1)
