"""The way out: a full memory queue, and a spool of 100 MiB, from the Collector's return until they are empty."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.corridor import Sink, build
from bench.generator import Generator
from bench.live import _SINK, _port, _wait
from integration.harness.collector import OTELCOL
from integration.harness.collector import build as collector
from receiver.export.build import build as exporter_of
from receiver.export.request import Request
from receiver.export.storage import FileStorage
from receiver.ledger import Ledger, imbalance
from receiver.otlp.encoded import Encoded


class _Keep(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Encoded] = []

    def take(self, encoded: Sequence[Encoded]) -> None:
        super().take(encoded)
        self.parts += encoded


def requests() -> list[Request]:
    """Real log requests of up to 1 MiB, as one drain makes them."""
    source, sink = Generator(), _Keep()
    corridor = build(source, logs=True, metrics=False, sink=sink)
    source.fill(16384)
    corridor.step(time.monotonic())
    source.close()
    return [Request("logs", part.data, part.items) for part in sink.parts]


def drain(mib: int, *, durable: bool) -> Mapping[str, float]:
    """Fill the queue while nobody listens; start the Collector; how long until it is empty."""
    port, made = _port(), requests()
    with tempfile.TemporaryDirectory() as scratch:
        sink = Path(scratch, "sink.yaml")
        sink.write_text(_SINK.format(port=port))
        queue: dict[str, Any] = {"queue_size": mib << 21, "storage": "file_storage" if durable else ""}
        settings = SimpleNamespace(
            endpoint=f"127.0.0.1:{port}", tls=SimpleNamespace(insecure=True), headers={}, auth=None,
            sending_queue=SimpleNamespace(**queue),
            retry_on_failure=SimpleNamespace(initial_interval=0.2, max_interval=0.2, max_elapsed_time=0.0),
        )  # fmt: skip
        storage = FileStorage(Path(scratch, "spool"), max_bytes=mib << 21) if durable else None
        ledger = Ledger()
        exporter = exporter_of(
            "otlp_grpc", settings, ledger, ["logs"], lambda *_: None, log=_Silent(),
            storages={"file_storage": storage} if storage else {},
        )  # fmt: skip
        exporter.start()
        number = records = 0
        begun = time.perf_counter()
        while exporter.lanes["logs"].queue.size < mib << 20:
            request = made[number % len(made)]
            with ledger.boundary():
                ledger.signal("logs").observe(request.items)
                exporter.offer(request)
            number, records = number + 1, records + request.items
        filled = time.perf_counter() - begun
        size = exporter.lanes["logs"].queue.size
        process = subprocess.Popen([collector(), "--config", sink], cwd=OTELCOL, stderr=subprocess.DEVNULL)
        try:
            _wait(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the Collector")
            begun, cpu = time.perf_counter(), time.process_time()
            _wait(lambda: ledger.snapshot()["logs"]["in_flight"] == 0, "an empty queue", 120)
            spent, cpu = time.perf_counter() - begun, time.process_time() - cpu
            exporter.stop(time.monotonic() + 5)
            if storage is not None:
                storage.close()
            final = ledger.snapshot()
            if imbalance(final) or final["logs"]["exported"] != records:
                raise RuntimeError(final)
        finally:
            process.terminate()
            process.wait(20)
    return {
        "mib": size / (1 << 20), "records": records, "fill_s": filled, "empty_s": spent,
        "mib_a_second": size / (1 << 20) / spent, "records_a_second": records / spent, "cpu_s": cpu,
    }  # fmt: skip


class _Silent:
    def info(self, message: str, /, **fields: object) -> None: ...
    def warning(self, message: str, /, **fields: object) -> None: ...
    def error(self, message: str, /, **fields: object) -> None: ...
