"""Go's duration strings to seconds and back: `300ms`, `1h30m`, `-1.5s`."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE: Final = re.compile(rf"[+-]?(?:{_PART.pattern})+")
_LONGEST: Final = 64


def parse_duration(text: str) -> float:
    """Seconds; ValueError for what Go's time.ParseDuration would refuse."""
    if text in {"0", "+0", "-0"}:
        return 0.0
    if len(text) > _LONGEST or not _WHOLE.fullmatch(text):
        raise ValueError(f"invalid duration {text[:_LONGEST]!r}: a number and a unit, like 300ms, 1.5s or 1h30m")
    value = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return -value if text[0] == "-" else value


def format_duration(seconds: float) -> str:
    """The shortest exact spelling in the largest unit that gives a whole number, as a person writes it."""
    if seconds == 0:
        return "0s"
    nanos = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 else ""
    for unit, size in (("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 10**9), ("ms", 10**6), ("us", 1000)):
        if nanos % size == 0 and (unit not in {"m", "h"} or nanos // size > 1 or unit == "h"):
            whole = nanos // size
            if unit == "m" and whole < 5:  # noqa: PLR2004 60s and 120s read better than 1m
                continue
            return f"{sign}{whole}{unit}"
    return f"{sign}{nanos}ns"


def _validate(value: Any) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0.0
    raise ValueError(f"a duration needs a unit, like 300ms or 5s, not {value!r}")


Duration = Annotated[
    float, BeforeValidator(_validate), PlainSerializer(format_duration, return_type=str, when_used="json")
]
