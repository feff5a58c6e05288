"""The attributes of one flow event in, one readable line out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

Value: TypeAlias = str | int | float | bool | list[object]
Attributes: TypeAlias = Mapping[str, object]

FLOW_EVENTS: Final = {"weir.flow.start": "start", "weir.flow.update": "update", "weir.flow.end": "end"}
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_STEP: Final = 1000


def flow_line(event: str, unix_nano: int, resource: Attributes, record: Attributes) -> str:
    """`time kind transport initiator -> responder role owner outcome sizes latencies id`; what is unknown is left out.

    The arrow always points from initiator to responder; where the role is unknown, `<>` stands between local and peer.
    """
    first, arrow, second = _ends(record)
    parts = [
        timestamp(unix_nano),
        f"{FLOW_EVENTS[event]:<6}",
        text(record.get("network.transport", "?")),
        first,
        arrow,
        second,
        text(record.get("weir.flow.role", "unknown")),
        owner(resource),
    ]
    outcome = record.get("weir.flow.end_reason", record.get("network.connection.state"))
    parts += [text(outcome)] if outcome is not None else []
    parts += [text(record["error.type"])] if "error.type" in record else []
    parts += [text(record["weir.flow.cast"])] if "weir.flow.cast" in record else []
    parts += ["inferred"] if record.get("weir.flow.peer.inferred") else []
    parts += _measures(record)
    parts += [text(record["weir.flow.id"])] if "weir.flow.id" in record else []
    parts += [f"by {text(record['weir.process.owner_rule'])}"] if "weir.process.owner_rule" in record else []
    return " ".join(parts)


def owner(resource: Attributes) -> str:
    """`name[pid]` of the local workload; `?` where it is not known."""
    name = next(
        (
            resource[key]
            for key in ("process.executable.name", "weir.process.comm", "service.name", "container.id")
            if resource.get(key)
        ),
        None,
    )
    pid = resource.get("process.pid")
    return (text(name) if name is not None else "?") + (f"[{pid}]" if pid is not None else "")


def timestamp(unix_nano: int) -> str:
    """RFC 3339 with milliseconds, UTC."""
    seconds, nanos = divmod(unix_nano, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos // 1_000_000:03d}Z"


def text(value: object) -> str:
    """A value in one line: nothing in it can steer a terminal or fake a line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(text(part) for part in value) + "]"
    found = str(value)
    return found if found.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in found)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _ends(record: Attributes) -> tuple[str, str, str]:
    """Initiator, arrow, responder, from whichever address family the event carries."""
    role = record.get("weir.flow.role", "unknown")
    known = role in ("client", "server")
    arrow = "->" if known else "<>"
    pairs = [("source", "destination")]
    if known:
        pairs.append(("network.peer", "network.local") if role == "server" else ("network.local", "network.peer"))
        pairs.append(("client", "server"))
    else:
        pairs.append(("network.local", "network.peer"))
    for first, second in pairs:
        if f"{first}.address" in record or f"{second}.address" in record:
            return _end(record, first), arrow, _end(record, second)
    return "?", arrow, "?"


def _end(record: Attributes, side: str) -> str:
    address = text(record.get(f"{side}.address", "?"))
    port = record.get(f"{side}.port")
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _measures(record: Attributes) -> list[str]:
    parts = []
    duration = record.get("weir.flow.duration")
    if isinstance(duration, float):
        parts.append(_seconds(duration))
    for key, label in (("weir.flow.transmit.size", "tx"), ("weir.flow.receive.size", "rx")):
        size = record.get(key)
        if isinstance(size, int):
            parts.append(f"{label} {_bytes(size)}")
    for key, label in (("weir.flow.rtt", "rtt"), ("weir.flow.connect.duration", "conn")):
        seconds = record.get(key)
        if isinstance(seconds, float):
            parts.append(f"{label} {_seconds(seconds)}")
    retransmits = record.get("weir.flow.retransmits")
    if isinstance(retransmits, int) and retransmits:
        parts.append(f"retransmits {retransmits}")
    return parts


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.1f}s"
    milliseconds = value * 1000
    return f"{milliseconds:.1f}ms" if milliseconds >= 1 else f"{milliseconds:.2f}ms"


def _bytes(size: int) -> str:
    value = float(size)
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{size}B" if unit == "B" else f"{value:.1f}{unit}"
