"""Halving an export request keeps every item once, in order, with everything around it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from receiver.otlp.split import Signal, count, split

_counts = st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=4)
_SORTS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_REQUESTS: dict[Signal, Any] = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
# The names of the levels: Resource level, scope level, item (or Metric), and an item's time.
_NAMES: dict[Signal, tuple[str, str, str, str]] = {
    "logs": ("resource_logs", "scope_logs", "log_records", "time_unix_nano"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics", "time_unix_nano"),
    "traces": ("resource_spans", "scope_spans", "spans", "start_time_unix_nano"),
}


def _build(signal: Signal, counts: list[list[int]]) -> bytes:
    """A request whose items are numbered by their time, with `counts[resource][scope]` of them."""
    outer, inner, leaf, time = _NAMES[signal]
    message = _REQUESTS[signal]()
    number = 0
    for resource, scopes in enumerate(counts):
        level = getattr(message, outer).add(schema_url="s")
        level.resource.attributes.add(key="n").value.int_value = resource
        for scope, items in enumerate(scopes):
            inside = getattr(level, inner).add(schema_url="s")
            inside.scope.name = f"scope-{scope}"
            holder = getattr(inside, leaf)
            if signal == "metrics":
                holder = _data(holder.add(name="m", unit="By"), _SORTS[number % len(_SORTS)])
            for _ in range(items):
                number += 1
                holder.add(**{time: number})
    return bytes(message.SerializeToString())


def _data(metric: Any, sort: str) -> Any:
    data = getattr(metric, sort)
    data.SetInParent()
    if hasattr(data, "aggregation_temporality"):
        data.aggregation_temporality = 2
    return data.data_points


def _items(signal: Signal, data: bytes) -> list[tuple[Any, ...]]:
    """Each item with what it stands in."""
    outer, inner, leaf, _ = _NAMES[signal]
    out: list[tuple[Any, ...]] = []
    for level in getattr(_REQUESTS[signal].FromString(data), outer):
        for inside in getattr(level, inner):
            around = (level.resource.SerializeToString(), level.schema_url, inside.scope.name, inside.schema_url)
            for item in getattr(inside, leaf):
                if signal == "metrics":
                    sort = item.WhichOneof("data")
                    held = getattr(item, sort)
                    fields = (item.name, item.unit, sort, getattr(held, "aggregation_temporality", 0))
                    out += [(*around, *fields, point.SerializeToString()) for point in held.data_points]
                else:
                    out.append((*around, item.SerializeToString()))
    return out


@pytest.mark.parametrize("signal", ["logs", "metrics", "traces"])
@settings(max_examples=60, deadline=None)
@given(counts=_counts)
def test_halves_are_the_whole(signal: Signal, counts: list[list[int]]) -> None:
    data = _build(signal, counts)
    items = _items(signal, data)
    assert count(signal, data) == len(items) == sum(map(sum, counts))
    halves = split(signal, data)
    if len(items) < 2:
        assert halves is None
        return
    assert halves is not None
    first, second = halves
    assert _items(signal, first.data) == items[: first.items]
    assert _items(signal, second.data) == items[first.items :]
    assert first.items - second.items in {0, 1}


def test_halving_again_and_again_ends_at_single_items() -> None:
    data = _build("logs", [[5, 3], [4]])
    todo, found = [data], []
    while todo:
        one = todo.pop()
        halves = split("logs", one)
        if halves is None:
            found += _items("logs", one)
        else:
            todo += [half.data for half in reversed(halves)]
    assert found == _items("logs", data)


def test_fields_that_are_not_known_are_kept() -> None:
    extra = b"\xa2\x06\x03abc" + b"\xa8\x06\x05" + b"\xb1\x06" + bytes(8) + b"\xb5\x06" + bytes(4)
    halves = split("logs", _build("logs", [[2]]) + extra)
    assert halves is not None
    assert all(half.data.endswith(extra) for half in halves)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), signal=st.sampled_from(["logs", "metrics", "traces"]))
def test_any_bytes_give_an_answer_or_a_value_error(data: bytes, signal: Signal) -> None:
    try:
        halves = split(signal, data)
    except ValueError as error:
        assert "byte " in str(error)
    else:
        assert halves is None or sum(half.items for half in halves) == count(signal, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05abc", "byte 0: a field of 5 bytes passes the end"),
        (b"\x0a\x04\x12\x09ab", "byte 2: a field of 9 bytes passes the end"),
        (b"\x0a" + b"\x80" * 11, "byte 1: a varint without an end"),
        (b"\x0b", "byte 0: wire type 3"),
        (b"\x02\x00", "byte 0: field number 0"),
        (b"\x09abc", "byte 0: a field of 8 bytes passes the end"),
    ],
)
def test_malformed_requests_say_where(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count("logs", data)
