"""Flow events encoded by template and patch say the same as opentelemetry-proto's own messages, field by field."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from google.protobuf import unknown_fields
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from receiver.flows.columns import EVENT_NAMES, KIND_SAMPLE, ROLE_SERVER
from receiver.flows.texts import Texts
from receiver.otlp.encoded import Encoded
from receiver.otlp.layout import FAMILIES
from receiver.otlp.logs import LogEncoder, LogTemplate
from receiver.otlp.resource import encode_resource
from receiver.otlp.semconv import SCHEMA_URL
from tests.flow_events import EVENT, EXAMPLE, RESOURCES, Event, attributes_of, columns_of, extras_of, names, tables

OBSERVED = 1_788_249_605_251_300_000
EXTRAS = extras_of(LogTemplate.ATTRIBUTE)
TABLES = tables(LogTemplate.ATTRIBUTE)
_encoder = partial(LogEncoder, names=names())


def reference(event: Event, families: Sequence[str], *, owner_rule: bool, sampling: int) -> LogRecord:
    """The record of `event` as opentelemetry-proto builds it, its attributes sorted by key."""
    record = LogRecord.FromString(EXTRAS[event["extra"]])
    record.attributes.extend(attributes_of(event, families, owner_rule=owner_rule, sampling=sampling))
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
    events: Sequence[Event], families: Sequence[str] = FAMILIES, *, owner_rule: bool = False, sampling: int = 1
) -> Counter[tuple[bytes, bytes]]:
    """What `parse` has to find."""
    return Counter(
        (
            Resource.FromString(RESOURCES[event["resource"]]).SerializeToString(),
            reference(event, families, owner_rule=owner_rule, sampling=sampling).SerializeToString(deterministic=True),
        )
        for event in events
    )


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(EVENT, max_size=25),
    families=st.lists(st.sampled_from(FAMILIES), unique=True),
    owner_rule=st.booleans(),
    sampling=st.sampled_from([1, 1, 10, 1_000_000]),
    max_bytes=st.sampled_from([500, 3000, 1 << 20]),
)
def test_events_equal_the_reference(
    events: list[Event], families: list[str], owner_rule: bool, sampling: int, max_bytes: int
) -> None:
    encoder = _encoder(*TABLES, families, "0.1.0", owner_rule=owner_rule, sampling=sampling, max_bytes=max_bytes)
    out = encoder.encode(columns_of(events), OBSERVED, RESOURCES)
    assert parse(out) == expected(events, families, owner_rule=owner_rule, sampling=sampling)
    assert all(len(request.data) <= max_bytes or request.items == 1 for request in out)


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(EVENT, min_size=1, max_size=8), min_size=2, max_size=4))
def test_templates_are_reused_without_leftovers(batches: list[list[Event]]) -> None:
    encoder = _encoder(*TABLES, version="0.1.0")
    for events in [*batches, *batches]:
        assert parse(encoder.encode(columns_of(events), OBSERVED, RESOURCES)) == expected(events)


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
    out = _encoder(*TABLES).encode(columns, OBSERVED, RESOURCES)
    assert sum(request.items for request in out) == count
    assert all(len(request.data) <= 1 << 20 for request in out)
    assert sorted(record.time_unix_nano for record in _records(out)) == list(range(1, count + 1))


def test_requests_are_filled() -> None:
    columns = columns_of([EXAMPLE]).take(np.zeros(5000, np.intp))
    out = _encoder(*TABLES).encode(columns, OBSERVED, RESOURCES)
    width = len(out[0].data) // out[0].items
    assert all(len(request.data) > (1 << 20) - 2 * width for request in out[:-1])


def test_a_resource_over_the_limit_does_not_lose_its_records() -> None:
    large = encode_resource({f"label.{number}": "x" * 200 for number in range(10)})
    out = _encoder(*TABLES, max_bytes=1500).encode(columns_of([EXAMPLE] * 3), OBSERVED, [large])
    assert [request.items for request in out] == [1, 1, 1]


def test_no_events_no_request() -> None:
    assert _encoder(*TABLES).encode(columns_of([]), OBSERVED, RESOURCES) == []


def test_sizes_are_clamped_not_wrapped() -> None:
    event = EXAMPLE | {"transmit_bytes": 2**64 - 1, "receive_bytes": 2**56}
    (record,) = _records(_encoder(*TABLES).encode(columns_of([event]), OBSERVED, RESOURCES))
    values = {attribute.key: attribute.value.int_value for attribute in record.attributes}
    assert values["weir.flow.transmit.size"] == values["weir.flow.receive.size"] == 2**56 - 1


def test_templates_are_bounded() -> None:
    encoder = _encoder(*TABLES)
    events = [EXAMPLE | {"error": error, "state": state} for error in range(1, 134) for state in (1, 7)]
    for event in events:
        encoder.encode(columns_of([event]), OBSERVED, RESOURCES)
    assert parse(encoder.encode(columns_of(events), OBSERVED, RESOURCES), "") == expected(events)
    assert len(encoder._templates) == 256 < len(events)


def test_an_event_that_is_none_is_named() -> None:
    columns = columns_of([EXAMPLE, EXAMPLE | {"kind": KIND_SAMPLE}])
    with pytest.raises(ValueError, match="event 1: kind 4"):
        _encoder(*TABLES).encode(columns, OBSERVED, RESOURCES)


def test_a_resource_that_is_missing_is_named() -> None:
    columns = columns_of([EXAMPLE, EXAMPLE, EXAMPLE | {"resource": 4}])
    with pytest.raises(ValueError, match="event 2: resource 4 of 4"):
        _encoder(*TABLES).encode(columns, OBSERVED, RESOURCES)


def test_a_text_that_is_missing_is_an_error() -> None:
    with pytest.raises(IndexError):
        _encoder(*TABLES).encode(columns_of([EXAMPLE | {"peer_text": 10_000}]), OBSERVED, RESOURCES)


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match="families: sauce"):
        _encoder(*TABLES, ["source", "sauce"])


@pytest.mark.parametrize("width", [8, 4096])
def test_a_table_of_an_impossible_width_is_named(width: int) -> None:
    with pytest.raises(ValueError, match=f"a width of {width} bytes"):
        LogEncoder(TABLES[0], Texts(4, width))
