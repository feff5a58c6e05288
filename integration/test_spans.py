"""Where they are asked for, one span for each flow that ended, the same as its end event; no span without an end or a start."""

import signal

import pytest
import yaml

from integration.harness.stage import Stage
from integration.harness.truth import ends
from integration.harness.weir import READY, configuration

DROPPED = 9999
KINDS = {"unknown": 1, "server": 2, "client": 3}
ERROR = 2
PIPELINES = {
    "pipelines": {name: {"receivers": ["ebpf"], "exporters": ["otlp_grpc"]} for name in ("logs", "metrics", "traces")}
}


def test_each_flow_that_ended_is_one_span(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"flows": {"spans": True, "start_events": True}}, service=PIPELINES)
    space.drop(f"tcp dport {DROPPED}")
    wanted = stage.talk(space, 300, 10_000)
    programs = [
        stage.fail(space, how, DROPPED if how in {"unanswered", "aborted"} else 9)
        for how in ("refused", "unanswered", "aborted", "reset_by_client")
    ]
    for program, count in zip(programs, (1, 1, 1, 2), strict=True):
        wanted += ends(program.wait_for_facts(count))
    open_at_the_end = ends(stage.fail(space, "open").wait_for_facts(2))
    assert (len(wanted), len(open_at_the_end)) == (605, 2)
    collector.wait_for_events(len(wanted), lambda event: event.name == "weir.flow.end")
    ledger = weir.stop()
    collector.stop()

    events = [event for event in collector.events() if event.name == "weir.flow.end"]
    assert len(events) == len(wanted) + len(open_at_the_end)
    ended = {event["weir.flow.instance.id"]: event for event in events if event["weir.flow.end_reason"] != "shutdown"}
    spans = collector.spans()
    assert len(spans) == len(ended) == len(wanted)
    assert {span["weir.flow.instance.id"] for span in spans} == set(ended)
    reasons = set()
    for span in spans:
        event = ended[span["weir.flow.instance.id"]]
        assert (span.attributes, span.resource) == (event.attributes, event.resource)
        assert (span.name, span.scope, span.id, span.parent) == ("tcp", "weir.l4", span["weir.flow.instance.id"], "")
        assert span.kind == KINDS[event["weir.flow.role"]]
        assert span.end == event.time
        assert (span.end - span.start) / 1e9 == pytest.approx(event["weir.flow.duration"], abs=2e-9)
        assert (span.status == ERROR) == ("error.type" in event.attributes), event
        reasons.add((event["weir.flow.end_reason"], span.status == ERROR))
    assert reasons == {("closed", False), ("failed", True), ("aborted", False), ("reset", True), ("reset", False)}
    assert len({span.trace for span in spans}) == len(spans)
    assert all(len(span.trace) == 32 and int(span.trace, 16) for span in spans)

    traces = ledger["traces"]
    assert traces["observed"] == traces["exported"] == len(spans)
    assert (traces["filtered"], traces["dropped"], traces["in_flight"]) == ({}, {}, 0)


def test_spans_come_and_go_with_the_configuration(stage: Stage) -> None:
    """Off by default; a reload turns them on, and the ledger goes on."""
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    stage.talk(space, 10, 10_000)
    collector.wait_for_events(20)
    weir.config.write_text(
        yaml.safe_dump(configuration(collector.endpoint, {"flows": {"spans": True}}, service=PIPELINES))
    )
    weir.signal(signal.SIGHUP)
    weir.wait_for_log(READY, 2)
    stage.talk(space, 10, 11_000)
    collector.wait_for_events(40)
    ledger = weir.stop()
    collector.stop()
    spans = collector.spans()
    assert {span["client.port"] for span in spans} == set(range(11_000, 11_010))
    assert ledger["traces"]["observed"] == ledger["traces"]["exported"] == len(spans) == 20
    assert ledger["logs"]["exported"] == 40
