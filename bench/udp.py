"""What UDP costs: `python -m bench.udp` (root) prints the time of calls without Weir, with it, and while senders are asked for."""

import json
import os
import socket
import subprocess
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


def _programs(capture: Capture) -> dict[str, float]:
    """ns a run of each program, by the kernel's own statistics, under the two pairs."""
    before = _STATS.read_text()
    _STATS.write_text("1")
    work, sockets = _pair(socket.SOCK_DGRAM, connected=False)
    connected, more = _pair(socket.SOCK_DGRAM, connected=True)
    try:
        for _ in range(ROUNDS):
            work()
        plain = _runs()
        for _ in range(ROUNDS):
            connected()
        both = _runs()
    finally:
        _STATS.write_text(before)
        for made in (*sockets, *more):
            made.close()
    assert capture.udp.sees_exits
    found = {f"{name}, not connected": ns / runs for name, (ns, runs) in plain.items() if runs}
    for name, (ns, runs) in both.items():
        was_ns, was_runs = plain.get(name, (0, 0))
        if runs - was_runs:
            found[f"{name}, connected"] = (ns - was_ns) / (runs - was_runs)
    return found


def _runs() -> dict[str, tuple[int, int]]:
    shown = json.loads(subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True).stdout)
    return {
        p["name"]: (p.get("run_time_ns", 0), p.get("run_cnt", 0))
        for p in shown
        if p.get("name", "").startswith("weir_udp")
    }


def main() -> None:
    """Print a table."""
    rows = {"without Weir": _figures()}
    with _capture(peers=False):
        rows["with Weir"] = _figures()
    with _capture(peers=True) as capture:
        work, sockets = _pair(socket.SOCK_DGRAM, connected=False)
        while not capture.udp.sees_exits:
            work()
            capture.wait(0.01)
        rows["while senders are asked for"] = _figures()
        programs = _programs(capture)
        for made in sockets:
            made.close()
    for name, figures in rows.items():
        print(f"{name:30}" + "".join(f"{case}: {ns:7.0f} ns   " for case, ns in figures.items()))
    for name, ns in programs.items():
        print(f"{name:36}{ns:6.0f} ns a run")


if __name__ == "__main__":
    main()
