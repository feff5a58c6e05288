"""After Weir has ended, in order or by SIGKILL, nothing of it is left in the kernel, in /sys/fs/bpf or in /proc."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from integration.harness.stage import Stage
from integration.harness.waiting import until

KINDS = ("prog", "map", "link", "btf")


def _loaded() -> dict[str, dict[int, list[int]]]:
    """Kind -> id -> the processes that hold it, of all BPF objects of this machine."""
    found = {}
    for kind in KINDS:
        made = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True, timeout=20, check=True)
        rows = json.loads(made.stdout or "[]")
        found[kind] = {row["id"]: [holder["pid"] for holder in row.get("pids", [])] for row in rows}
    return found


def _held_by(pid: int) -> dict[str, set[int]]:
    """Kind -> ids of the BPF objects that the process's file descriptors name."""
    found: dict[str, set[int]] = {kind: set() for kind in KINDS}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = path.read_text()
        except OSError:
            continue
        for kind, number in re.findall(r"^(prog|map|link|btf)_id:\s*(\d+)$", text, re.MULTILINE):
            found[kind].add(int(number))
    return found


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_nothing_is_left_loaded(stage: Stage, way: str) -> None:
    before = _loaded()
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    stage.talk(space, 5, 10_000)
    collector.wait_for_events(10)
    held = _held_by(weir.pid)
    assert held["prog"] or held["link"]
    assert held["map"]
    now = _loaded()
    for kind in KINDS:
        assert held[kind] <= set(now[kind]), "what Weir holds is what bpftool shows"

    if way == "stop":
        weir.stop()
    else:
        weir.kill()

    def left() -> dict[str, list[int]]:
        """Weir's objects, and any new one that no living process holds (those of other users of this machine are theirs)."""
        after = _loaded()
        rest = {}
        for kind in KINDS:
            orphans = [n for n, pids in after[kind].items() if n not in before[kind] and (n in held[kind] or not pids)]
            if orphans:
                rest[kind] = orphans
        return rest

    until(lambda: not left(), "kernel without Weir's objects", 20)
    assert not [path for path in Path("/sys/fs/bpf").glob("*") if "weir" in path.name]
    assert not Path(f"/proc/{weir.pid}").exists()
