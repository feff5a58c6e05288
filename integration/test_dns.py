"""What the workload looks up by DNS is known by name, answer and owner, and its connections by the name they were made by."""

import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from integration.harness.collector import Collector
from integration.harness.namespaces import Namespace
from integration.harness.otlp import Event
from integration.harness.processes import Program, script
from integration.harness.stage import Stage
from integration.harness.weir import READY, configuration

RECEIVER: Final[dict[str, Any]] = {"dns": {"enabled": True}, "metrics": {"interval": "1s"}}
LOOKUP: Final = "weir.dns.lookup"


@pytest.fixture
def resolver(tmp_path: Path) -> list[str]:
    """What makes a program ask 127.0.0.1, once: a resolv.conf of its own, in mounts of its own."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    return ["unshare", "--mount", "sh", "-c", f'mount --bind {file} /etc/resolv.conf && exec "$@"', "sh"]


def _serve(stage: Stage, space: Namespace) -> tuple[Program, int]:
    program = stage.run(space, script("names.py", "serve", "127.0.0.1"))
    return program, program.wait_for_facts(1)[0]["port"]


def _connection(collector: Collector, fact: dict[str, Any]) -> Event:
    """The client's end of the connection that `fact` is about."""
    (event,) = collector.wait_for_events(
        1,
        lambda event: (
            event.name == "weir.flow.end"
            and event["weir.flow.role"] == "client"
            and event["network.local.port"] == fact["local"][1]
            and event["network.transport"] == "tcp"
        ),
    )
    return event


def test_a_connection_has_the_name_that_it_was_made_by(stage: Stage, resolver: list[str]) -> None:
    space = stage.namespace()
    _, port = _serve(stage, space)
    collector = stage.collector(space)
    traces = {name: {"receivers": ["ebpf"], "exporters": ["otlp_grpc"]} for name in ("logs", "metrics", "traces")}
    receiver = {**RECEIVER, "flows": {"spans": True}}
    weir = stage.weir(space, collector, receiver, service={"pipelines": traces})
    names = ["a5.example", "b6.example", "c5.example"]  # two names of one address: the one told last counts
    program = stage.run(space, [*resolver, *script("names.py", "ask", port, *names)])
    facts = program.wait_for_facts(len(names))
    nameless = stage.run(space, script("names.py", "ask", port, "127.0.0.9"))
    facts += nameless.wait_for_facts(1)
    events = [_connection(collector, fact) for fact in facts]
    points = collector.wait_for_points(
        lambda point: point.name == "weir.flow.io" and point.attributes.get("server.address") == names[-1], "its series"
    )
    weir.stop()
    collector.stop()
    assert [event["server.address"] for event in events] == [*names, "127.0.0.9"]
    assert [event["network.peer.address"] for event in events] == ["127.0.0.5", "127.0.0.6", "127.0.0.5", "127.0.0.9"]
    assert all(event["server.port"] == port and event["destination.address"] == event["network.peer.address"]
               for event in events)  # fmt: skip
    assert {point.attributes["server.port"] for point in points} == {port}
    spans = {span["network.local.port"]: span["server.address"] for span in collector.spans() if span.kind == 3}
    assert [spans[event["network.local.port"]] for event in events] == [*names, "127.0.0.9"]
    servers = [event for event in collector.events() if event["weir.flow.role"] == "server"]
    assert servers
    assert all(str(event["server.address"]).startswith("127.") for event in servers), "a server was not told any name"


def _lookup(event: Event) -> dict[str, Any]:
    """What is compared of a lookup."""
    names = ("process.pid", "weir.dns.role", "network.transport", "dns.question.name", "weir.dns.question.type",
             "weir.dns.response.code", "error.type", "server.address", "server.port", "weir.dns.attempts")  # fmt: skip
    return {name: event[name] for name in names} | {"answers": sorted(event["dns.answers"] or [])}


def _expected(
    pid: int,
    role: str,
    name: str,
    code: str | None,
    answers: Sequence[str] = (),
    transport: str = "udp",
    attempts: int = 1,
) -> dict[str, Any]:
    error = None if code == "NOERROR" else code or "timeout"
    return {
        "process.pid": pid, "weir.dns.role": role, "network.transport": transport, "dns.question.name": name,
        "weir.dns.question.type": "A", "weir.dns.response.code": code, "error.type": error,
        "server.address": "127.0.0.1", "server.port": 53, "weir.dns.attempts": attempts, "answers": list(answers),
    }  # fmt: skip


def _sorted(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=repr)


def test_every_lookup_is_known_once_at_both_ends(stage: Stage, resolver: list[str]) -> None:
    space = stage.namespace()
    server, _ = _serve(stage, space)
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {**RECEIVER, "dns": {"enabled": True, "events": True}})
    names = ["a5.example", "nx1.example", "sf2.example", "big8.example", "quiet9.example"]
    asking = stage.run(space, [*resolver, *script("names.py", "ask", 0, *names)])
    unconnected = stage.run(space, script("names.py", "raw", "127.0.0.1", "sendto", "u7.example"))
    stream = stage.run(space, script("names.py", "raw", "127.0.0.1", "twice", "t4.example"))
    for program, count in ((asking, len(names)), (unconnected, 1), (stream, 1)):
        program.wait_for_facts(count)
    wanted = []
    for pid, role in ((asking.pid, "client"), (server.pid, "server")):
        wanted += [
            _expected(pid, role, "a5.example", "NOERROR", ["127.0.0.5"]),
            _expected(pid, role, "nx1.example", "NXDOMAIN"),
            _expected(pid, role, "sf2.example", "SERVFAIL"),
            _expected(pid, role, "big8.example", "NOERROR"),
            _expected(pid, role, "big8.example", "NOERROR", ["127.0.0.8"], "tcp"),
            _expected(pid, role, "quiet9.example", None),
        ]
    for program, transport, name in (
        (unconnected, "udp", "u7.example"), (stream, "tcp", "t4.example"), (stream, "tcp", "other-t4.example"),
    ):  # fmt: skip
        address = f"127.0.0.{name[-9]}"
        wanted.append(_expected(program.pid, "client", name, "NOERROR", [address], transport))
        wanted.append(_expected(server.pid, "server", name, "NOERROR", [address], transport))
    found = collector.wait_for_events(len(wanted), lambda event: event.name == LOOKUP)
    measured = collector.wait_for_points(
        lambda point: point.name == "dns.lookup.duration" and point.attributes.get("error.type") == "timeout",
        "timeouts",
    )
    ledger = weir.stop()["logs"]
    collector.stop()
    found = [event for event in collector.events() if event.name == LOOKUP]
    assert _sorted(map(_lookup, found)) == _sorted(wanted)
    assert {event["weir.process.comm"] for event in found} == {asking.wait_for_facts(1)[0]["comm"]}
    assert all(0 < event["weir.dns.lookup.duration"] < 12 for event in found)
    truncated = [event for event in found if event["weir.dns.response.truncated"]]
    assert {(event["dns.question.name"], event["network.transport"]) for event in truncated} == {
        ("big8.example", "udp")
    }
    assert {event["dns.question.name"] for event in found if event["weir.dns.answers.incomplete"]} == {"big8.example"}
    assert {point.attributes["dns.question.name"] for point in measured} == {"quiet9.example"}
    counts = {
        (point.attributes["dns.question.name"], point.attributes.get("error.type")): point.count
        for point in collector.latest()
        if point.name == "dns.lookup.duration"
    }
    assert counts == {
        ("a5.example", None): 1, ("nx1.example", "NXDOMAIN"): 1, ("sf2.example", "SERVFAIL"): 1, ("big8.example", None): 2,
        ("quiet9.example", "timeout"): 1, ("u7.example", None): 1, ("t4.example", None): 1, ("other-t4.example", None): 1,
    }  # fmt: skip
    assert not any(ledger["dropped"].values())
    assert ledger["observed"] == ledger["exported"] + sum(ledger["filtered"].values())
    outcomes = {
        point.attributes["weir.dns.outcome"]: point.value
        for point in collector.latest()
        if point.name == "weir.dns.messages"
    }
    assert {name: count for name, count in outcomes.items() if count} == {"parsed": outcomes["parsed"]}


def test_sockets_that_are_not_connected(stage: Stage) -> None:
    """What such a socket receives is read only if it answers a query; and which of several servers answered is not guessed."""
    space = stage.namespace()
    _serve(stage, space)
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {**RECEIVER, "dns": {"enabled": True, "events": True}})
    mixed = stage.run(space, script("names.py", "raw", "127.0.0.1", "mixed", "m5.example"))
    several = stage.run(space, script("names.py", "raw", "127.0.0.1", "several", "s6.example"))
    for program in (mixed, several):
        program.wait_for_facts(1)
    clients = {mixed.pid, several.pid}
    collector.wait_for_events(2, lambda event: event.name == LOOKUP and event["process.pid"] in clients)
    weir.stop()
    collector.stop()
    found = [event for event in collector.events() if event.name == LOOKUP and event["process.pid"] in clients]
    told = {
        event["process.pid"]: (
            event["server.address"],
            event["dns.answers"],
            event["weir.dns.attempts"],
            event["error.type"],
        )
        for event in found
    }
    assert len(found) == 2
    assert told == {mixed.pid: ("127.0.0.1", ["127.0.0.5"], 1, None), several.pid: (None, ["127.0.0.6"], 2, None)}
    outcomes = {
        point.attributes["weir.dns.outcome"]: point.value
        for point in collector.latest()
        if point.name == "weir.dns.messages"
    }
    assert {name: count for name, count in outcomes.items() if count} == {"parsed": 9}, "nothing else was read"


def test_what_weir_looks_up_itself_is_not_reported(stage: Stage, resolver: list[str]) -> None:
    """An endpoint is a name: the resolver in Weir asks the server that it observes. Neither end of that is a lookup."""
    space = stage.namespace()
    _serve(stage, space)
    collector = stage.collector(space)
    receiver = {**RECEIVER, "dns": {"enabled": True, "events": True}}
    config = configuration(collector.endpoint, receiver)
    config["exporters"]["otlp_grpc/named"] = {"endpoint": "nx9.example:4317", "tls": {"insecure": True}}
    config["service"]["pipelines"]["logs"]["exporters"].append("otlp_grpc/named")
    config["service"]["shutdown_timeout"] = "1s"
    weir = stage.weirs.start(space, config, before=resolver)
    program = stage.run(space, [*resolver, *script("names.py", "ask", 0, "a5.example")])
    program.wait_for_facts(1)
    collector.wait_for_points(
        lambda point: point.name == "weir.dns.messages" and point.attributes["weir.dns.outcome"] == "parsed" and point.value > 5,
        "Weir's own questions at the server",
    )  # fmt: skip
    weir.stop(errors=True)
    collector.stop()
    found = [event["dns.question.name"] for event in collector.events() if event.name == LOOKUP]
    assert found == ["a5.example", "a5.example"], "both ends of the program's lookup"
    assert not [point for point in collector.points() if point.attributes.get("dns.question.name") == "nx9.example"]


def test_servers_with_ipv6_and_mapped_addresses(stage: Stage) -> None:
    space = stage.namespace()
    _serve(stage, space)
    sixth = stage.run(space, script("names.py", "serve", "::1"))
    sixth.wait_for_facts(1)
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {**RECEIVER, "dns": {"enabled": True, "events": True}})
    cases = {("::1", "sendto"): "::1", ("::ffff:127.0.0.1", "sendto"): "127.0.0.1", ("::1", "twice"): "::1"}
    programs = [stage.run(space, script("names.py", "raw", *case, "v5.example")) for case in cases]
    for program in programs:
        program.wait_for_facts(1)
    collector.wait_for_events(8, lambda event: event.name == LOOKUP)
    weir.stop()
    collector.stop()
    found = [event for event in collector.events() if event.name == LOOKUP]
    assert len(found) == 8, "both ends of four lookups"
    for program, server in zip(programs, cases.values(), strict=True):
        mine = [event for event in found if event["process.pid"] == program.pid]
        assert {(event["server.address"], event["weir.dns.role"], event["dns.answers"][0]) for event in mine} == {
            (server, "client", "127.0.0.5")
        }
    assert len([event for event in found if event["process.pid"] == sixth.pid]) == 3


def test_a_reload_switches_it_on_and_off(stage: Stage, resolver: list[str]) -> None:
    space = stage.namespace()
    _, port = _serve(stage, space)
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    before, facts = _programs(), []
    for turn, receiver in enumerate(({}, RECEIVER, {}), 1):
        if turn > 1:
            weir.config.write_text(yaml.safe_dump(configuration(collector.endpoint, receiver)))
            weir.signal(signal.SIGHUP)
            weir.wait_for_log(READY, turn)
        assert bool(_programs() - before) == bool(receiver)
        program = stage.run(space, [*resolver, *script("names.py", "ask", port, "a5.example")])
        facts += program.wait_for_facts(1)
    events = [_connection(collector, fact) for fact in facts]
    weir.stop()
    collector.stop()
    assert [event["server.address"] for event in events] == ["127.0.0.5", "a5.example", "127.0.0.5"]


def test_off_means_that_no_program_for_dns_is_loaded(stage: Stage, resolver: list[str]) -> None:
    space = stage.namespace()
    _, port = _serve(stage, space)
    collector = stage.collector(space)
    before = _programs()
    weir = stage.weir(space, collector, {"metrics": {"interval": "1s"}})
    assert _programs() - before == set(), "bpf programs that read DNS"
    program = stage.run(space, [*resolver, *script("names.py", "ask", port, "a5.example")])
    event = _connection(collector, program.wait_for_facts(1)[0])
    weir.stop()
    collector.stop()
    assert event["server.address"] == "127.0.0.5"
    assert not [event for event in collector.events() if event.name == LOOKUP]
    assert not [point for point in collector.points() if "dns" in point.name]


def _programs() -> set[str]:
    """The loaded programs that are Weir's for DNS, as the kernel lists them."""
    listed = subprocess.run(["bpftool", "prog", "list"], capture_output=True, text=True, timeout=20, check=True)
    return {line.split(":")[0] for line in listed.stdout.splitlines() if "weir_dns" in line}
