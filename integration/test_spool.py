"""The durable queue: what the destination did not take outlives Weir, whichever way Weir ends."""

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from integration.harness.collector import Collector
from integration.harness.fault import ENDED, PROPERTY, Record, Row
from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice
from integration.harness.waiting import until
from integration.harness.weir import FINAL, Weir, configuration


def durable(directory: Path, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Exporter and top-level settings of a queue in `directory`."""
    return {"sending_queue": {"storage": "file_storage"}}, {"file_storage": {"directory": str(directory), **more}}


def start(stage: Stage, space: Any, endpoint: str, directory: Path, **more: Any) -> Any:
    exporter, extensions = durable(directory, **more)
    config = configuration(endpoint, None, exporter, {"extensions": ["file_storage"], "shutdown_timeout": "3s"})
    config["extensions"] = extensions
    return stage.weirs.start(space, config)


def tell(
    record_property: Record,
    fault: str,
    does: str,
    offered: int,
    collector: Collector,
    ledger: dict[str, Any],
    weir: Weir,
) -> None:
    """A row of the table of faults (python -m integration.faults_table); every record of these tests is another one."""
    arrived = len(collector.events())
    (ended,) = [line for line in weir.logs(ENDED) if line["signal"] == "logs"]
    row = Row(fault, does, offered, arrived, ledger["exported"], ledger["dropped"], 0, 0, 0, ended["retried_requests"])
    record_property(PROPERTY, asdict(row))
    assert arrived == ledger["exported"] == offered - sum(ledger["dropped"].values())


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_what_was_not_taken_is_sent_by_the_next_run(
    stage: Stage, tmp_path: Path, how: str, record_property: Record
) -> None:
    space = stage.namespace()
    collector = stage.collector(space, start=False)
    weir = start(stage, space, collector.endpoint, tmp_path / "spool")
    first = stage.talk(space, 20, 10_000)
    weir.wait_for_failure()
    if how == "SIGTERM":
        weir.signal(15)
        assert weir.wait() == 0
        kept = weir.logs(FINAL)[-1]["ledger"]["logs"]
        assert (kept["in_flight"], kept["exported"], kept["dropped"]) == (40, 0, {})
    else:
        held = sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.logs.*"))
        assert held > 0
        weir.kill()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()} == {0o600}

    again = start(stage, space, collector.endpoint, tmp_path / "spool")
    second = stage.talk(space, 5, 11_000)
    collector.start()
    collector.wait_for_events(50)
    ledger = again.stop()["logs"]
    collector.stop()
    assert missing_or_twice(first + second, collector.events()) == ""
    assert (ledger["recovered"], ledger["exported"], ledger["dropped"]) == (40, 50, {})
    assert not list((tmp_path / "spool").glob("*.spool"))
    does = "keeps its queue on disk: the next run sends it"
    tell(record_property, f"Weir ended by {how} while the Collector is away", does, 50, collector, ledger, again)


def test_two_weirs_on_one_directory(stage: Stage, tmp_path: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    first = start(stage, space, collector.endpoint, tmp_path / "spool")
    exporter, extensions = durable(tmp_path / "spool")
    config = configuration(collector.endpoint, None, exporter, {"extensions": ["file_storage"]})
    config["extensions"] = extensions
    second = stage.weirs.start(space, config, wait="")
    assert second.wait() == 1
    (line,) = [line for line in second.logs() if line["level"] == "error"]
    assert str(tmp_path / "spool") in line["error"]
    assert str(first.pid) in line["error"]
    first.stop()
    collector.stop()


def test_a_newer_spool_is_not_touched(stage: Stage, tmp_path: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space, start=False)
    weir = start(stage, space, collector.endpoint, tmp_path / "spool")
    stage.talk(space, 5, 10_000)
    weir.wait_for_failure()
    weir.kill()
    (path, *_) = sorted((tmp_path / "spool").glob("*.logs.*"))
    data = bytearray(path.read_bytes())
    data[8] += 1  # the version, after the magic, and before the CRC of both
    data[12:16] = zlib.crc32(data[:12]).to_bytes(4, "little")
    path.write_bytes(data)
    exporter, extensions = durable(tmp_path / "spool")
    config = configuration(collector.endpoint, None, exporter, {"extensions": ["file_storage"]})
    config["extensions"] = extensions
    refused = stage.weirs.start(space, config, wait="")
    assert refused.wait() == 1
    (line,) = [line for line in refused.logs() if line["level"] == "error"]
    assert path.name in line["error"]
    assert "version" in line["error"]
    assert path.read_bytes() == data


def test_a_directory_that_cannot_be_written(stage: Stage, tmp_path: Path) -> None:
    space = stage.namespace()
    stage.mounted(tmp_path / "full", "size=64k,ro")
    exporter, extensions = durable(tmp_path / "full")
    config = configuration("127.0.0.1:4317", None, exporter, {"extensions": ["file_storage"]})
    config["extensions"] = extensions
    refused = stage.weirs.start(space, config, wait="")
    assert refused.wait() == 1
    (line,) = [line for line in refused.logs() if line["level"] == "error"]
    assert str(tmp_path / "full") in line["error"]


def test_a_disk_that_is_full_loses_nothing_unsaid(
    stage: Stage, tmp_path: Path, connload: Path, record_property: Record
) -> None:
    space = stage.namespace()
    collector = stage.collector(space, start=False)
    stage.mounted(tmp_path / "small", "size=1m")
    weir = start(stage, space, collector.endpoint, tmp_path / "small")
    stage.listen(space, connload, 7000)
    (paced,) = stage.run(space, [str(connload), "conn", "127.0.0.1", "7000", "2000", "2", "10"]).done(60)
    said = until(lambda: [line for line in weir.logs() if line["level"] == "error"], "line about the disk")
    assert str(tmp_path / "small") in str(said[0]), said[0]
    collector.start()
    stage.talk(space, 5, 10_000)
    until(lambda: len(collector.events()) > 10, "events")
    ledger = weir.stop(60, errors=True)["logs"]
    collector.stop()
    assert ledger["observed"] - sum(ledger["filtered"].values()) == 2 * paced["completed"] + 10
    assert set(ledger["dropped"]) <= {"spool/evicted", "queue/full"}
    assert sum(ledger["dropped"].values()) > 0
    assert ledger["exported"] == len(collector.events())
    offered = 2 * paced["completed"] + 10
    tell(record_property, "the spool's disk is full", "drops the oldest and says so", offered, collector, ledger, weir)
