"""`python -m bench`: every benchmark, as a table on standard output and as JSON in bench/results/."""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bench import corridor, drain, live, opened
from receiver.kernel import memory

LIVE: dict[str, Callable[[], Mapping[str, float]]] = {
    "idle": live.idle,
    "live, 1 000/s": lambda: live.live(1000, 10),
    "live, 5 000/s": lambda: live.live(5000, 10),
    "live, as fast as it goes": lambda: live.live(0, 10),
    "drain, 15 MiB of memory": lambda: drain.drain(15, durable=False),
    "drain, 100 MiB of spool": lambda: drain.drain(100, durable=True),
    "open, 10 000 connections": lambda: opened.opened(10_000),
    "open, 50 000 connections": lambda: opened.opened(50_000),
    "live, 5 000/s, BPF statistics on": lambda: live.live(5000, 5, statistics=True),
}
# CPU of 100 000 records against a fixed numpy loop in the same run. Coarse: three times what it is today.
TRIPWIRE = {"ring to metric bytes": 0.70, "ring to log bytes": 4.50}


def _show(name: str, row: Mapping[str, float]) -> None:
    print(
        f"{name:34}", "  ".join(f"{key} {value:,.3f}".rstrip("0").rstrip(".") for key, value in row.items()), flush=True
    )


def tripwire() -> int:
    """1 if a ratio is over its limit."""
    base = min(corridor.baseline() for _ in range(3))
    failed = 0
    for name, limit in TRIPWIRE.items():
        cost = min(corridor.CASES[name]()["cpu_us_a_record"] for _ in range(2))
        ratio = cost * 0.1 / base
        failed |= ratio > limit
        print(f"{name}: {cost:.2f} us a record, {ratio:.3f} of the loop ({base:.2f} s), limit {limit}", flush=True)
    return int(failed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--tripwire", action="store_true", help="only the coarse ratios; 1 if one is over its limit")
    parser.add_argument("--only", default="", help="benchmarks whose name holds this text")
    options = parser.parse_args()
    memory.frugal()
    if options.tripwire:
        return tripwire()
    results: dict[str, Mapping[str, float]] = {}
    for name, case in {**corridor.CASES, **LIVE}.items():
        if options.only in name:
            results[name] = case()
            _show(name, results[name])
    about = {"kernel": platform.release(), "machine": platform.machine(), "python": platform.python_version()}
    target = Path(__file__).with_name("results") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")
    print(f"written: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
