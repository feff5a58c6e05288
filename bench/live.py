"""Real connections over loopback to a real Collector: share seen, CPU a connection, BPF time a connection, memory, start-up."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from integration.harness.collector import OTELCOL, build
from integration.harness.needs import compiled
from integration.harness.weir import command

_HZ = os.sysconf("SC_CLK_TCK")
_CONFIG = """
receivers: {{ebpf: {{limits: {{ring_mib: {ring}}}}}}}
exporters: {{otlp_grpc: {{endpoint: "127.0.0.1:{port}", tls: {{insecure: true}}}}}}
service:
  extensions: []
  pipelines:
    logs: {{receivers: [ebpf], exporters: [otlp_grpc]}}
    metrics: {{receivers: [ebpf], exporters: [otlp_grpc]}}
"""
_SINK = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{nop: }}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [nop]}}
    metrics: {{receivers: [otlp], exporters: [nop]}}
"""


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _cpu(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / _HZ


def _memory(pid: int, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _wait(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.005)


class _Bench:
    """A Collector that throws away, and Weir, for the length of a `with`."""

    def __init__(self, ring: int) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        directory = Path(self._scratch.name)
        port = _port()
        (directory / "sink.yaml").write_text(_SINK.format(port=port))
        (directory / "weir.yaml").write_text(_CONFIG.format(port=port, ring=ring))
        self._collector = subprocess.Popen(
            [build(), "--config", directory / "sink.yaml"], cwd=OTELCOL, stderr=subprocess.DEVNULL
        )
        _wait(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the Collector")
        self._log = directory / "weir.log"
        begin = time.monotonic()
        with self._log.open("w") as log:
            self.weir = subprocess.Popen([*command(), "run", "--config", directory / "weir.yaml"], stderr=log)
        _wait(lambda: "Everything is ready" in self._log.read_text(), "Weir")
        self.start = time.monotonic() - begin

    def ledger(self) -> dict[str, Any]:
        self.weir.send_signal(signal.SIGTERM)
        self.weir.wait(30)
        line = next(line for line in self._log.read_text().splitlines() if "\tFinal ledger.\t" in line)
        return dict(json.loads(line.rsplit("\t", 1)[1])["ledger"])

    def close(self) -> None:
        for program in (self.weir, self._collector):
            if program.poll() is None:
                program.terminate()
                program.wait(20)
        self._scratch.cleanup()


def _bpf_ns() -> int:
    """Run time of Weir's programs, ns, where statistics are on."""
    shown = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, text=True, check=True).stdout
    return sum(p.get("run_time_ns", 0) for p in json.loads(shown) if p.get("name", "").startswith("weir_"))


def live(rate: int, seconds: float, *, statistics: bool = False, ring: int = 2) -> dict[str, float]:
    """`rate` connections a second (0: as many as two cores make), 100 bytes each way, the client closing first."""
    bench, server = _Bench(ring), None
    load, port = compiled("connload"), str(_port())
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    try:
        server = subprocess.Popen([load, "server", "127.0.0.1", port], stdout=subprocess.PIPE, text=True)
        _wait(lambda: socket.socket().connect_ex(("127.0.0.1", int(port))) == 0, "the load's server")
        time.sleep(2)  # the probes of the start are over
        if statistics:
            switch.write_text("1")
        cpu, bpf = _cpu(bench.weir.pid), _bpf_ns()
        client = [load, "conn", "127.0.0.1", port, str(rate), str(seconds), "100"]
        made = json.loads(subprocess.run(client, capture_output=True, text=True, check=True).stdout)
        time.sleep(2)  # what is in the ring leaves
        count = made["completed"]
        spent, bpf = _cpu(bench.weir.pid) - cpu, _bpf_ns() - bpf
        resident, peak = _memory(bench.weir.pid, "VmRSS"), _memory(bench.weir.pid, "VmHWM")
        logs = bench.ledger()["logs"]
        lost = sum(logs["dropped"].values())
        found = {
            "connections": count, "rate": made["rate"], "seen_percent": min(100.0, (logs["exported"] - 2) / (2 * count) * 100),
            "lost": lost, "cpu_us_a_connection": spent / count * 1e6, "workload_cpu_us": made["us_cpu_each"],
            "rss_mib": resident, "peak_mib": peak, "start_s": bench.start,
        }  # fmt: skip
        return found | ({"bpf_us_a_connection": bpf / count / 1e3} if statistics else {})
    finally:
        if statistics:
            switch.write_text("0")
        if server is not None:
            server.terminate()
            server.communicate()
        bench.close()


def idle(seconds: float = 20.0) -> dict[str, float]:
    """Nothing happens."""
    bench = _Bench(2)
    try:
        time.sleep(3)
        cpu = _cpu(bench.weir.pid)
        time.sleep(seconds)
        spent = _cpu(bench.weir.pid) - cpu
        return {
            "cpu_percent": spent / seconds * 100,
            "rss_mib": _memory(bench.weir.pid, "VmRSS"),
            "start_s": bench.start,
        }
    finally:
        bench.close()
