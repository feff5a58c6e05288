"""Flow events encoded by template and patch say the same as opentelemetry-proto's own messages, field by field."""

import errno
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf import unknown_fields
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from receiver.flows.columns import (
    END_REASONS,
    EVENT_NAMES,
    KIND_END,
    KIND_SAMPLE,
    KIND_START,
    KIND_UPDATE,
    NETWORK_TYPES,
    OWNER_RULES,
    ROLE_CLIENT,
    ROLE_SERVER,
    ROLE_UNKNOWN,
    ROLES,
    STATES,
    TCP,
    TRANSPORTS,
    UDP,
    EventColumns,
)
from receiver.flows.texts import Texts
from receiver.otlp import wire
from receiver.otlp.encoded import Encoded
from receiver.otlp.layout import FAMILIES
from receiver.otlp.logs import LogEncoder
from receiver.otlp.resource import encode_resource
from receiver.otlp.semconv import SCHEMA_URL

Event = dict[str, Any]

OBSERVED = 1_788_249_605_251_300_000
# Every length an address can have, and some that only a name or a unix socket path has.
ADDRESSES = [
    b"::",
    b"::1",
    b"1.2.3.4",
    b"10.0.0.1",
    b"127.0.0.1",
    b"10.10.10.10",
    b"192.168.1.1",
    b"192.168.10.1",
    b"192.168.100.1",
    b"192.168.100.12",
    b"192.168.100.123",
    b"2001:db8:a::12:1",
    *(b"2001:0db8:85a3:0000:0000:8a2e:0370:7334"[:length] for length in range(17, 40)),
    *(bytes(97 + at % 26 for at in range(length)) for length in (45, 90, 106, 113, 114, 115, 120, 121, 122, 127, 128)),
]
EXTRAS = [
    b"",
    wire.attributes(6, {"network.interface.name": "lo"}),
    wire.attributes(6, {"network.interface.name": "eth0", "service.peer.name": "payments"}),
    *(wire.attributes(6, {"service.peer.name": "x" * length}) for length in range(40)),
    wire.attributes(6, {"service.peer.namespace": "ü" * 100, "network.protocol.name": "http"}),
]
RESOURCES = [encode_resource({"service.name": f"service-{number}", "process.pid": number}) for number in range(4)]


def _tables() -> tuple[Texts, Texts]:
    addresses = Texts(len(ADDRESSES) + 1, 128)
    for row, text in enumerate(ADDRESSES, 1):
        addresses.put(row, text)
    extras = Texts(len(EXTRAS), 300)
    for row, text in enumerate(EXTRAS):
        extras.put(row, text)
    return addresses, extras


TABLES = _tables()

_times = st.integers(1, 2**63 - 1)
_u32 = st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1))
_sizes = st.one_of(
    st.integers(0, 9), st.integers(0, 2**35 + 5), st.just(2**35 - 1), st.just(2**35), st.integers(0, 2**56 - 1)
)
_ports = st.one_of(st.sampled_from([0, 127, 128, 443, 16383, 16384, 65535]), st.integers(0, 65535))
_seconds = st.one_of(st.just(math.nan), st.floats(0, 1e9))
_address = st.one_of(st.sampled_from([3, 11, 9]), st.integers(0, len(ADDRESSES)))

EVENT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([KIND_START, KIND_UPDATE, KIND_END, KIND_END]),
        "transport": st.sampled_from([TCP, TCP, TCP, UDP, 132]),
        "family": st.sampled_from([4, 4, 6]),
        "role": st.sampled_from([ROLE_UNKNOWN, ROLE_CLIENT, ROLE_SERVER]),
        "state": st.sampled_from([0, *STATES, 13, 200]),
        "end_cause": st.sampled_from([0, *END_REASONS, 8, 255]),
        "owner_rule": st.sampled_from([*OWNER_RULES, 9, 200]),
        "error": st.sampled_from(
            [0, 0, 0, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, 254, 255, 256, 4095, 65535]
        ),
        "time": _times,
        "local_text": _address,
        "peer_text": _address,
        "local_port": _ports,
        "peer_port": _ports,
        "asked_text": st.one_of(st.just(0), _address),
        "asked_port": _ports,
        "flow_id": st.text("ABCabc0129+/=:", min_size=30, max_size=30).map(lambda text: list(text.encode())),
        "instance_id": st.integers(0, 2**64 - 1),
        "duration": _seconds,
        "connect_duration": _seconds,
        "transmit_bytes": _sizes,
        "receive_bytes": _sizes,
        "transmit_packets": _u32,
        "receive_packets": _u32,
        "rtt": _seconds,
        "retransmits": _u32,
        "resource": st.integers(0, len(RESOURCES) - 1),
        "extra": st.one_of(st.just(0), st.integers(0, len(EXTRAS) - 1)),
    }
)
_DTYPES = {
    "error": np.uint16,
    "local_port": np.uint16,
    "peer_port": np.uint16,
    "asked_port": np.uint16,
    "local_text": np.uint32,
    "peer_text": np.uint32,
    "asked_text": np.uint32,
    "transmit_packets": np.uint32,
    "receive_packets": np.uint32,
    "retransmits": np.uint32,
    "resource": np.uint32,
    "extra": np.uint32,
    "time": np.uint64,
    "instance_id": np.uint64,
    "transmit_bytes": np.uint64,
    "receive_bytes": np.uint64,
    "duration": np.float64,
    "connect_duration": np.float64,
    "rtt": np.float64,
}


def columns_of(events: Sequence[Event]) -> EventColumns:
    """`events` as columns."""
    names = EventColumns.__dataclass_fields__
    return EventColumns(
        **{name: np.array([event[name] for event in events], _DTYPES.get(name, np.uint8)) for name in names}
    )


def _attribute(key: str, value: str | float) -> KeyValue:
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(int_value=value))


def _ends(event: Event, families: Sequence[str]) -> Iterator[tuple[str, str | int]]:
    def end(prefix: str, side: str) -> Iterator[tuple[str, str | int]]:
        if event[f"{side}_text"]:
            yield f"{prefix}.address", ADDRESSES[event[f"{side}_text"] - 1].decode()
        yield f"{prefix}.port", event[f"{side}_port"]

    initiator, responder = ("peer", "local") if event["role"] == ROLE_SERVER else ("local", "peer")
    if "source" in families:
        yield from end("source", initiator)
        yield from end("destination", responder)
    if "network" in families:
        yield from end("network.local", "local")
        yield from end("network.peer", "peer")
    if "client" in families and event["role"] != ROLE_UNKNOWN:
        yield from end("client", initiator)
        yield from end("server", responder)
    if event["asked_text"]:
        yield from end("weir.flow.nat.destination", "asked")


def _words(event: Event, *, owner_rule: bool) -> Iterator[tuple[str, str]]:
    yield "weir.flow.id", bytes(event["flow_id"]).decode()
    yield "weir.flow.instance.id", f"{event['instance_id']:016x}"
    yield "weir.flow.role", ROLES[event["role"]]
    yield "network.type", NETWORK_TYPES[event["family"]]
    if event["transport"] in TRANSPORTS:
        yield "network.transport", TRANSPORTS[event["transport"]]
    if event["transport"] == TCP and event["state"] in STATES:
        yield "network.connection.state", STATES[event["state"]]
    if event["error"]:
        yield "error.type", errno.errorcode.get(event["error"], "_OTHER")
    if event["kind"] == KIND_END and event["end_cause"] in END_REASONS:
        yield "weir.flow.end_reason", END_REASONS[event["end_cause"]]
    if owner_rule and event["owner_rule"] in OWNER_RULES:
        yield "weir.process.owner_rule", OWNER_RULES[event["owner_rule"]]


def _measures(event: Event) -> Iterator[tuple[str, float]]:
    if event["kind"] == KIND_START:
        return
    for key, name in (("duration", "duration"), ("connect.duration", "connect_duration")):
        if not math.isnan(event[name]):
            yield f"weir.flow.{key}", float(event[name])
    for side in ("transmit", "receive"):
        yield f"weir.flow.{side}.size", event[f"{side}_bytes"]
        yield f"weir.flow.{side}.packets", event[f"{side}_packets"]
    if event["transport"] == TCP:
        if not math.isnan(event["rtt"]):
            yield "weir.flow.rtt", float(event["rtt"])
        yield "weir.flow.retransmits", event["retransmits"]


def reference(event: Event, families: Sequence[str], *, owner_rule: bool) -> LogRecord:
    """The record of `event` as opentelemetry-proto builds it, its attributes sorted by key."""
    values = [*_ends(event, families), *_words(event, owner_rule=owner_rule), *_measures(event)]
    record = LogRecord.FromString(EXTRAS[event["extra"]])
    record.attributes.extend(_attribute(key, value) for key, value in values)
    record.attributes.sort(key=lambda attribute: attribute.key)
    record.time_unix_nano = event["time"]
    record.observed_time_unix_nano = OBSERVED
    record.severity_number = SeverityNumber.SEVERITY_NUMBER_INFO
    record.event_name = EVENT_NAMES[event["kind"]]
    return record


def parse(encoded: Sequence[Encoded], version: str = "0.1.0") -> Counter[tuple[bytes, bytes]]:
    """How often each (Resource, record) was found; everything around the records is checked on the way."""
    found: Counter[tuple[bytes, bytes]] = Counter()
    for request in encoded:
        items = 0
        message = ExportLogsServiceRequest.FromString(request.data)
        assert not unknown_fields.UnknownFieldSet(message)
        for resource_logs in message.resource_logs:
            assert resource_logs.schema_url == SCHEMA_URL
            assert len(resource_logs.scope_logs) == 1
            scope_logs = resource_logs.scope_logs[0]
            assert scope_logs.schema_url == SCHEMA_URL
            assert (scope_logs.scope.name, scope_logs.scope.version) == ("weir.l4", version)
            for record in scope_logs.log_records:
                assert not record.severity_text
                keys = [attribute.key for attribute in record.attributes]
                assert len(keys) == len(set(keys))
                record.attributes.sort(key=lambda attribute: attribute.key)
                found[resource_logs.resource.SerializeToString(), record.SerializeToString(deterministic=True)] += 1
                items += 1
        assert items == request.items > 0
    return found


def expected(
    events: Sequence[Event], families: Sequence[str] = FAMILIES, *, owner_rule: bool = False
) -> Counter[tuple[bytes, bytes]]:
    """What `parse` has to find."""
    return Counter(
        (
            Resource.FromString(RESOURCES[event["resource"]]).SerializeToString(),
            reference(event, families, owner_rule=owner_rule).SerializeToString(deterministic=True),
        )
        for event in events
    )


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(EVENT, max_size=25),
    families=st.lists(st.sampled_from(FAMILIES), unique=True),
    owner_rule=st.booleans(),
    max_bytes=st.sampled_from([500, 3000, 1 << 20]),
)
def test_events_equal_the_reference(events: list[Event], families: list[str], owner_rule: bool, max_bytes: int) -> None:
    encoder = LogEncoder(*TABLES, families, "0.1.0", owner_rule=owner_rule, max_bytes=max_bytes)
    out = encoder.encode(columns_of(events), OBSERVED, RESOURCES)
    assert parse(out) == expected(events, families, owner_rule=owner_rule)
    assert all(len(request.data) <= max_bytes or request.items == 1 for request in out)


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(EVENT, min_size=1, max_size=8), min_size=2, max_size=4))
def test_templates_are_reused_without_leftovers(batches: list[list[Event]]) -> None:
    encoder = LogEncoder(*TABLES, version="0.1.0")
    for events in [*batches, *batches]:
        assert parse(encoder.encode(columns_of(events), OBSERVED, RESOURCES)) == expected(events)


EXAMPLE: Event = {
    "kind": KIND_END,
    "transport": TCP,
    "family": 4,
    "role": ROLE_CLIENT,
    "state": 7,
    "end_cause": 1,
    "owner_rule": 1,
    "error": 0,
    "time": 1_788_249_605_250_000_000,
    "local_text": 4,
    "peer_text": 8,
    "local_port": 54211,
    "peer_port": 443,
    "asked_text": 0,
    "asked_port": 0,
    "flow_id": list(b"1:LQU9qZlK+B+2dM2I2n1kI/M5a/g="),
    "instance_id": 0xAB,
    "duration": 5.25,
    "connect_duration": 0.002,
    "transmit_bytes": 1834,
    "receive_bytes": 90211,
    "transmit_packets": 9,
    "receive_packets": 70,
    "rtt": 0.0011,
    "retransmits": 0,
    "resource": 0,
    "extra": 0,
}


def _records(encoded: Sequence[Encoded]) -> list[LogRecord]:
    return [
        record
        for request in encoded
        for resource_logs in ExportLogsServiceRequest.FromString(request.data).resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]


def test_many_events_are_cut_between_records() -> None:
    count = 20_000
    columns = columns_of([EXAMPLE, EXAMPLE | {"role": ROLE_SERVER, "resource": 1}]).take(np.arange(count) % 2)
    columns.time = np.arange(1, count + 1, dtype=np.uint64)
    columns.resource = (columns.time // np.uint64(3) % np.uint64(4)).astype(np.uint32)
    out = LogEncoder(*TABLES).encode(columns, OBSERVED, RESOURCES)
    assert sum(request.items for request in out) == count
    assert all(len(request.data) <= 1 << 20 for request in out)
    assert sorted(record.time_unix_nano for record in _records(out)) == list(range(1, count + 1))


def test_requests_are_filled() -> None:
    columns = columns_of([EXAMPLE]).take(np.zeros(5000, np.intp))
    out = LogEncoder(*TABLES).encode(columns, OBSERVED, RESOURCES)
    width = len(out[0].data) // out[0].items
    assert all(len(request.data) > (1 << 20) - 2 * width for request in out[:-1])


def test_a_resource_over_the_limit_does_not_lose_its_records() -> None:
    large = encode_resource({f"label.{number}": "x" * 200 for number in range(10)})
    out = LogEncoder(*TABLES, max_bytes=1500).encode(columns_of([EXAMPLE] * 3), OBSERVED, [large])
    assert [request.items for request in out] == [1, 1, 1]


def test_no_events_no_request() -> None:
    assert LogEncoder(*TABLES).encode(columns_of([]), OBSERVED, RESOURCES) == []


def test_sizes_are_clamped_not_wrapped() -> None:
    event = EXAMPLE | {"transmit_bytes": 2**64 - 1, "receive_bytes": 2**56}
    (record,) = _records(LogEncoder(*TABLES).encode(columns_of([event]), OBSERVED, RESOURCES))
    values = {attribute.key: attribute.value.int_value for attribute in record.attributes}
    assert values["weir.flow.transmit.size"] == values["weir.flow.receive.size"] == 2**56 - 1


def test_templates_are_bounded() -> None:
    encoder = LogEncoder(*TABLES)
    events = [EXAMPLE | {"error": error, "state": state} for error in range(1, 134) for state in (1, 7)]
    for event in events:
        encoder.encode(columns_of([event]), OBSERVED, RESOURCES)
    assert parse(encoder.encode(columns_of(events), OBSERVED, RESOURCES), "") == expected(events)
    assert len(encoder._templates) == 256 < len(events)


def test_an_event_that_is_none_is_named() -> None:
    columns = columns_of([EXAMPLE, EXAMPLE | {"kind": KIND_SAMPLE}])
    with pytest.raises(ValueError, match="event 1: kind 4"):
        LogEncoder(*TABLES).encode(columns, OBSERVED, RESOURCES)


def test_a_resource_that_is_missing_is_named() -> None:
    columns = columns_of([EXAMPLE, EXAMPLE, EXAMPLE | {"resource": 4}])
    with pytest.raises(ValueError, match="event 2: resource 4 of 4"):
        LogEncoder(*TABLES).encode(columns, OBSERVED, RESOURCES)


def test_a_text_that_is_missing_is_an_error() -> None:
    with pytest.raises(IndexError):
        LogEncoder(*TABLES).encode(columns_of([EXAMPLE | {"peer_text": 10_000}]), OBSERVED, RESOURCES)


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match="families: sauce"):
        LogEncoder(*TABLES, ["source", "sauce"])


@pytest.mark.parametrize("width", [8, 4096])
def test_a_table_of_an_impossible_width_is_named(width: int) -> None:
    with pytest.raises(ValueError, match=f"a width of {width} bytes"):
        LogEncoder(TABLES[0], Texts(4, width))
