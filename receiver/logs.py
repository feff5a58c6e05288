"""Weir's own log lines, on stderr, in the Collector's shape: console (tabs and JSON) or json, sampled per message."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import IO, Any, Final

import structlog

LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
_TICK, _INITIAL, _THEREAFTER = 10.0, 10, 100  # the Collector's defaults: service::telemetry::logs::sampling
_MAX_SAMPLED: Final = 1024
_Event = MutableMapping[str, Any]


class Sampler:
    """Of the same message at the same level, the first ten of each ten seconds, then every hundredth."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def passes(self, level: str, message: str) -> bool:
        """Whether this one is written."""
        now = self._clock()
        with self._lock:
            if len(self._seen) >= _MAX_SAMPLED:
                self._seen.clear()
            since, count = self._seen.get((level, message), (now, 0))
            if now - since >= _TICK:
                since, count = now, 0
            count += 1
            self._seen[level, message] = (since, count)
        return count <= _INITIAL or (count - _INITIAL) % _THEREAFTER == 0


_sampler = Sampler()


def _sample(_logger: object, _method: str, event: _Event) -> _Event:
    if not event.pop("_always", False) and not _sampler.passes(event["level"], str(event["event"])):
        raise structlog.DropEvent
    return event


def _stamp(_logger: object, _method: str, event: _Event) -> _Event:
    now = datetime.now(UTC)
    event["ts"] = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
    return event


def _json(fields: object) -> str:
    return json.dumps(fields, default=str, ensure_ascii=True, separators=(",", ":"))


def _console(_logger: object, _method: str, event: _Event) -> str:
    head = [str(event.pop(key)) for key in ("ts", "level", "component", "event")]
    head = ["".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in part) for part in head]
    return "\t".join([*head, _json(event)] if event else head)


def _as_json(_logger: object, _method: str, event: _Event) -> str:
    first = {
        "level": event.pop("level"),
        "ts": event.pop("ts"),
        "caller": event.pop("component"),
        "msg": event.pop("event"),
    }
    return _json({**first, **event})


class _Handler(logging.StreamHandler[IO[str]]):
    """A stream that may go away: a line that cannot be written is not worth the process."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 logging's own name
        """Nothing to do and nobody to tell."""


class Logger:
    """One component's log: a message and fields."""

    def __init__(self, name: str) -> None:
        self._log = structlog.get_logger(component=name)

    def debug(self, message: str, /, **fields: object) -> None:
        """Of use while something is being looked for."""
        self._log.debug(message, **fields)

    def info(self, message: str, /, **fields: object) -> None:
        """What happens when all is well."""
        self._log.info(message, **fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """Something is missing or late; Weir goes on."""
        self._log.warning(message, **fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Something is lost or broken."""
        self._log.error(message, **fields)

    def always(self, level: str, message: str, /, **fields: object) -> None:
        """A line that is never left out by sampling."""
        getattr(self._log, level)(message, _always=True, **fields)


def configure(level: str = "info", encoding: str = "console", stream: IO[str] | None = None) -> None:
    """Once, at start. Raises KeyError for a level or encoding that does not exist."""
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("weir", LEVELS[level])  # noqa: LOG001 not in the tree: no library shall write to it
    logger.addHandler(handler)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            _sample,
            _stamp,
            {"console": _console, "json": _as_json}[encoding],
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Logger:
    """The log of a component, as `weir.exporter.otlp_grpc`."""
    return Logger(name)


configure()
