"""A condition and a deadline in, the condition's value out: how every test here waits."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

PATIENCE: Final = 25.0  # s: far more than anything here takes on a busy machine
_BETWEEN: Final = 0.02  # s between two looks

_T = TypeVar("_T")


def until(condition: Callable[[], _T], what: str, seconds: float = PATIENCE, *, between: float = _BETWEEN) -> _T:
    """The first true value of `condition`; AssertionError that says `what` did not come, and what was there last."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s: no {what} (last seen: {value!r})")
        time.sleep(between)
