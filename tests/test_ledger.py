"""The ledger: whatever happens in whatever order, every exporter's view balances."""

import json
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.ledger import DROPS, FILTERS, PLACES, SIGNALS, Ledger, imbalance

EXPORT_DROPS = [
    (stage, reason) for stage in ("queue", "spool", "export", "shutdown") for reason in sorted(DROPS[stage])
]
SOURCE_DROPS = [(stage, reason) for stage in ("kernel", "decode", "enrich", "parse") for reason in sorted(DROPS[stage])]
ZERO = {"observed": 0, "recovered": 0, "filtered": {}, "exported": 0, "dropped": {}, "in_flight": 0}


def test_a_ledger_without_exporters_is_all_zeros() -> None:
    ledger = Ledger()
    ledger.signal("logs").observe(5)
    assert ledger.snapshot() == {signal: {**ZERO, "exporters": {}} for signal in SIGNALS}


def test_the_snapshot_has_the_published_shape() -> None:
    ledger = Ledger()
    first, second = ledger.exporter("logs", "otlp_grpc"), ledger.exporter("logs", "debug")
    with ledger.boundary():
        ledger.signal("logs").set(
            observed=10, filtered={"self": 2, "sample": 0}, dropped={("kernel", "ring_full"): 1}, held={"ring": 3}
        )
        first.offer(4)
        second.offer(4)
    first.exported(3)
    first.dropped("export", "rejected", 1)
    snapshot = ledger.snapshot()
    source = {"observed": 10, "recovered": 0, "filtered": {"self": 2}}
    assert json.loads(json.dumps(snapshot["logs"])) == {
        "observed": 20,
        "recovered": 0,
        "filtered": {"self": 4},
        "exported": 3,
        "dropped": {"kernel/ring_full": 2, "export/rejected": 1},
        "in_flight": 10,
        "exporters": {
            "debug": {**source, "exported": 0, "dropped": {"kernel/ring_full": 1}, "in_flight": 7},
            "otlp_grpc": {
                **source,
                "exported": 3,
                "dropped": {"kernel/ring_full": 1, "export/rejected": 1},
                "in_flight": 3,
            },
        },
    }
    assert imbalance(snapshot) == []


def test_an_imbalance_is_named() -> None:
    ledger = Ledger()
    ledger.exporter("logs", "a").offer(3)
    found = imbalance(ledger.snapshot())
    assert len(found) == 2
    assert found[1].startswith("logs/a: observed 0")


def test_one_account_for_each_name() -> None:
    ledger = Ledger()
    assert ledger.exporter("logs", "a") is ledger.exporter("logs", "a")
    assert ledger.exporter("logs", "a") is not ledger.exporter("metrics", "a")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ledger: ledger.signal("profiles"),
        lambda ledger: ledger.exporter("profiles", "a"),
        lambda ledger: ledger.signal("logs").drop("kernel", "tired", 1),
        lambda ledger: ledger.signal("logs").drop("moon", "full", 1),
        lambda ledger: ledger.signal("logs").observe(-1),
        lambda ledger: ledger.signal("logs").hold("pocket", 1),
        lambda ledger: ledger.signal("logs").set(observed=1, filtered={"mood": 1}),
        lambda ledger: ledger.signal("logs").set(observed=1, dropped={("kernel", "full"): 1}),
        lambda ledger: ledger.signal("logs").set(observed=1, held={"pocket": 1}),
        lambda ledger: ledger.signal("logs").set(observed=1, held={"ring": -1}),
        lambda ledger: ledger.exporter("logs", "a").dropped("export", "bored", 0),
        lambda ledger: ledger.exporter("logs", "a").exported(1),
        lambda ledger: ledger.exporter("logs", "a").dropped("queue", "full", 1),
        lambda ledger: ledger.exporter("logs", "a").offer(-1),
    ],
)
def test_what_cannot_be_is_an_error_and_changes_nothing(wrong: Callable[[Ledger], object]) -> None:
    ledger = Ledger()
    ledger.exporter("logs", "a")
    before = ledger.snapshot()
    with pytest.raises(ValueError, match=r"unknown|negative|in flight"):
        wrong(ledger)
    assert ledger.snapshot() == before


def test_closing_abandons_what_is_left_and_ignores_late_reports() -> None:
    ledger = Ledger()
    account = ledger.exporter("logs", "a")
    ledger.signal("logs").observe(10)
    account.offer(10)
    account.exported(4)
    assert account.close() == 6
    account.exported(6)
    account.dropped("export", "permanent", 6)
    assert account.close() == 0
    ledger.signal("logs").observe(2)
    account.offer(2)
    view = ledger.snapshot()["logs"]["exporters"]["a"]
    assert (view["exported"], view["dropped"], view["in_flight"]) == (4, {"shutdown/abandoned": 8}, 0)
    assert imbalance(ledger.snapshot()) == []


def test_what_a_spool_keeps_stays_in_flight_and_is_recovered_by_the_next_run() -> None:
    ledger = Ledger()
    account = ledger.exporter("logs", "a")
    ledger.signal("logs").observe(10)
    account.offer(10)
    assert account.close(kept=7) == 3
    left = ledger.snapshot()["logs"]["in_flight"]
    assert left == 7
    after = Ledger()
    after.exporter("logs", "a").recover(left)
    after.exporter("logs", "a").exported(left)
    assert after.snapshot()["logs"]["recovered"] == 7
    assert imbalance(ledger.snapshot()) == imbalance(after.snapshot()) == []


_NUMBERS = st.integers(0, 1000)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), _NUMBERS),
        st.tuples(st.just("filter"), st.sampled_from(sorted(FILTERS)), _NUMBERS),
        st.tuples(st.just("lose"), st.sampled_from(SOURCE_DROPS), _NUMBERS),
        st.tuples(st.just("count"), st.sampled_from(SOURCE_DROPS), _NUMBERS),
        st.tuples(st.just("hold"), st.sampled_from(sorted(PLACES)), _NUMBERS),
        st.tuples(st.just("export"), st.integers(0, 2), _NUMBERS),
        st.tuples(st.just("drop"), st.integers(0, 2), st.sampled_from(EXPORT_DROPS), _NUMBERS),
        st.tuples(st.just("recover"), st.integers(0, 2), _NUMBERS),
        st.tuples(st.just("close"), st.integers(0, 2), _NUMBERS),
    ),
    max_size=60,
)


@given(_STEPS, st.sampled_from(SIGNALS))
def test_any_interleaving_balances_at_every_step(steps: list[tuple], signal: str) -> None:  # type: ignore[type-arg]
    ledger = Ledger()
    account = ledger.signal(signal)
    exporters = [ledger.exporter(signal, f"e{number}") for number in range(3)]
    observed = 0
    totals: dict[str, dict] = {"filtered": {}, "dropped": {}, "held": {}}  # type: ignore[type-arg]
    for kind, *rest in steps:
        with ledger.boundary():
            if kind == "offer":
                observed += rest[0]
                for exporter in exporters:
                    exporter.offer(rest[0])
            elif kind in ("filter", "lose"):
                group = totals["filtered" if kind == "filter" else "dropped"]
                group[rest[0]] = group.get(rest[0], 0) + rest[1]
                observed += rest[1]
            elif kind == "count":
                account.observe(rest[1])
                account.drop(*rest[0], rest[1])
            elif kind == "hold":
                observed += rest[1] - totals["held"].get(rest[0], 0)
                totals["held"][rest[0]] = rest[1]
            elif kind == "recover":
                exporters[rest[0]].recover(rest[1])
            elif kind == "close":
                exporters[rest[0]].close(min(rest[1], exporters[rest[0]].in_flight))
            else:
                exporter = exporters[rest[0]]
                items = min(rest[-1], exporter.in_flight)
                if kind == "export":
                    exporter.exported(items)
                else:
                    exporter.dropped(*rest[1], items)
            account.set(observed=observed, **totals)
        assert imbalance(ledger.snapshot()) == []


def test_every_snapshot_taken_while_threads_work_balances() -> None:
    ledger = Ledger()
    accounts = [ledger.exporter("logs", name) for name in ("a", "b")]
    done = threading.Event()
    observed = 0

    def consume(number: int) -> None:
        account = accounts[number]
        while not (done.is_set() and account.in_flight == 0):
            with ledger.boundary():
                if account.in_flight:
                    account.exported(1)

    threads = [threading.Thread(target=consume, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        with ledger.boundary():
            observed += 3
            ledger.signal("logs").set(observed=observed)
            for account in accounts:
                account.offer(3)
        assert imbalance(ledger.snapshot()) == []
    done.set()
    for thread in threads:
        thread.join(10)
    assert ledger.snapshot()["logs"]["exported"] == 1800


def test_an_exporter_answers_for_the_time_in_which_it_was_connected() -> None:
    ledger = Ledger()
    first = ledger.exporter("logs", "first")
    ledger.connect({"logs": ["first"]})
    source = ledger.signal("logs")
    with ledger.boundary():
        source.set(observed=10, filtered={"self": 1}, dropped={("kernel", "ring_full"): 2}, held={"ring": 3})
        first.offer(4)
    second = ledger.exporter("logs", "second")  # built, and not connected yet
    assert ledger.snapshot()["logs"]["exporters"]["second"]["observed"] == 0
    with ledger.boundary():
        ledger.connect({"logs": ["first", "second"]})
        assert imbalance(ledger.snapshot()) == []
    with ledger.boundary():  # the three that were held come, and two more
        source.set(observed=12, filtered={"self": 2}, held={"ring": 0})
        first.offer(4)
        second.offer(4)
    found = ledger.snapshot()["logs"]["exporters"]
    assert (found["second"]["observed"], found["second"]["filtered"], found["second"]["dropped"]) == (
        5,
        {"self": 1},
        {},
    )
    with ledger.boundary():  # one leaves, while two are held that it does not get any more
        source.set(observed=14, held={"ring": 2})
        ledger.connect({"logs": ["second"]})
        assert imbalance(ledger.snapshot()) == []
    with ledger.boundary():
        source.set(held={"ring": 0})
        second.offer(2)
        ledger.connect({"logs": ["first", "second"]})  # and comes back
    with ledger.boundary():
        source.set(observed=15)
        first.offer(1)
        second.offer(1)
    found = ledger.snapshot()["logs"]["exporters"]
    assert (found["first"]["observed"], found["second"]["observed"]) == (13, 8)
    assert imbalance(ledger.snapshot()) == []


def test_a_source_that_counts_from_zero_again_adds_up() -> None:
    ledger = Ledger()
    account, source = ledger.exporter("logs", "a"), ledger.signal("logs")
    for _ in range(2):
        with ledger.boundary():
            source.set(observed=5, filtered={"self": 1}, dropped={("kernel", "ring_full"): 2}, held={"ring": 0})
            account.offer(2)
            assert imbalance(ledger.snapshot()) == []
            source.fold()
    view = ledger.snapshot()["logs"]
    assert (view["observed"], view["filtered"], view["dropped"]) == (10, {"self": 2}, {"kernel/ring_full": 4})
    assert imbalance(ledger.snapshot()) == []
