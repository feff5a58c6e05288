"""The flow metrics as a Collector would read them, from records to parsed points."""

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as Request

from receiver.flows.series import SeriesTable
from receiver.flows.texts import Texts
from receiver.otlp.metrics import encode_metrics
from receiver.otlp.resource import encode_resource
from receiver.otlp.series import SeriesPoints
from tests.records import record, records

RESOURCES = [encode_resource({"host.name": "h"}), encode_resource({"service.name": "s"})]


def parsed(table: SeriesTable, temporality: str = "cumulative") -> dict[str, list[tuple[dict[str, object], object]]]:
    found: dict[str, list[tuple[dict[str, object], object]]] = {}
    for encoded in encode_metrics(SeriesPoints(table, temporality).collect(), RESOURCES, 99):  # type: ignore[arg-type]
        for resource in Request.FromString(encoded.data).resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                for point in data.data_points:
                    attributes: dict[str, object] = {
                        a.key: getattr(a.value, a.value.WhichOneof("value")) for a in point.attributes
                    }
                    attributes["resource"] = resource.resource.attributes[0].key
                    found.setdefault(metric.name, []).append((attributes, point))
    return found


def named(*names: str) -> tuple[np.ndarray, Texts]:
    """The rows of names in a table."""
    texts = Texts(len(names) + 1, 256)
    for row, name in enumerate(names, 1):
        texts.put(row, name.encode())
    return np.array([row if name else 0 for row, name in enumerate(names, 1)], np.uint32), texts


def test_addresses_that_were_asked_for_by_one_name_are_one_series() -> None:
    table = SeriesTable(16)
    flows = records(record(), record(peer_address="10.0.0.3"), record(peer_address="10.0.0.3"), record())
    table.add(flows, np.ones(4, np.uint32), 7, named("db.test", "db.test", "", "b.test"))
    connections = {
        attributes["server.address"]: point.as_int  # type: ignore[attr-defined]
        for attributes, point in parsed(table)["weir.flow.connections"]
    }
    assert connections == {"db.test": 2, "10.0.0.3": 1, "b.test": 1}


def test_a_name_is_forgotten_with_its_last_series() -> None:
    table = SeriesTable(2)
    for turn in range(30):
        table.add(records(record()), np.ones(1, np.uint32), 7, named(f"n{turn}.test"))
        for _ in range(11):
            table.handed_over(8, delta=False)
        table.add(records(record(peer_address="10.9.9.9")), np.ones(1, np.uint32), 7)
    table.add(records(record()), np.ones(1, np.uint32), 7, named("last.test"))
    assert "last.test" in {attributes.get("server.address") for attributes, _ in parsed(table)["weir.flow.io"]}


def test_each_role_has_its_own_attributes() -> None:
    table = SeriesTable(16)
    table.add(
        records(record(), record(role=2, peer_port=40001, local_port=80), record(role=0, flags=5, counted_transmit=40)),
        np.array([1, 1, 1], np.uint32),
        7,
    )
    found = parsed(table)
    plain = {"network.transport": "tcp", "network.type": "ipv4", "resource": "service.name"}
    client = {**plain, "server.address": "10.0.0.2", "server.port": 80, "weir.flow.role": "client"}
    server = {**plain, "server.address": "10.0.0.1", "server.port": 80, "weir.flow.role": "server"}
    unknown = {**plain, "network.peer.address": "10.0.0.2", "weir.flow.role": "unknown"}
    seen = {(a["weir.flow.role"], a["network.io.direction"]): (a, p.as_int) for a, p in found["weir.flow.io"]}  # type: ignore[attr-defined]
    for role, expected, transmit in (("client", client, 100), ("server", server, 100), ("unknown", unknown, 60)):
        attributes, value = seen[role, "transmit"]
        assert attributes == {**expected, "network.io.direction": "transmit"}
        assert value == transmit
        assert seen[role, "receive"][1] == 200
    assert [p.start_time_unix_nano for _, p in found["weir.flow.io"]] == [7] * 6  # type: ignore[attr-defined]
    connections = {a["weir.flow.role"]: p.as_int for a, p in found["weir.flow.connections"]}  # type: ignore[attr-defined]
    assert connections == {"client": 1, "server": 1, "unknown": 0}
    assert {a["weir.flow.role"]: p.count for a, p in found["weir.flow.duration"]} == {"client": 1, "server": 1}  # type: ignore[attr-defined]


def test_failures_carry_their_error_and_are_no_connections() -> None:
    table = SeriesTable(16)
    refused = record(flags=2, error=111, end_cause=3)
    table.add(records(refused, refused, record(flags=2, error=110, end_cause=3), record()), np.zeros(4, np.uint32), 7)
    found = parsed(table)["weir.flow.connections"]
    assert {a.get("error.type"): p.as_int for a, p in found} == {None: 1, "ECONNREFUSED": 2, "ETIMEDOUT": 1}  # type: ignore[attr-defined]


def test_overflow_is_one_point_with_one_attribute_under_the_host() -> None:
    table = SeriesTable(1)
    table.add(records(record(), record(peer_port=81), record(peer_port=82)), np.array([1, 1, 1], np.uint32), 7)
    found = parsed(table)
    for name in ("weir.flow.io", "weir.flow.connections", "weir.flow.retransmits", "weir.flow.rtt"):
        over = [(a, p) for a, p in found[name] if "otel.metric.overflow" in a]
        assert [a for a, _ in over] == [{"otel.metric.overflow": True, "resource": "host.name"}]
    assert sum(p.as_int for _, p in found["weir.flow.io"]) == 3 * 300  # type: ignore[attr-defined]


def test_the_peer_of_a_server_is_named_only_where_asked_for() -> None:
    rows = records(record(role=2, local_port=80), record(role=2, local_port=80, peer_address="10.0.0.9"))
    for asked, expected in ((False, [None]), (True, ["10.0.0.2", "10.0.0.9"])):
        table = SeriesTable(16, peer_address=asked)
        table.add(rows, np.zeros(2, np.uint32), 7)
        found = parsed(table)["weir.flow.connections"]
        assert sorted({a.get("network.peer.address") for a, _ in found}, key=str) == expected  # type: ignore[type-var]
