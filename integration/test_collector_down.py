"""The Collector is away, at the start or for a while: nothing is lost that the queue could hold, the rest is counted."""

from pathlib import Path

from integration.harness.collector import Collector
from integration.harness.stage import Stage
from integration.harness.truth import End, event_key, missing_or_twice, wrong_fields


def _all_arrived(collector: Collector, wanted: list[End]) -> None:
    found = collector.events()
    assert missing_or_twice(wanted, found) == ""
    assert wrong_fields(wanted, found) == []


def test_away_at_the_start(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space, start=False)
    weir = stage.weir(space, collector)
    wanted = stage.talk(space, 200, 10_000)
    weir.wait_for_failure()
    collector.start()
    collector.wait_for_events(400)
    ledger = weir.stop()["logs"]
    collector.stop()
    _all_arrived(collector, wanted)
    assert ledger["exported"] == 400
    assert not ledger["dropped"]


def test_away_for_a_while_in_the_middle(stage: Stage, connload: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    wanted = stage.talk(space, 100, 10_000)
    collector.wait_for_events(200)

    collector.stop()
    wanted += stage.talk(space, 100, 11_000)
    weir.wait_for_failure()
    stage.listen(space, connload, 7000)
    (held,) = stage.run(space, [str(connload), "conn", "127.0.0.1", "7000", "200", "4", "10"]).done()
    assert held["completed"] == 800
    collector.start()

    wanted += stage.talk(space, 100, 12_000)
    total = len(wanted) + 2 * held["completed"]
    collector.wait_for_events(total)
    ledger = weir.stop()["logs"]
    collector.stop()
    paced = [event for event in collector.events() if 7000 in event.ports]
    assert len(paced) == len({event["weir.flow.instance.id"] for event in paced}) == 1600
    others = [event for event in collector.events() if 7000 not in event.ports]
    assert missing_or_twice(wanted, others) == ""
    assert wrong_fields(wanted, others) == []
    assert ledger["exported"] == total
    assert not ledger["dropped"]


def test_a_queue_that_is_too_small_counts_what_it_refused(stage: Stage, connload: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space, start=False)
    queue = {"sizer": "requests", "queue_size": 2, "num_consumers": 1}
    weir = stage.weir(space, collector, exporter={"sending_queue": queue})
    stage.listen(space, connload, 7000)
    (paced,) = stage.run(space, [str(connload), "conn", "127.0.0.1", "7000", "200", "4", "10"]).done()
    collector.start()
    collector.wait_for_events(1)
    last = stage.talk(space, 1, 10_000)
    collector.wait_for_events(2, lambda event: event_key(event) in {end.key for end in last})
    ledger = weir.stop(errors=True)["logs"]
    collector.stop()

    assert ledger["observed"] - ledger["filtered"].get("self", 0) == 2 * paced["completed"] + 2
    assert set(ledger["dropped"]) == {"queue/full"}
    assert ledger["exported"] == len(collector.events())
    assert ledger["dropped"]["queue/full"] + ledger["exported"] == 2 * paced["completed"] + 2


def test_still_away_at_the_end_is_counted_as_abandoned(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space, start=False)
    weir = stage.weir(space, collector, service={"shutdown_timeout": "2s"})
    stage.talk(space, 20, 10_000)
    weir.wait_for_failure()
    ledger = weir.stop(errors=True)["logs"]
    assert ledger["exported"] == 0
    assert ledger["observed"] - ledger["filtered"].get("self", 0) == 40
    assert ledger["dropped"] == {"shutdown/abandoned": 40}
