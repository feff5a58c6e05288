"""The `discover` thread: read requests in through a bounded queue, what `/proc` says of each process out."""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Full, Queue
from typing import TypeAlias

from receiver.enrich.identity import Owner
from receiver.enrich.process import Outcome, Profile, read_process

Read: TypeAlias = Callable[[Path, int, int, bytes, int], tuple[Outcome, Profile | None]]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Please read process `pid` (in Weir's own pid namespace), which is `owner`."""

    owner: Owner
    pid: int


@dataclass(frozen=True, slots=True)
class ReadResult:
    """How the read for `owner` ended; its `profile` is set where it was read."""

    owner: Owner
    outcome: Outcome


class ProcessReader:
    """Reads processes below `proc` in a thread of its own, because a read of `/proc` may hang as long as it likes.

    At most `queue_size` requests wait. Only this thread opens `/proc/PID`.
    """

    def __init__(self, proc: Path = Path("/proc"), *, queue_size: int = 1024, read: Read = read_process) -> None:
        self._proc = proc
        self._read = read
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._requests: Queue[ReadRequest | None] = Queue(queue_size)
        self._results: deque[ReadResult] = deque()
        self._stopping = threading.Event()
        # A daemon: a read that hangs in the kernel cannot be ended, and must not hold up the exit.
        self._thread = threading.Thread(target=self._run, name="discover", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Read no more; whether the thread ended within `timeout` seconds (it does not while a read hangs)."""
        self._stopping.set()
        while not self._requests.empty():  # whatever waits is not read any more; nothing new comes in
            with suppress(Empty):
                self._requests.get_nowait()
        self._requests.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def submit(self, request: ReadRequest) -> bool:
        """Queue `request`, never waiting; False where there is no room, or after `stop`."""
        if self._stopping.is_set():
            return False
        try:
            self._requests.put_nowait(request)
        except Full:
            return False
        return True

    def finished(self) -> list[ReadResult]:
        """The results since the last call, in the order they ended."""
        return [self._results.popleft() for _ in range(len(self._results))]

    def _run(self) -> None:
        while (request := self._requests.get()) is not None and not self._stopping.is_set():
            owner = request.owner
            executable = owner.entry.executable if owner.entry else b""
            outcome, profile = self._read(self._proc, request.pid, owner.start, executable, self._ticks)
            self._results.append(ReadResult(replace(owner, profile=profile), outcome))
