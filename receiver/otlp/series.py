"""The series table to data points of the flow metrics; attribute bytes are made once for each series and kept."""

import errno
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.flows.addresses import address_text
from receiver.flows.columns import NETWORK_TYPES, ROLE_SERVER, ROLE_UNKNOWN, ROLES, TCP, TRANSPORTS
from receiver.flows.series import CONNECT_BOUNDS, DURATION_BOUNDS, RTT_BOUNDS, Histogram, SeriesKeys, SeriesTable
from receiver.flows.table import Slots
from receiver.otlp import wire
from receiver.otlp.metrics import HistogramPoints, Instrument, PointAttributes, Points, Temporality, point_attributes
from receiver.otlp.semconv import ERROR_OTHER

_KEPT: Final = 4  # attribute sets that are kept, as a multiple of the series that there may be
_OVERFLOW: Final = point_attributes({"otel.metric.overflow": True})
_DIRECTIONS: Final = {
    name: PointAttributes(
        wire.attributes(7, {"network.io.direction": name}), wire.attributes(9, {"network.io.direction": name})
    )
    for name in ("transmit", "receive")
}


def instruments(temporality: Temporality) -> dict[str, Instrument]:
    """The flow metrics as declared, by name without the prefix `weir.flow.`."""
    return {
        made.name.removeprefix("weir.flow."): made
        for made in (
            Instrument("weir.flow.io", "By", "Payload bytes that sockets of this workload moved.", "sum", temporality),
            Instrument("weir.flow.connections", "{connection}", "Connections, attempts once their outcome is known.",
                       "sum", temporality),
            Instrument("weir.flow.active", "{connection}", "Connections that are open now.", "updown"),
            Instrument("weir.flow.retransmits", "{segment}", "TCP segments sent again.", "sum", temporality),
            Instrument("weir.flow.syn.retransmits", "{segment}", "Segments of handshakes sent again; part of the retransmits.",
                       "sum", temporality),
            Instrument("weir.flow.resets", "{segment}", "Connections that an RST ended or refused, by who sent it.", "sum",
                       temporality),
            Instrument("weir.flow.duration", "s", "Time from a connection's start to its end.", "histogram", temporality,
                       DURATION_BOUNDS),
            Instrument("weir.flow.connect.duration", "s", "Time of the TCP handshake, at the connecting end.",
                       "histogram", temporality, CONNECT_BOUNDS),
            Instrument("weir.flow.rtt", "s", "Smoothed round-trip time, as TCP has it.", "histogram", temporality,
                       RTT_BOUNDS),
        )
    }  # fmt: skip


class SeriesPoints:
    """Turns a table into groups of points; one for each table, because it keeps the attributes of its series."""

    def __init__(self, table: SeriesTable, temporality: Temporality) -> None:
        self._table = table
        self._instruments = instruments(temporality)
        self._attributes: dict[tuple[bytes, bytes], PointAttributes] = {}  # by key and name

    def collect(self) -> list[Points | HistogramPoints]:
        """Every live series: counters and open connections always, histograms where they hold something."""
        table = self._table
        rows = table.live()
        if not rows.size:
            return []
        overflow = rows == table.overflow_row
        plain = rows[~overflow]
        keys = table.describe(plain)
        series = self._texts(plain, keys)
        resource = np.zeros(len(rows), np.uint32)
        resource[: len(plain)] = keys.resource
        index = np.arange(len(rows))
        if overflow.any():
            series = [*series, _OVERFLOW]
        groups: list[Points | HistogramPoints] = self._io(rows, overflow, resource, series)
        tcp = np.append(keys.transport == TCP, np.ones(len(rows) - len(plain), np.bool_))
        for name, at in (("connections", index), ("active", index), ("retransmits", index[tcp])):
            if at.size:
                value = getattr(table, name)[rows[at]].astype(np.int64)
                groups.append(Points(self._instruments[name], resource[at], at, series, table.start[rows[at]], value))
        groups += self._rare(rows, resource, series)
        groups += self._failures(rows, resource, series)
        for name, histogram in (
            ("duration", table.duration), ("connect.duration", table.connect), ("rtt", table.rtt),
        ):  # fmt: skip
            groups += self._histogram(name, histogram, rows, resource, series)
        return groups

    def _io(
        self, rows: Slots, overflow: NDArray[np.bool_], resource: NDArray[np.uint32], series: Sequence[PointAttributes]
    ) -> list[Points | HistogramPoints]:
        table, io = self._table, self._instruments["io"]
        count = int((~overflow).sum())
        plain = rows[:count]
        groups: list[Points | HistogramPoints] = []
        for name, column in (("transmit", table.transmit), ("receive", table.receive)):
            more = _DIRECTIONS[name]
            texts = [PointAttributes(made.number + more.number, b"") for made in series[:count]]
            value = column[plain].astype(np.int64)
            groups.append(Points(io, resource[:count], np.arange(count), texts, table.start[plain], value))
        if count < len(rows):
            last = rows[count:]
            both = (table.transmit[last] + table.receive[last]).astype(np.int64)
            groups.append(Points(io, resource[count:], np.zeros(1, np.intp), [_OVERFLOW], table.start[last], both))
        return groups

    def _rare(
        self, rows: Slots, resource: NDArray[np.uint32], series: Sequence[PointAttributes]
    ) -> list[Points | HistogramPoints]:
        """Only where there were any: most edges never have one."""
        table, groups = self._table, list[Points | HistogramPoints]()
        overflow = rows == table.overflow_row  # has one attribute only, and so one point: both directions together
        sent = table.resets_sent[rows] + np.where(overflow, table.resets_received[rows], 0).astype(np.uint64)
        received = np.where(overflow, 0, table.resets_received[rows])
        for name, more, value in (
            ("resets", _DIRECTIONS["transmit"].number, sent),
            ("resets", _DIRECTIONS["receive"].number, received),
            ("syn.retransmits", b"", table.syn_retransmits[rows]),
        ):
            at = np.flatnonzero(value)
            if at.size:
                texts = [
                    PointAttributes(series[row].number + (b"" if overflow[row] else more), b"") for row in at.tolist()
                ]
                groups.append(
                    Points(self._instruments[name], resource[at], np.arange(len(at)), texts, table.start[rows[at]],
                           value[at].astype(np.int64))
                )  # fmt: skip
        return groups

    def _failures(
        self, rows: Slots, resource: NDArray[np.uint32], series: Sequence[PointAttributes]
    ) -> list[Points | HistogramPoints]:
        failed = self._table.failures()
        if not failed.row.size:
            return []
        order = np.argsort(rows)
        at = order[np.searchsorted(rows[order], failed.row)]
        texts = []
        for row, number in zip(at.tolist(), failed.error.tolist(), strict=True):
            name = errno.errorcode.get(number, ERROR_OTHER)
            texts.append(PointAttributes(series[row].number + wire.attributes(7, {"error.type": name}), b""))
        start = self._table.start[failed.row]
        value = failed.count.astype(np.int64)
        return [Points(self._instruments["connections"], resource[at], np.arange(len(at)), texts, start, value)]

    def _histogram(
        self,
        name: str,
        histogram: Histogram,
        rows: Slots,
        resource: NDArray[np.uint32],
        series: Sequence[PointAttributes],
    ) -> list[Points | HistogramPoints]:
        count = histogram.buckets[rows].sum(axis=1, dtype=np.uint64)
        filled = np.flatnonzero(count)
        if not filled.size:
            return []
        at = rows[filled]
        return [
            HistogramPoints(
                self._instruments[name], resource[filled], filled, series, self._table.start[at], count[filled],
                histogram.total[at], histogram.buckets[at],
            )
        ]  # fmt: skip

    def _texts(self, rows: Slots, keys: SeriesKeys) -> list[PointAttributes]:
        """The attributes of each row, from those kept."""
        if len(self._attributes) > _KEPT * self._table.limit:
            self._attributes.clear()
        made = []
        codes = np.stack([keys.role, keys.transport, keys.family], axis=1)
        ports = keys.port.astype("<u2").view(np.uint8).reshape(-1, 2)
        packed = np.concatenate([codes, ports, keys.address, keys.peer], axis=1)
        for i in range(len(rows)):
            name = keys.name[i]
            key = (packed[i].tobytes(), name)
            known = self._attributes.get(key)
            if known is None:
                known = self._attributes[key] = point_attributes(_describe(*key))
            made.append(known)
        return made


def _describe(key: bytes, name: bytes) -> dict[str, wire.Value]:
    role, transport, family = key[0], key[1], key[2]
    address, peer = name.decode() or address_text(key[5:21]), key[21:37]
    values: dict[str, wire.Value] = {
        "network.transport": TRANSPORTS[transport],
        "network.type": NETWORK_TYPES[family],
        "weir.flow.role": ROLES[role],
    }
    if role == ROLE_UNKNOWN:
        return {"network.peer.address": address, **values}
    values = {"server.address": address, "server.port": int.from_bytes(key[3:5], "little"), **values}
    if role == ROLE_SERVER and any(peer):
        values["network.peer.address"] = address_text(peer)
    return values
