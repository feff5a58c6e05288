"""Cgroup paths into the identity they carry: container id, runtime, pod uid, systemd unit."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from receiver.enrich.text import text

_ID = "[0-9a-f]{64}"  # an OCI container id
# A level that names a container of a known runtime: systemd scopes, and the cgroupfs forms of podman and CRI-O.
_NAMED = re.compile(rf"(?:^|:)(docker|cri-containerd|containerd|nerdctl|crio|libpod|buildah)[-:]({_ID})(?:\.scope)?$")
_BARE = re.compile(rf"^{_ID}$")
# conmon and the LXC monitor stand beside a container and are no part of it.
_BESIDE = re.compile(rf"^(?:crio-conmon-|libpod-conmon-){_ID}(?:\.scope)?$|^lxc\.monitor(?:\.|$)")
_LXC = re.compile(r"^lxc\.payload\.(.+)$")
# kubelet: "pod<uid>" (cgroupfs) or "kubepods-burstable-pod<uid with _>.slice" (systemd); a static pod's uid is 32 hex.
_POD = re.compile(
    r"^(?:pod|(?:[^/]*-)?kubepods(?:-burstable|-besteffort)?-pod)"
    r"([0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?::|$)"
)
_RUNTIMES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "buildah": "buildah",
}
_DELETED = " (deleted)"  # the kernel adds it to the path of a cgroup that was removed


@dataclass(frozen=True, slots=True)
class CgroupIdentity:
    """What a cgroup path says; None for what it does not say."""

    container_id: str | None = None  # 64 hex digits, or an LXC container's name
    runtime: str | None = None  # docker, containerd, cri-o, podman, lxc, buildah
    pod_uid: str | None = None  # with dashes, as the Kubernetes API writes it
    unit: str | None = None  # innermost systemd service or scope, none of it outside the container


NOTHING = CgroupIdentity()


def identify_levels(levels: Iterable[str]) -> CgroupIdentity:
    """The identity of a process whose cgroup path has these `levels`, outermost first.

    The innermost container counts, with the pod that encloses it: a container in a container is what the process sees.
    """
    container: str | None = None
    runtime: str | None = None
    pod: str | None = None
    unit: str | None = None
    above = ""
    for level in levels:
        if _BESIDE.match(level):
            return NOTHING
        enclosing = _POD.match(level)
        if enclosing:
            pod, container, runtime, unit = enclosing[1].replace("_", "-"), None, None, None
        named, lxc = _NAMED.search(level), _LXC.match(level)
        if named:
            container, runtime, unit = named[2], _RUNTIMES[named[1]], None
        elif lxc or (above == "lxc" and level not in {"", ".."}):
            container, runtime, unit = text((lxc[1] if lxc else level).encode()), "lxc", None
        elif _BARE.match(level) and above != "libpod_parent":  # below libpod_parent stands a podman pod's own id
            container, runtime, unit = level, "docker" if above == "docker" else None, None
        elif level.endswith((".service", ".scope")):
            unit = text(level.encode())
        above = level
    return CgroupIdentity(container, runtime, pod, unit)


def identify_names(parent: bytes, name: bytes) -> CgroupIdentity:
    """The identity that the last two levels of a path give: all that the kernel hands over of it."""
    return identify_levels(level.decode("utf-8", "replace") for level in (parent, name))


def identify_file(content: bytes) -> CgroupIdentity:
    """The identity that the content of a `/proc/PID/cgroup` gives (cgroups(7)); any bytes are taken, none raise.

    A line is `hierarchy:controllers:path`. The v2 line speaks first, then systemd's own hierarchy, then the others: on
    a v1 or hybrid host only some of them carry the container. A container and its pod come from one and the same line.
    """
    ranked: list[tuple[int, CgroupIdentity]] = []
    for line in content.split(b"\n"):
        fields = line.decode("utf-8", "replace").split(":", 2)
        if len(fields) == 3:  # noqa: PLR2004 - the three fields named above
            number, controllers, path = fields
            rank = 0 if (number, controllers) == ("0", "") else 1 if controllers == "name=systemd" else 2
            ranked.append((rank, identify_levels(path.removesuffix(_DELETED).split("/"))))
    ranked.sort(key=lambda item: item[0])
    found = [identity for _, identity in ranked]
    best = next((i for i in found if i.container_id), None) or next((i for i in found if i.pod_uid), NOTHING)
    unit = next((i.unit for i in found if i.unit), None)
    return CgroupIdentity(best.container_id, best.runtime, best.pod_uid, unit)


def merge(kernel: CgroupIdentity, proc: CgroupIdentity) -> CgroupIdentity:
    """What the kernel's two levels say, completed by the whole path where both speak of the same container.

    The kernel's word was taken when the flow was owned; a process that was moved since is told apart by it.
    """
    if kernel.container_id and kernel.container_id != proc.container_id:
        return kernel
    if kernel.pod_uid and proc.pod_uid and kernel.pod_uid != proc.pod_uid:
        return kernel
    return CgroupIdentity(
        proc.container_id,
        kernel.runtime or proc.runtime,
        kernel.pod_uid or proc.pod_uid,
        kernel.unit or proc.unit,
    )
