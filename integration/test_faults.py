"""A real Collector that refuses, breaks, hangs and dies: what arrived is what the ledger says, copies are counted attempts."""

import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from integration.harness.fault import Record, Trial
from integration.harness.stage import Stage
from integration.harness.waiting import until

TLS: Final = Path(__file__).resolve().parent.parent / "tests" / "data" / "tls"
RETRY: Final = "Exporting failed. Will retry the request after interval."
DROP: Final = "Exporting failed. Dropping data."
ONE: Final = {"sending_queue": {"num_consumers": 1}}
FILE: Final = {"path": "${env:OUT_DIR}/logs.jsonl", "append": True, "flush_interval": "100ms"}


def ruled(*rules: dict[str, Any]) -> dict[str, Any]:
    """Changes to faults.yaml: these rules, and metrics that pass."""
    return {"extensions": {"fault": {"rules": list(rules)}}}


def grpc(**settings: Any) -> dict[str, Any]:
    """Changes to basic.yaml: settings of the receiver's gRPC server."""
    return {"receivers": {"otlp": {"protocols": {"grpc": settings}}}}


def stamp(line: dict[str, Any]) -> float:
    """When a log line was written."""
    return datetime.fromisoformat(line["ts"]).timestamp()


@pytest.fixture
def record(record_property: Record) -> Record:
    """Where a test puts its row of the table (python -m integration.faults_table)."""
    return record_property


def test_every_answer_in_turn(stage: Stage, record: Record) -> None:
    trial = Trial(stage, "faults.yaml")
    weir = trial.start({**ONE, "timeout": "1s"})
    trial.talk(200)
    until(lambda: len(weir.logs(DROP)) >= 2, "two refusals for good")
    trial.talk(50)
    until(lambda: len(trial.collector.requests()) >= 8, "the rest")
    row, ledger = trial.end(
        record, "each answer there is, in turn", "repeats, drops or counts, by the answer", errors=True
    )
    assert set(row.lost) == {"export/permanent", "export/rejected"}
    assert row.lost["export/rejected"] == 2
    assert row.arrived == row.offered - row.lost["export/permanent"] == row.exported + 2
    assert (row.copied_requests, row.retried) == (1, 4), row  # busy, exhausted with RetryInfo, timeout, answer lost
    assert weir.logs("Partial success response")
    assert set(ledger["metrics"]["dropped"]) == {"export/permanent"}
    assert ledger["metrics"]["exported"] == 0


def test_retry_info_holds_everything_back(stage: Stage, record: Record) -> None:
    trial = Trial(stage, "faults.yaml", ruled({"signal": "logs", "count": 1, "code": "UNAVAILABLE", "retry": "2s"}))
    weir = trial.start(ONE)
    trial.talk(100)
    until(trial.collector.events, "the first event")
    arrived_at = time.time()
    refused = weir.wait_for_log(RETRY)
    assert float(refused["interval"].rstrip("s")) >= 2
    assert arrived_at - stamp(refused) >= 1.9
    trial.wait_for_all()
    row, _ = trial.end(record, "refused with a RetryInfo of 2 s", "holds everything back for 2 s, then repeats")
    assert (row.exported, row.lost, row.copies, row.retried) == (row.offered, {}, 0, 1), row


def test_partial_success_is_counted_as_rejected(stage: Stage, record: Record) -> None:
    trial = Trial(stage, "faults.yaml", ruled({"signal": "logs", "count": 2, "reject": 3, "text": "too old"}))
    weir = trial.start()
    trial.talk(100)
    trial.wait_for_all()
    row, _ = trial.end(record, "two partial successes, 3 refused each", "counts them, repeats nothing")
    assert weir.logs("Partial success response")[0]["message"] == "too old"
    assert row.lost == {"export/rejected": 6}
    assert (row.exported, row.copies, row.retried) == (row.offered - 6, 0, 0), row


def test_an_answer_that_is_lost_doubles_its_request_and_no_other(stage: Stage, record: Record) -> None:
    trial = Trial(stage, "faults.yaml", ruled({"signal": "logs", "count": 3, "lost": True, "code": "UNAVAILABLE"}))
    trial.start()
    trial.talk(150)
    until(lambda: len({id(event) for event in trial.collector.events()}) > trial.sent, "a copy")
    row, _ = trial.end(record, "stored, and the answer lost, three times", "repeats: the copies are counted attempts")
    assert (row.exported, row.arrived, row.lost) == (row.offered, row.offered, {}), row
    assert row.copied_requests == row.retried == 3


def test_a_memory_limiter_refuses_and_recovers(stage: Stage, record: Record, connload: Path) -> None:
    pipeline = {"receivers": ["otlp"], "processors": ["memory_limiter", "batch"], "exporters": ["file/logs"]}
    trial = Trial(
        stage, "pressure.yaml", {"exporters": {"file/logs": FILE}, "service": {"pipelines": {"logs": pipeline}}}
    )
    weir = trial.start({"max_request_bytes": 262144})
    stage.listen(trial.space, connload, 7000)

    def refused() -> bool:
        trial.burst(connload, 3000, 2, 10)
        return any(line.get("cause") == "memory" for line in weir.logs(RETRY))

    until(refused, "refusal by the memory limiter", 60)
    trial.wait_for_all(60)
    row, _ = trial.end(record, "memory_limiter refuses, then recovers", "repeats until it is taken", errors=True)
    assert "memory_limiter" in trial.cause("memory")["remedy"]
    assert (row.exported, row.lost, row.copies) == (row.offered, {}, 0), row
    assert row.retried > 0


def test_requests_over_the_size_limit_are_halved_and_the_limit_is_learned(
    stage: Stage, record: Record, connload: Path
) -> None:
    trial = Trial(stage, changes=grpc(max_recv_msg_size_mib=1))
    weir = trial.start({"max_request_bytes": 8 << 20})
    stage.listen(trial.space, connload, 7000)
    for _ in range(2):
        weir.signal(signal.SIGSTOP)  # so that records gather in the ring
        trial.burst(connload, 0, 20, 10, 3000)
        weir.signal(signal.SIGCONT)
        trial.wait_for_all()
    row, _ = trial.end(record, "requests over the size limit of 1 MiB", "halves them, and learns the limit")
    (learned,) = weir.logs("The destination refuses requests of this size. Sending smaller ones.")
    assert learned["limit"] == 1 << 20
    assert learned["size"] > 1 << 20
    assert "max_recv_msg_size_mib" in learned["remedy"]
    assert (row.exported, row.lost, row.copies, row.retried) == (row.offered, {}, 0, 0), row


@pytest.mark.parametrize(("what", "headers"), [("missing", {}), ("wrong", {"authorization": "Bearer of bad news"})])
def test_a_bearer_token_that_is_missing_or_wrong(
    stage: Stage, record: Record, what: str, headers: dict[str, str]
) -> None:
    extension = {"bearertokenauth": {"token": "secret"}}
    changes = grpc(auth={"authenticator": "bearertokenauth"}) | {
        "extensions": extension, "service": {"extensions": ["bearertokenauth"]}
    }  # fmt: skip
    trial = Trial(stage, changes=changes)
    weir = trial.start({"headers": headers})
    trial.talk(50)
    refused = weir.wait_for_log(DROP)
    assert refused["cause"] == "authentication"
    assert "token" in refused["remedy"]
    row, _ = trial.end(record, f"bearer token {what}", "drops: it will never be taken", errors=True)
    assert row.lost == {"export/permanent": row.offered}
    assert (row.arrived, row.retried) == (0, 0)


def test_a_bearer_token_that_is_right(stage: Stage, record: Record) -> None:
    changes = grpc(auth={"authenticator": "bearertokenauth"}) | {
        "extensions": {"bearertokenauth": {"token": "secret"}}, "service": {"extensions": ["bearertokenauth"]}
    }  # fmt: skip
    trial = Trial(stage, changes=changes)
    trial.start({"headers": {"authorization": "Bearer secret"}})
    trial.talk(50)
    trial.wait_for_all()
    row, _ = trial.end(record, "bearer token right", "sends")
    assert (row.exported, row.copies, row.retried) == (row.offered, 0, 0)


def secured(stage: Stage, tls: dict[str, Any]) -> Trial:
    """A Collector that demands a client certificate, and a Weir with these TLS settings."""
    server = {
        "cert_file": str(TLS / "server.pem"), "key_file": str(TLS / "server.key"), "client_ca_file": str(TLS / "ca.pem")
    }  # fmt: skip
    trial = Trial(stage, changes=grpc(tls=server))
    trial.start({"tls": tls}, {"shutdown_timeout": "2s"})
    trial.talk(50)
    return trial


def pair(name: str) -> dict[str, str]:
    return {"cert_file": str(TLS / f"{name}.pem"), "key_file": str(TLS / f"{name}.key")}


def test_mutual_tls(stage: Stage, record: Record) -> None:
    trial = secured(stage, {"ca_file": str(TLS / "ca.pem"), **pair("client")})
    trial.wait_for_all()
    row, _ = trial.end(record, "mTLS, all certificates right", "sends")
    assert (row.exported, row.copies, row.retried) == (row.offered, 0, 0)


@pytest.mark.parametrize(
    ("what", "tls", "causes"),
    [
        ("client certificate missing", {"ca_file": "ca"}, {"client_certificate", "closed"}),
        ("client certificate of a foreign CA", {"ca_file": "ca", **pair("foreign")}, {"client_certificate", "closed"}),
        ("server certificate of a foreign CA", {"ca_file": "other", **pair("client")}, {"certificate"}),
    ],
)
def test_certificates_that_are_not_taken(
    stage: Stage, record: Record, what: str, tls: dict[str, str], causes: set[str]
) -> None:
    trial = secured(stage, {**tls, "ca_file": str(TLS / f"{tls['ca_file']}.pem")})
    line = trial.weir.wait_for_log(RETRY)
    assert line["cause"] in causes, line
    assert "certificate" in line["remedy"]
    row, _ = trial.end(record, what, "repeats; what is left at the end is abandoned", errors=True)
    assert (row.arrived, row.lost) == (0, {"shutdown/abandoned": row.offered}), row


def test_sigterm_with_calls_in_flight(stage: Stage, record: Record) -> None:
    trial = Trial(stage, "faults.yaml", ruled({"signal": "logs", "count": 2, "delay": "1s"}))
    weir = trial.start({"timeout": "20s"})
    trial.talk(150)
    until(lambda: trial.collector.received() > 16384, "calls in flight")
    trial.collector.stop()
    trial.collector.configure(ruled())
    trial.talk(50)
    weir.wait_for_failure()
    trial.collector.start()
    trial.wait_for_all()
    row, _ = trial.end(
        record, "Collector ended by SIGTERM, calls in flight, restarted", "repeats what was not answered"
    )
    assert (row.exported, row.arrived, row.lost) == (row.offered, row.offered, {}), row
    assert row.retried > 0


def test_sigkill_with_calls_in_flight(stage: Stage, record: Record) -> None:
    trial = Trial(stage, "faults.yaml", ruled({"signal": "logs", "skip": 5, "count": 2, "delay": "60s"}))
    weir = trial.start({"timeout": "60s"}, {"extensions": ["zpages"]})
    trial.talk(150)
    until(lambda: len(trial.collector.requests()) >= 5, "five requests in the file")  # acknowledged means written, here
    until(
        lambda: trial.asked("/debug/status")["exporters"]["otlp_grpc"]["logs"]["requests"] == 7, "two calls in flight"
    )
    trial.collector.kill()
    trial.collector.configure(ruled())
    until(lambda: any(line.get("cause") == "closed" for line in weir.logs(RETRY)), "broken call")
    trial.talk(50)
    trial.collector.start()
    trial.wait_for_all()
    row, _ = trial.end(
        record, "Collector ended by SIGKILL, calls in flight, restarted", "repeats what was not answered"
    )
    assert (row.exported, row.arrived, row.lost, row.copies) == (row.offered, row.offered, {}, 0), row
    assert row.retried >= 2


def test_what_a_killed_collector_had_acknowledged_and_not_written_is_gone(stage: Stage, record: Record) -> None:
    processors = {"batch": {"timeout": "1h", "send_batch_size": 1_000_000}}  # a flush that never comes
    trial = Trial(
        stage, changes={"processors": processors, "service": {"pipelines": {"logs": {"processors": ["batch"]}}}}
    )
    weir = trial.start(service={"extensions": ["zpages"]})
    trial.talk(50)
    until(lambda: trial.asked("/debug/ledger")["logs"]["exported"] >= 100, "acknowledged records")
    trial.collector.kill()
    acknowledged = trial.asked("/debug/ledger")["logs"]["exported"]
    assert trial.collector.events() == []
    trial.collector.configure({})
    trial.collector.start()
    trial.talk(50)
    trial.collector.wait_for_events(trial.sent - acknowledged)
    row, _ = trial.end(
        record, "Collector ended by SIGKILL before it wrote what it had acknowledged", "cannot know: the exception",
        unwritten=acknowledged,
    )  # fmt: skip
    assert (row.exported, row.lost, row.copies) == (row.offered, {}, 0), row
    assert row.arrived == row.offered - acknowledged
    assert not weir.logs(DROP)


def test_a_frozen_collector(stage: Stage, record: Record) -> None:
    trial = Trial(stage)
    weir = trial.start({"timeout": "500ms"})
    trial.talk(50)
    trial.wait_for_all()
    trial.collector.signal(signal.SIGSTOP)
    trial.talk(100)
    until(lambda: any(line.get("cause") == "timeout" for line in weir.logs(RETRY)), "timeout")
    trial.collector.signal(signal.SIGCONT)
    trial.wait_for_all()
    row, _ = trial.end(record, "Collector frozen by SIGSTOP, then thawed", "gives up each attempt in time, repeats")
    assert (row.exported, row.arrived, row.lost) == (row.offered, row.offered, {}), row
    assert row.retried > 0


def test_a_pipeline_that_is_missing_turns_one_signal_off(stage: Stage, record: Record) -> None:
    trial = Trial(stage, changes={"service": {"pipelines": {"metrics": None, "traces": None}}})
    weir = trial.start(ONE, receiver={"metrics": {"interval": "1s"}})
    trial.talk(50)
    off = weir.wait_for_log("The destination does not take this signal. Its data is dropped until it does.")
    assert (off["signal"], off["cause"]) == ("metrics", "no_service")
    trial.talk(50)
    trial.wait_for_all()
    row, ledger = trial.end(record, "no pipeline for metrics", "turns metrics off and says so; logs go on", errors=True)
    assert (row.exported, row.lost, row.copies) == (row.offered, {}, 0), row
    metrics = ledger["metrics"]
    assert metrics["exported"] == 0
    assert metrics["dropped"] == {"export/permanent": metrics["observed"]}
    assert trial.attempts("metrics") == (1, 0)  # no other is tried before the probe
