"""The command line: verbs, exit codes, and what a verb does not load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver import __version__
from receiver.cli import main
from receiver.config import yaml

ROOT = Path(__file__).parent.parent
MINIMAL = str(ROOT / "config/minimal.yaml")


def weir(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_a_good_configuration_is_silent() -> None:
    assert weir("validate", "--config", MINIMAL) == (0, "", "")


def test_a_bad_one_lists_every_error_and_exits_with_one() -> None:
    code, out, err = weir(
        "validate", "--config", MINIMAL, "--set", "receivers.ebpf.scop=1", "--set", "exporters.otlp_grpc.timeout=x"
    )
    assert (code, out) == (1, "")
    assert {line.partition(": ")[0] for line in err.splitlines()} >= {
        "receivers::ebpf::scop",
        "exporters::otlp_grpc::timeout",
    }
    assert weir("run", "--config", "/nonexistent.yaml")[0] == 1


def test_wrong_usage_exits_with_two() -> None:
    assert weir("validate", "--nonsense")[0] == 2
    assert weir("nonsense")[0] == 2
    assert weir("record", "--output", "/dev/null", "--duration", "5")[0] == 2


@pytest.mark.parametrize("arguments", [["-h"], ["run", "--help"], ["doctor", "-h"], ["--version"]])
def test_help_and_version(arguments: list[str]) -> None:
    code, out, _ = weir(*arguments)
    assert code == 0
    assert "Usage:" in out or out == f"weir {__version__}\n"


def test_components_are_those_of_the_schema() -> None:
    code, out, _ = weir("components")
    tree = yaml.parse(out, "components")
    assert code == 0
    assert [row["name"] for row in tree["exporters"]] == ["otlp_grpc", "otlp", "debug"]
    assert [row["name"] for row in tree["receivers"]] == ["ebpf"]
    assert tree["buildinfo"]["version"] == __version__


def test_print_config_fills_in_and_redacts() -> None:
    extra = ("--config", MINIMAL, "--set", "exporters.otlp_grpc.headers={a: s3cret}")
    code, out, _ = weir("print-config", *extra)
    tree = yaml.parse(out, "print-config")
    assert (code, tree["receivers"]["ebpf"]["limits"]["max_flows"]) == (0, 65536)
    assert tree["exporters"]["otlp_grpc"]["headers"] == {"a": "[REDACTED]"}
    out = weir("print-config", *extra, "--mode", "unredacted", "--format", "json")[1]
    assert json.loads(out)["exporters"]["otlp_grpc"]["headers"] == {"a": "s3cret"}
    assert weir("print-config", "--full")[1] == (ROOT / "config/full.yaml").read_text()


def test_validating_loads_neither_numpy_nor_grpc() -> None:
    code = (
        "import sys; from receiver.cli import main\n"
        f"main(['validate', '--config', {MINIMAL!r}], standalone_mode=False)\n"
        "print([m for m in ('numpy', 'grpc', 'google.protobuf', 'tenacity') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
