"""SIGHUP: a good new configuration is taken, a bad one is refused and the old one kept; no flow is lost or reported twice."""

import signal

import yaml

from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice
from integration.harness.waiting import until
from integration.harness.weir import READY, configuration


def test_sighup(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    first = stage.talk(space, 10, 10_000)
    collector.wait_for_events(20)

    good = weir.config.read_text()
    weir.config.write_text(good.replace("scope: netns", "scope: galaxy"))
    weir.signal(signal.SIGHUP)
    until(lambda: [line for line in weir.logs() if line["level"] == "error"], "line that refuses the new configuration")
    second = stage.talk(space, 10, 11_000)
    collector.wait_for_events(40)

    weir.config.write_text(yaml.safe_dump(configuration(collector.endpoint, {"tenant": "acme"})))
    weir.signal(signal.SIGHUP)
    weir.wait_for_log(READY, 2)
    third = stage.talk(space, 10, 12_000)
    collector.wait_for_events(60)
    ledger = weir.stop(errors=True)["logs"]
    collector.stop()

    assert missing_or_twice(first + second + third, collector.events()) == ""
    for event in collector.events():
        taken = event["client.port"] >= 12_000
        assert event["weir.tenant.id"] == ("acme" if taken else None), event
    assert ledger["exported"] == 60  # one ledger, over all configurations


def test_a_change_in_the_exporter_keeps_its_queue_and_capture(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space, start=False)
    weir = stage.weir(space, collector)
    first = stage.talk(space, 10, 10_000)
    weir.wait_for_failure()

    changed = configuration(collector.endpoint, None, {"headers": {"x-scope": "acme"}, "timeout": "7s"})
    weir.config.write_text(yaml.safe_dump(changed))
    weir.signal(signal.SIGHUP)
    line = weir.wait_for_log("Configuration updated.")
    assert line["ledger"]["logs"]["in_flight"] == 20
    second = stage.talk(space, 10, 11_000)
    collector.start()
    collector.wait_for_events(40)
    ledger = weir.stop()["logs"]
    collector.stop()
    assert missing_or_twice(first + second, collector.events()) == ""
    assert (ledger["exported"], ledger["dropped"]) == (40, {})
    assert len(weir.logs(READY)) == 1  # capture was not restarted


def test_another_exporter_joins_and_leaves(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    stage.talk(space, 10, 10_000)
    collector.wait_for_events(20)
    alone = yaml.safe_load(weir.config.read_text())
    both = yaml.safe_load(weir.config.read_text())
    (name,) = both["exporters"]
    both["exporters"]["otlp_grpc/second"] = both["exporters"][name]
    both["service"]["pipelines"]["logs"]["exporters"] = [name, "otlp_grpc/second"]
    for number, tree in enumerate((both, alone), 1):
        weir.config.write_text(yaml.safe_dump(tree))
        weir.signal(signal.SIGHUP)
        weir.wait_for_log("Configuration updated.", number)
        stage.talk(space, 10, 10_000 + 100 * number)
        collector.wait_for_events(40 + 20 * number)
    views = weir.stop()["logs"]["exporters"]
    collector.stop()
    assert {name: view["exported"] for name, view in views.items()} == {name: 60, "otlp_grpc/second": 20}
    assert len(collector.events()) == 80
