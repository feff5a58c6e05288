"""Spans of ended flows say the same as opentelemetry-proto's own messages, and the same attributes as the end event."""

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
from google.protobuf import unknown_fields
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from receiver.flows.columns import KIND_END, ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN, TCP, TRANSPORTS, UDP
from receiver.otlp.encoded import Encoded
from receiver.otlp.layout import FAMILIES
from receiver.otlp.logs import LogEncoder, LogTemplate
from receiver.otlp.semconv import SCHEMA_URL
from receiver.otlp.spans import SpanEncoder, SpanTemplate
from tests.flow_events import EVENT, EXAMPLE, RESOURCES, Event, attributes_of, columns_of, extras_of, names, tables

EXTRAS = extras_of(SpanTemplate.ATTRIBUTE)
TABLES = tables(SpanTemplate.ATTRIBUTE)
_encoder = partial(SpanEncoder, names=names())
KINDS = {
    ROLE_CLIENT: Span.SPAN_KIND_CLIENT,
    ROLE_SERVER: Span.SPAN_KIND_SERVER,
    ROLE_UNKNOWN: Span.SPAN_KIND_INTERNAL,
}
ENDED = st.tuples(EVENT, st.integers(0, 2**50)).map(
    lambda pair: pair[0] | {"kind": KIND_END, "duration": pair[1] * 1e-9, "time": 2**50 + pair[0]["time"] % 2**62}
)


def counting() -> Callable[[int], bytes]:
    """As os.urandom, but different and known each time."""
    number = 0

    def entropy(count: int) -> bytes:
        nonlocal number
        number += 1
        return b"".join(number.to_bytes(8, "big") + at.to_bytes(8, "big") for at in range(1, count // 16 + 1))

    return entropy


def reference(event: Event, families: Sequence[str], *, owner_rule: bool, sampling: int) -> Span:
    """The span of `event` as opentelemetry-proto builds it, without its trace id, its attributes sorted by key."""
    span = Span.FromString(EXTRAS[event["extra"]])
    span.attributes.extend(attributes_of(event, families, owner_rule=owner_rule, sampling=sampling))
    span.attributes.sort(key=lambda attribute: attribute.key)
    span.span_id = max(event["instance_id"], 1).to_bytes(8, "big")
    span.name = TRANSPORTS.get(event["transport"], "flow")
    span.kind = KINDS[event["role"]]
    span.end_time_unix_nano = event["time"]
    span.start_time_unix_nano = event["time"] - round(event["duration"] * 1e9)
    if event["error"] or event["end_cause"] in {3, 4}:
        span.status.code = Status.STATUS_CODE_ERROR
    return span


def parse(encoded: Sequence[Encoded], version: str = "0.1.0") -> tuple[Counter[tuple[bytes, bytes]], list[bytes]]:
    """How often each (Resource, span without its trace id) was found, and the trace ids."""
    found: Counter[tuple[bytes, bytes]] = Counter()
    traces: list[bytes] = []
    for request in encoded:
        items = 0
        message = ExportTraceServiceRequest.FromString(request.data)
        assert not unknown_fields.UnknownFieldSet(message)
        for resource_spans in message.resource_spans:
            assert resource_spans.schema_url == SCHEMA_URL
            (scope_spans,) = resource_spans.scope_spans
            assert scope_spans.schema_url == SCHEMA_URL
            assert (scope_spans.scope.name, scope_spans.scope.version) == ("weir.l4", version)
            for span in scope_spans.spans:
                assert not unknown_fields.UnknownFieldSet(span)
                assert not span.parent_span_id
                traces.append(span.trace_id)
                span.ClearField("trace_id")
                keys = [attribute.key for attribute in span.attributes]
                assert len(keys) == len(set(keys))
                span.attributes.sort(key=lambda attribute: attribute.key)
                found[resource_spans.resource.SerializeToString(), span.SerializeToString(deterministic=True)] += 1
                items += 1
        assert items == request.items > 0
    return found, traces


def _spans(encoded: Sequence[Encoded]) -> list[Span]:
    return [
        span
        for request in encoded
        for resource_spans in ExportTraceServiceRequest.FromString(request.data).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


@settings(max_examples=150, deadline=None)
@given(
    batches=st.lists(st.lists(ENDED, max_size=15), min_size=1, max_size=3),
    families=st.lists(st.sampled_from(FAMILIES), unique=True),
    owner_rule=st.booleans(),
    sampling=st.sampled_from([1, 10]),
    max_bytes=st.sampled_from([500, 3000, 1 << 20]),
)
def test_spans_equal_the_reference(
    batches: list[list[Event]], families: list[str], owner_rule: bool, sampling: int, max_bytes: int
) -> None:
    encoder = _encoder(
        counting(), *TABLES, families, "0.1.0", owner_rule=owner_rule, sampling=sampling, max_bytes=max_bytes
    )
    all_traces: list[bytes] = []
    for events in batches:
        out = encoder.encode(columns_of(events), RESOURCES)
        found, traces = parse(out)
        all_traces += traces
        assert found == Counter(
            (
                Resource.FromString(RESOURCES[event["resource"]]).SerializeToString(),
                reference(event, families, owner_rule=owner_rule, sampling=sampling).SerializeToString(
                    deterministic=True
                ),
            )
            for event in events
        )
        assert all(len(request.data) <= max_bytes or request.items == 1 for request in out)
    assert len(set(all_traces)) == len(all_traces) == sum(map(len, batches))
    assert {len(trace) for trace in all_traces} <= {16}


@settings(max_examples=50, deadline=None)
@given(events=st.lists(ENDED, min_size=1, max_size=10))
def test_a_span_has_the_attributes_of_its_end_event(events: list[Event]) -> None:
    columns = columns_of(events)
    logs = LogEncoder(*tables(LogTemplate.ATTRIBUTE), names=names()).encode(columns, 1, RESOURCES)
    records = [
        record
        for request in logs
        for resource_logs in ExportLogsServiceRequest.FromString(request.data).resource_logs
        for record in resource_logs.scope_logs[0].log_records
    ]
    spans = _spans(_encoder(os.urandom, *TABLES).encode(columns, RESOURCES))

    def sets(items: Sequence[Span]) -> Counter[tuple[bytes, ...]]:
        return Counter(tuple(sorted(part.SerializeToString() for part in item.attributes)) for item in items)

    assert sets(spans) == sets(records)


def test_many_spans_are_cut_between_spans() -> None:
    count = 20_000
    columns = columns_of([EXAMPLE, EXAMPLE | {"role": ROLE_SERVER, "resource": 1}]).take(np.arange(count) % 2)
    columns.instance_id = np.arange(1, count + 1, dtype=np.uint64)
    out = _encoder(os.urandom, *TABLES, max_bytes=1 << 18).encode(columns, RESOURCES)
    assert sum(request.items for request in out) == count
    assert all(len(request.data) <= 1 << 18 for request in out)
    spans = _spans(out)
    assert sorted(int.from_bytes(span.span_id, "big") for span in spans) == list(range(1, count + 1))
    assert len({span.trace_id for span in spans}) == count


@pytest.mark.parametrize(
    ("cause", "error", "is_error"),
    [
        (1, 0, False),
        (2, 0, False),
        (2, 104, True),
        (3, 111, True),
        (3, 0, True),
        (4, 110, True),
        (5, 0, False),
        (6, 0, False),
    ],
)
def test_the_status_is_an_error_where_this_end_met_one(cause: int, error: int, is_error: bool) -> None:
    (span,) = _spans(
        _encoder(os.urandom, *TABLES).encode(columns_of([EXAMPLE | {"end_cause": cause, "error": error}]), RESOURCES)
    )
    assert span.status.code == (Status.STATUS_CODE_ERROR if is_error else Status.STATUS_CODE_UNSET)
    assert not span.status.message
    assert any(attribute.key == "error.type" for attribute in span.attributes) == bool(error)


def test_the_span_id_is_the_instance_id_and_never_zero() -> None:
    events = [
        EXAMPLE | {"instance_id": number, "transport": transport} for number, transport in ((0xAB, TCP), (0, UDP))
    ]
    spans = _spans(_encoder(os.urandom, *TABLES).encode(columns_of(events), RESOURCES))
    assert {(span.name, span.span_id.hex()) for span in spans} == {("tcp", f"{0xAB:016x}"), ("udp", f"{1:016x}")}


def test_without_a_start_there_is_no_span() -> None:
    columns = columns_of([EXAMPLE, EXAMPLE | {"duration": math.nan}])
    with pytest.raises(ValueError, match="event 1: no span without a start"):
        _encoder(os.urandom, *TABLES).encode(columns, RESOURCES)


def test_no_flows_no_request() -> None:
    assert _encoder(os.urandom, *TABLES).encode(columns_of([]), RESOURCES) == []
