"""What `weir record` wrote down, `weir replay` sends through the same corridor: the same flows, without a kernel."""

from pathlib import Path
from typing import Any

from integration.harness.otlp import Event
from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice
from integration.harness.weir import Weir, balance, command, configuration


def _same(event: Event) -> tuple[Any, ...]:
    """What a replay must reproduce: all of the event, and who owned it as the kernel knew it. Times are compared apart."""
    owner = [event[key] for key in ("process.pid", "weir.process.comm", "process.executable.name", "service.name")]
    return (
        event["weir.flow.instance.id"],
        event.name,
        *owner,
        *sorted((k, repr(v)) for k, v in event.attributes.items()),
    )


def test_a_recording_replays_the_same_flows(stage: Stage) -> None:
    here, there = stage.namespace(), stage.namespace()
    live, again = stage.collector(here), stage.collector(there)
    recording = stage.directory / "recording"

    config = str(stage.weirs.write(configuration(live.endpoint)))
    writer = Weir(
        stage.run(here, [*command(), "record", "--config", config, "--output", str(recording), "--duration", "3s"])
    )
    writer.wait_for_log("Recording.")
    wanted = stage.talk(here, 20, 10_000)
    assert writer.wait() == 0, writer.errors
    live.stop()
    assert missing_or_twice(wanted, live.events()) == ""

    config = str(stage.weirs.write(configuration(again.endpoint)))
    reader = Weir(stage.run(there, [*command(), "replay", str(recording), "--config", config]))
    assert reader.wait() == 0, reader.errors
    again.stop()
    replayed, seen = (sorted(collector.events(), key=lambda e: str(_same(e))) for collector in (again, live))
    assert [_same(event) for event in replayed] == [_same(event) for event in seen]
    for one, other in zip(replayed, seen, strict=True):
        assert abs(one.time - other.time) < 1_000_000
    for ledger in (writer.logs()[-1]["ledger"], reader.logs()[-1]["ledger"]):
        balance(ledger)
        assert ledger["logs"]["exported"] == 40


def test_a_replay_prints_the_flows(stage: Stage) -> None:
    space = stage.namespace()
    recording = stage.directory / "recording"
    writer = Weir(stage.run(space, [*command(), "record", "--output", str(recording), "--duration", "2s"]))
    writer.wait_for_log("Recording.")
    wanted = stage.talk(space, 10, 10_000)
    assert writer.wait() == 0, writer.errors

    reader = Weir(stage.run(space, [*command(), "replay", str(recording)]))
    assert reader.wait() == 0, reader.errors
    assert len(reader.output) == len(wanted) == 20
    for end in wanted:
        lines = [line for line in reader.output if f"{end.client_first[0][0]}:{end.client_first[0][1]} " in line]
        assert len(lines) == 2, "one line a flow at each end"
        assert any(end.role in line for line in lines)


def test_what_is_no_recording_is_refused(stage: Stage) -> None:
    path: Path = stage.directory / "noise"
    path.write_bytes(b"\x00no recording\xff" * 1000)
    reader = Weir(stage.run(stage.namespace(), [*command(), "replay", str(path)]))
    assert reader.wait() != 0
    assert reader.output == []
    assert not [line for line in reader.errors if "Traceback" in line]
