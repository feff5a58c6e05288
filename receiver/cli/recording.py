"""`weir record` and `weir replay`: the kernel's own bytes to a file, and through the same corridor again."""

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from receiver import __version__
from receiver.compose import Service
from receiver.intake import capture_options
from receiver.kernel.capture import Capture
from receiver.kernel.libbpf import KernelError
from receiver.kernel.recording import Recorder, RecordingError, Replay
from receiver.logs import get_logger

if TYPE_CHECKING:
    from receiver.config import Config

FAILED = 3
log = get_logger("weir")


class _Died:
    """Remembers that a thread died, and says where."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, where: str, error: BaseException) -> None:
        log.error("A thread died. Ending.", thread=where, error=repr(error))
        self.event.set()


def record(config: "Config", output: Path, seconds: float, limit: int) -> int:
    """Capture for `seconds` and write everything down beside exporting it as configured; the exit code."""
    try:
        capture = Capture(capture_options(config.receiver))
    except (KernelError, OSError, RuntimeError, ValueError) as error:
        log.error("Capture is unavailable.", reason=str(error))  # noqa: TRY400 the reason is what helps
        return FAILED
    recorder = Recorder(capture, output.open("wb"), __version__, limit)
    died = _Died()
    service = Service(config, recorder, os.environ, died)
    service.start()
    capture.attach()
    log.always("info", "Recording.", output=str(output), seconds=seconds)
    died.event.wait(seconds)
    service.stop(time.monotonic() + config.service.shutdown_timeout)
    log.always("info", "Recorded.", output=str(output), bytes=output.stat().st_size, full=recorder.full)
    log.always("info", "Final ledger.", ledger=service.ledger.snapshot())
    return FAILED if died.event.is_set() else 0


def replay(config: "Config", path: Path) -> int:
    """Send a recording through the corridor as fast as the exporters take it; the exit code."""
    try:
        source = Replay(path)
    except (OSError, RecordingError) as error:
        log.error("The recording cannot be read.", reason=str(error))  # noqa: TRY400 the reason is what helps
        return FAILED
    died = _Died()
    service = Service(config, source, {}, died)
    for exporter in service.exporters.values():
        exporter.start()
    try:
        service.intake.corridor.replay(source)
    except BaseException as error:  # noqa: BLE001 said, and the exit code tells
        died("replay", error)
    deadline = time.monotonic() + config.service.shutdown_timeout
    for exporter in service.exporters.values():
        exporter.stop(deadline)
    log.always("info", "Final ledger.", ledger=service.ledger.snapshot())
    return FAILED if died.event.is_set() else 0
