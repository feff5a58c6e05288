"""A process's life: load capture, run a service, reload on SIGHUP, end with the final ledger."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

from receiver import __version__
from receiver.compose import Service
from receiver.intake import capture_options
from receiver.kernel import memory, privileges, probe
from receiver.kernel.capture import Capture, Options
from receiver.kernel.libbpf import KernelError
from receiver.kernel.nothing import NoSource
from receiver.kernel.sizing import fit, memory_limit
from receiver.kernel.source import Source
from receiver.logs import configure, get_logger

if TYPE_CHECKING:
    from receiver.config import Config

OK: Final = 0
INVALID: Final = 1
FAILED: Final = 3
_EXAMINE_WITHIN: Final = 60.0
_SIGNALS_AT_ONCE: Final = 4096
# What enrichment may use to read /proc of other users' processes, kept where it was given.
IDENTITY: Final = frozenset({"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"})
CAPTURE: Final = frozenset({"CAP_BPF", "CAP_PERFMON"})

log = get_logger("weir")


class Life:
    """Runs services one after the other until a signal or a fatal error ends it."""

    def __init__(self, config: "Config", reload: "Callable[[], Config]") -> None:
        self._config, self._reload = config, reload
        # A signal may be taken by any thread; what it writes here always wakes the main one (and Event.set is not reentrant).
        self._signals, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        self._code = OK
        self._capturing = threading.Event()
        self._examined = False

    def run(self) -> int:
        """The exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _noted)
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        memory.frugal()
        log.always("info", "Starting weir...", version=__version__, pid=os.getpid())
        try:
            service = self._start()
        except ValueError as error:
            log.error("Cannot start.", error=str(error))  # noqa: TRY400 the operator needs the reason, not the stack
            return INVALID
        while self._wait() == signal.SIGHUP:
            self._change(service)
        log.info("Starting shutdown...")
        service.stop(time.monotonic() + self._config.service.shutdown_timeout)
        log.info("Shutdown complete.")
        log.always("info", "Final ledger.", ledger=service.ledger.snapshot())
        return self._code

    def fatal(self, where: str, error: BaseException) -> None:
        """A thread met what it did not expect: say where, and end the process with a non-zero code."""
        trace = "".join(traceback.format_exception(error))
        log.error("A thread died. Ending.", thread=where, error=repr(error), trace=trace)
        self._code = FAILED
        with suppress(BlockingIOError):  # full of signals: it will wake anyway
            os.write(self._tell, bytes([signal.SIGTERM]))

    def _wait(self) -> signal.Signals:
        """Until there is something to do: SIGTERM to end, SIGHUP to look at the configuration."""
        while True:
            numbers = set(os.read(self._signals, _SIGNALS_AT_ONCE))
            if numbers & {signal.SIGTERM, signal.SIGINT}:
                return signal.SIGTERM
            if signal.SIGHUP in numbers:
                return signal.SIGHUP

    def _change(self, service: Service) -> None:
        """Run by the new configuration, if it is good: what it leaves as it was is not touched."""
        try:
            config = self._reload()
            if config.receiver == self._config.receiver:
                service.change(config, None, lambda: None)
            else:
                source = Capture(capture_options(config.receiver))
                try:
                    service.change(config, source, lambda: self._attach(service, source))
                except ValueError:
                    source.close()
                    raise
        except (KernelError, OSError, RuntimeError, ValueError) as error:
            log.error(  # noqa: TRY400 the operator needs the reason, not the stack
                "The new configuration cannot be used. Keeping the old one.", error=str(error)
            )
            return
        self._config = config
        own = config.service.telemetry.logs
        configure(own.level, own.encoding)
        log.always("info", "Configuration updated.", ledger=service.ledger.snapshot())
        memory.trim()

    def _start(self) -> Service:
        source, reason = self._capture()
        try:
            service = Service(self._config, source, os.environ, self.fatal)
        except ValueError:
            source.close()
            raise
        service.start()
        if isinstance(source, Capture):
            self._attach(service, source)
            self._capturing.set()
        else:
            service.capture = f"unavailable: {reason}"
            log.always("warning", "Capture is unavailable.", reason=reason)
        memory.trim()
        return service

    def _attach(self, service: Service, source: Capture) -> None:
        self._say_sizes(source.options)
        attached = source.attach()
        for program, why in attached.missing.items():
            log.warning("A program is not attached.", program=program, reason=why)
        if self._config.receiver.dns.enabled and not source.options.dns_ports:
            log.warning("DNS is not read.", reason="Weir runs in the machine's own network namespace")
        service.capture = "available"
        log.always("info", "Everything is ready. Begin running and processing data.", programs=attached.programs,
                   open_connections=attached.listed)  # fmt: skip

    def _say_sizes(self, options: Options) -> None:
        asked, limit = self._config.receiver.limits.max_flows, memory_limit()
        if options.max_flows < asked:
            log.warning("The memory limit has no room for limits.max_flows. Taking fewer.", max_flows=options.max_flows,
                        asked=asked, memory_limit=limit)  # fmt: skip
        sizes = fit(options.max_flows, options.ring_bytes, None)
        log.always("info", "Sizes of the kernel's tables.", max_flows=options.max_flows, ring_bytes=options.ring_bytes,
                   table_bytes=sizes.table_bytes, memory_limit=limit)  # fmt: skip

    def _capture(self) -> tuple[Source, str]:
        """Load the kernel side, then let go of every privilege that is not needed any more."""
        source: Source = NoSource()
        reason = ""
        try:
            source = Capture(capture_options(self._config.receiver))
        except (KernelError, OSError, RuntimeError, ValueError) as error:
            log.debug("Capture could not be loaded.", error=str(error), detail=getattr(error, "log", ""))
            reason = "; ".join(probe.capture_blockers(self._examine())) or str(error)
        else:
            if not self._examined:
                # A thread keeps the capabilities that it was started with: the probes get theirs before they are dropped.
                threading.Thread(target=self._examine_later, name="probe", daemon=True).start()
        privileges.drop(keep=CAPTURE | IDENTITY)
        return source, reason

    def _examine_later(self) -> None:
        if self._capturing.wait(_EXAMINE_WITHIN):
            self._examine()
            memory.trim()

    def _examine(self) -> list[probe.Feature]:
        """What `weir doctor` says, as one log line; once in a process's life."""
        features = probe.probe_all()
        if not self._examined:
            self._examined = True
            log.always("info", "Features of this host.", features=probe.summary(features))
        return features


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The number is in the pipe already (signal.set_wakeup_fd)."""


def run(config: "Config", reload: "Callable[[], Config]") -> int:
    """Run until SIGTERM or SIGINT; the exit code (0; INVALID where the configuration cannot be used, FAILED where a thread died)."""
    return Life(config, reload).run()
