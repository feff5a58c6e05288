"""What a host cannot do is said, with reason and remedy, whatever step fails; nothing is left attached or open."""

import json
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.cli.doctor import TLS
from receiver.kernel import libbpf, probe
from receiver.kernel.allowlist import ForbiddenError
from receiver.kernel.libbpf import KernelError
from receiver.kernel.objects import IntegrityError
from receiver.kernel.probe import CAPTURE_NEEDS, Feature, capture_blockers, probe_all, summary

TRACEPOINTS: Final = {
    "tracepoint inet_sock_set_state",
    "tracepoint tcp_rcv_space_adjust",
    "tracepoint sock_send_length",
}
RAW: Final = {"raw_tp", "ring_buffer"} | TRACEPOINTS
LOADED: Final = RAW | {
    "tp_btf",
    "udp",
    "udp senders",
    "iterator bpf_map_elem",
    "iterator task_file",
    "uprobe",
    "uprobe_multi",
}
SURROUNDINGS: Final = {"process identity", "lockdown", "memlock", "cgroup", "tracefs"}
ALL: Final = {"libbpf", "btf", "capabilities"} | LOADED | SURROUNDINGS
SLOTS: Final = {"set_state": 0, "receive": 1, "send": 2, "datagram_sent": 0, "datagram_received": 1, "call_ended": 2}
RING_SIZE: Final = 65536
EPERM, ENOENT, EACCES, EINVAL = 1, 2, 13, 22


class Host:
    """A host that can do everything, but for the steps it is told to refuse; it knows what was opened on it."""

    def __init__(self) -> None:
        self.refused: dict[str, Exception] = {}
        self.fires = True
        self.objects: list[FakeObject] = []
        self.links = 0

    def refuse(self, error: Exception, *steps: str) -> None:
        """A step is `load`, or `load probe_tp_btf` of one object, or `attach probe_raw_tp send` of one program."""
        self.refused |= dict.fromkeys(steps, error)

    def step(self, *words: str) -> None:
        for count in range(1, len(words) + 1):
            if error := self.refused.get(" ".join(words[:count])):
                raise error

    def connect(self) -> None:
        self.step("connect")
        for made in self.objects:
            for program in made.attached:
                made.fire(program)


class FakeObject:
    """Stands in for libbpf's object; its maps are memory that the probes really map."""

    def __init__(self, host: Host, name: str) -> None:
        host.step("open", name)
        self._host = host
        self._name = name
        self._fds = {".bss": os.memfd_create("bss"), "ring": os.memfd_create("ring")}
        os.ftruncate(self._fds[".bss"], mmap.PAGESIZE)
        os.ftruncate(self._fds["ring"], 2 * mmap.PAGESIZE + 2 * RING_SIZE)
        self.attached: list[str] = []
        self.closed = False
        host.objects.append(self)

    def fire(self, program: str) -> None:
        if self._host.fires:
            os.pwrite(self._fds[".bss"], struct.pack("<Q", 1), 8 * SLOTS.get(program, 0))
            if program == "set_state":
                os.pwrite(self._fds["ring"], struct.pack("<Q", 16), mmap.PAGESIZE)

    def btf(self) -> bytes:
        self._host.step("btf", self._name)
        return b""

    def write_initial(self, name: str, offset: int, value: bytes) -> None:
        self._host.step("write", self._name)

    def set_attach_type(self, program: str, attach_type: int) -> None:
        self._host.step("type", self._name)

    def load(self) -> None:
        self._host.step("load", self._name)

    def program_fd(self, name: str) -> int:
        return -1

    def map_fd(self, name: str) -> int:
        self._host.step("map", self._name, name)
        return self._fds[name]

    def attach(self, program: str) -> None:
        self._host.step("attach", self._name, program)
        self.attached.append(program)

    def attach_iterator(self, program: str, map_name: str | None = None) -> "FakeObject":
        self._host.step("attach", self._name)
        return self

    def attach_uprobe(self, program: str, *, pid: int, path: str, offset: int) -> None:
        assert pid == os.getpid(), "a uprobe of a probe is for Weir itself alone"
        self._host.step("attach", self._name)
        self.fire(program)

    def close(self) -> None:
        self.attached.clear()
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self.closed = True


class FakeBtf:
    def __init__(self, data: bytes) -> None:
        pass

    def variables(self, section: str) -> dict[str, int]:
        return {"self_pid": 0, "self_pidns_dev": 8, "self_pidns_ino": 16} if section == ".rodata" else {"hits": 0}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    made = Host()

    def read(name: str) -> bytes:
        made.step("read", name)
        return b""

    def library() -> SimpleNamespace:
        made.step("library")
        return SimpleNamespace(libbpf_major_version=lambda: 1, libbpf_minor_version=lambda: 1)

    def open_iterator(link: FakeObject) -> int:
        made.step("iterate")
        link.fire("walk")
        return os.open(os.devnull, os.O_RDONLY)

    def attach_uprobe_multi(program_fd: int, path: str, offset: int, pid: int) -> int:
        assert pid == os.getpid(), "a uprobe of a probe is for Weir itself alone"
        made.step("link")
        made.objects[-1].fire("entry")
        return os.open(os.devnull, os.O_RDONLY)

    btf = tmp_path / "vmlinux"
    btf.write_bytes(b"\x9f\xeb\x01")
    monkeypatch.setattr(probe, "VMLINUX_BTF", str(btf))
    monkeypatch.setattr(probe, "BpfObject", lambda data, name: FakeObject(made, name))
    monkeypatch.setattr(probe, "Btf", FakeBtf)
    monkeypatch.setattr(probe.objects, "read", read)
    monkeypatch.setattr(probe, "library", library)
    monkeypatch.setattr(probe, "open_iterator", open_iterator)
    monkeypatch.setattr(probe, "attach_uprobe_multi", attach_uprobe_multi)
    monkeypatch.setattr(probe, "_own_connection", made.connect)
    monkeypatch.setattr(probe, "_own_datagram", made.connect)
    monkeypatch.setattr(probe.privileges, "held", lambda: frozenset({"CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"}))
    return made


def examined(host: Host) -> dict[str, Feature]:
    """Every feature by name, after what holds on any host was checked: all rows there, reasons given, nothing left behind."""
    before = len(os.listdir("/proc/self/fd"))
    rows = probe_all()
    assert len(os.listdir("/proc/self/fd")) == before, "a file descriptor was left open"
    assert all(made.closed for made in host.objects), "an object was left loaded"
    found = {row.name: row for row in rows}
    assert len(found) == len(rows)
    assert found.keys() == ALL
    for row in rows:
        assert bool(row.reason) == bool(row.remedy) == (not row.available), row
    return found


def missing(features: dict[str, Feature]) -> set[str]:
    """What probes of BPF found missing; what else this machine has is its own affair."""
    return {name for name, row in features.items() if not row.available} - SURROUNDINGS


def test_the_stand_in_has_only_what_the_real_one_has() -> None:
    public = {name for name in vars(FakeObject) if not name.startswith("_")} - {"fire"}
    assert public <= set(dir(libbpf.BpfObject))


def test_a_host_that_can_do_everything(host: Host) -> None:
    features = examined(host)
    assert missing(features) == set()
    assert capture_blockers(features.values()) == []
    assert len(host.objects) == 8
    assert features["capabilities"].detail == "CAP_BPF CAP_PERFMON CAP_SYS_PTRACE"
    assert features["libbpf"].detail == "1.1"


@pytest.mark.parametrize("step", ["open", "btf", "write", "load", "map"])
@pytest.mark.parametrize("errno", [EPERM, ENOENT, EINVAL])
def test_whatever_the_kernel_refuses_each_feature_says_so(host: Host, step: str, errno: int) -> None:
    host.refuse(KernelError(errno, f"{step} it"), step)
    features = examined(host)
    assert missing(features) == LOADED
    assert all(f"{step} it: {os.strerror(errno)}" in features[name].reason for name in LOADED)
    if errno == EPERM:
        assert all("CAP_BPF" in features[name].remedy for name in LOADED - {"uprobe"})
    blocked = {line.partition(":")[0] for line in capture_blockers(features.values())}
    assert blocked == set(CAPTURE_NEEDS) & LOADED


ONE: Final = [
    ("load probe_tp_btf", {"tp_btf"}),
    ("attach probe_tp_btf", {"tp_btf"}),
    ("load probe_udp", {"udp", "udp senders"}),
    ("attach probe_udp datagram_received", {"udp", "udp senders"}),
    ("attach probe_udp call_ended", {"udp senders"}),
    ("load probe_iter_map", {"iterator bpf_map_elem"}),
    ("attach probe_iter_task", {"iterator task_file"}),
    ("iterate", {"iterator bpf_map_elem", "iterator task_file"}),
    ("attach probe_uprobe", {"uprobe"}),
    ("type probe_uprobe_multi", {"uprobe_multi"}),
    ("link", {"uprobe_multi"}),
    ("attach probe_raw_tp receive", {"tracepoint tcp_rcv_space_adjust"}),
    ("attach probe_raw_tp send", {"tracepoint sock_send_length"}),
]


@pytest.mark.parametrize(("step", "lost"), ONE, ids=[step for step, _ in ONE])
def test_one_feature_lost_costs_no_other_and_no_capture(host: Host, step: str, lost: set[str]) -> None:
    host.refuse(KernelError(EINVAL, "this one"), step)
    features = examined(host)
    assert missing(features) == lost
    assert capture_blockers(features.values()) == []


def test_without_the_tracepoint_of_states_there_is_no_capture(host: Host) -> None:
    host.refuse(KernelError(ENOENT, "attach set_state"), "attach probe_raw_tp set_state")
    features = examined(host)
    assert missing(features) == {"tracepoint inet_sock_set_state", "ring_buffer"}
    assert "attach set_state: No such file" in "; ".join(capture_blockers(features.values()))


def test_no_raw_tracepoint_at_all(host: Host) -> None:
    host.refuse(KernelError(EPERM, "attach"), "attach probe_raw_tp")
    features = examined(host)
    assert missing(features) == RAW
    assert "CAP_PERFMON" in features["raw_tp"].remedy


def test_remedies_are_those_of_the_feature(host: Host) -> None:
    host.refuse(KernelError(EACCES, "perf"), "attach probe_uprobe")
    host.refuse(KernelError(EINVAL, "link"), "link", "attach probe_iter_map", "load probe_udp")
    host.refuse(KernelError(ENOENT, "attach"), "attach probe_raw_tp send")
    features = examined(host)
    assert "CAP_SYS_ADMIN" in features["uprobe"].remedy
    assert "6.6" in features["uprobe_multi"].remedy
    assert "5.9" in features["iterator bpf_map_elem"].remedy
    assert "6.3" in features["tracepoint sock_send_length"].remedy
    assert "6.3" in features["udp"].remedy


def test_what_attaches_but_never_fires_is_not_available(host: Host) -> None:
    host.fires = False
    features = examined(host)
    assert missing(features) == LOADED
    assert "did not fire" in features["tp_btf"].reason
    assert "nothing arrived" in features["ring_buffer"].reason


def test_a_host_without_loopback(host: Host) -> None:
    host.refuse(OSError(101, "Network is unreachable"), "connect")
    features = examined(host)
    attached = {"tracepoint tcp_rcv_space_adjust", "tracepoint sock_send_length"}
    assert missing(features) == (RAW | {"tp_btf"}) - attached
    assert all("loopback is down" in features[name].detail for name in attached | {"udp", "udp senders"})


@pytest.mark.parametrize("error", [OSError(5, "odd"), ValueError("odd"), KeyError("odd"), AttributeError("odd")])
@pytest.mark.parametrize(
    "step", ["library", "read", "open", "btf", "load", "map", "map probe_raw_tp ring", "attach", "iterate", "link", "connect"]
)  # fmt: skip
def test_no_failure_of_any_kind_gets_out(host: Host, step: str, error: Exception) -> None:
    host.refuse(error, step)
    features = examined(host)
    assert missing(features)
    if step != "connect":
        assert "odd" in features["tp_btf"].reason or "tp_btf" not in missing(features)


def test_a_ring_that_cannot_be_mapped_is_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(EPERM, "mmap of the ring")

    monkeypatch.setattr(probe, "Ring", refuse)
    features = examined(host)
    assert "ring_buffer" in missing(features)
    assert "mmap of the ring" in features["ring_buffer"].reason
    assert "ring_buffer" in "; ".join(capture_blockers(features.values()))


def test_without_libbpf_the_remedy_is_libbpf(host: Host) -> None:
    host.refuse(OSError(ENOENT, "libbpf.so.1 is not installed"), "library")
    features = examined(host)
    assert missing(features) == {"libbpf"} | LOADED
    for name in {"libbpf"} | LOADED:
        assert "libbpf.so.1 is not installed" in features[name].reason
        assert "install libbpf" in features[name].remedy, name


def test_a_libbpf_that_is_too_old(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(libbpf_major_version=lambda: 0, libbpf_minor_version=lambda: 8)
    monkeypatch.setattr(probe, "library", lambda: old)
    features = examined(host)
    assert "0.8 is older than 1.0" in features["libbpf"].reason
    assert "libbpf: " in "; ".join(capture_blockers(features.values()))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (IntegrityError("flow: No such file; in a checkout, `make bpf` builds it"), "make bpf"),
        (IntegrityError("flow: it was changed after it was built"), "changed after"),
        (ForbiddenError("flow", ["section 'xdp'"]), "xdp"),
    ],
)
def test_objects_that_may_not_be_loaded(host: Host, error: Exception, said: str) -> None:
    host.refuse(error, "read")
    features = examined(host)
    assert host.objects == [], "nothing may be opened"
    assert missing(features) == LOADED
    assert all(said in features[name].reason for name in LOADED)
    assert all("build" in features[name].remedy and "kernel" not in features[name].remedy for name in LOADED)


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF"])
def test_a_kernel_without_btf(host: Host, tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "vmlinux").unlink()
    if content is not None:
        (tmp_path / "vmlinux").write_bytes(content)
    features = examined(host)
    assert "CONFIG_DEBUG_INFO_BTF" in features["btf"].remedy
    assert [line.partition(":")[0] for line in capture_blockers(features.values())] == ["btf"]


@pytest.mark.parametrize(
    ("held", "lacking"),
    [
        (set(), {"CAP_BPF", "CAP_PERFMON"}),
        ({"CAP_BPF"}, {"CAP_PERFMON"}),
        ({"CAP_PERFMON", "CAP_NET_ADMIN"}, {"CAP_BPF"}),
        ({"CAP_SYS_ADMIN"}, set()),
    ],
)
def test_rights(host: Host, monkeypatch: pytest.MonkeyPatch, held: set[str], lacking: set[str]) -> None:
    monkeypatch.setattr(probe.privileges, "held", lambda: frozenset(held))
    row = examined(host)["capabilities"]
    assert row.available == (not lacking)
    assert {name for name in ("CAP_BPF", "CAP_PERFMON") if name in row.reason} == lacking


def rooted(root: Path) -> Callable[[str], Path]:
    """As Path, but everything is below `root`."""
    return lambda path: root / path.lstrip("/")


@pytest.mark.parametrize(
    ("file", "content", "name", "available", "said"),
    [
        (None, "", "lockdown", True, "not known"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n", "lockdown", True, "integrity"),
        ("sys/kernel/security/lockdown", "none integrity [confidentiality]\n", "lockdown", False, "confidentiality"),
        (None, "", "cgroup", False, "no cgroup file system"),
        ("sys/fs/cgroup/cgroup.controllers", "", "cgroup", True, "v2"),
        ("sys/fs/cgroup/unified/cgroup.controllers", "", "cgroup", True, "hybrid"),
        ("sys/fs/cgroup/memory/cgroup.procs", "", "cgroup", True, "v1"),
        (None, "", "tracefs", False, "not mounted"),
        ("sys/kernel/tracing/events/enable", "", "tracefs", True, "tracing"),
        (None, "", "process identity", False, "No such file"),
        ("proc/self/status", "", "process identity", True, "no other process"),
    ],
)
def test_surroundings(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    file: str | None, content: str, name: str, available: bool, said: str,
) -> None:  # fmt: skip
    if file is not None:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(content)
    monkeypatch.setattr(probe, "Path", rooted(tmp_path))
    features = examined(host)
    assert features[name].available is available
    assert said in (features[name].detail or features[name].reason)
    assert capture_blockers(features.values()) == []


@pytest.fixture
def nothing(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    """A host without anything: no libbpf, no BTF, no rights, no file systems of the kernel."""
    (tmp_path / "vmlinux").unlink()
    host.refuse(OSError(ENOENT, "libbpf.so.1 is not installed"), "library")
    monkeypatch.setattr(probe, "Path", rooted(tmp_path))
    monkeypatch.setattr(probe.privileges, "held", frozenset)
    return host


def doctor(*options: str) -> str:
    done = CliRunner().invoke(main, ["doctor", *options])
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def test_a_host_without_anything_is_described_all_the_same(nothing: Host) -> None:
    features = examined(nothing)
    assert {name for name, row in features.items() if row.available} == {"lockdown", "memlock"}
    report = json.loads(doctor("--json"))
    assert report["capture"] == "unavailable"
    assert all(f"{name}: " in report["reason"] for name in CAPTURE_NEEDS)
    assert report["tls"] == TLS
    assert [row["name"] for row in report["features"]] == list(features)
    assert all(row["reason"] and row["remedy"] for row in report["features"] if not row["available"])


def test_the_report_of_a_host_that_captures(host: Host) -> None:
    report = json.loads(doctor("--json"))
    assert (report["capture"], report["reason"]) == ("available", "")
    assert {row["name"] for row in report["features"]} == ALL
    assert set(report["features"][0]) == {"name", "available", "reason", "remedy", "detail"}


def test_the_table_has_a_row_for_each_feature_and_a_remedy_below_what_is_missing(host: Host) -> None:
    host.refuse(KernelError(EINVAL, "link"), "link")
    lines = doctor().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("uprobe_multi "))
    assert "unavailable" in lines[at]
    assert "Invalid argument" in lines[at]
    assert lines[at + 1].strip() == "remedy: a kernel 6.6 or later"
    for name in ALL:
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert sum(TLS in line for line in lines) == 1
    assert lines[-1] == "capture: available"


def test_the_table_of_a_host_without_anything_ends_with_why(nothing: Host) -> None:
    lines = doctor().splitlines()
    assert lines[-1].startswith("capture: unavailable: libbpf: ")
    assert "libbpf.so.1 is not installed" in lines[-1]


def test_one_word_a_feature_for_the_log(host: Host) -> None:
    host.refuse(KernelError(EINVAL, "link"), "link")
    words = summary(probe_all())
    assert words.keys() == ALL
    assert words["tp_btf"] == "available"
    assert words["libbpf"] == "1.1"
    assert words["uprobe_multi"] == "unavailable: [Errno 22] link: Invalid argument"


def test_wrong_usage_of_doctor() -> None:
    assert CliRunner().invoke(main, ["doctor", "--nonsense"]).exit_code == 2
