"""Host keys: only those that are the host's own, from namespaces, a host path or the downward API."""

import os
from pathlib import Path

import pytest

from receiver.enrich.host import (
    INITIAL_MNT,
    INITIAL_NET,
    INITIAL_PID,
    INITIAL_UTS,
    Namespaces,
    Pod,
    host_attributes,
    pod_in_scope,
    read_namespaces,
    read_pod,
)
from receiver.enrich.own import own_resource

MACHINE = "0123456789abcdef" * 2
ON_HOST = Namespaces(INITIAL_PID, frozenset({"mnt", "uts", "pid", "net"}))
IN_CONTAINER = Namespaces(0xF0000005, frozenset())


def proc(root: Path, **inodes: int) -> Path:
    """A `/proc` with the namespace links of this process and, as `init_KIND`, of process 1."""
    for key, inode in inodes.items():
        who, kind = ("1", key[5:]) if key.startswith("init_") else ("self", key)
        (root / who / "ns").mkdir(parents=True, exist_ok=True)
        (root / who / "ns" / kind).symlink_to(f"{kind}:[{inode}]")
    return root


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root file system with a machine id and a host name."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text(MACHINE + "\n")
    (tmp_path / "etc/hostname").write_text("node-7\n")
    return tmp_path


def test_fixed_inodes_are_initial(tmp_path: Path) -> None:
    found = read_namespaces(proc(tmp_path, uts=INITIAL_UTS, pid=INITIAL_PID, net=INITIAL_NET, mnt=INITIAL_MNT))
    assert found == ON_HOST


def test_an_older_kernel_is_compared_with_process_1(tmp_path: Path) -> None:
    inodes = {"mnt": 0xF0000000, "init_mnt": 0xF0000000, "net": 0xF0000001, "init_net": 0xF0000009}
    found = read_namespaces(proc(tmp_path, uts=INITIAL_UTS, pid=INITIAL_PID, **inodes))
    assert found.initial == {"uts", "pid", "mnt"}


def test_process_1_of_a_container_proves_nothing(tmp_path: Path) -> None:
    found = read_namespaces(proc(tmp_path, uts=INITIAL_UTS, pid=0xF0000007, mnt=0xF0000000, init_mnt=0xF0000000))
    assert found == Namespaces(0xF0000007, frozenset({"uts"}))


def test_unreadable_links_are_not_initial(tmp_path: Path) -> None:
    assert read_namespaces(tmp_path) == Namespaces(0, frozenset())


def test_the_real_proc_names_the_own_pid_namespace() -> None:
    assert read_namespaces().pid == Path("/proc/self/ns/pid").stat().st_ino


def test_on_the_host_the_machine_speaks(machine: Path) -> None:
    found = host_attributes(ON_HOST, {}, root=machine)
    assert found == {"host.name": os.uname().nodename, "host.id": MACHINE, "os.type": "linux"}


@pytest.mark.parametrize("initial", [set(), {"mnt"}, {"uts"}, {"pid", "net"}])
def test_in_a_container_its_own_names_are_not_the_hosts(machine: Path, initial: set[str]) -> None:
    namespaces = Namespaces(1, frozenset(initial))
    assert host_attributes(namespaces, {}, root=machine) == {"os.type": "linux"}
    named = {"host.name": "node-7", "k8s.node.name": "node-7", "os.type": "linux"}
    assert host_attributes(namespaces, {"K8S_NODE_NAME": "node-7"}, root=machine) == named


def test_a_configured_host_path_speaks_for_the_host(machine: Path) -> None:
    found = host_attributes(IN_CONTAINER, {}, root=Path("/nowhere"), host_path=machine)
    assert found == {"host.name": "node-7", "host.id": MACHINE, "os.type": "linux"}


@pytest.mark.parametrize("content", ["", "uninitialized\n", "F" * 32, "f" * 31, "f" * 33])
def test_a_machine_id_of_another_shape_falls_back(machine: Path, content: str) -> None:
    (machine / "etc/machine-id").write_text(content)
    assert "host.id" not in host_attributes(ON_HOST, {}, root=machine)
    (machine / "var/lib/dbus").mkdir(parents=True)
    (machine / "var/lib/dbus/machine-id").write_text("a" * 32)
    assert host_attributes(ON_HOST, {}, root=machine)["host.id"] == "a" * 32


def test_the_pod_counts_where_every_flow_is_its_own() -> None:
    pod = read_pod({"K8S_POD_NAME": "cart-1", "K8S_POD_UID": "u", "K8S_NAMESPACE_NAME": "shop"})
    assert pod == Pod("cart-1", "u", "shop")
    assert read_pod({"K8S_NAMESPACE_NAME": "shop"}) is None
    assert pod_in_scope(pod, "netns", IN_CONTAINER) == pod
    assert pod_in_scope(pod, "host", IN_CONTAINER) is None
    assert pod_in_scope(pod, "netns", Namespaces(1, frozenset({"net"}))) is None  # hostNetwork


def test_weirs_own_resource_is_its_own() -> None:
    own = own_resource({"host.name": "n", "os.type": "linux"}, "1.2")
    assert own["service.name"] == "weir"
    assert (own["service.version"], own["host.name"], own["process.pid"]) == ("1.2", "n", os.getpid())
    assert own["service.instance.id"] != own_resource({}, "1.2")["service.instance.id"]
