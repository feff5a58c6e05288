"""UDP records become events: what the peer's address reaches is named, what is not certain is marked, nothing of TCP is there."""

import numpy as np
import pytest

from receiver.export.flowline import flow_line
from receiver.flows.addresses import Addresses
from receiver.flows.columns import BROADCAST, MPTCP, MULTICAST, PACKETS_LEAST, PEER_INFERRED, EventColumns
from receiver.flows.events import events_of
from receiver.flows.series import SeriesTable
from receiver.otlp.series import SeriesPoints
from tests.records import record, records

UDP, IDLE, SHUTDOWN = 17, 6, 7
INFERRED, LEAST = 64, 128


def datagrams(**values: object) -> np.ndarray:
    """The end of a UDP flow."""
    plain = {
        "transport": UDP, "state": 0, "old_state": 0, "end_cause": IDLE, "rtt": 0, "connect_duration": 0, "flags": 2, "owner_rule": 3,
    }  # fmt: skip
    return record(**{**plain, **values})


def columns(made: np.ndarray) -> EventColumns:
    none = np.zeros(len(made), np.uint32)
    return events_of(made, Addresses(64), 0, none, none)


@pytest.mark.parametrize(
    ("family", "peer", "marks"),
    [
        (4, "10.0.0.2", 0),
        (4, "223.255.255.255", 0),
        (4, "224.0.0.1", MULTICAST),
        (4, "239.255.255.255", MULTICAST),
        (4, "240.0.0.1", 0),
        (4, "255.255.255.254", 0),
        (4, "255.255.255.255", BROADCAST),
        (6, "ff02::fb", MULTICAST),
        (6, "fe80::1", 0),
        (6, "2001:db8::ffff:ffff", 0),
        (6, "::e000:1", 0),
    ],
)
def test_whom_an_address_reaches(family: int, peer: str, marks: int) -> None:
    assert columns(datagrams(family=family, peer_address=peer)).marks.tolist() == [marks]


def test_what_is_udps_marks_no_connection() -> None:
    made = records(
        record(peer_address="239.0.0.1", flags=255),
        datagrams(flags=2 | INFERRED),
        datagrams(flags=2 | LEAST, peer_address="239.0.0.1"),
    )
    assert columns(made).marks.tolist() == [MPTCP, PEER_INFERRED, MULTICAST | PACKETS_LEAST]


def test_a_flow_lasts_from_its_first_datagram_to_its_last() -> None:
    found = columns(records(datagrams(start_time=10**9, time=3 * 10**9), datagrams(start_time=0, flags=0)))
    assert found.duration[0] == 2.0
    assert np.isnan(found.duration[1])
    assert np.isnan(found.rtt).all()
    assert np.isnan(found.connect_duration).all()


def test_metrics_of_udp_have_nothing_of_tcp() -> None:
    table = SeriesTable(16)
    made = records(datagrams(), record())
    table.add(made, np.zeros(2, np.uint32), 1)
    transports: dict[str, set[bytes]] = {}
    for group in SeriesPoints(table, "cumulative").collect():
        for at in group.attributes.tolist():
            number = group.series[at].number
            transports.setdefault(group.instrument.name, set()).update(
                word for word in (b"tcp", b"udp") if word in number
            )
    assert transports["weir.flow.io"] == transports["weir.flow.connections"] == {b"tcp", b"udp"}
    assert transports["weir.flow.retransmits"] == transports["weir.flow.rtt"] == {b"tcp"}


def test_udp_alone_has_no_retransmits() -> None:
    table = SeriesTable(16)
    table.add(datagrams(), np.zeros(1, np.uint32), 1)
    assert "weir.flow.retransmits" not in {
        group.instrument.name for group in SeriesPoints(table, "cumulative").collect()
    }


def test_a_udp_flow_is_one_readable_line() -> None:
    event = {
        "network.transport": "udp", "source.address": "10.0.0.1", "source.port": 4000, "destination.address": "239.0.0.1",
        "destination.port": 5353, "weir.flow.role": "client", "weir.flow.end_reason": "idle", "weir.flow.cast": "multicast",
        "weir.flow.peer.inferred": True,
    }  # fmt: skip
    line = flow_line("weir.flow.end", 10**18, {"process.executable.name": "dig"}, event)
    assert " udp 10.0.0.1:4000 -> 239.0.0.1:5353 client dig idle multicast inferred" in line
