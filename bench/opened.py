"""Many open connections over loopback: the time to list those older than Weir, the time of a pass over them, memory."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.live import _memory, _port, _wait
from integration.harness.needs import compiled
from receiver.flows.series import SeriesTable
from receiver.kernel.capture import Capture, Options, own_netns
from receiver.kernel.records import decode_pass

_EACH = 10_000  # connections that one client holds
_MAX_FLOWS = 1 << 18


@contextmanager
def _held(connections: int) -> Iterator[None]:
    connload = compiled("connload")
    started: list[subprocess.Popen[str]] = []
    try:
        for number in range(-(-connections // _EACH)):
            port, count = _port(), min(_EACH, connections - number * _EACH)
            started.append(
                subprocess.Popen([connload, "server", "127.0.0.1", str(port)], stdout=subprocess.DEVNULL, text=True)
            )
            _wait(lambda port=port: f":{port:04X} " in Path("/proc/net/tcp").read_text(), "server")  # type: ignore[misc]
            client = subprocess.Popen(
                [connload, "live", "127.0.0.1", str(port), str(count), "0", "120", "64"],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            started.append(client)
            assert client.stderr is not None
            line = client.stderr.readline()
            if not line.startswith("opened"):
                raise RuntimeError(line)
        yield
    finally:
        for program in started:
            program.kill()
            program.wait()


def opened(connections: int) -> Mapping[str, float]:
    """Both ends of `connections` idle connections."""
    with _held(connections):
        capture = Capture(Options(own_netns(), 2 << 20, _MAX_FLOWS))
        try:
            before = _memory(os.getpid(), "VmRSS")
            begun = time.perf_counter()
            listed = capture.attach().listed
            attached = time.perf_counter() - begun
            begun, cpu = time.perf_counter(), time.process_time()
            records = decode_pass(capture.run_pass()).records
            walked = time.perf_counter() - begun
            table = SeriesTable(2048)
            rows = table.add(records, np.zeros(len(records), np.uint32), 1)
            table.set_active(records, rows)
            cpu = time.process_time() - cpu
            return {
                "sockets": len(records),
                "listed": listed,
                "listing_ms": attached * 1e3,
                "pass_ms": walked * 1e3,
                "pass_and_series_cpu_us_a_socket": cpu / max(1, len(records)) * 1e6,
                "rss_growth_mib": _memory(os.getpid(), "VmRSS") - before,
            }
        finally:
            capture.close()
