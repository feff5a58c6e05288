"""The routes of the extensions: `health_check` says that Weir lives, `zpages` shows its ledger and status as JSON."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from receiver.admin.http import Answer, Route

_JSON = "application/json"


def _answer(value: object, status: int = 200) -> Answer:
    return Answer(status, _JSON, (json.dumps(value, indent=2, default=str) + "\n").encode())


def health_routes(ready: Callable[[], bool]) -> Mapping[str, Route]:
    """The Collector's health_check, version 1. A destination that is down is no reason to be restarted: it stays 200."""
    since = datetime.now(UTC)
    began = time.monotonic()

    def health() -> Answer:
        if not ready():
            return _answer({"status": "Server not available", "upSince": "0001-01-01T00:00:00Z", "uptime": ""}, 503)
        uptime = f"{time.monotonic() - began:.6f}s"
        return _answer(
            {"status": "Server available", "upSince": since.isoformat().replace("+00:00", "Z"), "uptime": uptime}
        )

    return {"/": health}


def zpages_routes(ledger: Callable[[], object], status: Callable[[], object]) -> Mapping[str, Route]:
    """`/debug/ledger` and `/debug/status`; `/` lists them."""
    routes: dict[str, Route] = {
        "/debug/ledger": lambda: _answer(ledger()),
        "/debug/status": lambda: _answer(status()),
    }
    index = "".join(f"{path}\n" for path in routes).encode()
    return {"/": lambda: Answer(200, "text/plain; charset=utf-8", index), **routes}
