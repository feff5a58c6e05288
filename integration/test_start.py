"""A configuration that is valid and cannot be used: one clear error, exit code 1, and nothing stays attached."""

from pathlib import Path

from integration.harness.stage import Stage
from integration.harness.weir import configuration


def test_an_endpoint_that_is_taken_is_named(stage: Stage) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    pages = {"extensions": ["health_check", "zpages"]}
    first = stage.weir(space, collector, service=pages)
    second = stage.weirs.start(space, configuration(collector.endpoint, service=pages), wait="")
    assert second.wait() == 1
    (line,) = [line for line in second.logs() if line["level"] == "error"]
    assert line["msg"] == "Cannot start."
    assert line["error"].startswith("extensions::health_check::endpoint: localhost:14133: ")
    assert "Traceback" not in "".join(second.errors)
    first.stop()
    collector.stop()


def test_a_file_that_is_missing_is_named(stage: Stage, tmp_path: Path) -> None:
    space = stage.namespace()
    config = configuration("127.0.0.1:4317", exporter={"tls": {"ca_file": str(tmp_path / "ca.pem")}})
    weir = stage.weirs.start(space, config, wait="")
    assert weir.wait() == 1
    (line,) = [line for line in weir.logs() if line["level"] == "error"]
    assert line["error"].startswith("exporters::otlp_grpc::")
    assert str(tmp_path / "ca.pem") in line["error"]
