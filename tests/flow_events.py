"""Flow events for tests: generated ones, the columns they make, and the attributes that each must have on the wire."""

import errno
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from receiver.flows.columns import (
    BROADCAST,
    END_REASONS,
    KIND_END,
    KIND_START,
    KIND_UPDATE,
    MPTCP,
    MULTICAST,
    NETWORK_TYPES,
    OWNER_RULES,
    PACKETS_LEAST,
    PEER_INFERRED,
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
from receiver.otlp.resource import encode_resource

Event = dict[str, Any]

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
EXTRA_ATTRIBUTES: list[dict[str, str]] = [
    {},
    {"network.interface.name": "lo"},
    {"network.interface.name": "eth0", "service.peer.name": "payments"},
    *({"service.peer.name": "x" * length} for length in range(40)),
    {"service.peer.namespace": "ü" * 100, "network.protocol.name": "http"},
]
RESOURCES = [encode_resource({"service.name": f"service-{number}", "process.pid": number}) for number in range(4)]


NAMES = [b"a", b"db.internal", b"x" * 64, b"y" * 113, b"z" * 114, b"n" * 255, b"\\195\\182.example", b"m" * 256]


def names() -> Texts:
    """The names of servers."""
    made = Texts(len(NAMES) + 1, 256)
    for row, text in enumerate(NAMES, 1):
        made.put(row, text)
    return made


def extras_of(field: int) -> list[bytes]:
    """EXTRA_ATTRIBUTES as a record holds them in its field `field`."""
    return [wire.attributes(field, values) for values in EXTRA_ATTRIBUTES]


def tables(field: int) -> tuple[Texts, Texts]:
    """The addresses, and the attributes that a record holds in its field `field`."""
    addresses = Texts(len(ADDRESSES) + 1, 128)
    for row, text in enumerate(ADDRESSES, 1):
        addresses.put(row, text)
    extras = Texts(len(EXTRA_ATTRIBUTES), 300)
    for row, text in enumerate(extras_of(field)):
        extras.put(row, text)
    return addresses, extras


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
        "marks": st.sampled_from([0, MULTICAST, BROADCAST, PEER_INFERRED, PACKETS_LEAST | MULTICAST, 12, MPTCP]),
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
        "server_text": st.one_of(st.just(0), st.integers(0, len(NAMES))),
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
        "congestion_window": _u32,
        "send_window": _u32,
        "resource": st.integers(0, len(RESOURCES) - 1),
        "extra": st.one_of(st.just(0), st.integers(0, len(EXTRA_ATTRIBUTES) - 1)),
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
    "server_text": np.uint32,
    "transmit_packets": np.uint32,
    "receive_packets": np.uint32,
    "retransmits": np.uint32,
    "congestion_window": np.uint32,
    "send_window": np.uint32,
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


def attribute(key: str, value: str | float) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
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
        if event["role"] == ROLE_CLIENT and event["server_text"]:
            yield "server.address", NAMES[event["server_text"] - 1].decode()
            yield "server.port", event["peer_port"]
        else:
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


def _marks(event: Event) -> Iterator[tuple[str, str | bool]]:
    marks = event["marks"] if event["transport"] == UDP else 0
    for mark, cast in ((MULTICAST, "multicast"), (BROADCAST, "broadcast")):
        if marks & mark:
            yield "weir.flow.cast", cast
    if marks & PEER_INFERRED:
        yield "weir.flow.peer.inferred", True
    if marks & PACKETS_LEAST:
        yield "weir.flow.packets.lower_bound", True
    if event["transport"] == TCP and event["marks"] & MPTCP:
        yield "weir.flow.mptcp", True


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
        if event["kind"] == KIND_UPDATE:
            yield "weir.flow.congestion.window", event["congestion_window"]
            yield "weir.flow.send.window", event["send_window"]


def attributes_of(event: Event, families: Sequence[str], *, owner_rule: bool, sampling: int = 1) -> list[KeyValue]:
    """The attributes that its record or span has, but for its extra ones."""
    values = [*_ends(event, families), *_words(event, owner_rule=owner_rule), *_marks(event), *_measures(event)]
    if sampling > 1:
        values.append(("weir.flow.sampling.factor", sampling))
    return [attribute(key, value) for key, value in values]


EXAMPLE: Event = {
    "kind": KIND_END,
    "transport": TCP,
    "family": 4,
    "role": ROLE_CLIENT,
    "state": 7,
    "marks": 0,
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
    "server_text": 0,
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
    "congestion_window": 10,
    "send_window": 65536,
    "resource": 0,
    "extra": 0,
}
