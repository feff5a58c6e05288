"""The source of a host where capture is unavailable: no records, and nothing to undo."""

import threading
from collections.abc import Iterable, Iterator

from receiver.kernel.source import Counters, Owner


class NoSource:
    """Waits as asked and never has anything; Weir stays up on it, honest and healthy."""

    def __init__(self) -> None:
        self._never = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Return after `timeout` seconds."""
        return self._never.wait(timeout)

    def newcomers(self) -> list[tuple[int, int]]:
        """Nobody."""
        return []

    def drain(self, limit: int) -> bytes:  # noqa: ARG002
        """Nothing."""
        return b""

    def dns(self) -> bytes:
        """Nothing."""
        return b""

    def counters(self) -> Counters:
        """All zero."""
        return Counters()

    def run_pass(self, update_interval: int = 0) -> bytes:  # noqa: ARG002
        """Nothing."""
        return b""

    def finish(self) -> Iterator[bytes]:
        """Nothing."""
        return iter(())

    def owners(self, keys: Iterable[tuple[int, int]]) -> list[Owner | None]:
        """None for each."""
        return [None for _ in keys]

    def boot_to_unix(self) -> int:
        """Of no use."""
        return 0

    def detach(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
