"""What UDP costs: `python -m bench.udp` (root) prints the time of calls without Weir, with it, and while senders are asked for."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from receiver.kernel.capture import Capture, Options, own_netns, ring_bytes

ROUNDS: Final = 20_000
BEST_OF: Final = 7
_STATS: Final = Path("/proc/sys/kernel/bpf_stats_enabled")


def _pair(kind: int, *, connected: bool) -> tuple[Callable[[], None], list[socket.socket]]:
    """One datagram there, taken with recvfrom or recv."""
    server, client = socket.socket(socket.AF_INET, kind), socket.socket(socket.AF_INET, kind)
    server.bind(("127.0.0.1", 0))
    client.bind(("127.0.0.1", 0))
    to = server.getsockname()
    if not connected:

        def once() -> None:
            client.sendto(b"x" * 100, to)
            server.recvfrom(200)

        return once, [server, client]
    client.connect(to)
    server.connect(client.getsockname())

    def again() -> None:
        client.send(b"x" * 100)
        server.recv(200)

    return again, [server, client]


def _stream() -> tuple[Callable[[], None], list[socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()

    def once() -> None:
        client.send(b"x" * 100)
        server.recv(200)

    return once, [server, client]


def _time(work: Callable[[], object]) -> float:
    """The best of some, ns a call."""
    best = float("inf")
    for _ in range(BEST_OF):
        begin = time.thread_time_ns()
        for _ in range(ROUNDS):
            work()
        best = min(best, (time.thread_time_ns() - begin) / ROUNDS)
    return best


@contextmanager
def _capture(*, peers: bool) -> Iterator[Capture]:
    made = Capture(Options(own_netns(), ring_bytes(1), 65536, udp_peers=peers))
    try:
        made.attach()
        yield made
    finally:
        made.close()


def _figures() -> dict[str, float]:
    cases = {
        "udp pair, not connected": _pair(socket.SOCK_DGRAM, connected=False),
        "udp pair, connected": _pair(socket.SOCK_DGRAM, connected=True),
        "tcp pair": _stream(),
        "getppid": (os.getppid, []),
    }
    try:
        return {name: _time(work) for name, (work, _) in cases.items()}
    finally:
        for _, sockets in cases.values():
            for made in sockets:
                made.close()


def _child(what: str) -> subprocess.Popen[str]:
    """Another process, because Weir's own datagrams are not reported."""
    return subprocess.Popen([sys.executable, "-m", "bench.udp", what], stdout=subprocess.PIPE, text=True)


def _of_child(what: str) -> dict[str, float]:
    with _child(what) as child:
        out, _ = child.communicate()
    found: dict[str, float] = json.loads(out)
    return found


def _programs() -> dict[str, float]:
    """ns a run of each program, by the kernel's own statistics, under the two pairs."""
    before = _STATS.read_text()
    _STATS.write_text("1")
    found: dict[str, float] = {}
    try:
        last = _runs()
        for what in ("not connected", "connected"):
            _of_child(what)
            now = _runs()
            for name, (ns, runs) in now.items():
                was_ns, was_runs = last.get(name, (0, 0))
                if runs - was_runs >= ROUNDS:
                    found[f"{name}, {what}"] = (ns - was_ns) / (runs - was_runs)
            last = now
    finally:
        _STATS.write_text(before)
    return found


def _runs() -> dict[str, tuple[int, int]]:
    shown = json.loads(subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True).stdout)
    return {
        p["name"]: (p.get("run_time_ns", 0), p.get("run_cnt", 0))
        for p in shown
        if p.get("name", "").startswith("weir_udp")
    }


def _work(what: str) -> dict[str, float]:
    """In the child."""
    if what == "figures":
        return _figures()
    once, sockets = _pair(socket.SOCK_DGRAM, connected=what == "connected")
    for _ in range(ROUNDS):
        once()
    for made in sockets:
        made.close()
    return {}


def _ask(capture: Capture) -> None:
    """Until senders are asked for."""
    while not capture.udp.sees_exits:
        _of_child("not connected")
        capture.wait(0.01)


def main(what: str = "") -> None:
    """Print a table."""
    if what:
        print(json.dumps(_work(what)))
        return
    rows = {"without Weir": _of_child("figures")}
    with _capture(peers=False):
        rows["with Weir"] = _of_child("figures")
    with _capture(peers=True) as capture:
        _ask(capture)
        rows["while senders are asked for"] = _of_child("figures")
        programs = _programs()
    for name, figures in rows.items():
        print(f"{name:30}" + "".join(f"{case}: {ns:7.0f} ns   " for case, ns in figures.items()))
    for name, ns in programs.items():
        print(f"{name:36}{ns:6.0f} ns a run")


if __name__ == "__main__":
    main(*sys.argv[1:])
