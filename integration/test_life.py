"""A signal always ends Weir in order, whenever it comes and however many there are."""

import signal

import pytest

from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT, signal.SIGTERM),
        (signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM),  # after SIGCONT the next signal goes to any thread
        (signal.SIGSTOP, signal.SIGCONT, signal.SIGINT),
    ],
    ids=lambda numbers: "-".join(number.name for number in numbers),
)
def test_every_signal_counts(stage: Stage, numbers: tuple[signal.Signals, ...]) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    wanted = stage.talk(space, 3, 10_000)
    collector.wait_for_events(6)
    for number in numbers:
        weir.signal(number)
    ledger = weir.end()
    collector.stop()
    assert missing_or_twice(wanted, collector.events()) == ""
    assert ledger["logs"]["exported"] == 6
