"""Ring to OTLP bytes through the product's own corridor, without sending: CPU a record, records a second, loss."""

import threading
import time
from collections.abc import Callable, Sequence

from bench.generator import Generator
from receiver.corridor import Corridor, LogsOutlet, MetricsOutlet, Settings
from receiver.enrich.identity import Composer, for_metrics
from receiver.enrich.owners import Owners
from receiver.enrich.resources import ResourceTable
from receiver.flows.series import SeriesTable
from receiver.flows.texts import Texts
from receiver.ledger import Ledger
from receiver.otlp.encoded import Encoded
from receiver.otlp.logs import LogEncoder
from receiver.otlp.metrics import encode_metrics
from receiver.otlp.resource import encode_resource
from receiver.otlp.series import SeriesPoints


class Sink:
    """Counts what leaves."""

    def __init__(self) -> None:
        self.items = self.bytes = 0

    def take(self, encoded: Sequence[Encoded]) -> None:
        for part in encoded:
            self.items += part.items
            self.bytes += len(part.data)


def build(source: Generator, *, logs: bool, metrics: bool, sink: Sink) -> Corridor:
    """A corridor as `receiver.compose` builds it, into a sink."""
    composer = Composer({"host.name": "bench"}, "0", lambda boot: boot)
    log_table = ResourceTable(encode_resource, 1024, composer.host_only())
    metric_table = ResourceTable(encode_resource, 1024, for_metrics(composer.host_only()))
    owners = Owners(composer, log_table, metric_table, source.owners, None, 1)
    series = SeriesTable(2048)
    made = SeriesPoints(series, "cumulative")

    def collect(now: int) -> list[Encoded]:
        return encode_metrics(made.collect(), metric_table.encoded, now)

    corridor = Corridor(
        source, owners, series, Ledger(), Settings(0, 1.0), log_table.encoded, None,
        MetricsOutlet(collect, sink.take) if metrics else None,
    )  # fmt: skip
    if logs:
        encoder = LogEncoder(corridor.addresses.texts, Texts(2, 16))
        corridor.logs = LogsOutlet({False: encoder}, lambda _variant, encoded: sink.take(encoded))
    return corridor


def alternate(*, logs: bool, metrics: bool, rounds: int = 60, burst: int = 16384) -> dict[str, float]:
    """Fill, then drain, in turn: CPU of the consumer alone, with nothing else running beside it."""
    source, sink = Generator(), Sink()
    corridor = build(source, logs=logs, metrics=metrics, sink=sink)
    spent, wall = 0.0, 0.0
    for round_number in range(rounds + 5):
        source.fill(burst)
        cpu, now = time.thread_time(), time.perf_counter()
        corridor.step(time.monotonic())
        if round_number >= 5:  # the first rounds fill the caches
            spent += time.thread_time() - cpu
            wall += time.perf_counter() - now
    records = rounds * burst
    lost = source.counters().ring_full
    source.close()
    return {
        "records": records, "cpu_us_a_record": spent / records * 1e6, "records_a_second": records / wall,
        "lost": lost, "bytes_out": sink.bytes, "items_out": sink.items,
    }  # fmt: skip


def saturated(*, logs: bool, metrics: bool, seconds: float = 3.0) -> dict[str, float]:
    """A producer thread keeps the ring filled, at most to three quarters; BPF runs outside the interpreter's lock."""
    source, sink = Generator(), Sink()
    corridor = build(source, logs=logs, metrics=metrics, sink=sink)
    stop = threading.Event()

    def produce() -> None:
        while not stop.is_set():
            room = source.capacity * 3 // 4 - source.ring.held()
            if room > 0:
                source.fill(min(room, 4096))
            else:
                time.sleep(0.0002)

    producer = threading.Thread(target=produce)
    producer.start()
    begin, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - begin < seconds:
        corridor.step(time.monotonic())
    wall, spent = time.perf_counter() - begin, time.thread_time() - cpu
    stop.set()
    producer.join()
    corridor.step(time.monotonic())
    counters = source.counters()
    source.close()
    return {
        "records": counters.begun, "records_a_second": counters.begun / wall, "cpu_us_a_record": spent / counters.begun * 1e6,
        "lost": counters.ring_full,
    }  # fmt: skip


def baseline(rounds: int = 200) -> float:
    """Seconds of CPU for a fixed numpy loop: what the tripwire's ratios are taken against."""
    import numpy as np  # noqa: PLC0415

    data = np.arange(1 << 16, dtype=np.uint64)
    cpu = time.thread_time()
    for _ in range(rounds):
        np.sort(data * np.uint64(2654435761) % np.uint64(65521))
    return time.thread_time() - cpu


CASES: dict[str, Callable[[], dict[str, float]]] = {
    "ring to metric bytes": lambda: alternate(logs=False, metrics=True),
    "ring to log bytes": lambda: alternate(logs=True, metrics=False),
    "ring to metric bytes, saturated": lambda: saturated(logs=False, metrics=True),
    "ring to log bytes, saturated": lambda: saturated(logs=True, metrics=False),
}
