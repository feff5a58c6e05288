"""MPTCP: its subflows are flows, told apart, with the owner of the socket above; that socket is none."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.harness.collector import Collector
from integration.harness.namespaces import Namespace
from integration.harness.otlp import Event
from integration.harness.processes import Program, script
from integration.harness.stage import Stage
from integration.harness.truth import End, ends, event_key, missing_or_twice, owner_of, wrong_fields


def _multipath(space: Namespace) -> Namespace:
    try:
        space.run("sysctl", "-w", "net.mptcp.enabled=1")
    except AssertionError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")
    return space


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, otelcol: Path) -> Iterator[tuple[Stage, Namespace, Collector]]:
    with Stage(tmp_path_factory.mktemp("mptcp"), otelcol) as stage:
        space = _multipath(stage.namespace())
        collector = stage.collector(space)
        weir = stage.weir(space, collector)
        yield stage, space, collector
        weir.stop()


def _talk(stage: Stage, space: Namespace, how: str, address: str) -> tuple[Program, list[End], int]:
    """The program, its ends, and the server's port."""
    program = stage.run(space, script("multipath.py", how, address))
    wanted = ends(program.wait_for_facts(2))
    return program, wanted, wanted[0].client_first[1][1]


def _as_carried(wanted: list[End], found: list[Event]) -> list[End]:
    """The ends with the bytes of the subflow: MPTCP may send again what it has no answer to, and TCP cannot tell."""
    sizes = {event["weir.flow.role"]: event["weir.flow.transmit.size"] for event in found}
    for end in wanted:
        assert sizes[end.role] % end.sent == 0 if end.sent else sizes[end.role] == 0
    other = {"client": "server", "server": "client"}
    return [replace(end, sent=sizes[end.role], received=sizes[other[end.role]]) for end in wanted]


@pytest.mark.parametrize("how", ["talk", "greet", "silent", "plain"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_one_subflow(watched: tuple[Stage, Namespace, Collector], how: str, address: str) -> None:
    stage, space, collector = watched
    program, wanted, port = _talk(stage, space, how, address)
    program.tell("enough")
    program.wait_for_facts(3)
    found = collector.wait_for_events(2, lambda event: port in event.ports)
    assert missing_or_twice(wanted, found) == "", "the socket above makes no flow of its own"
    assert wrong_fields(_as_carried(wanted, found), found, gone=True) == []
    assert {event["weir.flow.mptcp"] for event in found} == {None if how == "plain" else True}


def test_every_subflow_has_the_owner_of_its_connection(stage: Stage) -> None:
    here, there = map(_multipath, stage.pair())
    for space, address in ((here, "10.99.0.11/24"), (there, "10.99.0.12/24")):
        space.run("ip", "address", "add", address, "dev", "weir0")
        space.run("ip", "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2")
    there.run("ip", "mptcp", "endpoint", "add", "10.99.0.12", "dev", "weir0", "subflow")
    collector = stage.collector(here)
    weir = stage.weir(here, collector, {"scope": "host"})
    server = stage.run(here, script("multipath.py", "serve", "10.99.0.1"))
    port = server.wait_for_facts(1)[0]["port"]
    client = stage.run(there, script("multipath.py", "connect", "10.99.0.1", port))
    mains = {end.role: end for end in ends(client.wait_for_facts(1) + server.wait_for_facts(2))}
    client.tell("enough")
    collector.wait_for_events(4, lambda event: port in event.ports)
    weir.stop()
    collector.stop()
    found = [event for event in collector.events() if port in event.ports]
    assert len(found) == 4
    keys = {event_key(event) for event in found}
    assert {end.key for end in mains.values()} <= keys
    assert {key[1][0] for key in keys if key[0] == "client"} == {"10.99.0.2", "10.99.0.12"}
    for event in found:
        assert event["weir.flow.mptcp"] is True
        owner = owner_of(mains[event["weir.flow.role"]])
        assert {name: event[name] for name in owner} == owner
    for role, end in mains.items():
        carried = sum(event["weir.flow.transmit.size"] for event in found if event["weir.flow.role"] == role)
        assert carried >= end.sent, "what is sent again over another subflow counts there too"


def test_a_connection_that_is_older_than_weir(stage: Stage) -> None:
    space = _multipath(stage.namespace())
    collector = stage.collector(space)
    program, wanted, port = _talk(stage, space, "talk", "127.0.0.1")
    weir = stage.weir(space, collector)
    program.tell("enough")
    found = collector.wait_for_events(2, lambda event: port in event.ports)
    weir.stop()
    assert missing_or_twice(wanted, found) == ""
    assert wrong_fields(_as_carried(wanted, found), found, gone=True) == []
    assert all(event["weir.flow.mptcp"] for event in found)
