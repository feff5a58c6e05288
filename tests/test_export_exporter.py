"""An exporter as a whole, over a destination in memory: threads, queues, end of life, ledger."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver import telemetry
from receiver.export.batch import BatchSettings
from receiver.export.build import build
from receiver.export.errors import OversizeError, PermanentError, RetryableError, UnimplementedError
from receiver.export.exporter import Exporter, Options, QueueSettings
from receiver.export.halt import Halt
from receiver.export.notices import Notices
from receiver.export.request import Receipt, Request, Sender
from receiver.export.retry import RetryPolicy
from receiver.export.storage import FileStorage
from receiver.ledger import Ledger, Signal, imbalance
from tests.export_parts import Remembered, numbers_of, request
from tests.otlp_server import until

FAST = RetryPolicy(initial_interval=0.001, max_interval=0.001)


class Memory:
    """A destination that does with each request what `answer` says."""

    def __init__(self, answer: Callable[[Request], Receipt] | None = None) -> None:
        self.answer = answer or (lambda request: Receipt(request.items))
        self.taken: list[Request] = []
        self.closed = threading.Event()

    def sender(self, signal: Signal, halt: Halt, notices: Notices) -> Sender:
        return self

    def send(self, request: Request) -> Receipt:
        receipt = self.answer(request)
        self.taken.append(request)
        return receipt

    def close(self) -> None:
        self.closed.set()


class Bench:
    """An exporter, and everything around it."""

    def __init__(
        self, destination: Memory, options: Options | None = None, signals: Sequence[Signal] = ("logs",)
    ) -> None:
        self.ledger, self.log, self.destination = Ledger(), Remembered(), destination
        self.died: list[tuple[str, BaseException]] = []
        self.exporter = Exporter(
            "otlp_grpc",
            destination,
            options or Options(retry=FAST),
            self.ledger,
            signals,
            lambda where, error: self.died.append((where, error)),
            self.log,
        )

    def offer(self, one: Request) -> None:
        with self.ledger.boundary():
            self.ledger.signal(one.signal).observe(one.items)
            self.exporter.offer(one)

    def stop(self, seconds: float = 10) -> None:
        self.exporter.stop(time.monotonic() + seconds)

    def view(self, signal: str = "logs") -> tuple[int, dict[str, int], int]:
        found = self.ledger.snapshot()[signal]["exporters"]["otlp_grpc"]
        assert imbalance(self.ledger.snapshot()) == []
        return found["exported"], found["dropped"], found["in_flight"]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("export ")])


def test_what_is_offered_arrives_once() -> None:
    bench = Bench(Memory())
    bench.exporter.start()
    for number in range(100):
        bench.offer(request(3, start=3 * number))
    bench.stop()
    assert sorted(n for one in bench.destination.taken for n in numbers_of(one.data)) == list(range(300))
    assert bench.view() == (300, {}, 0)
    assert bench.destination.closed.is_set()
    assert bench.died == []


def test_each_signal_has_a_queue_and_an_account_of_its_own() -> None:
    stuck = threading.Event()

    def answer(one: Request) -> Receipt:
        if one.signal == "logs":
            stuck.wait(20)
        return Receipt(one.items)

    bench = Bench(Memory(answer), Options(QueueSettings(sizer="requests", queue_size=4)), ("logs", "metrics"))
    bench.exporter.start()
    for _ in range(6):
        bench.offer(request(1))
    bench.offer(request(5, signal="metrics"))
    until(lambda: bench.view("metrics") == (5, {}, 0))
    assert bench.view() == (0, {"queue/full": 2}, 4)
    stuck.set()
    bench.stop()
    assert bench.view() == (4, {"queue/full": 2}, 0)


def test_offering_an_unknown_signal_is_an_error_and_an_empty_request_is_nothing() -> None:
    bench = Bench(Memory())
    with pytest.raises(KeyError):
        bench.exporter.offer(request(1, signal="traces"))
    bench.exporter.offer(Request("logs", b"", 0))
    bench.stop()
    assert bench.view() == (0, {}, 0)


def test_a_full_queue_refuses_the_newest_without_waiting_and_says_so() -> None:
    go = threading.Event()

    def answer(one: Request) -> Receipt:
        go.wait(20)
        return Receipt(one.items)

    size = len(request(2).data)
    bench = Bench(Memory(answer), Options(QueueSettings(queue_size=3 * size, num_consumers=1), FAST))
    bench.exporter.start()
    for number in range(5):
        bench.offer(request(2, start=1 + 2 * number))
    assert bench.view() == (0, {"queue/full": 4}, 6)
    metrics = {name: value for name, _, value in bench.exporter.metrics()}
    assert metrics["enqueue_failed_log_records"] == 4
    assert metrics["queue_size"] == metrics["queue_capacity"] == 3 * size
    go.set()
    until(lambda: "Exporting failed. Rejecting data." in bench.log.messages())
    bench.stop()
    assert [numbers_of(one.data) for one in bench.destination.taken] == [[1, 2], [3, 4], [5, 6]]
    assert bench.log.fields("Exporting failed. Rejecting data.")["rejected_items"] == 4


def test_a_disabled_queue_holds_only_what_is_being_sent() -> None:
    go = threading.Event()

    def answer(one: Request) -> Receipt:
        go.wait(20)
        return Receipt(one.items)

    bench = Bench(Memory(answer), Options(QueueSettings(enabled=False, num_consumers=2)))
    bench.exporter.start()
    for _ in range(3):
        bench.offer(request())
    assert bench.view() == (0, {"queue/full": 1}, 2)
    go.set()
    bench.stop()
    assert bench.view() == (2, {"queue/full": 1}, 0)


def test_failures_are_retried_until_they_succeed_and_counted_once() -> None:
    failures = iter([RetryableError("busy")] * 3)

    def answer(one: Request) -> Receipt:
        for failure in failures:
            raise failure
        return Receipt(one.items)

    bench = Bench(Memory(answer))
    bench.exporter.start()
    bench.offer(request(4))
    until(lambda: bench.view() == (4, {}, 0))
    assert bench.exporter.status()["logs"] == {"requests": 4, "retried": 3}
    bench.stop()
    assert "Exporting failed. Will retry the request after interval." in bench.log.messages()


def test_every_kind_of_loss_has_its_place_in_the_ledger() -> None:
    answers = {1: PermanentError("no"), 2: OversizeError("large"), 3: RetryableError("later", delay=999)}

    def answer(one: Request) -> Receipt:
        number = numbers_of(one.data)[0]
        if number in answers:
            raise answers[number]
        return Receipt(one.items - 1, 1) if number == 4 else Receipt(one.items)

    bench = Bench(Memory(answer), Options(retry=FAST))
    bench.exporter.start()
    for number in range(1, 6):
        bench.offer(request(1, start=number))
    until(lambda: bench.view()[2] == 0)
    bench.stop()
    lost = ("permanent", "oversize", "retries_exhausted", "rejected")
    assert bench.view() == (1, {f"export/{reason}": 1 for reason in lost}, 0)


def test_stopping_drains_the_queue_with_one_attempt_each_and_abandons_the_rest() -> None:
    tried: list[int] = []

    def answer(one: Request) -> Receipt:
        number = numbers_of(one.data)[0]
        tried.append(number)
        if number % 2:
            raise RetryableError("busy")
        return Receipt(one.items)

    slow = RetryPolicy(initial_interval=1000, max_interval=1000, max_elapsed_time=0)
    bench = Bench(Memory(answer), Options(QueueSettings(num_consumers=1), slow))
    for number in range(1, 11):
        bench.offer(request(1, start=number))
    bench.exporter.start()
    until(lambda: "Exporting failed. Will retry the request after interval." in bench.log.messages())
    begun = time.monotonic()
    bench.stop(30)
    assert time.monotonic() - begun < 20
    assert sorted(tried) == sorted([1, *range(1, 11)])
    assert bench.view() == (5, {"shutdown/abandoned": 5}, 0)
    assert bench.log.fields("Exporting ended. Abandoning data.")["dropped_items"] == 5


def test_a_destination_that_hangs_does_not_hold_the_end_and_the_ledger_is_final() -> None:
    go = threading.Event()

    def answer(one: Request) -> Receipt:
        go.wait(20)
        return Receipt(one.items)

    bench = Bench(Memory(answer), Options(QueueSettings(num_consumers=1), FAST))
    bench.exporter.start()
    for _ in range(3):
        bench.offer(request(2))
    begun = time.monotonic()
    bench.stop(0.2)
    assert time.monotonic() - begun < 5
    assert bench.view() == (0, {"shutdown/abandoned": 6}, 0)
    go.set()
    until(lambda: len(bench.destination.taken) == 1)
    assert bench.view() == (0, {"shutdown/abandoned": 6}, 0)


def test_closing_the_destination_frees_who_waits_in_it() -> None:
    class Hanging(Memory):
        def send(self, request: Request) -> Receipt:
            self.closed.wait(20)
            raise RetryableError("cancelled")

    bench = Bench(Hanging(), Options(QueueSettings(num_consumers=1), FAST))
    bench.exporter.start()
    bench.offer(request(2))
    bench.stop(0.1)
    assert bench.view() == (0, {"shutdown/abandoned": 2}, 0)


def test_stopping_twice_or_before_the_start_is_fine_and_later_offers_are_abandoned() -> None:
    bench = Bench(Memory())
    bench.offer(request(2))
    bench.stop()
    bench.stop()
    bench.offer(request(3))
    assert bench.view() == (0, {"shutdown/abandoned": 5}, 0)


def test_a_pause_that_the_destination_asks_for_holds_its_other_signals_too() -> None:
    asked = threading.Event()

    def answer(one: Request) -> Receipt:
        if one.signal == "logs" and not asked.is_set():
            asked.set()
            raise RetryableError("slow down", delay=1000, throttle=True)
        return Receipt(one.items)

    bench = Bench(Memory(answer), Options(retry=RetryPolicy(max_elapsed_time=0)), ("logs", "metrics"))
    bench.exporter.start()
    bench.offer(request(1))
    until(lambda: "Exporting failed. Will retry the request after interval." in bench.log.messages())
    bench.offer(request(1, signal="metrics"))
    bench.stop(0.2)
    assert bench.destination.taken == []
    assert bench.view("metrics") == (0, {"shutdown/abandoned": 1}, 0)


def test_a_signal_that_is_refused_is_dropped_and_the_others_go_on() -> None:
    def answer(one: Request) -> Receipt:
        if one.signal == "metrics":
            raise UnimplementedError("unknown service MetricsService")
        return Receipt(one.items)

    bench = Bench(Memory(answer), signals=("logs", "metrics"))
    bench.exporter.start()
    for _ in range(5):
        bench.offer(request(2, signal="metrics"))
        bench.offer(request(2))
    until(lambda: bench.view()[0] == 10 and bench.view("metrics")[2] == 0)
    bench.stop()
    assert bench.view("metrics") == (0, {"export/permanent": 10}, 0)
    assert (
        bench.log.messages().count("The destination does not take this signal. Its data is dropped until it does.") == 1
    )


def test_a_thread_that_dies_says_so_loudly_and_its_items_are_counted() -> None:
    def answer(one: Request) -> Receipt:
        raise ZeroDivisionError("surprise")

    bench = Bench(Memory(answer), Options(QueueSettings(num_consumers=1), FAST))
    bench.exporter.start()
    bench.offer(request(2))
    until(lambda: bench.died)
    where, error = bench.died[0]
    assert where == "export otlp_grpc/logs 0"
    assert isinstance(error, ZeroDivisionError)
    bench.stop()
    assert bench.view() == (0, {"shutdown/abandoned": 2}, 0)


def test_two_exporters_share_the_bytes_and_nothing_else() -> None:
    ledger, one = Ledger(), request(3)
    good, bad = Memory(), Memory()
    bad.answer = lambda _request: (_ for _ in ()).throw(PermanentError("no"))
    exporters = [
        Exporter(name, destination, Options(retry=FAST), ledger, ["logs"], lambda *_: None, Remembered())
        for name, destination in (("otlp_grpc/a", good), ("otlp_grpc/b", bad))
    ]
    for exporter in exporters:
        exporter.start()
    with ledger.boundary():
        ledger.signal("logs").observe(3)
        for exporter in exporters:
            exporter.offer(one)
    for exporter in exporters:
        exporter.stop(time.monotonic() + 10)
    assert good.taken[0].data is one.data
    found = ledger.snapshot()["logs"]
    assert (found["observed"], found["exported"], found["dropped"]) == (6, 3, {"export/permanent": 3})
    assert imbalance(ledger.snapshot()) == []


_OUTCOMES = st.sampled_from(["ok", "part", "permanent", "retry", "oversize", "unimplemented", "throttle"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), _OUTCOMES), max_size=25), st.integers(1, 3), st.integers(1, 8), st.booleans()
)
def test_whatever_the_destination_does_the_ledger_balances(
    offers: list[tuple[int, str]], consumers: int, capacity: int, patient: bool
) -> None:
    outcomes: dict[int, str] = {}

    def answer(one: Request) -> Receipt:
        outcome = outcomes[numbers_of(one.data)[0]]
        if outcome == "part":
            return Receipt(one.items - 1, 1, "one was bad")
        if outcome == "permanent":
            raise PermanentError("no")
        if outcome == "retry":
            raise RetryableError("busy")
        if outcome == "throttle":
            raise RetryableError("busy", delay=0.001, throttle=True)
        if outcome == "oversize" and (one.items > 1 or len(one.data) > 20):
            raise OversizeError("large", limit=20)
        if outcome == "unimplemented":
            raise UnimplementedError("unknown service")
        return Receipt(one.items)

    retry = RetryPolicy(initial_interval=0.0001, max_interval=0.0001, max_elapsed_time=0.002)
    options = Options(QueueSettings(sizer="requests", queue_size=capacity, num_consumers=consumers), retry)
    bench = Bench(Memory(answer), options)
    bench.exporter.start()
    at = 1
    for items, outcome in offers:
        outcomes.update(dict.fromkeys(range(at, at + items), outcome))
        bench.offer(request(items, start=at))
        at += items
        assert imbalance(bench.ledger.snapshot()) == []
    bench.stop(10 if patient else 0)
    assert bench.died == []
    exported, dropped, in_flight = bench.view()
    assert in_flight == 0
    assert exported + sum(dropped.values()) == at - 1


def test_the_metrics_are_the_declared_ones() -> None:
    bench = Bench(Memory(), signals=("logs", "metrics", "traces"))
    bench.exporter.start()
    bench.offer(request(3))
    until(lambda: bench.view()[0] == 3)
    rows: dict[str, list[telemetry.Value]] = {}
    for suffix, attributes, value in bench.exporter.metrics():
        rows.setdefault(f"weir_exporter_{suffix}", []).append(({"exporter": "otlp_grpc", **attributes}, value))
    declared = {name for name in telemetry.BY_NAME if name.startswith("weir_exporter_")}
    assert {metric.name for metric in telemetry.checked(rows)} == declared
    assert rows["weir_exporter_sent_log_records"] == [({"exporter": "otlp_grpc"}, 3)]
    bench.stop()


def test_an_unknown_type_and_a_wrong_endpoint_name_their_place() -> None:
    def make(name: str, **values: object) -> object:
        return build(name, SimpleNamespace(**values), Ledger(), ["logs"], lambda *_: None, log=Remembered())

    with pytest.raises(
        ValueError, match=r"exporters::kafka/1: unknown type; there are \['debug', 'otlp', 'otlp_grpc'\]"
    ):
        make("kafka/1")
    with pytest.raises(ValueError, match="exporters::otlp::endpoint: 'localhost' has no host and port"):
        make("otlp", endpoint="localhost", headers={})


def test_the_halt_keeps_the_earlier_deadline() -> None:
    bench = Bench(Memory())
    halt = bench.exporter._halt
    assert halt.remaining() == math.inf
    halt.set(5)
    halt.set(7)
    assert halt.deadline == 5
    bench.stop()


def successor(bench: Bench, destination: Memory, options: Options, signals: Sequence[Signal] = ("logs",)) -> Exporter:
    return Exporter(
        "otlp_grpc", destination, options, bench.ledger, signals, lambda *died: bench.died.append(died), bench.log,
        previous=bench.exporter,
    )  # fmt: skip


def test_a_successor_sends_what_waits_and_goes_on_counting() -> None:
    def busy(one: Request) -> Receipt:
        raise RetryableError("busy")

    bench = Bench(
        Memory(busy), Options(QueueSettings(num_consumers=1), RetryPolicy(initial_interval=60, max_interval=60))
    )
    bench.exporter.start()
    for number in range(3):
        bench.offer(request(2, start=10 * number + 1))
    until(lambda: bench.exporter.status()["logs"]["requests"] == 1)
    to = successor(bench, Memory(), Options(QueueSettings(num_consumers=1)))
    bench.exporter.hand_over(to, time.monotonic() + 10)
    assert bench.view() == (0, {}, 6)
    to.start()
    until(lambda: bench.view() == (6, {}, 0))
    sent = to._destination.taken
    assert [numbers_of(one.data)[0] for one in sent] == [1, 11, 21]
    assert [one.attempted for one in sent] == [True, False, False]
    assert to.status()["logs"] == {"requests": 4, "retried": 1}
    to.stop(time.monotonic() + 10)
    assert bench.view() == (6, {}, 0)


def test_a_successor_with_less_room_counts_what_it_cannot_hold() -> None:
    bench = Bench(Memory(), Options(QueueSettings(sizer="requests", queue_size=9)))
    for _ in range(4):
        bench.offer(request(2))
    to = successor(bench, Memory(), Options(QueueSettings(sizer="requests", queue_size=3)))
    bench.exporter.hand_over(to, time.monotonic() + 10)
    assert bench.view() == (0, {"queue/full": 2}, 6)
    to.start()
    until(lambda: bench.view() == (6, {"queue/full": 2}, 0))
    to.stop(time.monotonic() + 10)


def test_a_signal_that_is_not_exported_any_more_is_drained_first() -> None:
    bench = Bench(Memory(), Options(), ("logs", "metrics"))
    bench.exporter.start()
    bench.offer(request(2, signal="metrics"))
    to = successor(bench, Memory(), Options())
    bench.exporter.hand_over(to, time.monotonic() + 10)
    assert bench.view("metrics") == (2, {}, 0)
    to.start()
    to.stop(time.monotonic() + 10)


def test_block_on_overflow_waits_for_room_and_gives_up_when_told() -> None:
    go = threading.Event()

    def answer(one: Request) -> Receipt:
        go.wait(20)
        return Receipt(one.items)

    one = request(1)
    bench = Bench(Memory(answer), Options(QueueSettings(sizer="requests", queue_size=1, block_on_overflow=True)))
    bench.exporter.start()
    bench.offer(one)
    stop = threading.Event()
    stop.set()
    bench.exporter.wait_for_room([one], stop)  # returns, with no room yet
    threading.Timer(0.1, go.set).start()
    bench.exporter.wait_for_room([one], threading.Event())
    assert go.is_set()
    bench.offer(one)
    bench.stop()
    assert bench.view() == (2, {}, 0)


def test_wait_for_result_returns_when_everything_has_its_outcome() -> None:
    go = threading.Event()

    def answer(one: Request) -> Receipt:
        go.wait(20)
        return Receipt(one.items)

    bench = Bench(Memory(answer), Options(QueueSettings(wait_for_result=True)))
    bench.exporter.start()
    for _ in range(3):
        bench.offer(request(1))
    threading.Timer(0.1, go.set).start()
    bench.exporter.wait_for_result("logs", threading.Event())
    assert bench.view() == (3, {}, 0)
    bench.stop()


def test_batches_are_settled_request_by_request() -> None:
    batch = BatchSettings(min_size=6, flush_timeout=60.0)
    bench = Bench(Memory(), Options(QueueSettings(num_consumers=2, batch=batch)))
    for number in range(4):
        bench.offer(request(3, start=number))
    bench.exporter.start()
    until(lambda: bench.view() == (12, {}, 0))
    assert [one.items for one in bench.destination.taken] == [6, 6]
    assert bench.exporter.lanes["logs"].queue.size == 0
    bench.stop()


def test_from_a_spool_to_memory_and_back_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    def away(one: Request) -> Receipt:
        raise RetryableError("away")

    storage = FileStorage(tmp_path, max_bytes=1 << 20)
    patient = RetryPolicy(initial_interval=60, max_interval=60)
    durable = Options(QueueSettings(num_consumers=1, storage="file_storage"), patient)
    bench = Bench(Memory())

    def following(
        previous: Exporter | None, destination: Memory, options: Options, storage: FileStorage | None
    ) -> Exporter:
        made = Exporter(
            "otlp_grpc", destination, options, bench.ledger, ("logs",), lambda *died: bench.died.append(died),
            bench.log, storage=storage, previous=previous,
        )  # fmt: skip
        if previous is not None:
            previous.hand_over(made, time.monotonic() + 10)
        made.start()
        return made

    bench.exporter = first = following(None, Memory(away), durable, storage)
    for number in range(5):
        bench.offer(request(2, start=10 * number + 1))
    until(lambda: first.status()["logs"]["requests"] == 1)
    small = Options(QueueSettings(sizer="requests", queue_size=2, num_consumers=1), patient)
    bench.exporter = second = following(first, Memory(away), small, None)
    assert bench.view() == (0, {}, 10)  # two requests in memory, three stay in the spool
    until(lambda: second.status()["logs"]["requests"] == 2)
    took = Memory()
    bench.exporter = third = following(second, took, durable, storage)
    until(lambda: bench.view() == (10, {}, 0))
    third.stop(time.monotonic() + 10)
    storage.close()
    assert sorted(numbers_of(one.data)[0] for one in took.taken) == [1, 11, 21, 31, 41]
    assert bench.ledger.snapshot()["logs"]["recovered"] == 0
