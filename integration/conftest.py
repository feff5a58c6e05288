"""Fixtures: what the machine must have, and a stage for each test. A real kernel, a real Collector, real sockets."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import needs
from integration.harness.collector import build
from integration.harness.stage import Stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("kernel")


@pytest.fixture(scope="session")
def machine() -> None:
    """In CI whatever is missing is a failure; elsewhere these tests are skipped and say why."""
    missing = needs.missing()
    if missing:
        text = "missing: " + "; ".join(missing)
        if os.environ.get("CI") == "true":
            pytest.fail(text, pytrace=False)
        pytest.skip(text)


@pytest.fixture(scope="session")
def otelcol(machine: None) -> Path:
    """The Collector's binary."""
    return build()


@pytest.fixture
def stage(tmp_path: Path, otelcol: Path) -> Iterator[Stage]:
    """A stage for one test."""
    with Stage(tmp_path, otelcol) as made:
        yield made


@pytest.fixture(scope="session")
def connload(machine: None) -> Path:
    """The bounded load generator."""
    return needs.compiled("connload")


@pytest.fixture(scope="session")
def fleeting(machine: None) -> Path:
    """A program that connects and is gone."""
    return needs.compiled("fleeting")
