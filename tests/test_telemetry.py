"""Weir's own metrics: declared once, and nothing that is not declared leaves."""

import re

import pytest

from receiver.ledger import Ledger
from receiver.telemetry import BY_NAME, DECLARED, checked, ledger_values
from tools.telemetry_docs import PAGE, page


def test_declarations_are_unique_and_well_formed() -> None:
    assert len(BY_NAME) == len(DECLARED)
    for metric in DECLARED:
        assert re.fullmatch(r"weir\.[a-z.]+[a-z]|weir_exporter_[a-z_]+[a-z]", metric.name), metric.name
        assert metric.text.endswith("."), metric.name
        assert metric.unit


def test_what_is_not_declared_is_an_error() -> None:
    with pytest.raises(KeyError):
        checked({"weir.nonsense": []})
    with pytest.raises(KeyError, match="not declared"):
        checked({"weir.capture.drains": [({"pid": "1"}, 1)]})


def test_the_ledger_as_a_metric_adds_up() -> None:
    ledger = Ledger()
    ledger.signal("logs").set(observed=10, filtered={"self": 2}, dropped={("kernel", "ring_full"): 1}, held={"ring": 1})
    account = ledger.exporter("logs", "otlp_grpc")
    account.offer(6)
    account.exported(4)
    values = ledger_values(ledger.snapshot())
    rows = {
        (row.get("weir.ledger.outcome"), row.get("weir.ledger.stage"), row.get("weir.ledger.reason")): n
        for row, n in values
    }
    assert rows == {
        ("observed", None, None): 10,
        ("recovered", None, None): 0,
        ("exported", None, None): 4,
        ("in_flight", None, None): 3,
        ("filtered", None, "self"): 2,
        ("dropped", "kernel", "ring_full"): 1,
    }
    checked({"weir.ledger.events": values})


def test_the_page_of_metrics_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: .venv/bin/python tools/telemetry_docs.py --write"
