"""Records to flow events: times in unix ns, durations in seconds, texts and ids; no Python for each event but a SHA-1."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.flows.addresses import Addresses
from receiver.flows.columns import (
    BROADCAST,
    CAUSE_SHUTDOWN,
    KIND_END,
    KIND_SAMPLE,
    MPTCP,
    MULTICAST,
    PACKETS_LEAST,
    PEER_INFERRED,
    TCP,
    UDP,
    EventColumns,
)
from receiver.flows.community_id import community_ids

Records = NDArray[np.void]
CHUNK: Final = 4096  # rows at once: three addresses a row must fit the address table
_NANO: Final = 1e-9
_MICRO: Final = 1e-6
START_SEEN: Final = 2
_INFERRED, _LEAST, _MPTCP = 64, 128, 64  # flags of a record; the first two of UDP, the last of TCP


def event_rows(records: Records) -> NDArray[np.bool_]:
    """Which records are events; the others are samples for the metrics only."""
    rows: NDArray[np.bool_] = records["kind"] != KIND_SAMPLE
    return rows


def span_rows(records: Records) -> NDArray[np.bool_]:
    """Which records are spans too: the ends of flows whose start was seen; one that shutdown cuts off has not ended."""
    rows: NDArray[np.bool_] = (records["kind"] == KIND_END) & (records["end_cause"] != CAUSE_SHUTDOWN)
    rows &= start_seen(records)
    return rows


def start_seen(records: Records) -> NDArray[np.bool_]:
    """Of which records the flow's start is known."""
    seen: NDArray[np.bool_] = (records["flags"] & START_SEEN > 0) & (records["start_time"] > 0)
    return seen


def events_of(
    records: Records,
    addresses: Addresses,
    boot_to_unix: int,
    resource: NDArray[np.uint32],
    extra: NDArray[np.uint32],
    server_text: NDArray[np.uint32] | None = None,
) -> EventColumns:
    """At most CHUNK event records as columns; `resource`, `extra` and `server_text` are (n,) and go along unchanged."""
    addresses.begin(3 * len(records))
    local, peer, asked = (
        np.ascontiguousarray(records[name]) for name in ("local_address", "peer_address", "asked_address")
    )
    local_port, peer_port, asked_port = records["local_port"], records["peer_port"], records["asked_port"]
    differs = (asked_port > 0) & ((asked_port != peer_port) | (asked != peer).any(axis=1))
    differs &= asked.any(axis=1) & ((asked[:, 12:] != 0).any(axis=1) | (records["family"] == 6))  # noqa: PLR2004
    asked_text = np.zeros(len(records), np.uint32)
    if differs.any():
        asked_text[differs] = addresses.rows(asked[differs])
    duration = np.where(start_seen(records), (records["time"] - records["start_time"]) * _NANO, np.nan)
    connect = records["connect_duration"]
    tcp = records["transport"] == TCP
    return EventColumns(
        kind=records["kind"],
        transport=records["transport"],
        family=records["family"],
        role=records["role"],
        state=records["state"],
        marks=marks_of(records["transport"], records["family"], peer, records["flags"]),
        end_cause=records["end_cause"],
        owner_rule=records["owner_rule"],
        error=records["error"],
        time=records["time"] + np.uint64(boot_to_unix),
        local_text=addresses.rows(local),
        peer_text=addresses.rows(peer),
        local_port=local_port,
        peer_port=peer_port,
        asked_text=asked_text,
        asked_port=asked_port,
        server_text=np.zeros(len(records), np.uint32) if server_text is None else server_text,
        flow_id=community_ids(records["family"], records["transport"], local, local_port, peer, peer_port),
        instance_id=records["instance_id"],
        duration=duration,
        connect_duration=np.where(connect > 0, connect * _NANO, np.nan),
        transmit_bytes=records["transmit_bytes"],
        receive_bytes=records["receive_bytes"],
        transmit_packets=records["transmit_packets"],
        receive_packets=records["receive_packets"],
        rtt=np.where(tcp & (records["rtt"] > 0), records["rtt"] * _MICRO, np.nan),
        retransmits=records["retransmits"],
        congestion_window=records["congestion_window"],
        send_window=records["send_window"],
        resource=resource,
        extra=extra,
    )


def marks_of(
    transport: NDArray[np.uint8], family: NDArray[np.uint8], peer: NDArray[np.uint8], flags: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """What is to be said of flows: of UDP, whom the peer's address reaches and what of the record is not certain; MPTCP.

    That an address is the broadcast of a subnet cannot be told from the address.
    """
    marks = np.zeros(len(transport), np.uint8)
    udp = transport == UDP
    mptcp = np.where(udp | (flags & _MPTCP == 0), 0, MPTCP).astype(np.uint8)
    if not udp.any():
        return mptcp
    v4 = family == 4  # noqa: PLR2004
    marks[np.where(v4, peer[:, 12] >> 4 == 0xE, peer[:, 0] == 0xFF)] |= MULTICAST  # noqa: PLR2004 224.0.0.0/4, ff00::/8
    marks[v4 & (peer[:, 12:] == 0xFF).all(axis=1)] |= BROADCAST  # noqa: PLR2004
    marks[flags & _INFERRED > 0] |= PEER_INFERRED
    marks[flags & _LEAST > 0] |= PACKETS_LEAST
    marks[~udp] = 0
    return marks | mptcp
