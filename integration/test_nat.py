"""The address asked for and the address reached, both on the flow: netfilter's DNAT, and socket-level NAT by another's BPF program."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from subprocess import run

import pytest

from integration.harness.collector import Collector
from integration.harness.otlp import Event
from integration.harness.stage import Client, Stage
from integration.harness.truth import missing_or_twice, wrong_fields

_first_ports = count(10_000, 100)
# Family -> network of services, service, server.
SERVICES = {"ip": ("10.96.0.0/16", "10.96.0.10", "10.99.0.2"), "ip6": ("fd96::/64", "fd96::10", "fd99::2")}


def _translated(event: Event) -> tuple[object, object]:
    return event["weir.flow.nat.destination.address"], event["weir.flow.nat.destination.port"]


@pytest.mark.parametrize("family", SERVICES)
def test_netfilter(stage: Stage, family: str) -> None:
    here, there = stage.pair()
    network, service, reached = SERVICES[family]
    server = stage.serve(there, reached, "thread")
    here.run("ip", "route", "add", network, "dev", "weir0")
    to = f"[{reached}]:{server.port}" if family == "ip6" else f"{reached}:{server.port}"
    here.run(
        "nft",
        f"add table {family} weir; add chain {family} weir output {{ type nat hook output priority -100; }};"
        f" add rule {family} weir output {family} daddr {service} tcp dport 80 dnat to {to}",
    )
    collector = stage.collector(here)
    weir = stage.weir(here, collector)

    def dial(number: int, address: str, port: int) -> tuple[Client, list[Event]]:
        first = next(_first_ports)
        client = stage.dial(here, address, port, number, first)
        client.ends()
        ports = range(first, first + number)
        return client, collector.wait_for_events(number, lambda event: event["network.local.port"] in ports)

    for _ in range(20):  # within a second of the first entry of conntrack it is looked for
        _, found = dial(1, service, 80)
        if _translated(found[0]) != (None, None):
            break
    client, found = dial(30, service, 80)
    wanted = client.ends()
    assert missing_or_twice(wanted, found) == ""
    assert wrong_fields(wanted, found) == [], "the socket's own ends: the peer is the address asked for"
    assert {_translated(event) for event in found} == {(reached, server.port)}
    _, plain = dial(10, reached, server.port)
    assert {_translated(event) for event in plain} == {(None, None)}, "tracked, and not translated"
    weir.stop()


FIXTURE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *c)
{
	if (c->user_ip4 == bpf_htonl(0x0a60000a) && c->user_port == bpf_htons(80)) {
		c->user_ip4 = bpf_htonl(0x7f000001);
		c->user_port = bpf_htons(7700);
	}
	return 1;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def translating(stage: Stage, tmp_path: Path) -> Iterator[Path]:
    """A cgroup in which 10.96.0.10:80 is 127.0.0.1:7700, as a service load balancer on the socket level has it."""
    source, made = tmp_path / "connect4.c", tmp_path / "connect4.o"
    source.write_text(FIXTURE)
    run(
        ["clang", "-O2", "-g", "-target", "bpf", "-I", "/usr/include/x86_64-linux-gnu", "-c", source, "-o", made],
        check=True,
    )
    roots = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    group = next(root for root in roots if (root / "cgroup.controllers").exists()) / f"test-{stage.namespace().name}"
    pin = Path("/sys/fs/bpf") / group.name
    group.mkdir()
    try:
        run(["bpftool", "prog", "load", made, pin], check=True)
        run(["bpftool", "cgroup", "attach", group, "connect4", "pinned", pin], check=True)
        pin.unlink()
        yield group
    finally:
        pin.unlink(missing_ok=True)
        stage.programs.end()
        group.rmdir()


def test_on_the_socket_level(stage: Stage, translating: Path, connload: Path) -> None:
    space = stage.namespace()
    collector: Collector = stage.collector(space)
    weir = stage.weir(space, collector)
    stage.listen(space, connload, 7700)
    code = (
        "import socket, sys\n"
        "open(sys.argv[1] + '/cgroup.procs', 'w').write('0')\n"
        "for _ in range(10):\n"
        "    s = socket.create_connection(('10.96.0.10', 80)); s.sendall(b'x' * 9); s.recv(9); s.close()\n"
        "print('{}', flush=True); sys.stdin.read()"
    )
    stage.run(space, ["python3", "-c", code, str(translating)]).wait_for_facts(1)
    found = collector.wait_for_events(20, lambda event: 7700 in event.ports)
    clients = [event for event in found if event["weir.flow.role"] == "client"]
    assert len(clients) == 10
    for event in clients:
        assert (event["network.peer.address"], event["network.peer.port"]) == ("127.0.0.1", 7700)
        assert (event["server.address"], event["server.port"]) == ("127.0.0.1", 7700)
        assert _translated(event) == ("10.96.0.10", 80)
    servers = {event["weir.flow.id"] for event in found if event["weir.flow.role"] == "server"}
    assert servers == {event["weir.flow.id"] for event in clients}, "both ends have the same id"
    assert {_translated(event) for event in found if event["weir.flow.role"] == "server"} == {(None, None)}
    weir.stop()
