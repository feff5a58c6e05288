"""The metrics add up to what happened, count open flows too, and come with Weir's own under their own Resource."""

from collections import defaultdict

from integration.harness.collector import Collector
from integration.harness.otlp import Point
from integration.harness.stage import Stage
from integration.harness.truth import End, ends

UNITS = {
    "weir.flow.io": "By", "weir.flow.connections": "{connection}", "weir.flow.active": "{connection}",
    "weir.flow.duration": "s", "weir.flow.connect.duration": "s", "weir.flow.rtt": "s", "weir.flow.retransmits": "{segment}", "weir.flow.resets": "{segment}",
}  # fmt: skip
HISTOGRAMS = {"weir.flow.duration", "weir.flow.connect.duration", "weir.flow.rtt"}


def _sums(collector: Collector, port: int) -> dict[tuple[str, ...], float]:
    """(metric, role, direction or error) -> the sum over the last points of the series of this server port; counts of histograms."""
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for point in collector.latest():
        if point.attributes.get("server.port") == port:
            key = [point.name, point.attributes["weir.flow.role"]]
            key += [str(point.attributes[k]) for k in ("network.io.direction", "error.type") if k in point.attributes]
            sums[tuple(key)] += point.count if point.kind == "histogram" else point.value
    return dict(sums)


def _io(wanted: list[End]) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for end in wanted:
        sums["weir.flow.io", end.role, "transmit"] += end.sent
        sums["weir.flow.io", end.role, "receive"] += end.received
    return dict(sums)


def test_totals_equal_the_truth(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"metrics": {"interval": "1s"}})
    server = stage.serve(space, "127.0.0.1", "prefork")  # three processes of one executable: one series
    wanted = stage.dial(space, "127.0.0.1", server.port, 60, 10_000).ends() + server.ends(60)
    (refused,) = ends(stage.fail(space, "refused", 9).wait_for_facts(1))
    collector.wait_for_events(121)
    ledger = weir.stop()["metrics"]
    collector.stop()

    sums = _sums(collector, server.port)
    truth = _io(wanted)
    assert {key: sums[key] for key in truth} == truth
    for role in ("client", "server"):
        assert sums["weir.flow.connections", role] == 60
        assert sums["weir.flow.active", role] == 0
        assert sums["weir.flow.duration", role] == 60
        assert 0 < sums["weir.flow.rtt", role] <= 60
    assert sums["weir.flow.connect.duration", "client"] == 60
    assert ("weir.flow.connect.duration", "server") not in sums
    failed = _sums(collector, refused.peer[1])
    assert failed["weir.flow.connections", "client", "ECONNREFUSED"] == 1
    assert failed.get(("weir.flow.connections", "client"), 0) == 0

    flows = [point for point in collector.points() if point.scope == "weir.l4"]
    _have_the_declared_shape(flows)
    series = {
        point.series
        for point in flows
        if point.name == "weir.flow.io" and point.attributes["server.port"] == server.port
    }
    assert len(series) == 4, "two roles, two directions: no ephemeral port and no pid makes a series"
    assert ledger["exported"] == len(collector.points())


def _have_the_declared_shape(points: list[Point]) -> None:
    assert {point.name for point in points} == set(UNITS)
    for point in points:
        assert point.unit == UNITS[point.name], point
        assert (point.kind == "histogram") == (point.name in HISTOGRAMS), point
        assert point.cumulative, point
        assert point.monotonic == (point.kind == "sum" and point.name != "weir.flow.active"), point
        assert 0 < point.start <= point.time, point
        assert not point.resource.keys() & {"process.pid", "process.vpid", "process.creation.time"}, point
        assert point.resource["process.executable.name"], point
        assert point.attributes["network.transport"] == "tcp", point
        assert point.attributes["network.type"] == "ipv4", point
        assert point.attributes["server.address"] == "127.0.0.1", point
        assert "network.peer.address" not in point.attributes, point
        if point.kind == "histogram":
            assert sum(point.buckets) == point.count, point
            assert len(point.buckets) == len(point.bounds) + 1, point
    last: dict[tuple[object, ...], Point] = {}
    for point in points:
        before = last.get(point.series, point)
        assert point.start == before.start, "the start of a cumulative series stays"
        if point.monotonic:
            assert point.value >= before.value, "a counter never decreases"
        last[point.series] = point


def test_an_open_flow_counts_before_it_ends_and_once(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"metrics": {"interval": "1s"}})
    program = stage.fail(space, "open")
    wanted = ends(program.wait_for_facts(2))
    port = next(end.local[1] for end in wanted if end.role == "server")
    truth = _io(wanted)

    def seen(sums: dict[tuple[str, ...], float]) -> bool:
        return all(sums.get(key) == value for key, value in truth.items()) and all(
            sums.get(("weir.flow.active", role)) == 1 and sums.get(("weir.flow.connections", role)) == 1
            for role in ("client", "server")
        )

    collector.wait_for_points(lambda _: seen(_sums(collector, port)), "points that count the open flow")
    assert not collector.events(), "it is still open"
    program.tell("enough")
    assert program.wait() == 0
    collector.wait_for_events(2)
    weir.stop()
    collector.stop()
    sums = _sums(collector, port)
    assert {key: sums[key] for key in truth} == truth
    for role in ("client", "server"):
        assert sums["weir.flow.connections", role] == 1
        assert sums["weir.flow.active", role] == 0
        assert sums["weir.flow.duration", role] == 1


def test_delta_points_add_up(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"metrics": {"interval": "1s", "temporality": "delta"}})
    program = stage.fail(space, "open")
    wanted = ends(program.wait_for_facts(2))
    port = next(end.local[1] for end in wanted if end.role == "server")
    collector.wait_for_points(lambda point: point.attributes.get("server.port") == port, "points of the open flow")
    program.tell("enough")
    collector.wait_for_events(2)
    weir.stop()
    collector.stop()
    truth, sums = _io(wanted), defaultdict[tuple[str, ...], float](float)
    for point in collector.points():
        if point.name == "weir.flow.io":
            assert not point.cumulative
            sums[point.name, point.attributes["weir.flow.role"], point.attributes["network.io.direction"]] += (
                point.value
            )
    assert dict(sums) == truth


def test_own_metrics_have_a_resource_of_their_own(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(
        space,
        collector,
        {"metrics": {"interval": "1s"}, "tenant": "acme", "resource": {"attributes": {"service.name": "shop"}}},
    )
    stage.talk(space, 5, 10_000)
    found = collector.wait_for_events(10)
    assert {(event["service.name"], event["weir.tenant.id"]) for event in found} == {("shop", "acme")}
    collector.wait_for_points(
        lambda point: (
            point.name == "weir.ledger.events"
            and point.attributes.get("weir.ledger.outcome") == "exported"
            and point.attributes.get("weir.ledger.signal") == "logs"
            and point.value == 10
        ),
        "own metric that says what was exported",
    )
    weir.stop()
    collector.stop()
    own = [point for point in collector.points() if point.scope != "weir.l4"]
    assert {point.resource["service.name"] for point in own} == {"weir"}
    assert {point.resource["service.name"] for point in collector.points() if point.scope == "weir.l4"} == {"shop"}
