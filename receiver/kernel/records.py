"""Ring bytes to a structured array of trustworthy records; whatever is not one is counted by its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.kernel.ring import DISCARD, HEADER, LENGTH, stride_of

LAYOUT_VERSION: Final = 2
KIND_END: Final = 3
_MAX_STATE: Final = 12
_TRANSPORTS: Final = (6, 17)

_U1: Final = "<u1"
_ADDRESS: Final = ("<u1", (16,))
# The layout that this version's code was written for. The object's BTF must say the same (see `check_layout`);
# recordings are read by it.
EVENT: Final = np.dtype(
    [
        *(
            (name, _U1)
            for name in ("version", "kind", "family", "transport", "role", "old_state", "state", "end_cause")
        ),
        ("owner_rule", _U1),
        ("flags", _U1),
        ("error", "<u2"),
        ("local_port", "<u2"),
        ("peer_port", "<u2"),
        ("instance_id", "<u8"),
        ("local_address", *_ADDRESS),
        ("peer_address", *_ADDRESS),
        ("start_time", "<u8"),
        ("time", "<u8"),
        ("connect_duration", "<u8"),
        ("transmit_bytes", "<u8"),
        ("receive_bytes", "<u8"),
        ("transmit_packets", "<u4"),
        ("receive_packets", "<u4"),
        ("rtt", "<u4"),
        ("retransmits", "<u4"),
        ("owner_start", "<u8"),
        ("owner_pid", "<u4"),
        ("netns", "<u4"),
        ("cgroup_id", "<u8"),
        ("asked_address", *_ADDRESS),
        ("asked_port", "<u2"),
        ("syn_retransmits", "<u2"),
        ("counted_retransmits", "<u4"),
        ("counted_transmit", "<u8"),
        ("counted_receive", "<u8"),
        ("comm", *_ADDRESS),
        ("congestion_window", "<u4"),
        ("send_window", "<u4"),
    ]
)
STRIDE: Final = stride_of(EVENT.itemsize)
_RING_RECORD: Final = np.dtype(
    {"names": ["length", "event"], "formats": ["<u4", EVENT], "offsets": [0, HEADER], "itemsize": STRIDE}
)
Records = NDArray[np.void]
NO_RECORDS: Final[Records] = np.empty(0, EVENT)


class LayoutMismatchError(RuntimeError):
    """The object's record layout is not the one that this code was written for."""


@dataclass(slots=True)
class Decoded:
    """Records that passed every check, and how many did not, by reason (`bad_size`, `bad_version`, `bad_value`)."""

    records: Records = field(default_factory=lambda: NO_RECORDS)
    bad: dict[str, int] = field(default_factory=dict)


def check_layout(generated: np.dtype[np.void]) -> None:
    """Raise LayoutMismatchError unless the dtype generated from the object's BTF is EVENT, field by field."""
    if generated != EVENT:
        theirs: Mapping[str, object] = generated.fields or {}
        ours: Mapping[str, object] = EVENT.fields or {}
        wrong = [name for name in dict.fromkeys([*ours, *theirs]) if theirs.get(name) != ours.get(name)]
        message = f"struct weir_event of the BPF object differs from this version's in: {', '.join(wrong) or 'size'}"
        raise LayoutMismatchError(message)


def decode_ring(raw: bytes) -> Decoded:
    """Records of a drained span: headers and payloads as the ring held them. Never raises on any bytes."""
    if not len(raw) % STRIDE:
        framed = np.frombuffer(raw, _RING_RECORD)
        lengths = framed["length"]
        if (lengths == EVENT.itemsize).all():
            return _validate(np.frombuffer(raw, np.uint8).view(_RING_RECORD)["event"])
        if (lengths & LENGTH == EVENT.itemsize).all():
            return _validate(framed["event"][lengths & DISCARD == 0])
    return _resynchronise(raw)


def _resynchronise(raw: bytes) -> Decoded:
    """Header by header: good records are kept, one of a wrong size is skipped by the length that it claims."""
    good: list[bytes] = []
    bad, at = 0, 0
    while at + HEADER <= len(raw):
        header = int.from_bytes(raw[at : at + 4], "little")
        length = header & LENGTH
        step = stride_of(length)
        if at + step > len(raw):  # the length cannot be: what follows is lost too
            bad += max(1, (len(raw) - at) // STRIDE)
            at = len(raw)
            break
        if not header & DISCARD:
            if length == EVENT.itemsize:
                good.append(raw[at + HEADER : at + HEADER + length])
            else:
                bad += 1
        at += step
    if at < len(raw):
        bad += 1
    decoded = _validate(np.frombuffer(b"".join(good), EVENT))
    if bad:
        decoded.bad["bad_size"] = decoded.bad.get("bad_size", 0) + bad
    return decoded


def decode_pass(raw: bytes) -> Decoded:
    """Records of a pass over the open sockets: payloads one after the other, no headers."""
    whole = len(raw) // EVENT.itemsize * EVENT.itemsize
    decoded = _validate(np.frombuffer(raw[:whole], EVENT))
    if whole != len(raw):
        decoded.bad["bad_size"] = 1
    return decoded


def _validate(records: Records) -> Decoded:
    """Split off what has another layout version or a code that does not exist."""
    if not len(records):
        return Decoded(records)
    version = records["version"] == LAYOUT_VERSION
    kind, cause = records["kind"], records["end_cause"]
    valid = version & (kind >= 1) & (kind <= 4) & (records["role"] <= 2) & (cause <= 7)  # noqa: PLR2004 weir_event.h
    valid &= (cause > 0) == (kind == KIND_END)
    valid &= (records["family"] == 4) | (records["family"] == 6)  # noqa: PLR2004
    valid &= (records["transport"] == _TRANSPORTS[0]) | (records["transport"] == _TRANSPORTS[1])
    udp = records["transport"] == _TRANSPORTS[1]
    valid &= ~udp | ((records["state"] == 0) & ((cause == 0) | (cause == 6) | (cause == 7)))  # noqa: PLR2004
    valid &= udp | (cause != 6)  # noqa: PLR2004 only UDP ends by being idle
    valid &= (records["owner_rule"] <= 5) & (records["state"] <= _MAX_STATE)  # noqa: PLR2004
    if valid.all():
        return Decoded(records)
    bad = {"bad_version": int((~version).sum()), "bad_value": int((version & ~valid).sum())}
    return Decoded(records[valid], {reason: n for reason, n in bad.items() if n})
