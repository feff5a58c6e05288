"""More than the ring holds: what is lost is counted to the record, and the rest is what the Collector has."""

import signal
from pathlib import Path

from integration.harness.stage import Stage

CONNECTIONS = 8000  # an event at each end: about three rings of 1 MiB


def test_a_burst_that_overflows_the_smallest_ring_balances_to_the_record(stage: Stage, connload: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"limits": {"ring_mib": 1}})
    server = stage.listen(space, connload, 7000)

    weir.signal(signal.SIGSTOP)  # nobody reads the ring
    (burst,) = stage.run(space, [str(connload), "conn", "127.0.0.1", "7000", "0", "20", "100", str(CONNECTIONS)]).done()
    server.signal(signal.SIGTERM)
    (served,) = server.done()
    weir.signal(signal.SIGCONT)
    assert (burst["completed"], burst["failed"], served["accepted"]) == (CONNECTIONS, 0, CONNECTIONS)

    ledger = weir.stop()["logs"]
    collector.stop()
    found = collector.events()
    assert ledger["observed"] - ledger["filtered"].get("self", 0) == 2 * CONNECTIONS
    assert set(ledger["dropped"]) == {"kernel/ring_full"}
    assert ledger["dropped"]["kernel/ring_full"] > 0
    assert ledger["exported"] == len(found) > 0
    assert ledger["exported"] + ledger["dropped"]["kernel/ring_full"] == 2 * CONNECTIONS
    assert len({event["weir.flow.instance.id"] for event in found}) == len(found)
    for event in found:
        assert (event["weir.flow.transmit.size"], event["weir.flow.receive.size"]) == (100, 100), event
        assert event["process.pid"] == (
            burst["client_pid"] if event["weir.flow.role"] == "client" else served["server_pid"]
        )


def test_what_the_ledger_says_is_what_each_file_holds(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"metrics": {"interval": "1s"}})
    stage.talk(space, 100, 10_000)
    collector.wait_for_events(200)
    ledger = weir.stop()
    collector.stop()
    assert ledger["logs"]["exported"] == len(collector.events()) == 200
    assert ledger["metrics"]["exported"] == len(collector.points()) > 0
    assert set(ledger) >= {"logs", "metrics", "traces"}
    assert set(ledger["logs"]["exporters"]) == {"otlp_grpc"}
