"""What became of each request in; the ledger, the exporter's counters and its log lines out."""

from dataclasses import dataclass
from typing import Final

from receiver.export.errors import AbandonedError, ExhaustedError, OversizeError, PermanentError, SendError
from receiver.export.notices import Notices
from receiver.export.queue import Queue
from receiver.export.request import Receipt, Request, Sender
from receiver.ledger import ExporterAccount, Ledger

# The Collector's names for what a signal counts.
ITEM_NAMES: Final = {"logs": "log_records", "metrics": "metric_points", "traces": "spans"}


@dataclass(slots=True)
class Counters:
    """Totals of one exporter and signal, in items; they change under the ledger's lock."""

    sent: int = 0
    send_failed: int = 0
    enqueue_failed: int = 0
    in_flight_requests: int = 0
    reported: int = 0  # of enqueue_failed, in the log


class Account:
    """Settles each request exactly once: whatever its senders raise ends here, but for what others must act on."""

    def __init__(
        self, then: Sender, ledger: Ledger, account: ExporterAccount, counters: Counters, notices: Notices
    ) -> None:
        self._then, self._ledger, self._account = then, ledger, account
        self._counters, self._notices = counters, notices

    def send(self, request: Request) -> Receipt:
        """Send and settle. Raises OversizeError and AbandonedError, which settle nothing."""
        with self._ledger.boundary():
            self._counters.in_flight_requests += 1
        try:
            receipt = self._then.send(request)
        except OversizeError:
            raise
        except AbandonedError:
            with self._ledger.boundary():
                self._counters.send_failed += request.items
            raise
        except SendError as error:
            return self._lost(request, error)
        finally:
            with self._ledger.boundary():
                self._counters.in_flight_requests -= 1
        with self._ledger.boundary():
            self._account.exported(receipt.accepted)
            self._account.dropped("export", "rejected", receipt.rejected)
            self._counters.sent += receipt.accepted
            self._counters.send_failed += receipt.rejected
        if receipt.rejected or receipt.message:
            self._notices.warning("Partial success response", message=receipt.message, dropped_items=receipt.rejected)
        return receipt

    def _lost(self, request: Request, error: SendError) -> Receipt:
        reason = "retries_exhausted" if isinstance(error, ExhaustedError) else "permanent"
        with self._ledger.boundary():
            self._account.dropped("export", reason, request.items)
            self._counters.send_failed += request.items
        fields = error.about()
        if isinstance(error, PermanentError):
            fields["error"] = f"not retryable error: Permanent error: {error.text}"
        self._notices.error("Exporting failed. Dropping data.", dropped_items=request.items, **fields)
        return Receipt(0, request.items)


class Oversize:
    """The end of an item that no destination takes, because it alone is too large."""

    def __init__(self, ledger: Ledger, account: ExporterAccount, counters: Counters, notices: Notices) -> None:
        self._ledger, self._account, self._counters, self._notices = ledger, account, counters, notices

    def send(self, request: Request) -> Receipt:
        """Count and drop."""
        with self._ledger.boundary():
            self._account.dropped("export", "oversize", request.items)
            self._counters.send_failed += request.items
        self._notices.error(
            "Exporting failed. Dropping data.",
            error=f"one item of {len(request.data)} bytes is larger than the destination takes",
            cause="oversize_item",
            remedy="Raise max_recv_msg_size_mib of the Collector's otlp receiver.",
            dropped_items=request.items,
        )
        return Receipt(0, request.items)


class ReportRefused:
    """Logs what the full queue refused, before each attempt: the capture thread, which is refused, must not wait for a log."""

    def __init__(self, then: Sender, queue: Queue, ledger: Ledger, counters: Counters, notices: Notices) -> None:
        self._then, self._queue, self._ledger = then, queue, ledger
        self._counters, self._notices = counters, notices

    def send(self, request: Request) -> Receipt:
        """Report, and pass on."""
        self._queue.report()
        with self._ledger.boundary():
            refused = self._counters.enqueue_failed - self._counters.reported
            self._counters.reported += refused
        if refused:
            self._notices.error(
                "Exporting failed. Rejecting data.",
                error="sending queue is full",
                cause="queue_full",
                remedy="The destination is too slow or away: see its errors, or raise sending_queue.queue_size.",
                rejected_items=refused,
            )
        return self._then.send(request)
