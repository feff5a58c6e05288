"""Every attribute key on the wire is a live convention of v1.44.0 with the right type, or declared as Weir's own."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from receiver.dns.message import Address
from receiver.flows.columns import (
    END_REASONS,
    KIND_END,
    KIND_START,
    KIND_UPDATE,
    OWNER_RULES,
    ROLES,
    STATES,
    TCP,
    UDP,
    EventColumns,
)
from receiver.flows.texts import Texts
from receiver.otlp.encoded import Encoded
from receiver.otlp.layout import FAMILIES
from receiver.otlp.logs import LogEncoder
from receiver.otlp.lookups import LookupEncoder
from receiver.otlp.semconv import SCHEMA_URL, WEIR_ATTRIBUTES
from tests.dns.test_durations import LOOKUP
from tests.dns.wire import mapped

MODEL: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "semconv-v1.44.0.json").read_text())
_TYPES = {"string_value": "string", "int_value": "int", "double_value": "double", "bool_value": "boolean"}
_TYPES["array_value"] = "string[]"
_OPEN = {"error.type"}  # an enum whose members are for each emitter to add


def check(attribute: KeyValue) -> str | None:
    """What is wrong with `attribute`, or None."""
    key, sort = attribute.key, _TYPES.get(str(attribute.value.WhichOneof("value")), "other")
    declared = MODEL["attributes"].get(key)
    if declared is None:
        if not key.startswith("weir.") or key not in WEIR_ATTRIBUTES:
            return f"{key} is neither a convention nor declared"
        return None if WEIR_ATTRIBUTES[key] == sort else f"{key} is declared as {WEIR_ATTRIBUTES[key]}, not {sort}"
    if declared["deprecated"]:
        return f"{key} is deprecated"
    if declared.get("value_type", declared["type"]) != sort:
        return f"{key} is a {declared['type']}, not {sort}"
    if declared["type"] == "enum" and key not in _OPEN and attribute.value.string_value not in declared["members"]:
        return f"{key} has no member {attribute.value.string_value}"
    return None


def _every_event() -> EventColumns:
    """An event of each kind, transport, role, state and cause, with everything that can be present."""
    axes: list[tuple[int, ...]] = [
        (KIND_START, KIND_UPDATE, KIND_END),
        (TCP, UDP),
        (4, 6),
        tuple(ROLES),
        (0, 111),
        tuple(END_REASONS),
    ]
    kind, transport, family, role, error, cause = np.array(list(itertools.product(*axes))).T
    count = len(kind)
    row = np.arange(count)
    ones = np.ones(count)
    wide, half, byte = np.uint64, np.uint32, np.uint8
    return EventColumns(
        kind=kind.astype(byte),
        transport=transport.astype(byte),
        family=family.astype(byte),
        role=role.astype(byte),
        state=np.array(list(STATES))[row % len(STATES)].astype(byte),
        marks=(row % 32).astype(byte),
        end_cause=cause.astype(byte),
        owner_rule=(row % len(OWNER_RULES)).astype(byte),
        error=error.astype(np.uint16),
        time=ones.astype(wide),
        local_text=ones.astype(half),
        peer_text=ones.astype(half),
        local_port=ones.astype(np.uint16),
        peer_port=ones.astype(np.uint16),
        asked_text=ones.astype(half),
        asked_port=ones.astype(np.uint16),
        server_text=np.zeros(count, half),
        flow_id=np.full((count, 30), ord("a"), byte),
        instance_id=ones.astype(wide),
        duration=ones,
        connect_duration=ones,
        transmit_bytes=ones.astype(wide),
        receive_bytes=ones.astype(wide),
        transmit_packets=ones.astype(half),
        receive_packets=ones.astype(half),
        rtt=ones,
        retransmits=ones.astype(half),
        congestion_window=ones.astype(half),
        send_window=ones.astype(half),
        resource=np.zeros(count, half),
        extra=np.zeros(count, half),
    )


def _lookups() -> list[Encoded]:
    """DNS lookups with everything that can be present."""
    answer = Address("www.test", "A", 60, mapped("192.0.2.1"))
    found = replace(LOOKUP, addresses=(answer,), truncated=True, cut=True, error_type="SERVFAIL")
    return LookupEncoder().encode([found], np.zeros(1, np.uint32), 0, 1, [b""])


def _emitted() -> dict[tuple[str, str], KeyValue]:
    addresses = Texts(2, 46)
    addresses.put(1, b"10.0.0.1")
    encoder = LogEncoder(addresses, Texts(2, 64), FAMILIES, owner_rule=True, sampling=10)
    return {
        (attribute.key, attribute.value.string_value): attribute
        for request in encoder.encode(_every_event(), 1, [b""]) + _lookups()
        for resource_logs in ExportLogsServiceRequest.FromString(request.data).resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
        for attribute in record.attributes
    }


def test_events_keep_to_the_conventions() -> None:
    assert [problem for problem in map(check, _emitted().values()) if problem] == []


def test_every_key_of_ours_that_is_declared_is_emitted() -> None:
    assert set(WEIR_ATTRIBUTES) <= {key for key, _ in _emitted()}


def test_the_schema_is_the_one_that_is_checked() -> None:
    assert MODEL["schema_url"] == SCHEMA_URL


def test_the_check_refuses_what_it_should() -> None:
    def attribute(key: str, **value: Any) -> KeyValue:
        return KeyValue(key=key, value=value)  # type: ignore[arg-type]

    assert check(attribute("server.port", int_value=1)) is None
    assert check(attribute("server.port", string_value="1")) == "server.port is a int, not string"
    assert check(attribute("net.peer.ip", string_value="::1")) in {
        "net.peer.ip is deprecated",
        "net.peer.ip is neither a convention nor declared",
    }
    assert check(attribute("peer.service", string_value="a")) == "peer.service is deprecated"
    assert (
        check(attribute("network.connection.state", string_value="SYN_RECV"))
        == "network.connection.state has no member SYN_RECV"
    )
    assert check(attribute("flow.id", string_value="a")) == "flow.id is neither a convention nor declared"
    assert check(attribute("weir.other", string_value="a")) == "weir.other is neither a convention nor declared"
    assert check(attribute("weir.flow.rtt", int_value=1)) == "weir.flow.rtt is declared as double, not int"
