"""Encoded metrics say the same as opentelemetry-proto's own messages, point by point."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf import unknown_fields
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from receiver.otlp.encoded import Encoded
from receiver.otlp.metrics import (
    HistogramPoints,
    Instrument,
    Points,
    encode_metrics,
    point_attributes,
    points,
)
from receiver.otlp.resource import encode_resource
from receiver.otlp.semconv import OVERFLOW, SCHEMA_URL

TIME = 1_788_249_610_000_000_000
ATTRIBUTES: list[dict[str, Any]] = [
    {},
    {OVERFLOW: True},
    {"server.address": "payments", "server.port": 443, "network.transport": "tcp"},
    {"server.address": "é" * 128, "weir.number": 0.5, "list": ["a", "b"]},
    *({"key": "x" * length} for length in (90, 91, 92, 93, 120)),
]
SERIES = [point_attributes(values) for values in ATTRIBUTES]
RESOURCES = [encode_resource({"service.name": f"service-{number}"}) for number in range(3)]

IO = Instrument("weir.flow.io", "By", "Payload bytes.", "sum")
DELTA = Instrument("weir.flow.retransmits", "{segment}", "", "sum", "delta")
ACTIVE = Instrument("weir.flow.active", "{connection}", "Open flows.", "updown")
LOAD = Instrument("weir.load", "1", "Load.", "gauge")
RTT = Instrument("weir.flow.rtt", "s", "Round trip.", "histogram", bounds=(0.001, 0.01, 0.1, 1.0))
PLAIN = Instrument("weir.plain", "s", "No bounds.", "histogram", "delta")
MANY = Instrument("weir.many", "s", "More than a short length.", "histogram", bounds=tuple(float(n) for n in range(20)))
INSTRUMENTS = [IO, DELTA, ACTIVE, LOAD, RTT, PLAIN, MANY]

_u64 = st.integers(0, 2**64 - 1)


@st.composite
def _groups(draw: st.DrawFn) -> Points | HistogramPoints:
    instrument = draw(st.sampled_from(INSTRUMENTS))
    count = draw(st.integers(0, 9))

    def column(values: st.SearchStrategy[Any], dtype: type) -> Any:
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype)

    resource = column(st.integers(0, len(RESOURCES) - 1), np.uint32)
    attributes = column(st.integers(0, len(SERIES) - 1), np.uint32)
    start = column(_u64, np.uint64)
    if instrument.kind == "histogram":
        width = len(instrument.bounds) + 1
        buckets = column(st.lists(_u64, min_size=width, max_size=width), np.uint64).reshape(count, width)
        total = column(st.floats(allow_nan=False), np.float64)
        return HistogramPoints(instrument, resource, attributes, SERIES, start, column(_u64, np.uint64), total, buckets)
    if draw(st.booleans()):
        return Points(
            instrument, resource, attributes, SERIES, start, column(st.integers(-(2**63), 2**63 - 1), np.int64)
        )
    return Points(instrument, resource, attributes, SERIES, start, column(st.floats(allow_nan=False), np.float64))


def _reference(groups: Sequence[Points | HistogramPoints]) -> Counter[tuple[bytes, bytes]]:
    """Each (Resource, metric of one point), as opentelemetry-proto writes it."""
    doubles = {
        group.instrument.name
        for group in groups
        if isinstance(group, Points) and len(group.start) and group.value.dtype.kind == "f"
    }
    out: Counter[tuple[bytes, bytes]] = Counter()
    for group in groups:
        instrument = group.instrument
        temporality = 2 if instrument.temporality == "cumulative" else 1
        for at in range(len(group.start)):
            metric = Metric(name=instrument.name, unit=instrument.unit, description=instrument.description)
            start = int(group.start[at])
            attributes = Resource.FromString(encode_resource(ATTRIBUTES[group.attributes[at]])).attributes
            if isinstance(group, HistogramPoints):
                point = HistogramDataPoint(
                    start_time_unix_nano=start,
                    time_unix_nano=TIME,
                    attributes=attributes,
                    count=int(group.count[at]),
                    sum=float(group.total[at]),
                    bucket_counts=group.buckets[at].tolist(),
                    explicit_bounds=instrument.bounds,
                )
                metric.histogram.CopyFrom(Histogram(data_points=[point], aggregation_temporality=temporality))  # type: ignore[arg-type]
            else:
                number = NumberDataPoint(start_time_unix_nano=start, time_unix_nano=TIME, attributes=attributes)
                if instrument.name in doubles:
                    number.as_double = float(group.value[at])
                else:
                    number.as_int = int(group.value[at])
                if instrument.kind == "gauge":
                    metric.gauge.CopyFrom(Gauge(data_points=[number]))
                else:
                    metric.sum.CopyFrom(
                        Sum(
                            data_points=[number],
                            aggregation_temporality=temporality,  # type: ignore[arg-type]
                            is_monotonic=instrument.kind == "sum",
                        )
                    )
            out[RESOURCES[group.resource[at]], metric.SerializeToString()] += 1
    return out


def _parse(encoded: Sequence[Encoded], scope: str = "weir.l4", version: str = "0.1.0") -> Counter[tuple[bytes, bytes]]:
    out: Counter[tuple[bytes, bytes]] = Counter()
    for request in encoded:
        message = ExportMetricsServiceRequest.FromString(request.data)
        assert not unknown_fields.UnknownFieldSet(message)
        items = 0
        resources = [resource_metrics.resource.SerializeToString() for resource_metrics in message.resource_metrics]
        assert len(resources) == len(set(resources))
        for resource_metrics in message.resource_metrics:
            assert resource_metrics.schema_url == SCHEMA_URL
            (scope_metrics,) = resource_metrics.scope_metrics
            assert scope_metrics.schema_url == SCHEMA_URL
            assert (scope_metrics.scope.name, scope_metrics.scope.version) == (scope, version)
            names = [metric.name for metric in scope_metrics.metrics]
            assert len(names) == len(set(names))
            for metric in scope_metrics.metrics:
                data = getattr(metric, str(metric.WhichOneof("data")))
                taken = list(data.data_points)
                for point in taken:
                    del data.data_points[:]
                    data.data_points.append(point)
                    out[resource_metrics.resource.SerializeToString(), metric.SerializeToString()] += 1
                    items += 1
        assert items == request.items > 0
    return out


@settings(max_examples=120, deadline=None)
@given(groups=st.lists(_groups(), max_size=6), max_bytes=st.sampled_from([200, 1200, 512 * 1024]))
def test_points_equal_the_reference(groups: list[Points | HistogramPoints], max_bytes: int) -> None:
    out = encode_metrics(groups, RESOURCES, TIME, version="0.1.0", max_bytes=max_bytes)
    assert _parse(out) == _reference(groups)
    assert all(len(request.data) <= max_bytes or request.items == 1 for request in out)


def test_a_metric_is_split_between_points() -> None:
    count = 5000
    group = Points(
        IO,
        np.zeros(count, np.uint32),
        np.full(count, 2),
        SERIES,
        np.ones(count, np.uint64),
        np.arange(count, dtype=np.int64),
    )
    out = encode_metrics([group], RESOURCES, TIME, max_bytes=64 * 1024)
    assert len(out) > 1
    assert all(60 * 1024 < len(request.data) <= 64 * 1024 for request in out[:-1])
    assert _parse(out, version="") == _reference([group])


def test_own_metrics() -> None:
    queue = Instrument("weir.queue.size", "By", "", "gauge")
    loss = Instrument("weir.ledger.events", "{event}", "Events by outcome.", "sum")
    groups = [
        points(queue, [({}, 0.5), ({"a": "b"}, 1)], start=3),
        points(loss, [({"weir.ledger.stage": "kernel"}, 7)], start=3),
    ]
    (request,) = encode_metrics(groups, RESOURCES, TIME, scope="weir", version="1")
    (resource_metrics,) = ExportMetricsServiceRequest.FromString(request.data).resource_metrics
    gauge, counter = resource_metrics.scope_metrics[0].metrics
    assert [point.as_double for point in gauge.gauge.data_points] == [0.5, 1.0]
    (point,) = counter.sum.data_points
    assert (point.as_int, point.start_time_unix_nano, point.time_unix_nano) == (7, 3, TIME)
    assert [(a.key, a.value.string_value) for a in point.attributes] == [("weir.ledger.stage", "kernel")]
    assert resource_metrics.scope_metrics[0].scope.name == "weir"
    assert request.items == 3


def test_no_points_no_request() -> None:
    assert encode_metrics([], RESOURCES, TIME) == []
    assert encode_metrics([points(IO, [])], RESOURCES, TIME) == []


def _histogram(instrument: Instrument, width: int, counts: int = 1) -> HistogramPoints:
    one = np.zeros(1, np.uint32)
    return HistogramPoints(
        instrument,
        one,
        one,
        SERIES,
        np.ones(1, np.uint64),
        np.ones(counts, np.uint64),
        np.ones(1),
        np.ones((1, width), np.uint64),
    )


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (_histogram(RTT, 4), "weir.flow.rtt: 4 buckets for 4 bounds"),
        (_histogram(RTT, 5, counts=2), "weir.flow.rtt: columns of different lengths"),
        (_histogram(IO, 1), "weir.flow.io: a sum has no HistogramPoints"),
        (points(RTT, [({}, 1)]), "weir.flow.rtt: a histogram has no Points"),
        (points(IO, [({}, 1)], resource=3), "weir.flow.io: resource 3 of 3"),
    ],
)
def test_columns_that_do_not_fit_are_named(group: Points | HistogramPoints, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_metrics([group], RESOURCES, TIME)


def test_a_total_that_is_no_number_is_kept() -> None:
    group = _histogram(PLAIN, 1)
    group.total[0] = math.nan
    (request,) = encode_metrics([group], RESOURCES, TIME)
    metric = ExportMetricsServiceRequest.FromString(request.data).resource_metrics[0].scope_metrics[0].metrics[0]
    assert math.isnan(metric.histogram.data_points[0].sum)
