"""`exclude` and `include`: what they leave out is in no event, no metric, and in the ledger under its name."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from integration.harness.otlp import Event
from integration.harness.stage import Stage
from integration.harness.truth import End, ends, missing_or_twice
from integration.harness.waiting import until
from receiver.kernel.filters import find_cgroup

Left: TypeAlias = Callable[[End, list[int]], bool]

COUNT = 20
ELSEWHERE = "127.0.9.1"
ADDRESSES = ("127.0.0.1", "127.0.0.1", ELSEWHERE, "::1")


def _server_port(end: End) -> int:
    return end.client_first[1][1]


def _never(_end: End, _ports: list[int]) -> bool:
    return False


# The servers' ports -> filters; which ends `exclude` leaves out, and which of the others `include` does.
CASES: dict[str, tuple[Callable[[list[int]], dict[str, Any]], Left, Left]] = {
    "exclude a port": (
        lambda ports: {"exclude": {"ports": ports[:1]}},
        lambda end, ports: _server_port(end) == ports[0],
        _never,
    ),
    "include ports": (
        lambda ports: {"include": {"ports": ports[:2]}},
        _never,
        lambda end, ports: _server_port(end) not in ports[:2],
    ),
    "one of those included is excluded": (
        lambda ports: {"include": {"ports": ports[:2]}, "exclude": {"ports": ports[1:2]}},
        lambda end, ports: _server_port(end) == ports[1],
        lambda end, ports: _server_port(end) not in ports[:2],
    ),
    "lists are and": (
        lambda ports: {"exclude": {"ports": ports[:2], "directions": ["inbound"]}},
        lambda end, ports: _server_port(end) in ports[:2] and end.role == "server",
        _never,
    ),
    "only outbound": (
        lambda ports: {"include": {"directions": ["outbound"]}},
        _never,
        lambda end, ports: end.role == "server",
    ),
    "a network": (
        lambda ports: {"exclude": {"cidrs": [f"{ELSEWHERE}/32", "fd00::/8"]}},
        lambda end, ports: end.peer[0] == ELSEWHERE,
        _never,
    ),
    "the longest prefix": (
        lambda ports: {"exclude": {"cidrs": ["127.0.0.0/8"]}, "include": {"cidrs": [f"{ELSEWHERE}/32", "::1/128"]}},
        lambda end, ports: end.peer[0] not in {ELSEWHERE, "::1"},
        _never,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_out_is_counted_and_nowhere_else(stage: Stage, case: str) -> None:
    filters, excluded, not_included = CASES[case]
    space = stage.namespace()
    collector = stage.collector(space)
    servers = [stage.serve(space, address) for address in ADDRESSES]
    ports = [server.port for server in servers]
    weir = stage.weir(space, collector, {**filters(ports), "metrics": {"interval": "1s"}})
    wanted: list[End] = []
    for number, (address, server) in enumerate(zip(ADDRESSES, servers, strict=True)):
        wanted += stage.dial(space, address, server.port, COUNT, 10_000 + 1000 * number).ends()
        wanted += server.ends(COUNT)
    out = [end for end in wanted if excluded(end, ports)]
    other = [end for end in wanted if not excluded(end, ports) and not_included(end, ports)]
    left = [end for end in wanted if end not in out and end not in other]
    assert len(wanted) == 8 * COUNT
    assert 0 < len(left) < len(wanted)
    collector.wait_for_events(len(left))
    logs = weir.stop()["logs"]
    collector.stop()
    assert missing_or_twice(left, collector.events()) == ""
    filtered = dict(logs["filtered"])
    filtered.pop("self", None)
    expected = {"exclude": len(out), "include": len(other)}
    assert filtered == {reason: count for reason, count in expected.items() if count}
    assert logs["exported"] == len(left)
    connections = sum(point.value for point in collector.latest() if point.name == "weir.flow.connections")
    assert connections == len(left)
    sent = sum(
        point.value for point in collector.latest()
        if point.name == "weir.flow.io" and point.attributes["network.io.direction"] == "transmit"
    )  # fmt: skip
    assert sent == sum(end.sent for end in left)


def test_open_flows_that_are_left_out_are_in_no_update_and_no_sample(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    receiver = {
        "exclude": {"directions": ["inbound"]}, "metrics": {"interval": "1s"},
        "flows": {"start_events": True, "update_interval": "1s"},
    }  # fmt: skip
    weir = stage.weir(space, collector, receiver)
    program = stage.fail(space, "open")
    wanted = {end.role: end for end in ends(program.wait_for_facts(2))}
    collector.wait_for_events(3, lambda event: event.name == "weir.flow.update")
    logs = weir.stop()["logs"]
    collector.stop()
    program.tell("enough")
    assert {event["weir.flow.role"] for event in collector.events()} == {"client"}
    assert {point.attributes["weir.flow.role"] for point in collector.points() if point.scope == "weir.l4"} == {
        "client"
    }
    assert logs["filtered"]["exclude"] >= 4, "a start, updates and the end of the accepted side"
    assert wanted.keys() == {"client", "server"}


def _names(events: list[Event]) -> set[Any]:
    return {event["process.executable.name"] for event in events}


def test_an_executable(stage: Stage, connload: Path) -> None:
    """Client and server are different programs; and one whose name is longer than a comm."""
    space = stage.namespace()
    collector = stage.collector(space)
    long = stage.directory / "a-name-longer-than-a-comm"
    long.write_bytes(connload.read_bytes())
    long.chmod(0o755)
    weir = stage.weir(space, collector, {"include": {"executables": [long.name, "nothing"]}})
    stage.listen(space, connload, 7000)
    for client in (long, connload):
        (done,) = stage.run(space, [str(client), "conn", "127.0.0.1", "7000", "0", "20", "10", "50"]).done()
        assert done["completed"] == 50
    collector.wait_for_events(50)
    logs = weir.stop()["logs"]
    collector.stop()
    assert (len(collector.events()), _names(collector.events())) == (50, {long.name})
    assert logs["filtered"]["include"] == 150


@contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    """A cgroup v2 of the test's own, with one below it."""
    root = next(
        (
            root
            for root in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))
            if (root / "cgroup.controllers").exists()
        ),
        None,
    )
    assert root is not None, "no cgroup v2"
    made = root / name
    below = made / "below"
    below.mkdir(parents=True)
    try:
        yield below
    finally:
        below.rmdir()
        made.rmdir()


def test_a_cgroup_and_what_is_below_it(stage: Stage, connload: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    with _cgroup("weir-filter-test") as below:
        assert find_cgroup("/weir-filter-test/below") == below.stat().st_ino
        weir = stage.weir(space, collector, {"exclude": {"cgroups": ["/weir-filter-test"]}})
        stage.listen(space, connload, 7000)
        command = [str(connload), "conn", "127.0.0.1", "7000", "0", "20", "10", "50"]
        enter = ["sh", "-c", f'echo $$ > {below}/cgroup.procs && exec "$@"', "sh"]
        for before in ([], enter):
            (done,) = stage.run(space, [*before, *command]).done()
            assert done["completed"] == 50
        collector.wait_for_events(150)
        logs = weir.stop()["logs"]
        collector.stop()
    roles = [event["weir.flow.role"] for event in collector.events()]
    assert (roles.count("client"), roles.count("server")) == (50, 100)
    assert logs["filtered"]["exclude"] == 50


def test_every_list_may_be_full(stage: Stage) -> None:
    """The kernel's verifier walks what it is given."""
    space = stage.namespace()
    collector = stage.collector(space)

    def full(kind: int, **lists: Any) -> dict[str, Any]:
        return {
            "ports": list(range(100 * kind, 100 * kind + 32)),
            "cidrs": [f"10.{kind}.{number}.0/24" for number in range(32)],
            "executables": [f"program-{kind}-{number}" for number in range(32)],
            "cgroups": ["/"],
            "directions": ["inbound", "outbound"],
        } | lists

    server = stage.serve(space, "127.0.0.1")
    include = full(2, executables=[*(f"other-{number}" for number in range(31)), Path(sys.executable).resolve().name])
    include["ports"][-1], include["cidrs"][-1] = server.port, "127.0.0.0/8"
    weir = stage.weir(space, collector, {"exclude": full(1), "include": include, "flows": {"start_events": True}})
    wanted = stage.dial(space, "127.0.0.1", server.port, 10, 10_000).ends() + server.ends(10)
    other = stage.talk(space, 10, 11_000)
    collector.wait_for_events(40)
    logs = weir.stop()["logs"]
    collector.stop()
    assert missing_or_twice(wanted, [event for event in collector.events() if event.name == "weir.flow.end"]) == ""
    assert len(collector.events()) == 2 * len(wanted)
    assert logs["filtered"]["include"] == 2 * len(other)


def test_datagrams(stage: Stage, connload: Path) -> None:
    """UDP flows are filtered as connections are."""
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"exclude": {"ports": [7001]}})
    for port in (7001, 7002):
        server = stage.run(space, [str(connload), "server", "127.0.0.1", str(port), "udp"])
        until(lambda port=port: f":{port} " in space.run("ss", "-uanH"), "bound server")
        (done,) = stage.run(space, [str(connload), "udp", "127.0.0.1", str(port), "100", "1", "50", "5"]).done()
        assert done["messages"] > 5
        server.signal(signal.SIGTERM)
        server.done()
    logs = weir.stop()["logs"]
    collector.stop()
    found = [event for event in collector.events() if event["network.transport"] == "udp"]
    assert {port for event in found for port in event.ports if port in {7001, 7002}} == {7002}
    assert len({event["weir.flow.instance.id"] for event in found if event["weir.flow.role"] == "client"}) == 5
    # Five flows at each end; a server's first datagrams may be in one flow more, of a peer that is not known.
    assert 10 <= logs["filtered"]["exclude"] <= 11
    assert logs["exported"] == len(collector.events())
