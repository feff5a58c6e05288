"""`python -m bench.spool`: the spool against SQLite (and LMDB, where it is installed) as a durable queue of requests.

Each takes the same requests, all of them, and then gives them back one at a time, each marked as taken and as done. Rounds
alternate, the best of each counts: compare rows of one run, not of two. "Synced" is each put; the spool does not sync what is
taken or done (after a crash of the machine it is sent again), the others do.
"""

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from receiver.export.notices import Notices
from receiver.export.request import Request
from receiver.export.storage import FileStorage

SIZE = 256 << 10  # B of one request
RECORDS = 700  # log records in it
COUNT = {False: 400, True: 60}  # requests a round, without and with a sync of each
ROUNDS = 3
MAX_BYTES = 1 << 30


class Contestant(Protocol):
    def put(self, request: Request) -> None: ...
    def get_and_done(self) -> Request: ...
    def close(self) -> None: ...


class Silent:
    def info(self, message: str, /, **fields: object) -> None: ...
    def warning(self, message: str, /, **fields: object) -> None: ...
    def error(self, message: str, /, **fields: object) -> None: ...
    def now(self) -> float:
        return 0.0

    def wait(self, *_: object) -> bool:
        return True


class Spool:
    def __init__(self, directory: Path, *, sync: bool) -> None:
        self._storage = FileStorage(directory, max_bytes=MAX_BYTES, fsync=sync)
        silent: Any = Silent()
        self._queue = self._storage.open("bench", "logs", lambda *_: None, Notices(silent, silent))

    def put(self, request: Request) -> None:
        if not self._queue.put(request):
            raise RuntimeError("refused")

    def get_and_done(self) -> Request:
        request = self._queue.get(0)
        if request is None:
            raise RuntimeError("empty")
        self._queue.done(request)
        return request

    def close(self) -> None:
        self._storage.close()


class Sqlite:
    """A table in WAL mode. NORMAL does not sync each transaction; FULL does."""

    def __init__(self, directory: Path, *, sync: bool) -> None:
        self._base = sqlite3.connect(directory / "queue.db", isolation_level=None)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute(f"PRAGMA synchronous={'FULL' if sync else self.synchronous}")
        self._base.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, items INT, data BLOB)")
        self._base.execute("CREATE TABLE taken (id INTEGER PRIMARY KEY)")  # in the row itself it would rewrite the data
        self._next = 0

    synchronous = "NORMAL"

    def put(self, request: Request) -> None:
        self._base.execute("INSERT INTO queue (items, data) VALUES (?, ?)", (request.items, request.data))

    def get_and_done(self) -> Request:
        number, items, data = self._base.execute(
            "SELECT id, items, data FROM queue WHERE id > ? ORDER BY id LIMIT 1", (self._next,)
        ).fetchone()
        self._next = number
        self._base.execute("INSERT INTO taken VALUES (?)", (number,))
        self._base.execute("BEGIN")
        self._base.execute("DELETE FROM queue WHERE id = ?", (number,))
        self._base.execute("DELETE FROM taken WHERE id = ?", (number,))
        self._base.execute("COMMIT")
        return Request("logs", data, items)

    def close(self) -> None:
        self._base.close()


class SqliteOff(Sqlite):
    synchronous = "OFF"


class Lmdb:
    def __init__(self, directory: Path, *, sync: bool) -> None:
        import lmdb  # noqa: PLC0415 - no dependency: measured where somebody has it

        self._base: Any = lmdb.open(str(directory / "lmdb"), map_size=MAX_BYTES, max_dbs=2, sync=sync, metasync=sync)
        self._data, self._states = self._base.open_db(b"data"), self._base.open_db(b"states")
        self._last = self._next = 0

    def put(self, request: Request) -> None:
        self._last += 1
        with self._base.begin(write=True) as change:
            change.put(self._last.to_bytes(8, "big"), request.items.to_bytes(4, "big") + request.data, db=self._data)

    def get_and_done(self) -> Request:
        self._next += 1
        key = self._next.to_bytes(8, "big")
        with self._base.begin(write=True) as change:
            data = change.get(key, db=self._data)
            change.put(key, b"\1", db=self._states)
        with self._base.begin(write=True) as change:
            change.delete(key, db=self._data)
            change.delete(key, db=self._states)
        return Request("logs", data[4:], int.from_bytes(data[:4], "big"))

    def close(self) -> None:
        self._base.close()


CONTESTANTS: dict[str, tuple[Callable[..., Contestant], tuple[bool, ...]]] = {
    "spool": (Spool, (False, True)),
    "sqlite wal": (Sqlite, (False, True)),
    "sqlite wal off": (SqliteOff, (False,)),
    "lmdb": (Lmdb, (False, True)),
}


@contextmanager
def place(parent: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent, prefix="weir-bench-") as name:
        yield Path(name)


def one_round(
    make: Callable[..., Contestant], parent: str | None, requests: list[Request], *, sync: bool
) -> list[float]:
    """Seconds for all puts, seconds for all that is got and done, seconds of the slowest put."""
    with place(parent) as directory:
        queue, slowest = make(directory, sync=sync), 0.0
        begin = time.perf_counter()
        for request in requests:
            before = time.perf_counter()
            queue.put(request)
            slowest = max(slowest, time.perf_counter() - before)
        middle = time.perf_counter()
        for request in requests:
            if queue.get_and_done().data != request.data:
                raise RuntimeError("something else came out")
        end = time.perf_counter()
        queue.close()
        os.sync()  # what one leaves to be written is not the next one's burden
    return [middle - begin, end - middle, slowest]


def measure(parent: str | None) -> dict[str, dict[str, float]]:
    results: dict[str, dict[str, float]] = {}
    for sync in (False, True):
        requests = [Request("logs", os.urandom(SIZE), RECORDS) for _ in range(COUNT[sync])]
        best: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, (make, modes) in CONTESTANTS.items():
                if sync not in modes:
                    continue
                try:
                    found = one_round(make, parent, requests, sync=sync)
                except ImportError:
                    continue
                best[name] = [min(pair) for pair in zip(best.get(name, found), found, strict=True)]
        ours = best["spool"]
        for name, (put, out, slowest) in best.items():
            count = len(requests)
            results[f"{name}, {'each synced' if sync else 'not synced'}"] = {
                "put_requests_s": count / put,
                "put_records_s": count * RECORDS / put,
                "put_mib_s": count * SIZE / put / (1 << 20),
                "put_slowest_ms": slowest * 1000,
                "out_requests_s": count / out,
                "out_records_s": count * RECORDS / out,
                "out_mib_s": count * SIZE / out / (1 << 20),
                "spool_put_times": put / ours[0],
                "spool_out_times": out / ours[1],
            }
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.spool", description=__doc__)
    parser.add_argument("--directory", help="where to measure: a directory of the disk that counts")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    results = measure(options.directory)
    if options.json:
        print(json.dumps(results, indent=2))
        return 0
    print(
        f"{COUNT[False]} (synced: {COUNT[True]}) requests of {SIZE >> 10} KiB, {RECORDS} records each; best of {ROUNDS}"
    )
    print(f"{'':28}{'put/s':>8}{'records/s':>12}{'MiB/s':>8}{'worst ms':>10}{'out/s':>8}{'records/s':>12}{'MiB/s':>8}"
          f"{'spool is faster by':>22}")  # fmt: skip
    for name, row in results.items():
        print(f"{name:28}{row['put_requests_s']:8.0f}{row['put_records_s']:12,.0f}{row['put_mib_s']:8.0f}"
              f"{row['put_slowest_ms']:10.1f}{row['out_requests_s']:8.0f}{row['out_records_s']:12,.0f}"
              f"{row['out_mib_s']:8.0f}{row['spool_put_times']:12.1f} x{row['spool_out_times']:7.1f} x")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
