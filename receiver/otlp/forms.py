"""Event columns in, the same columns as the bytes that a template takes out, one element an event."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.flows.columns import KIND_UPDATE, EventColumns
from receiver.otlp import vector
from receiver.otlp.layout import COUNT_WIDTH, PORT_WIDTH, WIDE_WIDTH

Forms: TypeAlias = dict[str, NDArray[Any]]

_SIZES = ("transmit_bytes", "receive_bytes")
_COUNTS = ("transmit_packets", "receive_packets", "retransmits")
_WINDOWS = ("congestion_window", "send_window")  # of updates only
_PORTS = ("local_port", "peer_port", "asked_port")
_LIMIT = np.uint64(1 << 7 * COUNT_WIDTH)


def forms(columns: EventColumns) -> Forms:
    """What `Template.patches` names, but for the texts. Sizes are clamped to 2^56 - 1."""
    measured = _COUNTS + (_WINDOWS if (columns.kind == KIND_UPDATE).any() else ())
    names = _SIZES + measured + _PORTS
    numbers = np.empty((len(names), len(columns)), np.uint64)
    for row, name in zip(numbers, names, strict=True):
        row[:] = getattr(columns, name)
    counts, ports = len(_SIZES), len(_SIZES) + len(measured)
    sizes = numbers[:counts]
    wide = (sizes[0] | sizes[1]) >= _LIMIT
    some_wide = bool(wide.any())
    if some_wide:
        np.minimum(sizes, np.uint64(vector.VARINT_MAX), out=sizes)
    words = vector.spread(numbers)
    words[:ports] |= vector.continuation(COUNT_WIDTH)
    words[ports:] |= vector.continuation(PORT_WIDTH)
    out: Forms = {
        name: vector.head(row, PORT_WIDTH if name in _PORTS else COUNT_WIDTH)
        for row, name in zip(words, names, strict=True)
    }
    if some_wide:
        for row, name in zip(words, _SIZES, strict=False):
            out[f"{name}_wide"] = vector.head(row | vector.continuation(WIDE_WIDTH), WIDE_WIDTH)
    out["time"] = columns.time
    out["flow_id"] = vector.blocks(columns.flow_id)
    out["instance_id"] = vector.hexadecimal(columns.instance_id)
    out["duration"] = columns.duration
    out["connect_duration"] = columns.connect_duration
    out["rtt"] = columns.rtt
    return out
