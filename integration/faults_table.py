"""Nothing in, the table of docs/reliability.md out: `python -m integration.faults_table` (root) runs the fault tests.

With `--write` the table takes its place in the document; what else stands on the command line is pytest's.
"""

import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from integration.harness.fault import PROPERTY

HERE: Final = Path(__file__).resolve().parent
TESTS: Final = [str(HERE / name) for name in ("test_faults.py", "test_spool.py")]
DOCUMENT: Final = HERE.parent / "docs/reliability.md"
BEGIN: Final = "<!-- faults: python -m integration.faults_table -->\n"
END: Final = "<!-- end -->\n"
HEADER: Final = """\
| fault | what Weir does | offered | arrived | counted lost | never written | copies (requests) | repeated attempts |
|---|---|---|---|---|---|---|---|"""


class Rows:
    """A plugin that keeps the rows that tests leave."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.rows += [dict(value) for name, value in report.user_properties if name == PROPERTY]


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    lost = ", ".join(f"`{place}` {count}" for place, count in sorted(row["lost"].items())) or "0"
    copies = f"{row['copies']} ({row['copied_requests']})" if row["copies"] else "0"
    cells = (
        row["fault"], row["does"], row["offered"], row["arrived"], lost, row["unwritten"], copies, row["retried"],
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def placed(document: str, table: str) -> str:
    """The document with the table between its two marks; ValueError where they are not there, once."""
    found, count = re.subn(
        f"({re.escape(BEGIN)}).*?({re.escape(END)})",
        lambda marks: f"{marks[1]}{table}{marks[2]}",
        document,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{count} places for the table")
    return found


def main() -> int:
    """The tests' exit code."""
    arguments = sys.argv[1:]
    write = "--write" in arguments
    found = Rows()
    code = int(pytest.main([*TESTS, "-q", "--no-header", *(name for name in arguments if name != "--write")], [found]))
    table = "\n".join([HEADER, *map(line, found.rows)]) + "\n"
    print(table, end="")
    if write and code == 0:
        DOCUMENT.write_text(placed(DOCUMENT.read_text(), table))
    return code


if __name__ == "__main__":
    sys.exit(main())
