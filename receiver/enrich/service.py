"""What a workload says of itself, and where it runs, into the three `service.*` attributes that identify it."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from receiver.enrich.text import cut, text

# Of the OpenTelemetry specification, for instance ids that are derived and not drawn.
INSTANCE_NAMESPACE = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
VARIABLES = (b"OTEL_SERVICE_NAME", b"OTEL_RESOURCE_ATTRIBUTES")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a workload's environ declares; None for what it does not."""

    service_name: str | None = None
    service_namespace: str | None = None
    container_name: str | None = None  # k8s.container.name, which no cgroup tells
    malformed: bool = False  # OTEL_RESOURCE_ATTRIBUTES was there and could not be decoded


UNDECLARED = Declared()


def declared(variables: Mapping[bytes, bytes]) -> Declared:
    """What `variables` (the two of VARIABLES, as far as they are set) declare; an empty value counts as not set.

    `OTEL_SERVICE_NAME` goes before `service.name` of `OTEL_RESOURCE_ATTRIBUTES`, of which any error discards the whole
    (OpenTelemetry specification, Resource SDK).
    """
    attributes = decode_attributes(variables.get(b"OTEL_RESOURCE_ATTRIBUTES", b""))
    found = attributes or {}
    return Declared(
        text(variables.get(b"OTEL_SERVICE_NAME", b"").strip()) or found.get("service.name") or None,
        found.get("service.namespace") or None,
        found.get("k8s.container.name") or None,
        malformed=attributes is None,
    )


def decode_attributes(raw: bytes) -> dict[str, str] | None:
    """`k=v,k=v`, percent-encoded, as a dict, keys and values cut as all names are; None where any is malformed."""
    attributes: dict[str, str] = {}
    try:
        for member in raw.split(b","):
            key, equals, value = (_unquote(part.strip()) for part in member.partition(b"="))
            if equals and key:
                attributes[cut(key)] = cut(value)
            elif member.strip():
                return None
    except ValueError:
        return None
    return attributes


def _unquote(raw: bytes) -> str:
    return _ESCAPE.sub(_unescape, raw).decode("utf-8")


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        message = "percent sign without two hex digits"
        raise ValueError(message)
    return bytes([int(match[1], 16)])


def service_name(declared_name: str | None, pod_name: object, executable: object) -> str:
    """The first that is known of: the workload's own word, its pod's name, the SDK rule over its executable's name."""
    if declared_name:
        return declared_name
    if pod_name:
        return str(pod_name)
    return cut(f"unknown_service:{executable}") if executable else "unknown_service"


def instance_id(attributes: Mapping[str, object]) -> str | None:
    """`service.instance.id` from what the Resource `attributes` already say; None where nothing stable is known.

    In a pod `<namespace>.<pod>.<container>`; else a UUIDv5 over the container id; else over host id and executable.
    Never per process, so that processes of one service instance share their series.
    """
    pod = [attributes.get(key) for key in ("k8s.namespace.name", "k8s.pod.name", "k8s.container.name")]
    if all(pod):
        return cut(".".join(map(str, pod)))
    container = attributes.get("container.id")
    if container:
        return str(uuid.uuid5(INSTANCE_NAMESPACE, str(container)))
    host, path = attributes.get("host.id"), attributes.get("process.executable.path")
    return str(uuid.uuid5(INSTANCE_NAMESPACE, f"{host}{path}")) if host and path else None
