"""The schema of `receivers::ebpf`: every key, its default, its limits and a sentence of what it does."""

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from receiver.config.durations import Duration
from receiver.config.strict import Strict

Port = int
Attribute = str | int | float | bool | list[str]


class Flows(Strict):
    """Flow events."""

    start_events: bool = Field(False, description="Also an event when a connection is established.")
    update_interval: Duration = Field(
        "60s", description="How often an open flow is reported; 0s: never.", validate_default=True
    )
    udp_idle_timeout: Duration = Field(
        "30s", description="A UDP flow ends after this long without a datagram.", validate_default=True
    )
    spans: bool = Field(False, description="One span for each ended flow, by the traces pipeline.")

    @field_validator("update_interval")
    @classmethod
    def _not_too_often(cls, value: float) -> float:
        if value and value < 1:
            raise ValueError("must be 0s or at least 1s")
        return value

    @field_validator("udp_idle_timeout")
    @classmethod
    def _not_at_once(cls, value: float) -> float:
        if value < 1:
            raise ValueError("must be at least 1s")
        return value


class Attributes(Strict):
    """What flow events carry."""

    families: list[Literal["source", "network", "client"]] = Field(
        ["source", "network", "client"], description="Address families on each event."
    )


class Dns(Strict):
    """Names that the workload looked up."""

    enabled: bool = Field(False, description="Read DNS messages; off: no DNS byte is read.")
    events: bool = Field(False, description="One event for each lookup.")
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        [53], min_length=1, max_length=8, description="Ports that carry DNS."
    )


class Metrics(Strict):
    """Flow metrics."""

    interval: Duration = Field(
        "15s", description="How often metrics leave, and open sockets are read for them.", validate_default=True
    )
    temporality: Literal["cumulative", "delta"] = Field(
        "cumulative", description="Counts since the start, or since the last point."
    )
    peer_address: bool = Field(False, description="Also the peer's address on the series of accepted connections.")

    @field_validator("interval")
    @classmethod
    def _not_too_often(cls, value: float) -> float:
        if value < 1:
            raise ValueError("must be at least 1s")
        return value


class Limits(Strict):
    """The bounds of memory."""

    ring_mib: int = Field(
        2, ge=1, le=256, description="The ring between kernel and user space, MiB; rounded up to a power of two."
    )
    max_flows: int = Field(65536, ge=64, le=4194304, description="Open sockets that the kernel's table holds.")
    max_edges: int = Field(
        2048, ge=1, le=65536, description="Metric series; what is beyond adds up in one overflow point."
    )


_ENTRIES = 32  # of a list; the kernel side has room for both filters' together


class Filter(Strict):
    """A filter in the kernel; the entries of a list are OR, different lists are AND."""

    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field([], max_length=_ENTRIES, description="Server ports.")
    cidrs: list[str] = Field([], max_length=_ENTRIES, description="Addresses of the peer, as 10.0.0.0/8.")
    executables: list[str] = Field([], max_length=_ENTRIES, description="Executable names.")
    cgroups: list[str] = Field([], max_length=_ENTRIES, description="Cgroup paths; what is below them too.")
    directions: list[Literal["inbound", "outbound"]] = Field([], description="Directions.")

    @field_validator("cidrs")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is no network: {error}") from error
        return value

    @field_validator("executables")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not name or "/" in name:
                raise ValueError(f"{name!r} is no name of an executable: the last part of its path")
        return value


class Sample(Strict):
    """Sampling of events."""

    flows: int = Field(1, ge=1, le=1_000_000_000, description="Keep one flow in N; metrics count all.")


class Process(Strict):
    """What is read of processes."""

    command_args: bool = Field(False, description="Command line arguments on the Resource; they may hold secrets.")


class Switch(Strict):
    """On or off."""

    enabled: bool = Field(False, description="Whether it is on.")


class Kubernetes(Strict):
    """Names from the Kubernetes API."""

    enabled: bool | Literal["auto"] = Field(
        "auto", description="auto: where the downward API or the service account is there."
    )
    peers: bool = Field(False, description="Watch the pods of the whole cluster to name peers.")
    labels: list[str] = Field([], description="Pod labels to put on the Resource.")
    annotations: list[str] = Field([], description="Pod annotations to put on the Resource.")


class Peer(Strict):
    """A name for addresses."""

    cidr: str = Field(description="Addresses, as 10.0.0.0/8.")
    service_name: str = Field(description="service.peer.name of these addresses.")
    service_namespace: str = Field("", description="service.peer.namespace of these addresses.")


class L7Scope(Strict):
    """Whose payload may be read; empty: nobody's."""

    executables: list[str] = Field([], description="Paths of executables.")
    containers: list[str] = Field([], description="Container ids.")
    cgroups: list[str] = Field([], description="Cgroup paths.")
    netns: bool = Field(False, description="Weir's own network namespace; refused in the initial one.")
    ports: list[int] = Field([], description="Listening ports.")


class L7Tls(Strict):
    """Payload of TLS connections."""

    enabled: bool = Field(False, description="Read plaintext from TLS libraries.")
    handshake: bool = Field(False, description="Read the handshake only.")
    libraries: list[Literal["openssl", "boringssl", "gnutls", "nss", "go"]] = Field(
        ["openssl", "boringssl", "gnutls", "nss", "go"], description="TLS libraries to read from."
    )


class Headers(Strict):
    """Header values that may be kept."""

    allow: list[str] = Field([], description="Names of headers whose values are kept.")


class Budget(Strict):
    """What the probes may cost."""

    cpu_percent: float = Field(5, gt=0, le=100, description="CPU that the probes may take, in per cent of one core.")


class L7(Strict):
    """Application protocols; off, and without a scope nothing is read."""

    enabled: bool = Field(False, description="Read payload in scope.")
    scope: L7Scope = Field(default_factory=L7Scope, description="Whose payload may be read; empty: nobody's.")
    protocols: list[Literal["http", "http2", "grpc", "dns", "redis", "postgresql", "mysql", "kafka"]] = Field(
        ["http", "http2", "grpc", "dns", "redis", "postgresql", "mysql", "kafka"], description="Protocols to parse."
    )
    tls: L7Tls = Field(default_factory=L7Tls, description="Payload of TLS connections.")
    capture_bytes: int = Field(1024, ge=1, le=4096, description="Bytes copied of each message.")
    headers: Headers = Field(default_factory=Headers, description="Header values that may be kept.")
    max_exchanges_per_second: int = Field(
        1000, ge=1, description="Exchanges parsed in a second; what is beyond is counted."
    )
    budget: Budget = Field(default_factory=Budget, description="What the probes may cost.")


class Resource(Strict):
    """The Resource of every flow."""

    attributes: dict[str, Attribute] = Field(
        {}, description="Added to every Resource, in place of what was discovered."
    )


class Ebpf(Strict):
    """The receiver."""

    scope: Literal["netns", "host"] = Field(
        "netns", description="netns: the network namespace Weir runs in; host: all of them."
    )
    tenant: str = Field("", max_length=256, description="weir.tenant.id on every Resource.")
    resource: Resource = Field(default_factory=Resource, description="The Resource of every flow.")
    flows: Flows = Field(default_factory=Flows, description="Flow events.")
    attributes: Attributes = Field(default_factory=Attributes, description="What flow events carry.")
    dns: Dns = Field(default_factory=Dns, description="Names that the workload looked up.")
    metrics: Metrics = Field(default_factory=Metrics, description="Flow metrics.")
    limits: Limits = Field(default_factory=Limits, description="The bounds of memory.")
    include: Filter = Field(default_factory=Filter, description="Only flows that match.")
    exclude: Filter = Field(default_factory=Filter, description="No flow that matches.")
    sample: Sample = Field(default_factory=Sample, description="Sampling of events.")
    process: Process = Field(default_factory=Process, description="What is read of processes.")
    unix: Switch = Field(default_factory=Switch, description="Unix stream sockets.")
    kubernetes: Kubernetes = Field(default_factory=Kubernetes, description="Names from the Kubernetes API.")
    peers: list[Peer] = Field([], description="Names for addresses: {cidr, service_name, service_namespace}.")
    service_graph: Switch = Field(
        default_factory=Switch, description="Metrics under the names that Grafana and Tempo read."
    )
    l7: L7 = Field(default_factory=L7, description="Application protocols; off, and without a scope nothing is read.")

    @field_validator("dns")
    @classmethod
    def _dns_of_one_workload(cls, value: Dns, info: ValidationInfo) -> Dns:
        if value.enabled and info.data.get("scope") == "host":
            raise ValueError("names are those of one workload: needs scope: netns")
        return value
