"""The DNS stage: what is captured becomes lookups once their owners are known, each counted while it waits and once when it leaves."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from receiver.enrich.owners import Resolution
from receiver.kernel.nothing import NoSource
from receiver.kernel.source import Counters
from receiver.lookups import LookupStage
from receiver.telemetry import checked
from tests.dns.captured import captured
from tests.dns.wire import ASKED, A, answer, query, record, v4
from tests.records import framed

ANSWER = answer("www.test", record(ASKED, A, v4("192.0.2.1"), ttl=300))


class Told(NoSource):
    """A source with these messages, one after the other."""

    def __init__(self, *messages: Any) -> None:
        super().__init__()
        self.spans = [b"".join(framed(message.tobytes()) for message in messages)]

    def dns(self) -> bytes:
        return self.spans.pop(0) if self.spans else b""

    def counters(self) -> Counters:
        return Counters(dns_lost=3, dns_unread=4)


class Known:
    """Owners that are all being looked at, until they are known or given up."""

    def __init__(self) -> None:
        self.pending = True
        self.given_up: list[int] = []

    def resolve(self, pids: Any, *_: object) -> Resolution:
        ones = np.ones(len(pids), np.uint32)
        return Resolution(ones, ones * 2, np.full(len(pids), self.pending))

    def give_up(self, pids: Iterable[int], _starts: object) -> None:
        self.given_up += list(pids)


def stage(source: NoSource, owners: Known, *, events: bool = True) -> LookupStage:
    return LookupStage(source, owners, events=events)  # type: ignore[arg-type]


@pytest.fixture
def source() -> Told:
    return Told(captured(query("www.test")), captured(ANSWER, transmit=False))


def test_a_lookup_waits_for_its_owner_and_is_counted_meanwhile(source: Told) -> None:
    owners = Known()
    made = stage(source, owners)
    made.drain(10.0)
    assert (made.observed, made.waiting) == (1, 1)
    assert made.settle(10.1) == []
    owners.pending = False
    (((found,), resource),) = made.settle(10.15)
    assert (found.name, resource.tolist()) == ("www.test", [1])
    assert (made.observed, made.waiting) == (1, 0)
    assert made.durations.resources().tolist() == [2]
    assert owners.given_up == []


@pytest.mark.parametrize(("now", "everything"), [(10.3, False), (10.0, True)])
def test_it_waits_no_longer_than_events_of_flows_do(source: Told, now: float, everything: bool) -> None:
    owners = Known()
    made = stage(source, owners)
    made.drain(10.0)
    assert len(made.settle(now, everything=everything)) == 1
    assert owners.given_up == [77]


def test_without_events_lookups_only_count(source: Told) -> None:
    owners = Known()
    owners.pending = False
    made = stage(source, owners, events=False)
    made.drain(10.0)
    assert made.settle(10.0) == []
    assert (made.observed, made.waiting) == (0, 0)
    assert made.durations.histogram.count().sum() == 1


def test_what_became_of_messages_is_said(source: Told) -> None:
    source.spans.append(b"torn")
    made = stage(source, Known())
    made.drain(10.0)
    made.drain(10.5)
    values = made.values()
    checked(values)
    outcomes = {row["weir.dns.outcome"]: count for row, count in values["weir.dns.messages"]}
    assert outcomes == {
        "parsed": 2, "malformed": 0, "rate": 0, "gap": 0, "bad_record": 1, "ring_full": 3, "unread": 4
    }  # fmt: skip
    events = {row["weir.dns.event"]: count for row, count in values["weir.dns.events"]}
    assert (events["lookups"], events["name_given"], events["unsure"]) == (1, 1, 0)
