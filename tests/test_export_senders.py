"""Each link of the chain alone: retry, throttle, switch, divide, account, queue, log lines. No time passes."""

import gc
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.export.account import Account, Counters, Oversize, ReportRefused
from receiver.export.divide import MAX_REQUEST, Divide
from receiver.export.errors import (
    AbandonedError,
    ExhaustedError,
    Fault,
    OversizeError,
    PermanentError,
    RetryableError,
    UnimplementedError,
)
from receiver.export.halt import Halt
from receiver.export.notices import INTERVAL, MAX_KINDS, Notices
from receiver.export.queue import MemoryQueue, Sizer
from receiver.export.request import Receipt, Request
from receiver.export.retry import Retry, RetryPolicy
from receiver.export.switch import PROBE_INTERVAL, Switch
from receiver.export.throttle import MAX_HOLD, Gate, Throttle
from receiver.ledger import Ledger, imbalance
from tests.export_parts import Remembered, Scripted, TurnedClock, notices, numbers_of, request

BUSY = RetryableError("busy")


def retry_over(
    then: Scripted, policy: RetryPolicy, clock: TurnedClock, factor: float | None = None
) -> tuple[Retry, Halt, Remembered]:
    """A retry sender whose random factor is always `factor`, or random."""
    halt = Halt(clock)
    told, log = notices(clock)
    uniform = random.Random(1).uniform if factor is None else lambda _low, _high: factor
    return Retry(then, policy, halt, told, uniform), halt, log


# Retry


def test_intervals_grow_as_the_collectors_do() -> None:
    clock, then = TurnedClock(), Scripted(*[BUSY] * 7)
    retry, _, _ = retry_over(then, RetryPolicy(), clock, factor=1.0)
    assert retry.send(request()) == Receipt(1)
    assert clock.slept == [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]
    assert (retry.tally.attempts, retry.tally.repeated) == (8, 7)


@given(
    st.floats(0, 10), st.floats(0, 1), st.floats(1, 3), st.floats(0, 60), st.integers(0, 2**32),
)  # fmt: skip
def test_every_interval_is_within_its_random_range(
    initial: float, factor: float, multiplier: float, most: float, seed: int
) -> None:
    policy = RetryPolicy(True, initial, factor, multiplier, most, 0)
    clock, then = TurnedClock(), Scripted(*[BUSY] * 12)
    told, _ = notices(clock)
    Retry(then, policy, Halt(clock), told, random.Random(seed).uniform).send(request())
    current = initial
    for slept in clock.slept:
        assert current * (1 - factor) - 1e-9 <= slept <= current * (1 + factor) + 1e-9
        current = min(current * multiplier, most)


def test_a_delay_of_the_destination_is_a_least_and_the_back_off_goes_on_under_it() -> None:
    clock = TurnedClock()
    then = Scripted(RetryableError("x", delay=20, throttle=True), RetryableError("x", delay=1, throttle=True), BUSY)
    retry, _, _ = retry_over(then, RetryPolicy(), clock, factor=1.0)
    retry.send(request())
    assert clock.slept == [20, 7.5, 11.25]


def test_retries_stop_before_a_sleep_that_would_end_too_late() -> None:
    clock, then = TurnedClock(), Scripted(*[BUSY] * 50)
    retry, _, log = retry_over(then, RetryPolicy(max_elapsed_time=60), clock, factor=1.0)
    with pytest.raises(ExhaustedError, match="no more retries left: busy"):
        retry.send(request())
    assert clock.slept == [5.0, 7.5, 11.25, 16.875]  # 40.6 s; 25.3 s more would pass 60
    assert log.fields("Exporting failed. Will retry the request after interval.")["interval"] == "5.000s"


def test_a_sleep_that_ends_exactly_in_time_is_slept() -> None:
    clock, then = TurnedClock(), Scripted(*[BUSY] * 50)
    retry, _, _ = retry_over(then, RetryPolicy(max_elapsed_time=12.5), clock, factor=1.0)
    with pytest.raises(ExhaustedError):
        retry.send(request())
    assert clock.slept == [5.0, 7.5]


def test_a_delay_past_the_end_is_not_waited_for() -> None:
    clock, then = TurnedClock(), Scripted(RetryableError("x", delay=301))
    retry, _, _ = retry_over(then, RetryPolicy(), clock)
    with pytest.raises(ExhaustedError):
        retry.send(request())
    assert clock.slept == []


def test_zero_is_for_ever() -> None:
    clock, then = TurnedClock(), Scripted(*[BUSY] * 500)
    retry, _, _ = retry_over(then, RetryPolicy(max_elapsed_time=0), clock, factor=1.0)
    assert retry.send(request()) == Receipt(1)
    assert sum(clock.slept) > 10_000


def test_without_retries_one_attempt_is_all() -> None:
    clock, then = TurnedClock(), Scripted(BUSY)
    retry, _, _ = retry_over(then, RetryPolicy(enabled=False), clock)
    with pytest.raises(ExhaustedError):
        retry.send(request())
    assert (clock.slept, len(then.requests)) == ([], 1)


@pytest.mark.parametrize("error", [PermanentError("no"), UnimplementedError("no"), OversizeError("no"), KeyError("no")])
def test_what_is_not_retryable_passes_at_once(error: Exception) -> None:
    then = Scripted(error)
    retry, _, _ = retry_over(then, RetryPolicy(), TurnedClock())
    with pytest.raises(type(error)):
        retry.send(request())
    assert len(then.requests) == 1


def test_at_the_end_a_request_gets_one_attempt_more_and_no_sleep() -> None:
    clock = TurnedClock()
    then = Scripted(BUSY, BUSY, BUSY)
    retry, halt, _ = retry_over(then, RetryPolicy(), clock, factor=1.0)
    halt.set(clock.now() + 10)
    with pytest.raises(AbandonedError, match="interrupted due to shutdown: busy"):
        retry.send(request())
    assert (len(then.requests), clock.slept) == (1, [])


def test_the_end_interrupts_a_sleep_and_the_last_attempt_may_succeed() -> None:
    halt = Halt(TurnedClock())

    class Ending(TurnedClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:
            halt.set(self.now() + 10)
            return super().wait(event, seconds)

    halt.clock = Ending()
    then = Scripted(BUSY)
    told, _ = notices()
    assert Retry(then, RetryPolicy(), halt, told).send(request()) == Receipt(1)
    assert len(then.requests) == 2


def test_failed_attempts_leave_no_garbage_that_holds_their_request() -> None:
    clock, then = TurnedClock(), Scripted()
    retry, _, _ = retry_over(then, RetryPolicy(), clock)
    then.answers = [RetryableError("busy") for _ in range(5)]
    one = Request("logs", b"unmistakable", 1)
    gc.collect()
    gc.disable()
    try:
        retry.send(one)
        then.requests.clear()
        held = [found for found in gc.get_referrers(one) if type(found).__name__ in ("cell", "frame", "dict", "tuple")]
        found = [holder for holder in held if holder is not locals() and type(holder).__name__ != "frame"]
    finally:
        gc.enable()
    assert found == []


# Throttle


def test_a_throttled_destination_is_left_alone_by_every_sender() -> None:
    clock = TurnedClock()
    gate = Gate(Halt(clock))
    first, second = Scripted(RetryableError("slow down", delay=30, throttle=True)), Scripted()
    with pytest.raises(RetryableError):
        Throttle(gate, first).send(request())
    assert Throttle(gate, second).send(request()) == Receipt(1)
    assert clock.slept == [30]
    Throttle(gate, second).send(request())
    assert clock.slept == [30]


def test_a_failure_without_a_delay_holds_nobody_else() -> None:
    clock = TurnedClock()
    gate = Gate(Halt(clock))
    with pytest.raises(RetryableError):
        Throttle(gate, Scripted(BUSY)).send(request())
    Throttle(gate, Scripted()).send(request())
    assert clock.slept == []


def test_a_hold_is_bounded_and_the_longest_stands() -> None:
    clock = TurnedClock()
    gate = Gate(Halt(clock))
    gate.hold(1e9)
    gate.hold(1)
    gate.wait()
    assert clock.slept == [MAX_HOLD]


def test_at_the_end_a_pause_is_kept_if_there_is_time_and_else_the_request_is_abandoned() -> None:
    clock = TurnedClock()
    halt = Halt(clock)
    gate = Gate(halt)
    gate.hold(5)
    halt.set(clock.now() + 8)
    then = Scripted()
    Throttle(gate, then).send(request())
    assert clock.slept == [5]
    gate.hold(5)
    with pytest.raises(AbandonedError):
        Throttle(gate, then).send(request())
    assert len(then.requests) == 1


def test_time_at_the_gate_before_the_first_attempt_is_not_time_of_the_retries() -> None:
    clock = TurnedClock()
    halt = Halt(clock)
    gate = Gate(halt)
    then = Scripted(BUSY)
    told, _ = notices(clock)
    chain = Throttle(gate, Retry(Throttle(gate, then), RetryPolicy(), halt, told, lambda _a, _b: 1.0))
    gate.hold(1000)
    assert chain.send(request()) == Receipt(1)
    assert clock.slept == [1000, 5]


# Switch


def test_an_unknown_service_turns_the_signal_off_but_for_rare_probes() -> None:
    clock = TurnedClock()
    told, log = notices(clock)
    off = [UnimplementedError("unknown service", Fault("no_service", "Add it.")) for _ in range(2)]
    then = Scripted(*off)
    switch = Switch(then, clock, told)
    with pytest.raises(UnimplementedError):
        switch.send(request())
    assert not switch.on
    for _ in range(5):
        with pytest.raises(PermanentError, match="the signal is off: unknown service"):
            switch.send(request())
    assert len(then.requests) == 1
    clock.time += PROBE_INTERVAL
    with pytest.raises(UnimplementedError):
        switch.send(request())
    with pytest.raises(PermanentError):
        switch.send(request())
    assert len(then.requests) == 2
    clock.time += PROBE_INTERVAL
    assert switch.send(request()) == Receipt(1)
    assert switch.on
    assert [line[0] for line in log.lines] == ["error", "info"]
    assert log.lines[0][2]["remedy"] == "Add it."


def test_a_probe_that_fails_otherwise_leaves_the_signal_off() -> None:
    clock = TurnedClock()
    told, _ = notices(clock)
    switch = Switch(Scripted(UnimplementedError("unknown service"), ExhaustedError("away")), clock, told)
    with pytest.raises(UnimplementedError):
        switch.send(request())
    clock.time += PROBE_INTERVAL
    with pytest.raises(ExhaustedError):
        switch.send(request())
    assert not switch.on


# Divide


class Sized:
    """A destination that takes requests up to a size."""

    def __init__(self, limit: int, *, says: bool) -> None:
        self.limit, self.says = limit, says
        self.taken: list[Request] = []
        self.calls = 0

    def send(self, request: Request) -> Receipt:
        self.calls += 1
        if len(request.data) > self.limit:
            raise OversizeError("too large", limit=self.limit if self.says else None)
        self.taken.append(request)
        return Receipt(request.items)


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("limit", [100, 400, 5000])
def test_what_is_too_large_is_sent_in_parts_and_nothing_twice(limit: int, says: bool) -> None:
    sized, lost = Sized(limit, says=says), Scripted()
    told, log = notices()
    divide = Divide(sized, lost, told)
    assert divide.limit == MAX_REQUEST
    assert divide.send(request(40, 60)) == Receipt(40)
    assert [number for part in sized.taken for number in numbers_of(part.data)] == list(range(1, 41))
    assert lost.requests == []
    assert ("The destination refuses requests of this size. Sending smaller ones." in log.messages()) == (limit < 3000)


def test_a_limit_that_was_named_is_kept_without_asking_again() -> None:
    sized, lost = Sized(1000, says=True), Scripted()
    told, _ = notices()
    divide = Divide(sized, lost, told)
    divide.send(request(40, 60))
    assert divide.limit == 1000
    refused = sized.calls - len(sized.taken)
    divide.send(request(40, 60))
    assert sized.calls - len(sized.taken) == refused == 1


def test_one_item_that_is_too_large_alone_is_lost_and_its_neighbours_are_not() -> None:
    sized = Sized(300, says=True)
    told, _ = notices()
    lost = Scripted()
    large = request(1, 1000, start=3).data
    data = request(2, 10).data + large + request(2, 10, start=4).data
    receipt = Divide(sized, lost, told).send(Request("logs", data, 5))
    assert [n for part in sized.taken for n in numbers_of(part.data)] == [1, 2, 4, 5]
    assert [numbers_of(part.data) for part in lost.requests] == [[3]]
    assert receipt == Receipt(5)  # the scripted end of oversize items accepts them


def test_a_guessed_limit_does_not_refuse_one_item_unasked() -> None:
    told, _ = notices()
    then, lost = Scripted(OversizeError("too large")), Scripted()
    divide = Divide(then, lost, told)
    divide.send(request(2, 1000))
    assert divide.limit < 1100
    divide.send(request(1, 1500))
    assert lost.requests == []


# Account


def _account(then: Scripted, items: int) -> tuple[Account, Ledger, Counters, Remembered]:
    ledger, counters = Ledger(), Counters()
    account = ledger.exporter("logs", "a")
    ledger.signal("logs").observe(items)
    account.offer(items)
    told, log = notices()
    return Account(then, ledger, account, counters, told), ledger, counters, log


@pytest.mark.parametrize(
    ("answer", "exported", "dropped", "sent", "failed"),
    [
        (Receipt(10), 10, {}, 10, 0),
        (Receipt(7, 3, "too old"), 7, {"export/rejected": 3}, 7, 3),
        (PermanentError("no"), 0, {"export/permanent": 10}, 0, 10),
        (UnimplementedError("no"), 0, {"export/permanent": 10}, 0, 10),
        (ExhaustedError("late"), 0, {"export/retries_exhausted": 10}, 0, 10),
    ],
)
def test_every_outcome_is_counted_once(
    answer: Receipt, exported: int, dropped: dict[str, int], sent: int, failed: int
) -> None:
    account, ledger, counters, _ = _account(Scripted(answer), 10)
    account.send(request(10))
    view = ledger.snapshot()["logs"]["exporters"]["a"]
    assert (view["exported"], view["dropped"], view["in_flight"]) == (exported, dropped, 0)
    assert (counters.sent, counters.send_failed, counters.in_flight_requests) == (sent, failed, 0)
    assert imbalance(ledger.snapshot()) == []


@pytest.mark.parametrize("error", [OversizeError("large"), AbandonedError("late")])
def test_what_others_must_act_on_stays_in_flight(error: Exception) -> None:
    account, ledger, counters, _ = _account(Scripted(error), 10)
    with pytest.raises(type(error)):
        account.send(request(10))
    assert ledger.snapshot()["logs"]["in_flight"] == 10
    assert counters.in_flight_requests == 0


def test_log_lines_have_the_collectors_words() -> None:
    account, _, _, log = _account(
        Scripted(PermanentError("rpc error: x", Fault("other", "Look.")), Receipt(1, 0, "careful")), 2
    )
    account.send(request())
    account.send(request())
    assert log.fields("Exporting failed. Dropping data.") == {
        "error": "not retryable error: Permanent error: rpc error: x",
        "cause": "other",
        "remedy": "Look.",
        "dropped_items": 1,
    }
    assert log.fields("Partial success response") == {"message": "careful", "dropped_items": 0}


def test_an_oversize_item_has_its_own_reason() -> None:
    ledger, counters = Ledger(), Counters()
    account = ledger.exporter("logs", "a")
    account.offer(1)
    told, log = notices()
    Oversize(ledger, account, counters, told).send(request())
    assert ledger.snapshot()["logs"]["dropped"] == {"export/oversize": 1}
    assert log.fields("Exporting failed. Dropping data.")["cause"] == "oversize_item"


def test_what_a_full_queue_refused_is_logged_once() -> None:
    counters = Counters(enqueue_failed=7)
    told, log = notices()
    report = ReportRefused(Scripted(), MemoryQueue(1), Ledger(), counters, told)
    report.send(request())
    report.send(request())
    assert [line[2]["rejected_items"] for line in log.lines] == [7]


# Queue


@pytest.mark.parametrize(("sizer", "unit"), [("bytes", len(request(3).data)), ("items", 3), ("requests", 1)])
def test_a_full_queue_refuses_the_newest_and_what_is_being_sent_counts(sizer: Sizer, unit: int) -> None:
    queue = MemoryQueue(2 * unit, sizer)
    one, two, three = request(3), request(3, start=4), request(3, start=7)
    assert queue.put(one)
    assert queue.put(two)
    assert not queue.put(three)
    assert queue.get() is one
    assert queue.size == 2 * unit
    assert not queue.put(three)
    queue.done(one)
    assert queue.size == unit
    assert queue.put(three)
    assert [queue.get(), queue.get()] == [two, three]


def test_a_closed_queue_gives_out_what_it_has_and_then_none() -> None:
    queue = MemoryQueue(10, "requests")
    queue.put(request())
    queue.close()
    assert not queue.put(request())
    assert queue.get() is not None
    assert queue.get() is None


def test_closing_wakes_who_waits() -> None:
    queue = MemoryQueue(10)
    got: list[Request | None] = []
    threads = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join(10)
    assert got == [None] * 3


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "done"]), st.integers(0, 60))), st.integers(1, 100))
def test_a_queue_never_holds_more_than_its_capacity(steps: list[tuple[str, int]], capacity: int) -> None:
    queue = MemoryQueue(capacity)
    inside: list[Request] = []
    taken: list[Request] = []
    for step, size in steps:
        if step == "put":
            one = Request("logs", b"x" * size, 1)
            assert queue.put(one) == (sum(len(r.data) for r in inside + taken) + size <= capacity) or not inside
            if queue.size == sum(len(r.data) for r in [*inside, *taken, one]):
                inside.append(one)
        elif step == "get" and inside:
            taken.append(inside.pop(0))
            assert queue.get() is taken[-1]
        elif step == "done" and taken:
            queue.done(taken.pop())
        assert queue.size == sum(len(r.data) for r in inside + taken) <= capacity


# Notices


def test_one_line_of_a_kind_an_interval_and_counts_are_not_lost() -> None:
    clock, log = TurnedClock(), Remembered()
    told = Notices(log, clock, exporter="a")
    for _ in range(4):
        told.error("Lost.", cause="x", dropped_items=5)
    told.error("Lost.", cause="y", dropped_items=1)
    clock.time += INTERVAL
    told.error("Lost.", cause="x", dropped_items=5)
    assert [line[2] for line in log.lines] == [
        {"exporter": "a", "cause": "x", "dropped_items": 5},
        {"exporter": "a", "cause": "y", "dropped_items": 1},
        {"exporter": "a", "cause": "x", "dropped_items": 20, "suppressed": 3},
    ]


def test_kinds_are_bounded() -> None:
    told = Notices(Remembered(), TurnedClock())
    for number in range(3 * MAX_KINDS):
        told.info("Kind.", cause=str(number))
    assert len(told._kinds) <= MAX_KINDS
