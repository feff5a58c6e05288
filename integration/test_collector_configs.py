"""The Collector configurations that are shipped, judged by a real Collector."""

import os
import subprocess
from pathlib import Path

import pytest

SHIPPED = sorted((Path(__file__).resolve().parent.parent / "config/collector").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_real_collector_takes_it(otelcol: Path, tmp_path: Path, path: Path) -> None:
    done = subprocess.run(
        [otelcol, "validate", "--config", path],
        env={**os.environ, "OUT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_some() -> None:
    assert len(SHIPPED) >= 2
