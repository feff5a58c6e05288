"""Weir's own log lines: their shape, their sampling, and that nothing from outside breaks a line."""

import io
import json
import re
from collections.abc import Iterator

import pytest

from receiver import logs
from receiver.logs import Sampler, configure, get_logger

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setattr(logs, "_sampler", Sampler())
    made = io.StringIO()
    yield made
    configure()


def test_console_lines_are_tabs_and_json(stream: io.StringIO) -> None:
    configure("info", "console", stream)
    get_logger("weir.x").warning("Something.", error="a\tb", number=3)
    get_logger("weir.x").debug("not written")
    get_logger("weir.x").info("Plain.")
    first, second = stream.getvalue().splitlines()
    time, level, name, message, fields = first.split("\t")
    assert re.fullmatch(TIME, time)
    assert (level, name, message) == ("warning", "weir.x", "Something.")
    assert json.loads(fields) == {"error": "a\tb", "number": 3}
    assert second.split("\t")[1:] == ["info", "weir.x", "Plain."]


def test_json_lines_have_the_collectors_keys(stream: io.StringIO) -> None:
    configure("debug", "json", stream)
    get_logger("weir.x").debug("Something.", event_name="e")
    line = json.loads(stream.getvalue())
    assert list(line) == ["level", "ts", "caller", "msg", "event_name"]
    assert (line["level"], line["caller"], line["msg"]) == ("debug", "weir.x", "Something.")


def test_what_comes_from_outside_stays_on_its_line(stream: io.StringIO) -> None:
    configure("info", "console", stream)
    get_logger("weir").info("a\nb\x1b[31m", name="c\nd\x1b[0m\u202e")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
    assert "\u202e" not in stream.getvalue()


def test_sampling_lets_ten_then_every_hundredth_pass() -> None:
    now = [0.0]
    sampler = Sampler(lambda: now[0])
    assert sum(sampler.passes("info", "m") for _ in range(310)) == 10 + 3
    assert sampler.passes("info", "another")
    now[0] = 10.0
    assert sampler.passes("info", "m")


def test_lines_that_matter_are_never_left_out(stream: io.StringIO) -> None:
    configure("info", "console", stream)
    for _ in range(50):
        get_logger("weir").info("often")
        get_logger("weir").always("info", "Final ledger.")
    assert stream.getvalue().count("often") == 10
    assert stream.getvalue().count("Final ledger.") == 50


def test_a_stream_that_is_gone_does_not_matter(stream: io.StringIO) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    configure("info", "console", Gone())
    get_logger("weir").error("nobody reads this")
    with pytest.raises(KeyError):
        configure("loud", "console", stream)
