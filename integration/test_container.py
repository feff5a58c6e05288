"""The image as a sidecar: it joins another container's network namespace with BPF and PERFMON alone, and shows its flows.

Needs an image, built by `make image`; `WEIR_IMAGE` names it.
"""

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Final

import pytest

pytestmark = pytest.mark.container

IMAGE: Final = os.environ.get("WEIR_IMAGE", "localhost/weir:dev")
# A limit that this process may not raise would fail the start of a container: ask for ones that are surely below.
LIMITS: Final = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
# The one engine configuration that works under cgroup v1, v2 and hybrid, with and without systemd.
ENGINE: Final = ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs")
# Some defaults allow bpf(2) only with CAP_SYS_ADMIN.
RIGHTS: Final = ("--cap-drop", "all", "--cap-add", "BPF", "--cap-add", "PERFMON", "--security-opt", "seccomp=unconfined",
                 "--security-opt", "no-new-privileges", "--read-only")  # fmt: skip
PORT: Final = 18080
CONNECTIONS: Final = 20
WAIT: Final = 30.0
FLOW: Final = re.compile(
    r"^\S+Z end +tcp (\S+) -> (\S+) (client|server) (\S+) closed .* 1:\S+ by (connect|receive)$", re.MULTILINE
)
SERVER: Final = f"""
import socket
listener = socket.create_server(("127.0.0.1", {PORT}), backlog=64)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)
"""
CLIENT: Final = f"""
import socket
for _ in range({CONNECTIONS}):
    with socket.create_connection(("127.0.0.1", {PORT})) as connection:
        connection.sendall(bytes(1000))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
"""


def engine(*arguments: str) -> str:
    done = subprocess.run([*ENGINE, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def output(name: str) -> tuple[str, str]:
    """Standard output and standard error of a container so far."""
    done = subprocess.run([*ENGINE, "logs", name], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts containers by name, and removes them at the end."""
    started: list[str] = []

    def run(*arguments: str) -> str:
        name = f"weir-test-{uuid.uuid4().hex[:12]}"
        started.append(name)
        engine("run", "--detach", "--name", name, "--log-driver", "k8s-file", *LIMITS, *arguments)
        return name

    yield run
    for name in reversed(started):
        subprocess.run([*ENGINE, "rm", "--force", "--time", "2", name], capture_output=True, timeout=60, check=False)


@pytest.fixture
def target(start: Start) -> str:
    """A workload in a network namespace of its own."""
    name = start("--network", "none", "--entrypoint", "python3", IMAGE, "-c", SERVER)
    until(lambda: "listening" in output(name)[0], lambda: output(name))
    return name


@pytest.mark.parametrize("user", ["0", "65534"])
def test_a_sidecar_shows_the_flows_of_its_neighbour(start: Start, target: str, user: str) -> None:
    weir = start("--network", f"container:{target}", "--user", user, *RIGHTS, IMAGE, "run", "--set",
                 "service.telemetry.logs.encoding=json")  # fmt: skip
    until(lambda: "Begin running and processing data." in output(weir)[1], lambda: output(weir))
    engine("exec", target, "python3", "-c", CLIENT)
    until(lambda: len(FLOW.findall(output(weir)[0])) >= 2 * CONNECTIONS, lambda: output(weir))
    engine("stop", "--time", "15", weir)
    assert engine("inspect", "--format", "{{.State.ExitCode}}", weir) == "0"

    standard_output, log = output(weir)
    flows = FLOW.findall(standard_output)
    assert len(flows) == 2 * CONNECTIONS
    for role, rule in (("client", "connect"), ("server", "receive")):
        ends = [flow for flow in flows if flow[1:3] == (f"127.0.0.1:{PORT}", role)]
        assert len({source for source, *_ in ends}) == CONNECTIONS
        # No host /proc, and another pid namespace: the name is the one the kernel gave.
        assert all(owner.startswith("python3") and by == rule for *_, owner, by in ends), ends
    final = json.loads(next(line for line in log.splitlines() if "Final ledger." in line))["ledger"]["logs"]
    assert final["exported"] == 2 * CONNECTIONS
    # What Weir itself connected to, trying what the host can do, is filtered and said so.
    assert final["observed"] == final["exported"] + final["filtered"].get("self", 0)
    assert (final["in_flight"], final["dropped"]) == (0, {})


def test_without_the_rights_it_stays_up_and_says_why(start: Start, target: str) -> None:
    weir = start("--network", f"container:{target}", "--cap-drop", "all", "--user", "65534", IMAGE, "run")
    until(lambda: "Capture is unavailable." in output(weir)[1], lambda: output(weir))
    assert engine("inspect", "--format", "{{.State.Running}}", weir) == "true"
    engine("stop", "--time", "15", weir)
    assert engine("inspect", "--format", "{{.State.ExitCode}}", weir) == "0"
    assert output(weir)[0] == ""


def test_the_image_carries_no_compiler_and_no_pip(start: Start) -> None:
    name = start("--network", "none", "--entrypoint", "sh", IMAGE, "-c",
                 "for tool in clang llvm-strip pip gcc; do command -v $tool; done; ls /opt/weir/bin; sleep 60")  # fmt: skip
    until(lambda: "weir" in output(name)[0].split(), lambda: output(name))
    assert {"clang", "llvm-strip", "gcc", "pip"}.isdisjoint(
        path.rpartition("/")[2] for path in output(name)[0].split() if not path.startswith("/usr/bin/pip")
    )
