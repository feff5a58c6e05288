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
    assert ledger["exported"] == 20
