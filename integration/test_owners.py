"""The owner is the process that used the socket, on loopback and across a link, whoever else is on the CPU."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from integration.harness.collector import Collector
from integration.harness.namespaces import Namespace
from integration.harness.otlp import Event
from integration.harness.processes import script
from integration.harness.stage import Client, Stage
from integration.harness.truth import End, missing_or_twice, wrong_fields

COUNT = 30
_first_ports = count(10_000, 500)


@dataclass(frozen=True)
class Place:
    """Where server and client are, and who watches."""

    stage: Stage
    collector: Collector
    server: Namespace
    client: Namespace
    address: str

    def events(self, wanted: list[End]) -> list[Event]:
        """The events of the ends' connections, when all should have come."""
        port = next(end.local[1] for end in wanted if end.role == "server")
        return self.collector.wait_for_events(len(wanted), lambda event: port in event.ports)


@pytest.fixture(scope="module", params=["loopback", "veth"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, otelcol: Path) -> Iterator[Place]:
    with Stage(tmp_path_factory.mktemp("owners"), otelcol) as stage:
        if request.param == "loopback":
            here = there = stage.namespace()
            address, scope = "127.0.0.1", "netns"
        else:
            here, there = stage.pair()
            address, scope = "10.99.0.1", "host"
        collector = stage.collector(here)
        weir = stage.weir(here, collector, {"scope": scope})
        stage.strangers()
        yield Place(stage, collector, here, there, address)
        weir.stop()


@pytest.mark.parametrize(
    ("who", "what", "threads"),
    [
        ("plain", "talk", 1),  # either end closes first, in turn
        ("thread", "talk", 4),
        ("prefork", "talk", 2),
        ("fork", "talk", 1),
        ("plain", "greet", 1),
        ("fork", "greet", 1),
        ("plain", "silent", 1),
    ],
)
def test_both_owners_are_right(place: Place, who: str, what: str, threads: int) -> None:
    server = place.stage.serve(place.server, place.address, who, what)
    client = place.stage.dial(place.client, place.address, server.port, COUNT, next(_first_ports), what, threads)
    wanted = client.ends() + server.ends(COUNT)
    found = place.events(wanted)
    assert missing_or_twice(wanted, found) == ""
    assert wrong_fields([end for end in wanted if end.role == "client"], found) == []
    assert wrong_fields([end for end in wanted if end.role == "server"], found, gone=who == "fork") == []


def test_a_server_that_never_touched_a_reset_connection_is_unknown_or_right(place: Place) -> None:
    server = place.stage.serve(place.server, place.address, "plain", "ignore")
    client = place.stage.dial(place.client, place.address, server.port, COUNT, next(_first_ports), "ignore")
    wanted = client.ends() + server.ends(COUNT)
    found = place.events(wanted)
    assert missing_or_twice(wanted, found) == ""
    clients = [end for end in wanted if end.role == "client"]
    assert wrong_fields(clients, found, reason="reset") == []
    (pid,) = {end.pid for end in wanted if end.role == "server"}
    for event in found:
        if event["weir.flow.role"] == "server":
            assert event["process.pid"] in {None, pid}, event
            if event["process.pid"] is None:
                assert not [
                    key for key in event.resource if key.startswith(("process.", "weir.process.", "container."))
                ]


def test_a_process_that_is_gone_at_once_is_named(place: Place, fleeting: Path) -> None:
    server = place.stage.serve(place.server, place.address, "plain", "drain")
    first = next(_first_ports)
    clients = []
    for port in range(first, first + COUNT):
        command = place.client.inside([str(fleeting), place.address, str(server.port), str(port)])
        process = subprocess.Popen(command)  # nsenter becomes the program: its pid stays
        assert process.wait(20) == 0
        local = place.address if place.client == place.server else "10.99.0.2"
        clients.append(
            End("client", (local, port), (place.address, server.port), 5, 0, process.pid, "fleeting", str(fleeting))
        )
    served = server.ends(COUNT)
    found = place.events(clients + served)
    assert missing_or_twice(clients + served, found) == ""
    assert wrong_fields(served, found) == []
    assert wrong_fields(clients, found, gone=True) == []


def test_a_service_is_called_what_its_process_was_told(place: Place) -> None:
    server = place.stage.serve(place.server, place.address, "plain", "talk")
    command = script("dial.py", place.address, server.port, "talk", 5, next(_first_ports))
    told = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,service.namespace=market"}
    client = Client(place.stage.run(place.client, command, told), 5)
    found = place.events(client.ends() + server.ends(5))
    names = {(event["weir.flow.role"], event["service.name"], event["service.namespace"]) for event in found}
    assert ("client", "shop", "market") in names
    assert {name for role, name, _ in names if role == "server"} == {"unknown_service:" + event_name(found)}
    assert len(names) == 2


def event_name(found: list[Event]) -> str:
    """The name of the server's executable."""
    return next(str(event["process.executable.name"]) for event in found if event["weir.flow.role"] == "server")


def test_the_stranger_has_no_flow(place: Place) -> None:
    """It has no socket: whatever names it is a guess."""
    server = place.stage.serve(place.server, place.address, "plain", "talk")
    wanted = place.stage.dial(place.client, place.address, server.port, 5, next(_first_ports)).ends() + server.ends(5)
    place.events(wanted)
    strangers = {program.pid for program in place.stage.programs.started if "sched_setaffinity" in str(program)}
    assert strangers
    assert not [event for event in place.collector.events() if event["process.pid"] in strangers]
