"""The debug exporter: one readable line a flow, every attribute where asked for, and nothing that steers a terminal."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from receiver.export.build import build
from receiver.export.debug import (
    Debug,
    log_details,
    log_lines,
    metric_details,
    metric_lines,
    span_details,
    span_lines,
)
from receiver.export.errors import PermanentError
from receiver.export.exporter import Exporter, Options
from receiver.export.flowline import flow_line, owner, text
from receiver.export.halt import Halt, MonotonicClock
from receiver.export.request import Receipt
from receiver.ledger import Ledger, imbalance
from tests.export_parts import Remembered, notices, request
from tests.otlp_server import until

WHEN = 1_795_410_000_123_456_789  # 2026-11-23T05:00:00.123Z
RESOURCE: dict[str, Any] = {
    "process.executable.name": "curl",
    "process.pid": 1234,
    "service.name": "unknown_service:curl",
}
FLOW: dict[str, Any] = {
    "source.address": "127.0.0.1",
    "source.port": 41234,
    "destination.address": "127.0.0.1",
    "destination.port": 8080,
    "network.local.address": "127.0.0.1",
    "network.local.port": 41234,
    "network.peer.address": "127.0.0.1",
    "network.peer.port": 8080,
    "network.transport": "tcp",
    "weir.flow.role": "client",
    "weir.flow.end_reason": "closed",
    "weir.flow.duration": 0.0012,
    "weir.flow.transmit.size": 78,
    "weir.flow.receive.size": 1234,
    "weir.flow.rtt": 0.00005,
    "weir.flow.connect.duration": 0.0001,
    "weir.flow.id": "1:LQU9qZlK+B+2dM2I2n1kI/M5a/g=",
}


def set_value(to: Any, value: Any) -> None:
    if isinstance(value, bool):
        to.bool_value = value
    elif isinstance(value, int):
        to.int_value = value
    elif isinstance(value, float):
        to.double_value = value
    elif isinstance(value, list):
        to.array_value.SetInParent()
        for part in value:
            set_value(to.array_value.values.add(), part)
    elif isinstance(value, bytes):
        to.bytes_value = value
    else:
        to.string_value = value


def put(to: Any, attributes: dict[str, Any]) -> None:
    for key, value in attributes.items():
        pair = to.add(key=key)
        set_value(pair.value, value)


def logs(event: str, attributes: dict[str, Any], resource: dict[str, Any] = RESOURCE) -> bytes:
    message = ExportLogsServiceRequest()
    group = message.resource_logs.add()
    put(group.resource.attributes, resource)
    scope = group.scope_logs.add()
    scope.scope.name, scope.scope.version = "weir.l4", "0.1.0"
    record = scope.log_records.add(time_unix_nano=WHEN, event_name=event)
    put(record.attributes, attributes)
    return bytes(message.SerializeToString())


def test_a_flow_is_one_readable_line() -> None:
    (line,) = log_lines(logs("weir.flow.end", FLOW))
    assert line == (
        "2026-11-23T05:00:00.123Z end    tcp 127.0.0.1:41234 -> 127.0.0.1:8080 client curl[1234] closed 1.2ms "
        "tx 78B rx 1.2kB rtt 0.05ms conn 0.10ms 1:LQU9qZlK+B+2dM2I2n1kI/M5a/g="
    )


def test_failures_retransmits_and_the_owners_rule_are_shown() -> None:
    more = {**FLOW, "weir.flow.end_reason": "failed", "error.type": "ECONNREFUSED", "weir.flow.retransmits": 3,
            "weir.process.owner_rule": "connect", "weir.flow.duration": 61.0, "weir.flow.receive.size": 5_000_000}  # fmt: skip
    line = next(log_lines(logs("weir.flow.end", more)))
    assert " failed ECONNREFUSED 61.0s tx 78B rx 5.0MB " in line
    assert line.endswith(" retransmits 3 1:LQU9qZlK+B+2dM2I2n1kI/M5a/g= by connect")


@pytest.mark.parametrize("kind", ["start", "update", "end"])
def test_the_kinds_of_events(kind: str) -> None:
    assert next(log_lines(logs(f"weir.flow.{kind}", FLOW))).startswith(f"2026-11-23T05:00:00.123Z {kind:<6} tcp ")


def only(**families: tuple[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (address, port) in families.items():
        key = name.replace("_", ".")
        found |= {f"{key}.address": address, f"{key}.port": port}
    return found


@pytest.mark.parametrize(
    ("record", "ends"),
    [
        ({**only(network_local=("10.0.0.1", 80), network_peer=("10.0.0.2", 5)), "weir.flow.role": "server"}, "10.0.0.2:5 -> 10.0.0.1:80"),
        ({**only(network_local=("10.0.0.1", 5), network_peer=("10.0.0.2", 80)), "weir.flow.role": "client"}, "10.0.0.1:5 -> 10.0.0.2:80"),
        ({**only(client=("10.0.0.1", 5), server=("example.org", 80)), "weir.flow.role": "server"}, "10.0.0.1:5 -> example.org:80"),
        ({**only(source=("::1", 5), destination=("fe80::1", 80)), "weir.flow.role": "client"}, "[::1]:5 -> [fe80::1]:80"),
        ({**only(source=("10.0.0.1", 5), destination=("10.0.0.2", 80)), "weir.flow.role": "unknown"}, "10.0.0.1:5 <> 10.0.0.2:80"),
        ({**only(network_local=("10.0.0.1", 5), network_peer=("10.0.0.2", 80))}, "10.0.0.1:5 <> 10.0.0.2:80"),
        ({}, "? <> ?"),
    ],
)  # fmt: skip
def test_the_arrow_points_from_initiator_to_responder_whatever_is_known(record: dict[str, Any], ends: str) -> None:
    assert f" {ends} " in flow_line("weir.flow.end", WHEN, RESOURCE, record)


def test_owners() -> None:
    assert owner({}) == "?"
    assert owner({"process.pid": 7}) == "?[7]"
    assert owner({"weir.process.comm": "kworker", "process.pid": 7}) == "kworker[7]"
    assert owner({"service.name": "shop"}) == "shop"


def test_names_cannot_steer_a_terminal_or_fake_a_line() -> None:
    evil = {**RESOURCE, "process.executable.name": "a\x1b[2J\nb\u202ec\x9b"}
    line = next(log_lines(logs("weir.flow.end", FLOW, evil)))
    assert " a\\x1b[2J\\nb\\u202ec\\x9b[1234] " in line
    assert line.isprintable()


@given(st.text(), st.binary(max_size=30), st.floats(), st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_any_value_is_one_printable_line(words: str, raw: bytes, number: float, whole: int, flag: bool) -> None:
    value = [words, number, whole, flag, [words]]
    assert text(value).isprintable()
    attributes = {words.encode("utf-8", "replace").decode() or "k": raw, "n": number}
    for line in log_details(logs("some.event", attributes)):
        assert line.isprintable()


def test_other_events_and_bodies() -> None:
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add(observed_time_unix_nano=WHEN)
    record.body.string_value = "hello"
    put(record.attributes, {"dns.answers": ["10.0.0.1", "10.0.0.2"], "ok": True, "raw": b"\x01", "half": 0.5})
    line = "2026-11-23T05:00:00.123Z log ? hello dns.answers=[10.0.0.1, 10.0.0.2] ok=true raw=01 half=0.5"
    assert list(log_lines(message.SerializeToString())) == [line]


def test_details_show_everything() -> None:
    found = list(log_details(logs("weir.flow.end", FLOW)))
    assert found[0] == "2026-11-23T05:00:00.123Z weir.flow.end"
    assert "  resource process.pid=1234" in found
    assert "  scope weir.l4 0.1.0" in found
    assert "  attribute destination.port=8080" in found
    assert len(found) == 2 + len(RESOURCE) + len(FLOW)


def metrics() -> bytes:
    message = ExportMetricsServiceRequest()
    group = message.resource_metrics.add()
    put(group.resource.attributes, {"service.name": "shop"})
    metrics = group.scope_metrics.add().metrics
    flows = metrics.add(name="weir.flow.io", unit="By")
    for number in (1, 2):
        point = flows.sum.data_points.add(time_unix_nano=WHEN, as_int=number)
        put(point.attributes, {"network.transport": "tcp"})
    metrics.add(name="cpu", unit="s").gauge.data_points.add(time_unix_nano=WHEN, as_double=0.25)
    metrics.add(name="rtt", unit="s").histogram.data_points.add(time_unix_nano=WHEN, count=3, sum=1.5)
    metrics.add(name="empty")
    return bytes(message.SerializeToString())


def test_metrics_are_one_line_a_request_and_one_a_point_in_detail() -> None:
    assert list(metric_lines(metrics())) == [
        "2026-11-23T05:00:00.123Z metrics 4 points, 1 resources: cpu 1, empty 0, rtt 1, weir.flow.io 2"
    ]
    found = list(metric_details(metrics()))
    assert "   2026-11-23T05:00:00.123Z weir.flow.io 2 By network.transport=tcp" in found
    assert "   2026-11-23T05:00:00.123Z cpu 0.25 s" in found
    assert "   2026-11-23T05:00:00.123Z rtt count=3 sum=1.5 s" in found


def test_spans() -> None:
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add(
        name="GET", start_time_unix_nano=WHEN - 2_000_000, end_time_unix_nano=WHEN, trace_id=b"\x01" * 16, span_id=b"\x02" * 8
    )  # fmt: skip
    put(span.attributes, {"http.response.status_code": 200})
    data = message.SerializeToString()
    assert list(span_lines(data)) == ["2026-11-23T05:00:00.123Z span ? GET 2.00ms http.response.status_code=200"]
    assert next(iter(span_details(data))).endswith(f"span GET {'01' * 16}/{'02' * 8}")


# Writing


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def sender(file: int, halt: Halt, verbosity: Any = "basic") -> Any:
    return Debug(verbosity, file).sender("logs", halt, notices()[0])


def test_all_of_a_large_request_is_written_to_a_slow_reader(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    got = bytearray()

    def read() -> None:
        while data := os.read(reader, 1000):
            got.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    assert sender(writer, Halt(MonotonicClock())).send(request(5000)) == Receipt(5000)
    os.close(writer)
    thread.join(20)
    assert got.count(b"\n") == 5000


def test_a_closed_standard_output_is_a_counted_loss_and_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with pytest.raises(PermanentError, match="Broken pipe"):
        sender(writer, Halt(MonotonicClock())).send(request())
    ledger, log = Ledger(), Remembered()
    died: list[object] = []
    exporter = Exporter(
        "debug", Debug("basic", writer), Options(), ledger, ["logs"], lambda *what: died.append(what), log
    )
    exporter.start()
    with ledger.boundary():
        ledger.signal("logs").observe(3)
        exporter.offer(request(3))
    until(lambda: ledger.snapshot()["logs"]["in_flight"] == 0)
    exporter.stop(time.monotonic() + 10)
    assert ledger.snapshot()["logs"]["dropped"] == {"export/permanent": 3}
    assert (died, imbalance(ledger.snapshot())) == ([], [])
    assert log.fields("Exporting failed. Dropping data.")["cause"] == "stdout"


def test_a_reader_that_stopped_reading_does_not_hold_the_end(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    ledger, log = Ledger(), Remembered()
    exporter = Exporter("debug", Debug("basic", writer), Options(), ledger, ["logs"], lambda *_: None, log)
    exporter.start()
    with ledger.boundary():
        ledger.signal("logs").observe(20_000)
        exporter.offer(request(20_000))
    begun = time.monotonic()
    exporter.stop(time.monotonic() + 0.5)
    assert time.monotonic() - begun < 10
    assert ledger.snapshot()["logs"]["dropped"] == {"shutdown/abandoned": 20_000}


def test_it_is_built_by_name_and_wants_the_owners_rule() -> None:
    exporter = build(
        "debug/x", SimpleNamespace(verbosity="detailed"), Ledger(), ["logs"], lambda *_: None, log=Remembered()
    )
    assert (exporter.wants_owner_rule, exporter.signals, exporter.id) == (True, ("logs",), "debug/x")
    exporter.stop(0)


def test_each_type_imports_only_what_it_needs() -> None:
    program = """
import sys
from types import SimpleNamespace
from receiver.export.build import build
from receiver.ledger import Ledger
assert not {"grpc", "google.protobuf", "opentelemetry"} & set(sys.modules), "nothing yet"
build("debug", SimpleNamespace(verbosity="basic"), Ledger(), ["logs"], print, log=object())
assert "grpc" not in sys.modules and "opentelemetry" in sys.modules
for name in [name for name in sys.modules if name.startswith(("google", "opentelemetry"))]:
    del sys.modules[name]
build("otlp", SimpleNamespace(endpoint="localhost:1", headers={}), Ledger(), ["logs"], print, log=object())
assert "grpc" in sys.modules and "opentelemetry" not in sys.modules
"""
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=60)
