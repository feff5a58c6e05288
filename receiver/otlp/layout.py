"""The shape of a flow event in, the template of its record or span out: the bytes it shares, and where the others go."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from receiver.flows.columns import (
    BROADCAST,
    END_REASONS,
    KIND_END,
    KIND_START,
    KIND_UPDATE,
    MPTCP,
    MULTICAST,
    OWNER_RULES,
    PACKETS_LEAST,
    PEER_INFERRED,
    ROLE_CLIENT,
    ROLE_SERVER,
    ROLES,
    STATES,
)
from receiver.otlp import wire
from receiver.otlp.semconv import ERROR_OTHER
from receiver.otlp.vector import Fragments

FAMILIES = ("source", "network", "client")
PORT_WIDTH, COUNT_WIDTH, WIDE_WIDTH = 3, 5, 8  # bytes of a padded varint: 21, 35 and 56 bits
TEXTS = ("local", "peer", "asked", "server", "extra")  # what comes out of a text table, in wire form
FLOW_ID_WIDTH, INSTANCE_ID_WIDTH = 30, 16

# The address keys of each family: initiator (or, role unknown, local end) and responder.
_ENDS = {
    "source": ("source", "destination"),
    "network": ("network.local", "network.peer"),
    "client": ("client", "server"),
}
_VARINT, _DOUBLE, _STRING = b"\x18", b"\x21", b"\x0a"


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides which attributes an event has and how wide it is; texts by their `Fragments` class, 0 for absent."""

    kind: int
    role: int
    transport: str  # "" where it has no word
    family: str
    state: int
    marks: int
    cause: int
    rule: int  # -1: not asked for
    error: int
    duration: bool
    connect: bool
    rtt: bool
    wide: bool  # sizes need WIDE_WIDTH
    local: int
    peer: int
    asked: int
    server: int  # the name of the server
    extra: int


class Template:
    """A record of one shape: `data` with zeros where `dtype` has fields. Each signal has a subclass.

    `patches` and `text_patches` name the column that fills each field; `texts` is the width class of each text in it.
    `sampling` is how many flows one that is kept stands for.
    """

    ATTRIBUTE: ClassVar[int]  # the number of the record's field `attributes`

    def __init__(
        self,
        shape: Shape,
        families: Sequence[str],
        strings: Fragments,
        names: Fragments,
        extras: Fragments,
        sampling: int = 1,
    ) -> None:
        self.shape = shape
        self._strings, self._names, self._sampling = strings, names, sampling
        self._parts: list[bytes] = []
        self._size = 0
        self._holes: list[tuple[str, str, int]] = []  # column, numpy format, offset
        self._before()
        self._addresses(families)
        self._constants()
        self._identity()
        self._measures()
        if shape.extra:
            width = extras[shape.extra].width
            self._hole("extra", f"V{width}", width)
        else:
            self._without_extra()
        self._close()

    def _before(self) -> None:
        """What stands before the attributes."""
        raise NotImplementedError

    def _without_extra(self) -> None:
        """What `extra` would bring beside its attributes."""

    def _close(self) -> None:
        start = wire.tag(2, 2) + wire.varint(self._size)  # ScopeLogs.log_records, ScopeSpans.spans
        self.data: NDArray[np.uint8] = np.frombuffer(start + b"".join(self._parts), np.uint8).copy()
        self.width = len(self.data)
        self.begins = len(start)
        self.dtype = np.dtype(
            {
                "names": [f"f{number}" for number in range(len(self._holes))],
                "formats": [form for _, form, _ in self._holes],
                "offsets": [len(start) + offset for _, _, offset in self._holes],
                "itemsize": self.width,
            }
        )
        patches = [(f"f{number}", column) for number, (column, _, _) in enumerate(self._holes)]
        self.patches = [patch for patch in patches if patch[1] not in TEXTS]
        self.text_patches = [patch for patch in patches if patch[1] in TEXTS]
        shape = self.shape
        numbers = zip(TEXTS, (shape.local, shape.peer, shape.asked, shape.server, shape.extra), strict=True)
        self.texts = [(name, number) for name, number in numbers if number]

    def _raw(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def _hole(self, column: str, form: str, width: int) -> None:
        self._holes.append((column, form, self._size))
        self._raw(bytes(width))

    def _constant(self, key: str, value: str | int) -> None:
        self._raw(wire.block(self.ATTRIBUTE, wire.key_value(key, value)))

    def _open(self, key: str, rest: int) -> None:
        """An attribute up to its value field; `rest` is how many bytes follow."""
        name = wire.block(1, key.encode())
        self._raw(wire.tag(self.ATTRIBUTE, 2) + wire.varint(len(name) + rest) + name)

    def _value(self, key: str, prefix: bytes, column: str, form: str, width: int) -> None:
        """An attribute whose AnyValue is `prefix` and then `width` bytes of `column`."""
        value = wire.tag(2, 2) + wire.varint(len(prefix) + width) + prefix
        self._open(key, len(value) + width)
        self._raw(value)
        self._hole(column, form, width)

    def _int(self, key: str, column: str, width: int) -> None:
        self._value(key, _VARINT, column, f"V{width}", width)

    def _seconds(self, key: str, column: str) -> None:
        self._value(key, _DOUBLE, column, "<f8", 8)

    def _string(self, key: str, column: str, width: int) -> None:
        self._value(key, _STRING + wire.varint(width), column, f"V{width}", width)

    def _address(self, prefix: str, end: str, number: int) -> None:
        if not number:  # an address that found no room in its table
            return
        width = self._strings[number].width
        self._open(f"{prefix}.address", width)
        self._hole(end, f"V{width}", width)

    def _server_name(self) -> None:
        width = self._names[self.shape.server].width
        self._open("server.address", width)
        self._hole("server", f"V{width}", width)

    def _addresses(self, families: Sequence[str]) -> None:
        shape = self.shape
        classes = {"local": shape.local, "peer": shape.peer}
        initiated = ("peer", "local") if shape.role == ROLE_SERVER else ("local", "peer")
        for family in FAMILIES:
            if family not in families or (family == "client" and shape.role not in {ROLE_CLIENT, ROLE_SERVER}):
                continue
            ends = ("local", "peer") if family == "network" else initiated
            for prefix, end in zip(_ENDS[family], ends, strict=True):
                if prefix == "server" and shape.server:
                    self._server_name()
                else:
                    self._address(prefix, end, classes[end])
                self._int(f"{prefix}.port", f"{end}_port", PORT_WIDTH)
        if shape.asked:
            self._address("weir.flow.nat.destination", "asked", shape.asked)
            self._int("weir.flow.nat.destination.port", "asked_port", PORT_WIDTH)

    def _constants(self) -> None:
        shape = self.shape
        words = {
            "network.transport": shape.transport,
            "network.type": shape.family,
            "network.connection.state": STATES.get(shape.state, "") if shape.transport == "tcp" else "",
            "error.type": errno.errorcode.get(shape.error, ERROR_OTHER) if shape.error else "",
            "weir.flow.role": ROLES[shape.role] if shape.role in ROLES else ROLES[0],
            "weir.flow.end_reason": END_REASONS.get(shape.cause, "") if shape.kind == KIND_END else "",
            "weir.process.owner_rule": OWNER_RULES.get(shape.rule, ""),
        }
        for key, word in words.items():
            if word:
                self._constant(key, word)
        if shape.marks:
            self._marks(shape.marks)
        if self._sampling > 1:
            self._constant("weir.flow.sampling.factor", self._sampling)

    def _marks(self, marks: int) -> None:
        if marks & (MULTICAST | BROADCAST):
            self._constant("weir.flow.cast", "multicast" if marks & MULTICAST else "broadcast")
        if marks & PEER_INFERRED:
            self._constant("weir.flow.peer.inferred", value=True)
        if marks & PACKETS_LEAST:
            self._constant("weir.flow.packets.lower_bound", value=True)
        if marks & MPTCP:
            self._constant("weir.flow.mptcp", value=True)

    def _identity(self) -> None:
        self._string("weir.flow.id", "flow_id", FLOW_ID_WIDTH)
        self._string("weir.flow.instance.id", "instance_id", INSTANCE_ID_WIDTH)

    def _measures(self) -> None:
        shape = self.shape
        if shape.kind == KIND_START:
            return
        if shape.duration:
            self._seconds("weir.flow.duration", "duration")
        if shape.connect:
            self._seconds("weir.flow.connect.duration", "connect_duration")
        size, wide = (WIDE_WIDTH, "_wide") if shape.wide else (COUNT_WIDTH, "")
        self._int("weir.flow.transmit.size", f"transmit_bytes{wide}", size)
        self._int("weir.flow.receive.size", f"receive_bytes{wide}", size)
        self._int("weir.flow.transmit.packets", "transmit_packets", COUNT_WIDTH)
        self._int("weir.flow.receive.packets", "receive_packets", COUNT_WIDTH)
        if shape.transport == "tcp":
            if shape.rtt:
                self._seconds("weir.flow.rtt", "rtt")
            self._int("weir.flow.retransmits", "retransmits", COUNT_WIDTH)
            if shape.kind == KIND_UPDATE:
                self._int("weir.flow.congestion.window", "congestion_window", COUNT_WIDTH)
                self._int("weir.flow.send.window", "send_window", COUNT_WIDTH)
