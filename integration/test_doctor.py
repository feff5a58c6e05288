"""What a host allows: `weir doctor` and `weir run` as root, as nobody with two capabilities, and as nobody with none."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice, wrong_fields
from integration.harness.unprivileged import TWO, effective, nobody
from integration.harness.waiting import until
from integration.harness.weir import UNAVAILABLE, command, configuration

BASE = {"libbpf", "btf", "capabilities", "ring_buffer", "raw_tp", "tracepoint inet_sock_set_state", "tp_btf"}
MAY_KEEP = {2, 19, 38, 39}  # DAC_READ_SEARCH and SYS_PTRACE, which name owners; PERFMON and BPF, which capture
WHO: list[tuple[str, Sequence[str] | None]] = [("root", None), ("two", TWO), ("none", ())]


def _doctor(capabilities: Sequence[str] | None, *options: str) -> str:
    with nobody(capabilities) as before:
        made = subprocess.run(
            [*before, *command(), "doctor", *options], capture_output=True, text=True, timeout=60, check=False
        )
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.mark.parametrize(("who", "capabilities"), WHO)
def test_doctor_says_what_this_host_can_do(who: str, capabilities: Sequence[str] | None, machine: None) -> None:
    report: dict[str, Any] = json.loads(_doctor(capabilities, "--json"))
    features = {feature["name"]: feature for feature in report["features"]}
    assert features.keys() >= BASE
    for feature in features.values():
        if not feature["available"]:
            assert feature["reason"], feature
            assert feature["remedy"], feature
    if who == "none":
        assert report["capture"] == "unavailable"
        assert "CAP_BPF" in report["reason"]
        assert not features["raw_tp"]["available"]
        assert not features["capabilities"]["available"]
        assert features["libbpf"]["available"]
    else:
        assert report["capture"] == "available"
        assert all(features[name]["available"] for name in BASE)
    if who == "two":
        assert not features["uprobe"]["available"], "the one attached by perf needs CAP_SYS_ADMIN"


@pytest.mark.parametrize(("who", "capabilities"), WHO)
def test_doctor_has_a_table_too(who: str, capabilities: Sequence[str] | None, machine: None) -> None:
    table = _doctor(capabilities).splitlines()
    assert any(line.startswith("raw_tp") and ("unavailable" in line) == (who == "none") for line in table)


def test_doctor_counts_the_sockets_that_make_no_flows(stage: Stage) -> None:
    space = stage.namespace()
    made = "s=socket.socket; kept=[s(2, 3, 200), s(10, 3, 58), s(17, 3, 8)]; print('{}', flush=True); sys.stdin.read()"
    stage.run(space, [sys.executable, "-c", f"import socket, sys; {made}"]).wait_for_facts(1)
    report = json.loads(space.run(*command(), "doctor", "--json"))
    assert {kind: report["not_covered"][kind] for kind in ("raw", "packet")} == {"raw": 2, "packet": 1}
    (line,) = [line for line in space.run(*command(), "doctor").splitlines() if line.startswith("not covered")]
    assert "raw 2, packet 1" in line


@pytest.mark.parametrize(("who", "capabilities"), WHO[:2])
def test_whoever_has_the_two_capabilities_captures(stage: Stage, who: str, capabilities: Sequence[str] | None) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    with nobody(capabilities, stage.directory) as before:
        weir = stage.weirs.start(space, configuration(collector.endpoint), before=before)
        wanted = stage.talk(space, 20, 10_000)
        collector.wait_for_events(40)
        until(
            lambda: [line for line in weir.logs() if "inet_sock_set_state" in json.dumps(line)],
            "line that says what the host can do",
        )
        until(lambda: effective(weir.pid) <= MAY_KEEP, "Weir without the rights that it does not need")
        assert "NoNewPrivs:\t1" in Path(f"/proc/{weir.pid}/status").read_text()
        ledger = weir.stop()["logs"]
    collector.stop()
    found = collector.events()
    assert missing_or_twice(wanted, found) == ""
    # Without CAP_SYS_PTRACE nobody may follow /proc/PID/exe of others: only the path is unknown.
    assert wrong_fields(wanted, found, gone=who == "two") == []
    assert ledger["exported"] == 40


def test_with_no_capability_it_stays_up_and_says_why(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    with nobody((), stage.directory) as before:
        config = configuration(collector.endpoint, {"metrics": {"interval": "1s"}})
        weir = stage.weirs.start(space, config, before=before, wait=UNAVAILABLE)
        assert "CAP_BPF" in weir.wait_for_log(UNAVAILABLE)["reason"]
        collector.wait_for_points(lambda point: point.resource.get("service.name") == "weir", "own metrics")
        stage.talk(space, 5, 10_000)
        assert weir.running()
        assert effective(weir.pid) == set()
        ledger = weir.stop()
    collector.stop()
    assert collector.events() == []
    assert ledger["logs"]["observed"] == 0
    assert ledger["metrics"]["exported"] == len(collector.points())
