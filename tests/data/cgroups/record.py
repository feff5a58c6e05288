"""Runtimes' cgroup names into recorded samples: make each cgroup, run a child in it, keep its `/proc/PID/cgroup`.

    python3 record.py        # as root, on a host in hybrid mode: v1 hierarchies, and a v2 one

The names are those that the runtimes and kubelet give (runc and crun with the cgroupfs and systemd drivers, kubelet's
`pkg/kubelet/cm`, LXC's `lxc.payload.`); the ids are digests of invented names; the lines are the kernel's. Into
`samples.json` go each sample's `content` and what it is `expected` to tell. Every cgroup made here is removed again.
"""

import hashlib
import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent


Sample = tuple[str, str, dict[str, str | None]]


def hexes(name: str, count: int = 64) -> str:
    """`count` hex digits that stand for the id called `name`."""
    return hashlib.sha256(name.encode()).hexdigest()[:count]


def uid(name: str) -> str:
    """A pod uid, as the API writes it."""
    digits = hexes(f"pod {name}", 32)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def sample(
    versions: str,
    path: str,
    *,
    key: str = "",
    runtime: str | None = None,
    pod: str | None = None,
    unit: str | None = None,
) -> Sample:
    """One row of SAMPLES; `key` names the container's id (or is it, where it starts with =).

    `versions` is v1, v2, both, v1only (another place in the v2 hierarchy) or view (from a sibling's cgroup namespace).
    """
    container = key[1:] if key.startswith("=") else hexes(key) if key else None
    return versions, path, {"container_id": container, "runtime": runtime, "pod_uid": pod, "unit": unit}


def systemd_pod(name: str, qos: str) -> str:
    """The slices of a pod with kubelet's systemd driver."""
    middle = f"kubepods-{qos}.slice/kubepods-{qos}-pod" if qos else "kubepods-pod"
    return f"kubepods.slice/{middle}{uid(name).replace('-', '_')}.slice"


D, C, CRIO, P = hexes("d"), hexes("c"), hexes("o"), hexes("p")
STATIC = hexes("static", 32)
KIND_SLICE = f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{uid('kind').replace('-', '_')}.slice"
KIND = f"docker/{hexes('kind')}/{KIND_SLICE}"
SAMPLES = {
    "docker-systemd": sample("v2", f"system.slice/docker-{D}.scope", key="d", runtime="docker"),
    "docker-cgroupfs": sample("both", f"docker/{D}", key="d", runtime="docker"),
    "docker-child": sample(
        "v2", f"system.slice/docker-{D}.scope/init.scope", key="d", runtime="docker", unit="init.scope"
    ),
    "docker-in-docker": sample("v2", f"docker/{D}/docker/{hexes('inner')}", key="inner", runtime="docker"),
    "nerdctl": sample("v2", f"system.slice/nerdctl-{C}.scope", key="c", runtime="containerd"),
    "containerd-namespace": sample("both", f"default/{C}", key="c"),
    "kubepods-systemd-containerd-burstable": sample(
        "v2", f"{systemd_pod('a', 'burstable')}/cri-containerd-{C}.scope", key="c", runtime="containerd", pod=uid("a")
    ),
    "kubepods-systemd-containerd-guaranteed": sample(
        "both", f"{systemd_pod('a', '')}/cri-containerd-{C}.scope", key="c", runtime="containerd", pod=uid("a")
    ),
    "kubepods-systemd-crio": sample(
        "both", f"{systemd_pod('b', 'besteffort')}/crio-{CRIO}.scope", key="o", runtime="cri-o", pod=uid("b")
    ),
    "kubepods-systemd-crio-crun": sample(
        "v2", f"{systemd_pod('b', 'besteffort')}/crio-{CRIO}.scope/container", key="o", runtime="cri-o", pod=uid("b")
    ),
    "kubepods-systemd-crio-conmon": sample("v2", f"{systemd_pod('b', 'besteffort')}/crio-conmon-{CRIO}.scope"),
    "kubepods-systemd-docker": sample(
        "v1", f"{systemd_pod('d', 'besteffort')}/docker-{D}.scope", key="d", runtime="docker", pod=uid("d")
    ),
    "kubepods-systemd-static": sample(
        "v2",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{C}.scope",
        key="c",
        runtime="containerd",
        pod=STATIC,
    ),
    "kubepods-cgroupfs-burstable": sample("both", f"kubepods/burstable/pod{uid('a')}/{C}", key="c", pod=uid("a")),
    "kubepods-cgroupfs-guaranteed": sample("both", f"kubepods/pod{uid('a')}/{C}", key="c", pod=uid("a")),
    "kubepods-cgroupfs-crio": sample(
        "v1", f"kubepods/besteffort/pod{uid('b')}/crio-{CRIO}", key="o", runtime="cri-o", pod=uid("b")
    ),
    "kubepods-mixed-drivers": sample(
        "v1",
        f"system.slice/containerd.service/kubepods-burstable-pod{uid('a').replace('-', '_')}.slice:cri-containerd:{C}",
        key="c",
        runtime="containerd",
        pod=uid("a"),
    ),
    "kubepods-pod-only": sample("v2", systemd_pod("a", "burstable"), pod=uid("a")),
    "kind": sample("v2", f"{KIND}/cri-containerd-{C}.scope", key="c", runtime="containerd", pod=uid("kind")),
    "podman-systemd": sample("both", f"machine.slice/libpod-{P}.scope", key="p", runtime="podman"),
    "podman-crun": sample("v2", f"machine.slice/libpod-{P}.scope/container", key="p", runtime="podman"),
    "podman-rootless": sample(
        "v2",
        f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{P}.scope/container",
        key="p",
        runtime="podman",
    ),
    "podman-cgroupfs": sample("both", f"libpod_parent/libpod-{P}", key="p", runtime="podman"),
    "podman-pod-cgroupfs": sample("v2", f"libpod_parent/{hexes('pod')}/libpod-{P}", key="p", runtime="podman"),
    "podman-pod-itself": sample("v2", f"libpod_parent/{hexes('pod')}"),
    "podman-pod-systemd": sample(
        "v2", f"machine.slice/machine-libpod_pod_{hexes('pod')}.slice/libpod-{P}.scope", key="p", runtime="podman"
    ),
    "podman-conmon": sample("v2", f"machine.slice/libpod-conmon-{P}.scope"),
    "podman-systemd-inside": sample(
        "v2",
        f"machine.slice/libpod-{P}.scope/system.slice/nginx.service",
        key="p",
        runtime="podman",
        unit="nginx.service",
    ),
    "lxc-v1": sample("v1", "lxc/web1", key="=web1", runtime="lxc"),
    "lxc-payload": sample("both", "lxc.payload.web1", key="=web1", runtime="lxc"),
    "lxc-systemd-inside": sample(
        "v2", "lxc.payload.web1/system.slice/nginx.service", key="=web1", runtime="lxc", unit="nginx.service"
    ),
    "lxc-monitor": sample("v2", "lxc.monitor.web1"),
    "service": sample("both", "system.slice/nginx.service", unit="nginx.service"),
    "session": sample("both", "user.slice/user-1000.slice/session-3.scope", unit="session-3.scope"),
    "slice": sample("v2", "system.slice"),
    "root": sample("both", ""),
    "docker-beside-v2": sample("v1only", f"docker/{D}", key="d", runtime="docker"),
    "sibling-container": sample(
        "view", f"{systemd_pod('a', 'burstable')}/cri-containerd-{C}.scope", key="c", runtime="containerd"
    ),
    "hex-but-short": sample("v2", f"batch/{hexes('job', 32)}"),
}


def hierarchies() -> tuple[Path, list[Path]]:
    """Where the v2 hierarchy and the v1 ones are mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    unified = next(Path(mount[1]) for mount in mounts if mount[2] == "cgroup2")
    return unified, [Path(mount[1]) for mount in mounts if mount[2] == "cgroup"]


SEEN_BESIDE = "echo $$ >{sibling}/cgroup.procs && exec unshare --cgroup cat /proc/{pid}/cgroup"


def record(path: str, places: list[Path], *, view: bool = False) -> str:
    """The `/proc/PID/cgroup` of a child in `path` below `places`; with `view` as a sibling's namespace sees it."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as child:  # ends with its input
        try:
            for place in places:
                (place / path).mkdir(parents=True, exist_ok=True)
                if place.name == "cpuset":
                    for name in ("cpuset.cpus", "cpuset.mems"):
                        fill(place, path, name)
                (place / path / "cgroup.procs").write_text(str(child.pid))
            if view:
                sibling = places[0] / Path(path).parent / "reader"
                sibling.mkdir()
                try:
                    command = SEEN_BESIDE.format(sibling=sibling, pid=child.pid)
                    return subprocess.check_output(["/bin/sh", "-c", command], text=True)
                finally:
                    sibling.rmdir()
            return Path(f"/proc/{child.pid}/cgroup").read_text()
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
            for place in places:
                for depth in range(len(Path(path).parts), 0, -1):
                    with suppress(OSError):  # not empty: it was there before, or another sample's
                        place.joinpath(*Path(path).parts[:depth]).rmdir()


def fill(place: Path, path: str, name: str) -> None:
    """A v1 cpuset takes no process before it is told its CPUs and memory nodes."""
    value, here = (place / name).read_text(), place
    for part in Path(path).parts:
        here /= part
        if not (here / name).read_text().strip():
            (here / name).write_text(value)


def main() -> int:
    """Record every sample."""
    unified, old = hierarchies()
    samples = {}
    for name, (versions, path, truth) in SAMPLES.items():
        places = old if versions == "v1only" else [unified] if versions == "view" else [unified, *old]
        lines = record(path, places, view=versions == "view").splitlines(keepends=True)
        new = [line for line in lines if line.startswith("0::")]
        kept = {
            "v1": [line for line in lines if line not in new],
            "v2": new,
            "view": new,
            "hybrid": lines,
            "v1only": lines,
        }
        for version in ("v1", "v2", "hybrid") if versions == "both" else (versions,):
            samples[f"{name}.{version}"] = {"content": "".join(kept[version]), "expected": truth}
    (HERE / "samples.json").write_text(json.dumps(samples, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
