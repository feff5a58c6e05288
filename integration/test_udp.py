"""Every datagram that crosses a socket's calls is in the flow of its socket and peer, exactly, with owner, side and end."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from integration.harness import needs
from integration.harness.collector import Collector
from integration.harness.namespaces import Namespace
from integration.harness.otlp import Event
from integration.harness.processes import Program, script
from integration.harness.stage import Stage
from integration.harness.truth import unmapped
from integration.harness.weir import Weir, configuration

RECEIVER: Mapping[str, Any] = {"flows": {"udp_idle_timeout": "2s"}, "metrics": {"interval": "1s"}}
EXACT = ("unconnected", "mapped", "dual", "connected", "connected_mapped", "read_write", "peek", "failed", "cork",
         "reconnect", "threads", "by_asyncio", "many")  # fmt: skip
V6 = ("unconnected", "connected", "read_write", "peek", "threads", "by_asyncio")


@pytest.fixture(scope="session")
def messages(machine: None) -> Path:
    """The program whose calls take several messages."""
    return needs.compiled("messages")


def _program(stage: Stage, space: Namespace, case: str, address: str = "127.0.0.1") -> Program:
    return stage.run(space, script("datagrams.py", case, address))


def _facts(program: Program) -> list[dict[str, Any]]:
    """The flows of a program that has done what it does."""
    count = 1
    while True:
        found = program.wait_for_facts(count)
        if "done" in found[-1]:
            return found[:-1]
        count = len(found) + 1


def _ask_for_senders(stage: Stage, space: Namespace, collector: Collector) -> Program:
    """From its return on the senders to sockets that are not connected are known, because somebody asks for them."""
    program = _program(stage, space, "endless")
    _facts(program)
    collector.wait_for_points(
        lambda point: point.name == "weir.kernel.udp.exits" and point.value == 1, "look at the ends of system calls"
    )
    return program


def _udp_ends(collector: Collector, pids: set[int], count: int) -> list[Event]:
    return collector.wait_for_events(
        count,
        lambda event: (
            event.name == "weir.flow.end" and event["network.transport"] == "udp" and event["process.pid"] in pids
        ),
    )


def _expected(fact: Mapping[str, Any], reason: str) -> dict[str, Any]:
    peer = unmapped(fact["peer"][0])
    local = unmapped(fact["local"][0])
    if peer.version == 4 and local.version == 6:
        local = unmapped("0.0.0.0")  # bound to any address of both families
    return {
        "network.local.address": str(local),
        "network.local.port": fact["local"][1],
        "network.peer.address": str(peer),
        "network.peer.port": fact["peer"][1],
        "network.type": f"ipv{peer.version}",
        "weir.flow.role": fact["role"],
        "weir.flow.transmit.size": fact["sent"],
        "weir.flow.receive.size": fact["received"],
        "weir.flow.transmit.packets": fact["sent_packets"],
        "weir.flow.receive.packets": fact["received_packets"],
        "weir.flow.end_reason": reason,
        "process.pid": fact["pid"],
        "weir.process.comm": fact["comm"],
        "process.executable.path": fact["exe"],
    }


def _key(fields: Mapping[str, Any] | Event) -> str:
    """What tells flows apart."""
    names = ("process.pid", "network.local.port", "network.peer.address", "network.peer.port")
    return json.dumps([fields[name] for name in names])


def _compare(facts: list[dict[str, Any]], events: list[Event], reason: str = "idle") -> list[str]:
    """A line for each flow that is not there once, and for each field that is not as it must be."""
    wanted = {_key(fields): fields for fields in (_expected(fact, reason) for fact in facts)}
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(_key(event), []).append(event)
    wrong = [f"{key}: {len(found[key])} events, but no flow" for key in found.keys() - wanted.keys()]
    for key, fields in wanted.items():
        if len(found.get(key, [])) != 1:
            wrong.append(f"{key}: {len(found.get(key, []))} events")
            continue
        (event,) = found[key]
        wrong += [
            f"{key}: {name} is {event[name]!r}, not {value!r}" for name, value in fields.items() if event[name] != value
        ]
        tcp_only = {
            "network.connection.state",
            "weir.flow.rtt",
            "weir.flow.retransmits",
            "weir.flow.connect.duration",
            "error.type",
        }
        wrong += [f"{key}: has {name}" for name in tcp_only & event.attributes.keys()]
    return wrong


def test_bytes_datagrams_sides_and_owners_are_exact(stage: Stage, messages: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, RECEIVER)
    asking = _ask_for_senders(stage, space, collector)
    programs = [_program(stage, space, case) for case in EXACT]
    programs += [_program(stage, space, case, "::1") for case in V6]
    programs.append(stage.run(space, [str(messages)]))
    facts = [fact for program in programs for fact in _facts(program)]
    found = _udp_ends(collector, {program.pid for program in programs}, len(facts))
    asking.tell("")
    ledger = weir.stop()["logs"]
    collector.stop()
    found = [event for event in collector.events() if event["process.pid"] in {program.pid for program in programs}]
    assert _compare(facts, found) == []
    assert not [event for event in found if event["weir.flow.peer.inferred"]]
    least = [event for event in found if event["weir.flow.packets.lower_bound"]]
    assert [event["weir.flow.receive.size"] for event in least] == [4000], (
        "the one socket that takes several by one call"
    )
    assert all(event["weir.flow.duration"] >= 0 for event in found if event["network.peer.port"])
    assert not any(ledger["dropped"].values())


def test_what_a_program_does_not_ask_for_is_not_made_up(stage: Stage) -> None:
    """Without an address asked for, the sender is unknown or marked as inferred; the totals are exact all the same."""
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, RECEIVER)
    program = _program(stage, space, "nameless")
    facts = _facts(program)
    found = _udp_ends(collector, {program.pid}, len(facts))
    weir.stop()
    collector.stop()
    assert _compare(facts, found) == []
    by_peer = {(event["network.peer.port"], event["weir.flow.role"]): event for event in found}
    inferred = {port_and_role for port_and_role, event in by_peer.items() if event["weir.flow.peer.inferred"]}
    server, client = facts[0]["local"][1], facts[2]["local"][1]
    assert inferred == {(server, "client"), (client, "unknown")}
    assert by_peer[0, "unknown"]["weir.flow.duration"] is None
    points = [point for point in collector.points() if point.name == "weir.kernel.udp.exits"]
    assert points
    assert not any(point.value for point in points), "nobody asked who sent a datagram: no system call pays for it"


def test_a_group_and_everybody_are_named(stage: Stage) -> None:
    space = stage.namespace()
    space.run("ip", "route", "add", "239.0.0.0/8", "dev", "lo")
    space.run("ip", "route", "add", "255.255.255.255", "dev", "lo")
    collector = stage.collector(space)
    weir = stage.weir(space, collector, RECEIVER)
    asking = _ask_for_senders(stage, space, collector)
    program = _program(stage, space, "casts")
    facts = _facts(program)
    found = _udp_ends(collector, {program.pid}, len(facts))
    asking.tell("")
    weir.stop()
    collector.stop()
    assert _compare(facts, found) == []
    casts = {event["network.peer.address"]: event["weir.flow.cast"] for event in found}
    assert casts == {"239.7.7.7": "multicast", "255.255.255.255": "broadcast", "127.0.0.1": None}


def test_a_full_table_folds_into_one_flow_a_socket(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {**RECEIVER, "limits": {"max_flows": 100}})
    asking = _ask_for_senders(stage, space, collector)
    program = _program(stage, space, "many")
    facts = _facts(program)
    asking.tell("")
    weir.stop()  # what is open is reported at once
    collector.stop()
    found = [event for event in collector.events() if event["process.pid"] == program.pid]
    assert len(facts) == 400
    server = [event for event in found if event["network.local.port"] == facts[0]["local"][1]]
    assert sum(event["weir.flow.receive.size"] for event in server) == 2000
    assert sum(event["weir.flow.receive.packets"] for event in server) == 200
    rest = [event for event in server if not event["network.peer.port"]]
    assert len(rest) == 1
    assert rest[0]["network.peer.address"] == "0.0.0.0"
    assert rest[0]["weir.flow.role"] == "unknown"
    full = [point.value for point in collector.latest() if point.name == "weir.kernel.udp.full"]
    assert full[0] > 0


def test_metrics_count_datagram_flows_and_shutdown_ends_them(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir: Weir = stage.weir(
        space, collector, {**RECEIVER, "flows": {"udp_idle_timeout": "60s", "update_interval": "1s"}}
    )
    program = _program(stage, space, "read_write")
    facts = _facts(program)
    port = facts[1]["local"][1]
    collector.wait_for_points(
        lambda point: (
            point.name == "weir.flow.active" and point.attributes.get("server.port") == port and point.value == 1
        ),
        "open UDP flow in the metrics",
    )
    updates = collector.wait_for_events(2, lambda event: event.name == "weir.flow.update")
    weir.stop()
    collector.stop()
    ends = [
        event for event in collector.events() if event.name == "weir.flow.end" and event["process.pid"] == program.pid
    ]
    assert _compare(facts, ends, "shutdown") == []
    assert {_key(event) for event in updates} == {_key(event) for event in ends}
    last = [point for point in collector.latest() if point.attributes.get("server.port") == port]
    assert {point.attributes["network.transport"] for point in last} == {"udp"}
    assert not [point for point in last if point.name in {"weir.flow.retransmits", "weir.flow.rtt"}]
    io = {
        (point.attributes["weir.flow.role"], point.attributes["network.io.direction"]): point.value
        for point in last if point.name == "weir.flow.io"
    }  # fmt: skip
    truth = {
        (fact["role"], way): fact[name]
        for fact in facts
        for way, name in (("transmit", "sent"), ("receive", "received"))
    }
    assert io == truth


def test_a_socket_that_is_older_than_weir_has_no_side(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    program = _program(stage, space, "endless")
    _facts(program)
    weir = stage.weir(space, collector, RECEIVER)
    chosen = collector.wait_for_points(
        lambda point: point.name == "weir.flow.io" and point.attributes["network.transport"] == "udp", "its datagrams"
    )
    weir.stop()
    collector.stop()
    assert {point.attributes["weir.flow.role"] for point in chosen} == {"unknown"}
    found = [event for event in collector.events() if event["process.pid"] == program.pid]
    assert found
    assert {event["weir.flow.role"] for event in found} == {"unknown"}
    assert not [event for event in found if event["weir.flow.duration"] is not None]


def test_weirs_own_lookups_are_not_reported(stage: Stage, tmp_path: Path) -> None:
    """An endpoint is a name: the resolver in Weir asks port 53 of this namespace. Neither end of that is reported."""
    space = stage.namespace()
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
    collector = stage.collector(space)
    config = configuration(collector.endpoint, RECEIVER)
    config["exporters"]["otlp_grpc/named"] = {"endpoint": "collector.example:4317", "tls": {"insecure": True}}
    config["service"]["pipelines"]["logs"]["exporters"].append("otlp_grpc/named")
    config["service"]["shutdown_timeout"] = "1s"
    own_file = ["unshare", "--mount", "sh", "-c", f'mount --bind {resolver} /etc/resolv.conf && exec "$@"', "sh"]
    weir = stage.weirs.start(space, config, before=own_file)
    asking = _ask_for_senders(stage, space, collector)
    sink = _program(stage, space, "sink")
    _facts(sink)
    wanted = stage.talk(space, 2, 10_000)  # something to export
    sink.wait_for_facts(3)  # at least two questions after it was there
    collector.wait_for_events(len(wanted))
    asking.tell("")
    ledger = weir.stop(errors=True)["logs"]
    collector.stop()
    assert not [event for event in collector.events() if 53 in event.ports]
    assert ledger["filtered"]["self"] > 4, "more than both ends of the connection to the Collector"


def test_no_datagram_is_lost_between_the_end_of_a_flow_and_the_next(stage: Stage) -> None:
    """Each is in the report that ends its flow or in a later one, while flows end and begin all the time."""
    program = stage.run(stage.namespace(), script("races.py"))
    (fact,) = program.wait_for_facts(1)
    assert program.wait() == 0
    assert fact["sent"] == fact["reported"] == fact["size"] / 10
    assert fact["missed"] == 0
    assert fact["ends"] > 100, "flows did end meanwhile"
