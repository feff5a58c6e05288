"""One flow in N: whole flows, the same at both ends, counted to the record; metrics count all of them."""

import math
import signal
from collections import Counter, defaultdict
from pathlib import Path

from integration.harness.stage import Stage
from integration.test_spans import PIPELINES

CONNECTIONS, BYTES, ONE_IN, PORT = 4000, 100, 10, 7000
SIGMAS = 5  # a chance of less than one in a million


def test_one_flow_in_ten(stage: Stage, connload: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    receiver = {
        "sample": {"flows": ONE_IN}, "flows": {"start_events": True, "spans": True}, "metrics": {"interval": "1s"}
    }  # fmt: skip
    weir = stage.weir(space, collector, receiver, service=PIPELINES)
    server = stage.listen(space, connload, PORT)
    command = [str(connload), "conn", "127.0.0.1", str(PORT), "2000", "20", str(BYTES), str(CONNECTIONS)]
    (burst,) = stage.run(space, command).done()
    server.signal(signal.SIGTERM)
    (served,) = server.done()
    assert (burst["completed"], burst["failed"], served["accepted"]) == (CONNECTIONS, 0, CONNECTIONS)
    ledger = weir.stop()
    collector.stop()

    events, spans = collector.events(), collector.spans()
    logs, traces = ledger["logs"], ledger["traces"]
    assert logs["observed"] - logs["filtered"].get("self", 0) == 4 * CONNECTIONS
    assert logs["exported"] == len(events)
    assert logs["exported"] + logs["filtered"]["sample"] == 4 * CONNECTIONS
    assert (traces["observed"], traces["exported"]) == (2 * CONNECTIONS, len(spans))
    assert traces["exported"] + traces["filtered"]["sample"] == 2 * CONNECTIONS
    assert logs["dropped"] == traces["dropped"] == {}

    # Each flow is there with the starts and the ends of both of its ends, or not at all.
    flows = defaultdict[str, Counter[tuple[str, str]]](Counter)
    for event in events:
        flows[event["weir.flow.id"]][event["weir.flow.role"], event.name] += 1
    each = {(role, f"weir.flow.{name}") for role in ("client", "server") for name in ("start", "end")}
    # On loopback a port may be used again after a second, and so a flow's id.
    times = {flow: set(found.values()) for flow, found in flows.items()}
    assert [flow for flow, found in flows.items() if set(found) != each or len(times[flow]) != 1] == []
    assert Counter(span["weir.flow.id"] for span in spans) == {flow: 2 * max(times[flow]) for flow in flows}
    kept = sum(max(found) for found in times.values())
    assert {record["weir.flow.sampling.factor"] for record in [*events, *spans]} == {ONE_IN}

    # Scaled by the factor, they stand for all.
    deviation = math.sqrt(CONNECTIONS * (ONE_IN - 1))
    assert abs(kept * ONE_IN - CONNECTIONS) < SIGMAS * deviation
    sent = sum(e["weir.flow.transmit.size"] * ONE_IN for e in events if e.name == "weir.flow.end")
    assert abs(sent - 2 * CONNECTIONS * BYTES) < SIGMAS * 2 * BYTES * deviation

    # Metrics count every flow.
    sums = defaultdict[tuple[str, str], float](float)
    for point in collector.latest():
        if point.attributes.get("server.port") == PORT:
            sums[point.name, point.attributes["weir.flow.role"]] += point.value
            assert "weir.flow.sampling.factor" not in point.attributes
    for role in ("client", "server"):
        assert sums["weir.flow.connections", role] == CONNECTIONS
        assert sums["weir.flow.io", role] == 2 * CONNECTIONS * BYTES
