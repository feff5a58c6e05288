"""A request whose attempts fail in; attempts at the Collector's intervals, until one succeeds or time is up, out.

The algorithm and the defaults are those of `retry_sender.go` in the Collector's exporterhelper (which uses cenkalti's
exponential back-off): the interval is randomised around a current value that grows up to a maximum, a delay that the
destination names is waited for at least, and no sleep begins that would end after the time that retries may take.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import tenacity
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from receiver.export.errors import AbandonedError, ExhaustedError, RetryableError, SendError
from receiver.export.halt import Halt
from receiver.export.notices import Notices
from receiver.export.request import Receipt, Request, Sender


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retry_on_failure`: seconds, and `max_elapsed_time` 0 for ever."""

    enabled: bool = True
    initial_interval: float = 5.0
    randomization_factor: float = 0.5
    multiplier: float = 1.5
    max_interval: float = 30.0
    max_elapsed_time: float = 300.0


class Backoff(wait_base):
    """The next interval: randomised, growing, and never shorter than the destination asked for. For one request."""

    def __init__(self, policy: RetryPolicy, uniform: Callable[[float, float], float]) -> None:
        self._policy, self._uniform = policy, uniform
        self._current = policy.initial_interval

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        """Seconds to sleep after the attempt in `retry_state`."""
        factor = self._policy.randomization_factor
        delay = self._current * self._uniform(1 - factor, 1 + factor)
        self._current = min(self._current * self._policy.multiplier, self._policy.max_interval)
        return max(delay, _failure(retry_state).delay)


class BeforeSleepingPast(stop_base):
    """Stop before a sleep that would end after `end`; at the exporter's end, after an attempt that began later."""

    def __init__(self, policy: RetryPolicy, halt: Halt) -> None:
        self._policy, self._halt = policy, halt
        self._end = halt.clock.now() + policy.max_elapsed_time
        self.last_chance = False  # whether the current attempt began when the exporter was ending already

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        """Whether the attempt in `retry_state` was the last."""
        if not self._policy.enabled or self.last_chance:
            return True
        if self._halt.is_set() or self._policy.max_elapsed_time == 0:
            return False
        return self._halt.clock.now() + retry_state.upcoming_sleep > self._end


class Tally:
    """Attempts that were made, and how many of them were not the first of their request: each may have made a copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.attempts = self.repeated = 0

    def count(self, *, repeated: bool) -> None:
        """One more."""
        with self._lock:
            self.attempts += 1
            self.repeated += repeated


class Retry:
    """Repeats what may succeed later."""

    def __init__(
        self,
        then: Sender,
        policy: RetryPolicy,
        halt: Halt,
        notices: Notices,
        uniform: Callable[[float, float], float] = random.uniform,
        tally: Tally | None = None,
    ) -> None:
        self._then, self._policy, self._halt, self._notices, self._uniform = then, policy, halt, notices, uniform
        self.tally = tally or Tally()

    def send(self, request: Request) -> Receipt:
        """Attempt until one succeeds.

        Raises ExhaustedError where no time is left for another attempt, AbandonedError where Weir ends, and at once
        whatever error is not a RetryableError.
        """
        stop = BeforeSleepingPast(self._policy, self._halt)
        made = 0

        def attempt() -> Receipt | SendError:
            # Errors are returned: tenacity would keep a raised one, with its frames and the request, in a cycle.
            nonlocal made
            if made and self._halt.remaining() <= 0:
                return AbandonedError("no time is left for another attempt")
            stop.last_chance = self._halt.is_set()
            self.tally.count(repeated=made > 0 or request.attempted)
            made += 1
            try:
                return self._then.send(request)
            except SendError as error:
                return error.with_traceback(None)

        def before_sleep(state: tenacity.RetryCallState) -> None:
            if not self._halt.is_set():
                self._notices.info(
                    "Exporting failed. Will retry the request after interval.",
                    interval=f"{state.upcoming_sleep:.3f}s",
                    **_failure(state).about(),
                )

        retrying = tenacity.Retrying(
            wait=Backoff(self._policy, self._uniform),
            stop=stop,
            retry=tenacity.retry_if_result(lambda outcome: isinstance(outcome, RetryableError)),
            sleep=self._sleep,
            before_sleep=before_sleep,
            retry_error_callback=_failure,
        )
        outcome: Receipt | SendError = retrying(attempt)
        if isinstance(outcome, RetryableError):
            if self._halt.is_set():
                raise AbandonedError(f"interrupted due to shutdown: {outcome.text}", outcome.fault)
            raise ExhaustedError(f"no more retries left: {outcome.text}", outcome.fault)
        if isinstance(outcome, SendError):
            raise outcome
        return outcome

    def _sleep(self, seconds: float) -> None:
        self._halt.sleep(seconds)


def _failure(state: tenacity.RetryCallState) -> RetryableError:
    error = state.outcome.result() if state.outcome else None
    if not isinstance(error, RetryableError):
        raise TypeError(f"an attempt that did not fail is not repeated: {error!r}")
    return error
