"""The corridor without a kernel: real ring bytes, recorded by tools/record-fixture.sh, to events, metrics and a ledger."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from receiver.cli import main
from receiver.corridor import Corridor, LogsOutlet, MetricsOutlet, Settings, TracesOutlet
from receiver.enrich.identity import Composer, for_metrics
from receiver.enrich.owners import Owners
from receiver.enrich.resources import ResourceTable
from receiver.flows.series import SeriesTable
from receiver.flows.texts import Texts
from receiver.kernel.recording import Replay
from receiver.ledger import Ledger, imbalance
from receiver.otlp.encoded import Encoded
from receiver.otlp.logs import LogEncoder
from receiver.otlp.metrics import encode_metrics
from receiver.otlp.resource import encode_resource
from receiver.otlp.series import SeriesPoints
from receiver.otlp.spans import SpanEncoder

RECORDING = Path(__file__).parent / "data/recordings/loopback.weir"
# (bytes of the client, bytes of the server, how it ended) of the traffic in tools/record-fixture.sh.
TRUTH = [(1000, 20000, "closed"), (300, 7, "closed"), (55, 66, "closed"), (11, 0, "shutdown")]


class Run:
    """What came out of one replay."""

    def __init__(self, sample: int = 1) -> None:
        self.ledger = Ledger()
        self.logs: list[Encoded] = []
        self.metrics: list[Encoded] = []
        self.traces: list[Encoded] = []
        source = Replay(RECORDING)
        composer = Composer({"host.name": "h"}, "0", lambda boot: boot + source.boot_to_unix())
        log_table = ResourceTable(encode_resource, 64, composer.host_only())
        metric_table = ResourceTable(encode_resource, 64, for_metrics(composer.host_only()))
        series = SeriesTable(64)
        points = SeriesPoints(series, "cumulative")
        logs_account, metrics_account = self.ledger.exporter("logs", "test"), self.ledger.exporter("metrics", "test")
        traces_account = self.ledger.exporter("traces", "test")

        def take(account: object, into: list[Encoded], encoded: list[Encoded]) -> None:
            into += encoded
            for part in encoded:
                account.offer(part.items)  # type: ignore[attr-defined]
                account.exported(part.items)  # type: ignore[attr-defined]

        corridor = Corridor(
            source,
            Owners(composer, log_table, metric_table, source.owners, None, 1),
            series,
            self.ledger,
            Settings(1, 1, sample=sample),
            log_table.encoded,
            None,
            MetricsOutlet(
                lambda now: encode_metrics(points.collect(), metric_table.encoded, now),
                lambda encoded: take(metrics_account, self.metrics, list(encoded)),
            ),
        )
        corridor.logs = LogsOutlet(
            {False: LogEncoder(corridor.addresses.texts, Texts(2, 16), sampling=sample)},
            lambda _variant, encoded: take(logs_account, self.logs, list(encoded)),
        )
        corridor.traces = TracesOutlet(
            {False: SpanEncoder(os.urandom, corridor.addresses.texts, Texts(2, 16), sampling=sample)},
            lambda _variant, encoded: take(traces_account, self.traces, list(encoded)),
        )
        corridor.replay(source)

    def events(self) -> list[dict[str, object]]:
        found = []
        for encoded in self.logs:
            for resource in ExportLogsServiceRequest.FromString(encoded.data).resource_logs:
                for record in resource.scope_logs[0].log_records:
                    event: dict[str, object] = {"event": record.event_name, "time": record.time_unix_nano}
                    found.append(event | _plain([*resource.resource.attributes, *record.attributes]))
        return found

    def spans(self) -> list[tuple[Span, dict[str, object]]]:
        """Each with its attributes and those of its Resource."""
        return [
            (span, _plain([*resource.resource.attributes, *span.attributes]))
            for encoded in self.traces
            for resource in ExportTraceServiceRequest.FromString(encoded.data).resource_spans
            for span in resource.scope_spans[0].spans
        ]


def _plain(attributes: list[KeyValue]) -> dict[str, object]:
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in attributes}


@pytest.fixture(scope="module")
def run() -> Run:
    return Run()


def test_every_connection_ends_once_at_each_end(run: Run) -> None:
    ends = [event for event in run.events() if event["event"] == "weir.flow.end"]
    seen = Counter(
        (e["weir.flow.transmit.size"], e["weir.flow.receive.size"], e["weir.flow.role"], e["weir.flow.end_reason"])
        for e in ends
        if "error.type" not in e
    )
    expected = Counter()
    for there, back, reason in TRUTH:
        expected[there, back, "client", reason] += 1
        expected[back, there, "server", reason] += 1
    assert seen == expected
    (failed,) = [e for e in ends if "error.type" in e]
    assert (failed["error.type"], failed["weir.flow.end_reason"], failed["server.port"]) == (
        "ECONNREFUSED",
        "failed",
        9,
    )


def test_both_ends_share_the_flow_id_and_name_their_process(run: Run) -> None:
    ends = [event for event in run.events() if event["event"] == "weir.flow.end"]
    for flow, count in Counter(event["weir.flow.id"] for event in ends).items():
        ports = {event["source.port"] for event in ends if event["weir.flow.id"] == flow}
        assert len(ports) == 1
        assert count in {1, 2}
    assert len({event["weir.flow.instance.id"] for event in ends}) == len(ends) == 9
    assert len({event["process.pid"] for event in ends}) == 1
    assert {str(event["process.executable.name"])[:6] for event in ends} == {"python"}
    assert all(str(event["process.creation.time"]).startswith("20") for event in ends)


def test_mapped_addresses_are_ipv4(run: Run) -> None:
    (mapped,) = [e for e in run.events() if e.get("weir.flow.transmit.size") == 55]
    assert (mapped["network.type"], mapped["client.address"]) == ("ipv4", "127.0.0.1")
    (six,) = [e for e in run.events() if e.get("weir.flow.transmit.size") == 300]
    assert (six["network.type"], six["client.address"]) == ("ipv6", "::1")


def test_updates_never_decrease(run: Run) -> None:
    updates = [event for event in run.events() if event["event"] == "weir.flow.update"]
    assert updates
    assert {event["weir.flow.role"] for event in updates} == {"client", "server"}
    assert all(event["network.connection.state"] == "established" for event in updates)


def test_the_metrics_hold_the_same_sums(run: Run) -> None:
    last: dict[tuple[object, ...], int] = {}
    for encoded in run.metrics:
        for resource in ExportMetricsServiceRequest.FromString(encoded.data).resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                if metric.WhichOneof("data") != "sum":
                    continue
                for point in metric.sum.data_points:
                    values = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in point.attributes}
                    series = tuple(
                        values.get(k) for k in ("server.address", "server.port", "network.io.direction", "error.type")
                    )
                    last[metric.name, values["weir.flow.role"], *series] = point.as_int

    def total(name: str, *match: object) -> int:
        return sum(value for key, value in last.items() if key[0] == name and all(part in key for part in match))

    there, back = sum(t for t, _, _ in TRUTH), sum(b for _, b, _ in TRUTH)
    assert total("weir.flow.io", "client", "transmit") == total("weir.flow.io", "server", "receive") == there
    assert total("weir.flow.io", "client", "receive") == total("weir.flow.io", "server", "transmit") == back
    assert total("weir.flow.connections", "server") == len(TRUTH)
    assert total("weir.flow.connections", "client") == len(TRUTH) + 1
    assert total("weir.flow.connections", "ECONNREFUSED") == 1
    assert total("weir.flow.active") == 0


def test_the_ledger_balances(run: Run) -> None:
    logs = run.ledger.snapshot()["logs"]
    assert logs["observed"] == logs["exported"] == len(run.events()) > 9
    assert (logs["in_flight"], logs["dropped"]) == (0, {})


def test_each_flow_that_ended_has_a_span_with_the_same_attributes(run: Run) -> None:
    ends = {
        event["weir.flow.instance.id"]: event
        for event in run.events()
        if event["event"] == "weir.flow.end" and event["weir.flow.end_reason"] != "shutdown"
    }
    spans = run.spans()
    assert len(spans) == len(ends) == 7
    for span, attributes in spans:
        end = ends[span.span_id.hex()]
        assert {**attributes, "event": "weir.flow.end", "time": span.end_time_unix_nano} == end
        took = span.end_time_unix_nano - span.start_time_unix_nano
        assert took == pytest.approx(float(str(end["weir.flow.duration"])) * 1e9, abs=1)
        assert (
            span.kind == {"client": Span.SPAN_KIND_CLIENT, "server": Span.SPAN_KIND_SERVER}[str(end["weir.flow.role"])]
        )
        failed = span.status.code == Status.STATUS_CODE_ERROR
        assert failed == (end["weir.flow.end_reason"] == "failed")
    traces = run.ledger.snapshot()["traces"]
    assert (traces["observed"], traces["exported"], traces["in_flight"], traces["dropped"]) == (7, 7, 0, {})


@pytest.mark.parametrize("one_in", [2, 3, 5])
def test_a_sample_leaves_out_whole_flows_and_counts_them(run: Run, one_in: int) -> None:
    sampled = Run(one_in)
    everything, kept = run.events(), sampled.events()
    ids = {event["weir.flow.id"] for event in kept}
    assert ids < {event["weir.flow.id"] for event in everything}
    assert [event["weir.flow.id"] for event in kept] == [
        event["weir.flow.id"] for event in everything if event["weir.flow.id"] in ids
    ]
    assert {event.pop("weir.flow.sampling.factor") for event in kept} <= {one_in}
    assert [attributes["weir.flow.id"] for _, attributes in sampled.spans()] == [
        attributes["weir.flow.id"] for _, attributes in run.spans() if attributes["weir.flow.id"] in ids
    ]
    ledger, whole = sampled.ledger.snapshot(), run.ledger.snapshot()
    assert imbalance(ledger) == []
    for signal, exported in (("logs", len(kept)), ("traces", len(sampled.spans()))):
        terms = ledger[signal]
        assert terms["observed"] == whole[signal]["observed"]
        assert terms["filtered"]["sample"] == whole[signal]["observed"] - exported > 0
        assert terms["exported"] == exported
    assert _totals(sampled) == _totals(run)


def _totals(run: Run) -> dict[tuple[object, ...], int]:
    """The last value of each sum."""
    last: dict[tuple[object, ...], int] = {}
    for encoded in run.metrics:
        for resource in ExportMetricsServiceRequest.FromString(encoded.data).resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                for point in metric.sum.data_points:
                    last[metric.name, str(resource.resource), str(point.attributes)] = point.as_int
    return last


def test_the_command_prints_one_line_a_flow() -> None:
    command = [sys.executable, "-m", "receiver", "replay", str(RECORDING)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if re.match(r"\S+Z end ", line)]
    assert len(lines) == 9
    assert sum(" failed ECONNREFUSED " in line for line in lines) == 1
    final = json.loads(done.stderr.strip().splitlines()[-1].split("\t")[-1])["ledger"]["logs"]
    assert final["exported"] == len(done.stdout.splitlines())


def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "no").write_bytes(b"not a recording")
    done = CliRunner().invoke(main, ["replay", str(tmp_path / "no")])
    assert done.exit_code == 3
    assert "not a recording" in done.stderr
