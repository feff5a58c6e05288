"""Who is named where more than one could be: by the first use, right or unknown, never wrong; docs/coverage.md has the answers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from integration.harness import needs
from integration.harness.collector import Collector
from integration.harness.namespaces import Namespace
from integration.harness.otlp import Event
from integration.harness.processes import Program, script
from integration.harness.stage import Server, Stage
from integration.harness.truth import End, ends, event_key, missing_or_twice, wrong_fields

_first_ports = count(10_000, 500)
# How often each end of it comes.
HANDOVERS = {
    "pass_accepted": 1, "pass_used": 1, "pass_connected": 1, "both_parent": 1, "both_child": 1, "exec_open": 1,
    "exec_later": 2, "activated": 1, "killed": 1, "killed_silent": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A namespace that a Weir watches, one that it does not, and where its events arrive."""

    stage: Stage
    collector: Collector
    space: Namespace
    outside: Namespace

    def judge(self, wanted: list[End], *, gone: bool = False) -> list[Event]:
        """The events of these ends, each there once and right."""
        ports = {port for end in wanted for port in (end.local[1], end.peer[1])}
        found = self.collector.wait_for_events(len(wanted), lambda event: bool(ports & set(event.ports)))
        assert missing_or_twice(wanted, found) == ""
        known = [end for end in wanted if end.executable]
        assert wrong_fields(known, found, gone=gone) == []
        for end in wanted:
            (event,) = [event for event in found if event_key(event) == end.key]
            assert (event["process.pid"], event["weir.process.comm"]) == (end.pid, end.comm)
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, otelcol: Path) -> Iterator[Place]:
    with Stage(tmp_path_factory.mktemp("hard"), otelcol) as stage:
        space, outside = stage.namespace(), stage.namespace()
        collector = stage.collector(space)
        weir = stage.weir(space, collector)
        stage.strangers()
        yield Place(stage, collector, space, outside)
        weir.stop()


def _facts(program: Program, number: int) -> list[dict[str, Any]]:
    """The facts of a program that is over, of `number` ends."""
    if "killed" in program.command:
        program.wait_for_facts(2)  # the server's end, and that it is gone
        program.tell("go on")
    facts = program.wait_for_facts(number + 2)
    assert {"over": True} in facts
    return facts


@pytest.mark.parametrize("how", HANDOVERS)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_whoever_used_it_first_is_named(place: Place, how: str, address: str) -> None:
    program = place.stage.run(place.space, script("handover.py", how, address))
    wanted = ends(_facts(program, 2 * HANDOVERS[how]))
    assert len(wanted) == 2 * HANDOVERS[how]
    if how == "killed_silent":  # the executable goes before the files: pid and comm are known, it is not
        wanted = [replace(end, executable="") if end.role == "server" else end for end in wanted]
    found = place.judge(wanted, gone=True)  # or runs another program by then
    if how == "exec_later":
        served = [event for event in found if event["weir.flow.role"] == "server"]
        assert len({event["process.executable.name"] for event in served}) == 2
        assert len({event["process.pid"] for event in served}) == 1


@pytest.mark.parametrize("how", ["inline", "async", "poll", "silent"])
def test_io_uring(place: Place, how: str, machine: None) -> None:
    program = place.stage.run(place.space, [str(needs.compiled("uring")), how])
    try:
        facts = program.wait_for_facts(2)
    except AssertionError:
        if program.wait() == 3:
            pytest.skip("io_uring is disabled on this machine")
        raise
    place.judge(ends(facts))


def test_a_pid_namespace_of_its_own(place: Place) -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", *script("serve.py", "127.0.0.1", "plain", "talk")]
    program = place.stage.run(place.space, command)
    server = Server(program)
    client = place.stage.dial(place.space, "127.0.0.1", server.port, 5, next(_first_ports))
    served = server.ends(5)
    assert {end.pid for end in served} == {1}, "in its own namespace"
    (pid,) = map(int, Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split())
    wanted = client.ends() + [replace(end, pid=pid) for end in served]
    for event in place.judge(wanted, gone=True):
        inside = event["weir.flow.role"] == "server"
        assert event["process.vpid"] == (1 if inside else None)
        assert event["process.executable.name"] == Path(served[0].executable).name


def test_the_scope_is_the_sockets_namespace_and_not_its_process_s(place: Place) -> None:
    here = place.stage.serve(place.space, "127.0.0.1", "thread")
    there = place.stage.serve(place.outside, "127.0.0.1", "thread")

    def dial(process: Namespace, sockets: Namespace, port: int, address: str = "127.0.0.1") -> Program:
        first = next(_first_ports) if address == "127.0.0.1" else 0
        return place.stage.run(process, script("elsewhere.py", f"/run/netns/{sockets.name}", address, port, 5, first))

    hidden = ends(dial(place.space, place.outside, there.port).wait_for_facts(5)) + there.ends(5)
    wanted = ends(dial(place.outside, place.space, here.port).wait_for_facts(5)) + here.ends(5)
    place.judge(wanted)
    hidden += ends(dial(place.space, place.outside, 600, "10.1.2.3").wait_for_facts(5))
    lost = ends(dial(place.outside, place.space, 700, "10.1.2.3").wait_for_facts(5))
    found = place.collector.wait_for_events(5, lambda event: "10.1.2.3" in event.attributes.values())
    assert missing_or_twice(lost, found) == "", "no route, in the socket's namespace"
    assert {event["error.type"] for event in found} == {"ENETUNREACH"}
    pids = {end.pid for end in hidden}
    assert not [event for event in place.collector.events() if event["process.pid"] in pids]
