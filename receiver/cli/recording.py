"""`weir record` and `weir replay`: the kernel's own bytes to a file, and through the same corridor again."""

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from receiver import __version__
from receiver.compose import Service
from receiver.kernel.capture import Capture, KernelError, options_of
from receiver.kernel.recording import Recorder, RecordingError, Replay
from receiver.logs import get_logger

if TYPE_CHECKING:
    from receiver.config import Config

FAILED = 3
log = get_logger("weir")


def record(config: "Config", output: Path, seconds: float, limit: int) -> int:
    """Capture for `seconds` and write everything down beside exporting it as configured; the exit code."""
    try:
        capture = Capture(options_of(config.receiver))
    except (KernelError, OSError, RuntimeError, ValueError) as error:
        log.error("Capture is unavailable.", reason=str(error))  # noqa: TRY400 the reason is what helps
        return FAILED
    recorder = Recorder(capture, output.open("wb"), __version__, limit)
    died = threading.Event()
    service = Service(
        config, recorder, os.environ, lambda where, error: (log.error(where, error=str(error)), died.set())
    )
    service.start()
    capture.attach()
    log.always("info", "Recording.", output=str(output), seconds=seconds)
    died.wait(seconds)
    service.stop(time.monotonic() + config.service.shutdown_timeout)
    log.always("info", "Recorded.", output=str(output), bytes=output.stat().st_size, full=recorder.full)
    log.always("info", "Final ledger.", ledger=service.ledger.snapshot())
    return FAILED if died.is_set() else 0


def replay(config: "Config", path: Path) -> int:
    """Send a recording through the corridor as fast as the exporters take it; the exit code."""
    try:
        source = Replay(path)
    except (OSError, RecordingError) as error:
        log.error("The recording cannot be read.", reason=str(error))  # noqa: TRY400 the reason is what helps
        return FAILED
    failed = threading.Event()
    service = Service(config, source, {}, lambda where, error: (log.error(where, error=str(error)), failed.set()))
    for exporter in service.exporters.values():
        exporter.start()
    try:
        service.corridor.replay(source)
    except BaseException as error:  # noqa: BLE001 said, and the exit code tells
        log.error("The replay failed.", error=repr(error))  # noqa: TRY400
        failed.set()
    deadline = time.monotonic() + config.service.shutdown_timeout
    for exporter in service.exporters.values():
        exporter.stop(deadline)
    log.always("info", "Final ledger.", ledger=service.ledger.snapshot())
    return FAILED if failed.is_set() else 0
