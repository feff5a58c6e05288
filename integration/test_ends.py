"""How a connection ended, and which side met an error, for each way there is; and what is said of it while it is open."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from integration.harness.otlp import Event
from integration.harness.processes import script
from integration.harness.stage import Stage
from integration.harness.truth import End, ends, event_key, expected, missing_or_twice, owner_of, wrong_fields
from integration.harness.waiting import until

DROPPED = 9999
# What happened -> role -> the end's reason and error.
ENDS: dict[str, dict[str, tuple[str, str | None]]] = {
    "closed": {"client": ("closed", None), "server": ("closed", None)},
    "refused": {"client": ("failed", "ECONNREFUSED")},
    "unanswered": {"client": ("failed", "ETIMEDOUT")},
    "aborted": {"client": ("aborted", None)},
    "reset_by_client": {"client": ("reset", None), "server": ("reset", "ECONNRESET")},
    "reset_by_server": {"server": ("reset", None), "client": ("reset", "ECONNRESET")},
    "stalled": {"client": ("timeout", "ETIMEDOUT"), "server": ("shutdown", None)},
    "open": {"client": ("shutdown", None), "server": ("shutdown", None)},
}
CASES = [(how, role) for how, roles in ENDS.items() for role in roles]


@dataclass(frozen=True)
class Ended:
    """What the programs say and what arrived."""

    wanted: dict[tuple[str, str], End]
    events: list[Event]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, otelcol: Path) -> Iterator[Ended]:
    """Every way at once; Weir is stopped while what is open is open."""
    with Stage(tmp_path_factory.mktemp("ends"), otelcol) as stage:
        space = stage.namespace()
        collector = stage.collector(space)
        weir = stage.weir(space, collector)
        space.drop(f"tcp dport {DROPPED}")
        programs = {
            how: stage.fail(space, how, DROPPED if how in {"unanswered", "aborted"} else 9)
            for how in ENDS
            if how != "closed"
        }
        facts: dict[str, list[Any]] = {how: program.wait_for_facts(len(ENDS[how])) for how, program in programs.items()}
        wanted = {(how, end.role): end for how, found in facts.items() for end in ends(found)}
        wanted |= {("closed", end.role): end for end in stage.talk(space, 1, 10_000)}
        assert set(wanted) == set(CASES)

        port = wanted["stalled", "server"].local[1]
        space.drop(f"tcp dport {port}")
        programs["stalled"].tell("go")
        facts["stalled"] = programs["stalled"].wait_for_facts(3)
        assert facts["stalled"][-1] == {"timed_out": True}

        over = [key for key in wanted.values() if ENDS[_how(wanted, key)][key.role][0] != "shutdown"]
        collector.wait_for_events(len(over))
        assert {event_key(event) for event in collector.events()} == {end.key for end in over}
        weir.stop()
        collector.stop()
        yield Ended(wanted, collector.events())


def _how(wanted: dict[tuple[str, str], End], end: End) -> str:
    return next(how for (how, _), other in wanted.items() if other is end)


def test_each_end_is_reported_once(ended: Ended) -> None:
    assert missing_or_twice(list(ended.wanted.values()), ended.events) == ""
    assert {event.name for event in ended.events} == {"weir.flow.end"}


@pytest.mark.parametrize(("how", "role"), CASES)
def test_reason_error_and_owner(ended: Ended, how: str, role: str) -> None:
    end = ended.wanted[how, role]
    (event,) = [event for event in ended.events if event_key(event) == end.key]
    reason, error = ENDS[how][role]
    fields = expected(end) | owner_of(end) | {"weir.flow.end_reason": reason, "error.type": error}
    fields["network.connection.state"] = "established" if reason == "shutdown" else "closed"
    if (how, role) == ("stalled", "client"):
        fields["weir.flow.transmit.size"] = end.sent + len("lost")  # sent, though it never arrived
        assert event["weir.flow.retransmits"] > 0
    if reason != "shutdown" and event["process.executable.path"] is None:
        del fields["process.executable.path"]  # the process was gone
    assert {key: event[key] for key in fields} == fields
    if how == "unanswered":
        assert event["weir.flow.duration"] > 0.9, "two attempts, a second apart at least"
    if how in {"refused", "unanswered", "aborted"}:
        assert "weir.flow.connect.duration" not in event.attributes


def _tells_of(end: End, event: Event) -> bool:
    return event.name == "weir.flow.update" and event_key(event) == end.key and event["weir.flow.transmit.size"] > 0


def test_a_long_flow_is_reported_at_its_start_and_while_it_is_open(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"flows": {"start_events": True, "update_interval": "1s"}})
    program = stage.fail(space, "open")
    wanted = {end.role: end for end in ends(program.wait_for_facts(2))}
    for role, end in wanted.items():
        updates = collector.wait_for_events(2, partial(_tells_of, end))
        for event in updates:
            fields = expected(end) | owner_of(end)
            fields |= {"network.connection.state": "established", "weir.flow.end_reason": None}
            assert {key: event[key] for key in fields} == fields, role
    assert not [event for event in collector.events() if event.name == "weir.flow.end"]
    program.tell("enough")
    assert program.wait() == 0
    collector.wait_for_events(2, lambda event: event.name == "weir.flow.end")
    weir.stop()
    collector.stop()

    for end in wanted.values():
        mine = sorted((e for e in collector.events() if event_key(e) == end.key), key=lambda e: e.time)
        names = [event.name for event in mine]
        assert names[0] == "weir.flow.start"
        assert names[-1] == "weir.flow.end"
        assert set(names[1:-1]) == {"weir.flow.update"}
        assert len({event["weir.flow.instance.id"] for event in mine}) == 1
        sizes = [event["weir.flow.transmit.size"] for event in mine[1:]]
        assert sizes == sorted(sizes), "totals since the start never decrease"
        assert wrong_fields([end], mine[-1:], gone=True) == []


def test_data_that_is_read_after_the_end_makes_no_second_flow(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector, {"metrics": {"interval": "1s"}})
    program = stage.run(space, script("late.py", 50))
    wanted = ends(program.wait_for_facts(100))
    collector.wait_for_events(100)
    before = max((point.time for point in collector.points()), default=0)
    until(lambda: len({p.time for p in collector.points() if p.time > before}) >= 3, "three passes")
    ledger = weir.stop()["logs"]
    collector.stop()
    assert missing_or_twice(wanted, collector.events()) == ""
    assert wrong_fields(wanted, collector.events()) == []
    assert ledger["exported"] == 100
