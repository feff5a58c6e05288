"""How long lookups took, as series: bounded, by Resource, name and error, of clients only."""

from dataclasses import replace

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from receiver.dns.durations import Durations
from receiver.dns.lookups import UDP, Conversation, Lookup
from receiver.flows.series import IDLE_INTERVALS
from receiver.otlp.lookups import duration_instrument, duration_points
from receiver.otlp.metrics import encode_metrics
from receiver.otlp.resource import encode_resource
from tests.dns.wire import mapped

MS = 1_000_000
LOOKUP = Lookup(
    owner="app", conversation=Conversation(1, mapped("10.0.0.53"), 53, UDP, "client"), name="www.test", type="A", klass="IN",
    rcode="NOERROR", error_type="", addresses=(), answer_count=0, truncated=False, cut=False, attempts=1, started=0,
    duration=7 * MS,
)  # fmt: skip
RESOURCES = [encode_resource({"host.name": "h"}), encode_resource({"service.name": "s"})]


def add(durations: Durations, *lookups: Lookup[str], now: int = 5) -> None:
    durations.add(lookups, np.ones(len(lookups), np.uint32), now)


def points(durations: Durations) -> dict[tuple[object, ...], tuple[int, float]]:
    found = {}
    for encoded in encode_metrics(duration_points(durations, duration_instrument("cumulative")), RESOURCES, 99):
        for resource in ExportMetricsServiceRequest.FromString(encoded.data).resource_metrics:
            (metric,) = resource.scope_metrics[0].metrics
            assert (metric.name, metric.unit) == ("dns.lookup.duration", "s")
            for point in metric.histogram.data_points:
                key = tuple(a.value.string_value or a.value.bool_value for a in point.attributes)
                found[resource.resource.attributes[0].key, *key] = (point.count, round(point.sum, 6))
                assert point.start_time_unix_nano == 5
                assert sum(point.bucket_counts) == point.count
    return found


def test_a_series_is_a_name_and_an_error() -> None:
    durations = Durations()
    server = replace(LOOKUP, conversation=LOOKUP.conversation._replace(role="server"))
    add(durations, LOOKUP, LOOKUP, server, replace(LOOKUP, error_type="NXDOMAIN"))
    assert points(durations) == {
        ("service.name", "www.test"): (2, 0.014),
        ("service.name", "www.test", "NXDOMAIN"): (1, 0.007),
    }
    assert durations.resources().tolist() == [1, 1]


def test_names_that_find_no_room_add_up_in_one_series() -> None:
    durations = Durations(limit=2)
    add(durations, *(replace(LOOKUP, name=f"{number}.test") for number in range(5)))
    found = points(durations)
    assert found["host.name", True] == (3, 0.021)
    assert len(found) == 3


def test_a_series_without_lookups_leaves_and_makes_room() -> None:
    durations = Durations(limit=1)
    add(durations, LOOKUP)
    for _ in range(IDLE_INTERVALS + 1):
        assert points(durations)
        durations.handed_over(6, delta=False)
    assert points(durations) == {}
    add(durations, replace(LOOKUP, name="b.test"))
    assert points(durations) == {("service.name", "b.test"): (1, 0.007)}


def test_delta_starts_anew() -> None:
    durations = Durations()
    add(durations, LOOKUP)
    durations.handed_over(5, delta=True)
    assert points(durations) == {}
    add(durations, LOOKUP)
    assert points(durations) == {("service.name", "www.test"): (1, 0.007)}
