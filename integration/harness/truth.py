"""What the traffic programs say they did, compared with the events that arrived: every field, each event once."""

import hashlib
import ipaddress
import struct
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from integration.harness.otlp import Event

_TCP = 6


def unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address, IPv4 where it is v4-mapped."""
    made = ipaddress.ip_address(address)
    return getattr(made, "ipv4_mapped", None) or made


@dataclass(frozen=True)
class End:
    """One end of one connection, as the process at that end knows it."""

    role: str
    local: tuple[str, int]
    peer: tuple[str, int]
    sent: int
    received: int
    pid: int
    comm: str
    executable: str

    @classmethod
    def of(cls, fact: dict[str, Any]) -> "End":
        ends = [(str(unmapped(fact[name][0])), int(fact[name][1])) for name in ("local", "peer")]
        return cls(
            fact["role"], ends[0], ends[1], fact["sent"], fact["received"], fact["pid"], fact["comm"], fact["exe"]
        )

    @property
    def key(self) -> tuple[Any, ...]:
        return self.role, self.local, self.peer

    @property
    def client_first(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The initiator's end and the responder's."""
        return (self.local, self.peer) if self.role == "client" else (self.peer, self.local)


def ends(facts: Iterable[dict[str, Any]]) -> list[End]:
    """The ends among the facts that a traffic program printed."""
    return [End.of(fact) for fact in facts if "role" in fact]


def flow_id(source: tuple[str, int], destination: tuple[str, int]) -> str:
    """Community ID v1, seed 0, TCP, as its specification has it."""
    one, two = ((ipaddress.ip_address(host).packed, port) for host, port in (source, destination))
    (low, low_port), (high, high_port) = sorted((one, two))
    data = struct.pack("!H", 0) + low + high + struct.pack("!BBHH", _TCP, 0, low_port, high_port)
    return "1:" + b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def expected(end: End) -> dict[str, Any]:
    """The attributes that the end's event must have, but for what only the kernel knows."""
    source, destination = end.client_first
    found: dict[str, Any] = {
        "network.local.address": end.local[0],
        "network.local.port": end.local[1],
        "network.peer.address": end.peer[0],
        "network.peer.port": end.peer[1],
        "network.transport": "tcp",
        "network.type": f"ipv{ipaddress.ip_address(end.local[0]).version}",
        "weir.flow.role": end.role,
        "weir.flow.id": flow_id(source, destination),
        "weir.flow.transmit.size": end.sent,
        "weir.flow.receive.size": end.received,
    }
    for names in (("source", "destination"), ("client", "server")):
        for name, (address, port) in zip(names, (source, destination), strict=True):
            found |= {f"{name}.address": address, f"{name}.port": port}
    return found


def event_key(event: Event) -> tuple[Any, ...]:
    """As `End.key`."""
    local, peer = ((event[f"network.{end}.address"], event[f"network.{end}.port"]) for end in ("local", "peer"))
    return event["weir.flow.role"], local, peer


def owner_of(end: End) -> dict[str, Any]:
    """What the Resource must say of the end's owner."""
    return {
        "process.pid": end.pid,
        "weir.process.comm": end.comm,
        "process.executable.name": end.executable.rpartition("/")[2],
        "process.executable.path": end.executable,
    }


def missing_or_twice(wanted: Sequence[End], found: Sequence[Event]) -> str:
    """Empty if each end has exactly one event and there is no other event; else what differs."""
    want, have = Counter(end.key for end in wanted), Counter(event_key(event) for event in found)
    lost, extra = want - have, have - want
    if not lost and not extra:
        return ""
    return (
        f"{lost.total()} of {want.total()} without their event, {extra.total()} events too many: "
        f"lost {list(lost.elements())[:5]}, too many {list(extra.elements())[:5]}"
    )


def wrong_fields(
    wanted: Sequence[End], found: Sequence[Event], *, reason: str = "closed", gone: bool = False
) -> list[str]:
    """One line for each field that is not as it must be; events are matched to ends by role and addresses.

    Of a process that was `gone` before it could be looked at, the path of the executable may be absent; never wrong.
    """
    by_key: dict[tuple[Any, ...], list[Event]] = {}
    for event in found:
        by_key.setdefault(event_key(event), []).append(event)
    wrong = []
    for end in wanted:
        candidates = by_key.get(end.key, [])
        if len(candidates) != 1:
            continue  # what `missing_or_twice` tells
        fields = expected(end) | owner_of(end) | {"weir.flow.end_reason": reason}
        if gone and candidates[0]["process.executable.path"] is None:
            del fields["process.executable.path"]
        wrong += [
            f"{end.key}: {name} is {candidates[0][name]!r}, not {value!r}"
            for name, value in fields.items()
            if candidates[0][name] != value
        ]
    return wrong
