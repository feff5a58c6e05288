"""Records as the kernel side writes them, for tests: one call a flow, every field at its true width."""

import socket
from typing import Any

import numpy as np
from numpy.typing import NDArray

from receiver.kernel.records import EVENT
from receiver.kernel.ring import HEADER, stride_of


def address(text: str) -> bytes:
    """16 bytes; IPv4 as ::ffff:a.b.c.d."""
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text)
    return bytes(10) + b"\xff\xff" + socket.inet_pton(socket.AF_INET, text)


def record(**values: Any) -> NDArray[np.void]:
    """One valid end record (shape (1,)), with `values` in place of the defaults; addresses may be text."""
    fields: dict[str, Any] = {
        "version": 2, "kind": 3, "family": 4, "transport": 6, "role": 1, "old_state": 5, "state": 7, "end_cause": 1,
        "owner_rule": 1, "flags": 3, "local_port": 40000, "peer_port": 80, "instance_id": 1,
        "local_address": "10.0.0.1", "peer_address": "10.0.0.2", "start_time": 1_000_000_000, "time": 2_500_000_000,
        "connect_duration": 1_000_000, "transmit_bytes": 100, "receive_bytes": 200, "transmit_packets": 1,
        "receive_packets": 2, "rtt": 150, "owner_start": 5, "owner_pid": 77, "netns": 4026531840, "cgroup_id": 9,
        "comm": b"curl",
    }  # fmt: skip
    fields |= values
    made = np.zeros(1, EVENT)
    for name, value in fields.items():
        if name.endswith("_address"):
            made[name][0] = np.frombuffer(address(value) if isinstance(value, str) else value, np.uint8)
        elif name == "comm":
            made[name][0, : len(value)] = np.frombuffer(value, np.uint8)
        else:
            made[name] = value
    return made


def records(*rows: NDArray[np.void]) -> NDArray[np.void]:
    """Several."""
    return np.concatenate(rows) if rows else np.empty(0, EVENT)


def framed(payload: bytes, *, bits: int = 0) -> bytes:
    """A payload as the ring holds it: header, payload, padding."""
    head = (len(payload) | bits).to_bytes(4, "little") + bytes(4)
    return (head + payload).ljust(stride_of(len(payload)), b"\0")


__all__ = ["HEADER", "address", "framed", "record", "records"]
