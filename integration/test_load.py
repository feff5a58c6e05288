"""More than there is room for: tables that are full, many peers of one process; everything is reported or counted."""

from pathlib import Path

from integration.harness.processes import script
from integration.harness.stage import Stage
from integration.harness.truth import ends, missing_or_twice, wrong_fields

ROOM, OPEN = 1024, 1500


def test_a_full_flow_table_costs_no_event_and_no_byte(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"limits": {"max_flows": ROOM}})
    holder = stage.run(space, script("hold.py", "127.0.0.1", "idle", OPEN))  # twice as many sockets
    holder.wait_for_facts(1, 60)
    holder.tell("go on")
    wanted = ends(holder.wait_for_facts(1 + 2 * OPEN, 60))
    found = collector.wait_for_events(len(wanted), seconds=60)
    ledger = weir.stop()["logs"]
    collector.stop()
    assert ledger["dropped"] == {}
    assert missing_or_twice(wanted, found) == ""
    wrong = [w for w in wrong_fields(wanted, found) if ".size is" in w or "role is" in w or "process.pid is" in w]
    assert [
        w for w in wrong if " is None," not in w
    ] == []  # a socket that found no room may have no owner, never a wrong one
    full = [point.value for point in collector.latest() if point.name == "weir.kernel.flows.full"]
    assert sum(full) > 0


def test_one_process_with_ten_thousand_peers_folds_into_the_overflow_series(stage: Stage, connload: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"limits": {"max_edges": 16}, "metrics": {"interval": "1s"}})
    program = stage.run(space, script("noroute.py", 1, 1, *(f"10.{n >> 8}.{n & 255}.1" for n in range(5000))))
    program.wait_for_facts(10_000, 60)  # failed connections are flows too, and each address is an edge
    collector.wait_for_events(10_000, seconds=60)
    ledger = weir.stop()
    collector.stop()
    assert ledger["logs"]["dropped"] == {}
    failed = [point for point in collector.latest() if point.name == "weir.flow.connections"]
    assert len({tuple(sorted(point.attributes.items())) for point in failed}) <= 2 * 17 + 1
    assert sum(point.value for point in failed) >= 10_000
    (over,) = [point for point in failed if point.attributes.get("otel.metric.overflow") and len(point.attributes) == 1]
    assert over.value >= 0
