"""Event columns in, one 64-bit shape code an event out, and back: a code is all that decides a record's template."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from receiver.flows.columns import (
    KIND_END,
    KIND_START,
    MPTCP,
    NETWORK_TYPES,
    TCP,
    TRANSPORTS,
    UDP,
    EventColumns,
)
from receiver.otlp.layout import COUNT_WIDTH, Shape

_TRANSPORTS = ("", TRANSPORTS[TCP], TRANSPORTS[UDP])
_FAMILIES = ("", NETWORK_TYPES[4], NETWORK_TYPES[6])
_RULE, _NIBBLE, _BYTE = 7, 15, 255
_SUBFLOW = 8  # above the rule
MAX_CLASSES = 16  # width classes of addresses, with 0
_PLACES = ((3, "local", 0), (3, "peer", 4), (4, "asked", 0), (5, "server", 0), (6, "extra", 0))  # byte, text, shift
_WIDE = np.uint64(1 << 7 * COUNT_WIDTH)


def check(columns: EventColumns, resources: int) -> None:
    """ValueError names the first row whose kind is no event, or whose Resource is not there."""
    kind = columns.kind
    if kind.min() < KIND_START or kind.max() > KIND_END:
        row = int(np.flatnonzero((kind < KIND_START) | (kind > KIND_END))[0])
        message = f"event {row}: kind {kind[row]} is no flow event"
        raise ValueError(message)
    if columns.resource.max() >= resources:
        row = int(np.flatnonzero(columns.resource >= resources)[0])
        message = f"event {row}: resource {columns.resource[row]} of {resources}"
        raise ValueError(message)


def codes(columns: EventColumns, classes: dict[str, NDArray[np.uint8]], *, owner_rule: bool) -> NDArray[np.uint64]:
    """One code an event; `classes` holds the width classes of the texts (`layout.TEXTS`), where any is not 0; those of addresses
    are below 16.

    What does not count for an event is left out of its code, so that it does not part what shares a template.
    """
    packed = np.zeros((len(columns), 8), np.uint8)
    tcp = columns.transport == TCP
    udp = columns.transport == UDP
    reports = columns.kind != KIND_START
    first = columns.kind | (np.where(columns.role > 2, 0, columns.role) << 2)  # noqa: PLR2004 - two bits
    first |= (tcp.view(np.uint8) << 4) | (udp.view(np.uint8) << 5)
    first |= ((columns.family == 4).view(np.uint8) << 6) | ((columns.family == 6).view(np.uint8) << 7)  # noqa: PLR2004
    packed[:, 0] = first
    cause = np.where(columns.kind == KIND_END, np.minimum(columns.end_cause, _NIBBLE), 0)
    packed[:, 1] = np.where(tcp, np.minimum(columns.state, _NIBBLE), np.where(udp, columns.marks & _NIBBLE, 0)) | (
        cause << 4
    )
    flags = (columns.duration == columns.duration).view(np.uint8)
    flags |= (columns.connect_duration == columns.connect_duration).view(np.uint8) << 1
    flags |= ((columns.rtt == columns.rtt) & tcp).view(np.uint8) << 2
    flags |= ((columns.transmit_bytes | columns.receive_bytes) >= _WIDE).view(np.uint8) << 3
    flags *= reports.view(np.uint8)
    flags <<= 4
    flags |= np.where(tcp & (columns.marks & MPTCP > 0), _SUBFLOW, 0).astype(np.uint8)
    packed[:, 2] = flags | np.minimum(columns.owner_rule, _RULE) if owner_rule else flags
    for place, name, shift in _PLACES:
        if name in classes:
            packed[:, place] |= classes[name] << shift
    packed[:, 7] = np.minimum(columns.error, _BYTE)
    return packed.view("<u8").reshape(-1)


def shape_of(code: int, *, owner_rule: bool) -> Shape:
    """What `code` says."""
    first, second, third, ends, asked, server, extra, error = code.to_bytes(8, "little")
    return Shape(
        kind=first & 3,
        role=first >> 2 & 3,
        transport=_TRANSPORTS[first >> 4 & 3],
        family=_FAMILIES[first >> 6],
        state=second & _NIBBLE if first & 0x10 else 0,
        marks=second & _NIBBLE if first & 0x20 else MPTCP if third & _SUBFLOW else 0,
        cause=second >> 4,
        rule=third & _RULE if owner_rule else -1,
        error=error,
        duration=bool(third & 0x10),
        connect=bool(third & 0x20),
        rtt=bool(third & 0x40),
        wide=bool(third & 0x80),
        local=ends & _NIBBLE,
        peer=ends >> 4,
        asked=asked,
        server=server,
        extra=extra,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Sorted rows of one shape: those of `resources[i]` stand from `starts[i]` up to `starts[i + 1]`."""

    code: int
    resources: list[int]
    starts: list[int]


def arrange(code: NDArray[np.uint64], resource: NDArray[np.uint32]) -> tuple[NDArray[np.intp] | None, list[Group]]:
    """The order of rows by shape, then Resource (None: as they are), and the groups of rows in that order."""
    count = len(code)
    one_shape = bool((code == code[0]).all())
    one_owner = bool((resource == resource[0]).all())
    if one_shape and one_owner:
        return None, [Group(int(code[0]), [int(resource[0])], [0, count])]
    shapes = code[:1] if one_shape else np.unique(code)
    rank = np.searchsorted(shapes, code).astype(np.uint64)
    key = rank << np.uint64(32) | resource
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.concatenate(([0], np.flatnonzero(key[1:] != key[:-1]) + 1))
    groups = [Group(shape, [], []) for shape in shapes.tolist()]
    for shape, owner, start in zip(
        (key[starts] >> np.uint64(32)).tolist(), resource[order[starts]].tolist(), starts.tolist(), strict=True
    ):
        groups[shape].resources.append(owner)
        groups[shape].starts.append(start)
    for group, after in pairwise(groups):
        group.starts.append(after.starts[0])
    groups[-1].starts.append(count)
    return order, groups
