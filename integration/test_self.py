"""Weir's own connection to its Collector is never reported, neither end of it, and what is left out is counted."""

from integration.harness.collector import PORT
from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice


def test_neither_end_of_weirs_own_connections_is_reported(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(
        space, collector, {"flows": {"start_events": True, "update_interval": "1s"}, "metrics": {"interval": "1s"}}
    )
    wanted = stage.talk(space, 10, 10_000)
    collector.wait_for_events(40)  # a start and an end at each end
    collector.stop()  # ends Weir's connection, both ends of it
    collector.start()
    wanted += stage.talk(space, 10, 11_000)
    collector.wait_for_events(80)
    collector.wait_for_points(lambda point: point.resource.get("service.name") == "weir", "own metrics")
    ledger = weir.stop()["logs"]
    collector.stop()

    assert not [event for event in collector.events() if PORT in event.ports]
    for name in ("weir.flow.start", "weir.flow.end"):
        assert missing_or_twice(wanted, [event for event in collector.events() if event.name == name]) == ""
    assert not [point for point in collector.points() if point.attributes.get("server.port") == PORT]
    assert not [event for event in collector.events() if event["process.pid"] in {weir.pid, collector.pid}]
    assert ledger["filtered"]["self"] >= 4, "start and end of both ends of the first connection, at least"
    assert ledger["observed"] == ledger["exported"] + ledger["filtered"]["self"]
