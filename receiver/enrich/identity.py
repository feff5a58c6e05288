"""All that is known of one owner into the attributes of its Resource: a list of steps, each adding what is certain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from receiver.enrich.cgroup import NOTHING, CgroupIdentity, merge
from receiver.enrich.entry import PID_BITS, OwnerEntry
from receiver.enrich.host import INITIAL_PID, Pod
from receiver.enrich.process import Profile
from receiver.enrich.resources import Attributes, AttributeValue
from receiver.enrich.service import instance_id, service_name
from receiver.enrich.text import text

_PER_PROCESS = ("process.pid", "process.vpid", "process.creation.time")
_NANOSECONDS = 1_000_000_000
_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Owner:
    """All that is known of a process that owns flows; None for what is not (yet)."""

    pid: int  # as the initial pid namespace sees it
    start: int  # boot clock ns; 0: not known
    comm: bytes  # of the thread group leader
    entry: OwnerEntry | None = None
    cgroup: CgroupIdentity = NOTHING  # by the kernel's names
    profile: Profile | None = None  # by /proc
    execs: int = 0  # as in the entry

    @property
    def key(self) -> tuple[int, int]:
        """As the entry's."""
        return self.execs << PID_BITS | self.pid, self.start


Step: TypeAlias = Callable[[Owner, Attributes], None]


class Composer:
    """Makes the Resource attributes of owners.

    `host` are the host keys, `pod` the pod that every owner in scope belongs to (None: not so), `extra` the configured
    attributes, which replace what was discovered, `tenant` the configured tenant, which nothing replaces.
    `boot_to_unix` turns boot clock ns into unix ns; its offset must not change during a run, because a creation time is
    part of a process's identity. `steps` come after the process, container and pod steps and before the service step.
    """

    def __init__(
        self,
        host: Mapping[str, str],
        version: str,
        boot_to_unix: Callable[[int], int],
        *,
        pod: Pod | None = None,
        extra: Mapping[str, AttributeValue] | None = None,
        tenant: str = "",
        steps: Sequence[Step] = (),
    ) -> None:
        self._base: Attributes = {**host, "telemetry.distro.name": "weir", "telemetry.distro.version": version}
        self._last: Attributes = {**(extra or {}), **({"weir.tenant.id": tenant} if tenant else {})}
        self._boot_to_unix = boot_to_unix
        self._pod = pod
        self._steps: tuple[Step, ...] = (self._process, _container, self._in_pod, *steps, _service)

    def host_only(self) -> Attributes:
        """The Resource of flows without a known owner."""
        return {**self._base, **self._last}

    def compose(self, owner: Owner) -> Attributes:
        """The Resource of `owner`'s flows."""
        attributes = self.host_only()
        for step in self._steps:
            step(owner, attributes)
        attributes.update(self._last)
        return attributes

    def _process(self, owner: Owner, attributes: Attributes) -> None:
        entry, profile = owner.entry, owner.profile
        path = profile.executable_path if profile else None
        attributes["process.pid"] = owner.pid
        if entry and entry.vpid and entry.pidns not in {0, INITIAL_PID}:
            attributes["process.vpid"] = entry.vpid
        if owner.start:
            attributes["process.creation.time"] = iso_milliseconds(self._boot_to_unix(owner.start))
        name = text(entry.executable) if entry else ""
        if name or path:
            attributes["process.executable.name"] = name or str(path).rpartition("/")[2]
        if path:
            attributes["process.executable.path"] = path
        comm = text(entry.comm if entry and entry.comm else owner.comm)
        if comm:
            attributes["weir.process.comm"] = comm

    def _in_pod(self, owner: Owner, attributes: Attributes) -> None:
        pod = self._pod
        seen = attributes.get("k8s.pod.uid")
        if pod is None or (seen and pod.uid and seen != pod.uid):
            return  # a process of another pod (or none that is known) which has a socket in this network namespace
        declared = owner.profile.declared if owner.profile else None
        found = {
            "k8s.pod.name": pod.name,
            "k8s.pod.uid": pod.uid,
            "k8s.namespace.name": pod.namespace,
            "k8s.container.name": declared.container_name if declared else None,
        }
        attributes.update({key: value for key, value in found.items() if value})


def for_metrics(attributes: Mapping[str, AttributeValue]) -> Attributes:
    """`attributes` without those that tell one process from another of the same program."""
    return {key: value for key, value in attributes.items() if key not in _PER_PROCESS}


def iso_milliseconds(unix_ns: int) -> str:
    """`unix_ns` as ISO 8601 in UTC with milliseconds, as `process.creation.time` is written."""
    seconds, rest = divmod(unix_ns, _NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // _MILLISECOND:03d}Z"


def _container(owner: Owner, attributes: Attributes) -> None:
    cgroup = merge(owner.cgroup, owner.profile.cgroup) if owner.profile else owner.cgroup
    found = {
        "container.id": cgroup.container_id,
        "container.runtime.name": cgroup.runtime,
        "k8s.pod.uid": cgroup.pod_uid,
    }
    attributes.update({key: value for key, value in found.items() if value})


def _service(owner: Owner, attributes: Attributes) -> None:
    declared = owner.profile.declared if owner.profile else None
    attributes["service.name"] = service_name(
        declared.service_name if declared else None,
        attributes.get("k8s.pod.name"),
        attributes.get("process.executable.name"),
    )
    namespace = (declared.service_namespace if declared else None) or attributes.get("k8s.namespace.name")
    if namespace:
        attributes["service.namespace"] = namespace
    instance = instance_id(attributes)
    if instance:
        attributes["service.instance.id"] = instance
