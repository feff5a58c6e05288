"""Where Weir itself runs (namespaces, machine, downward API) into the host keys and the pod of its Resources."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from receiver.enrich.text import text

# The kernel's fixed inodes of the initial namespaces (proc_ns.h). The mount and network ones are fixed since Linux 6.18
# only, so older kernels need the comparison with process 1; a namespace made later starts at 0xF0000000.
INITIAL_UTS, INITIAL_PID, INITIAL_NET, INITIAL_MNT = 0xEFFFFFFE, 0xEFFFFFFC, 0xEFFFFFF9, 0xEFFFFFF8
_FIXED = {"uts": INITIAL_UTS, "pid": INITIAL_PID, "net": INITIAL_NET, "mnt": INITIAL_MNT}
_MACHINE_ID = re.compile(rb"^[0-9a-f]{32}$")
_SMALL = 4096  # bytes read of a file that holds one name


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Weir's own namespaces: the pid one's inode (0: not known), and which are surely the initial ones."""

    pid: int
    initial: frozenset[str]  # of uts, pid, net, mnt


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod Weir runs in, by the downward API; empty strings for what is not given."""

    name: str
    uid: str
    namespace: str


def read_namespaces(proc: Path = Path("/proc")) -> Namespaces:
    """The namespaces of this process, by the links below `proc`; what cannot be read is not initial."""
    own = {kind: _inode(proc / "self" / "ns" / kind) for kind in _FIXED}
    initial = {kind for kind, inode in own.items() if inode == _FIXED[kind]}
    if "pid" in initial:  # then process 1 is the machine's own
        initial |= {kind for kind, inode in own.items() if inode and inode == _inode(proc / "1" / "ns" / kind)}
    return Namespaces(own["pid"], frozenset(initial))


def host_attributes(
    namespaces: Namespaces, environ: Mapping[str, str], *, root: Path = Path("/"), host_path: Path | None = None
) -> dict[str, str]:
    """`host.name`, `host.id`, `k8s.node.name` and `os.type`, as far as they are the host's own.

    From `host_path` where one is configured (the host's file system, mounted there); from this system where Weir is in
    the initial mount and UTS namespaces; in a container the name alone, from `K8S_NODE_NAME`. A container's own host
    name and machine id are not the host's, so they are never taken.
    """
    node = text(environ.get("K8S_NODE_NAME", "").encode("utf-8", "replace"))
    name, machine = node, ""
    if host_path is not None:
        name, machine = text(_first_line(host_path / "etc/hostname")) or node, _machine_id(host_path)
    elif {"mnt", "uts"} <= namespaces.initial:
        name, machine = text(os.fsencode(os.uname().nodename)), _machine_id(root)
    found = {"host.name": name, "host.id": machine, "k8s.node.name": node, "os.type": "linux"}
    return {key: value for key, value in found.items() if value}


def read_pod(environ: Mapping[str, str]) -> Pod | None:
    """The pod that the downward API names in `environ`; None where it names none."""
    name, uid, namespace = (
        text(environ.get(variable, "").encode("utf-8", "replace"))
        for variable in ("K8S_POD_NAME", "K8S_POD_UID", "K8S_NAMESPACE_NAME")
    )
    return Pod(name, uid, namespace) if name or uid else None


def pod_in_scope(pod: Pod | None, scope: str, namespaces: Namespaces) -> Pod | None:
    """`pod` where every flow in `scope` is the pod's: only its own network namespace, and not the host's."""
    return pod if scope == "netns" and "net" not in namespaces.initial else None


def _inode(link: Path) -> int:
    try:
        target = link.readlink().name  # "mnt:[4026531832]"
    except OSError:
        return 0
    number = target.partition("[")[2].rstrip("]")
    return int(number) if number.isdecimal() else 0


def _machine_id(root: Path) -> str:
    for place in ("etc/machine-id", "var/lib/dbus/machine-id"):
        line = _first_line(root / place)
        if _MACHINE_ID.match(line):
            return line.decode()
    return ""


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_SMALL).partition(b"\n")[0].strip()
    except OSError:
        return b""
