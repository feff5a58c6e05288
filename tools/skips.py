"""JUnit reports of pytest to a verdict: every skipped test is allowed by name in .ci/allowed-skips.txt, and some test ran."""

import sys
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree as ET


def main(reports: list[str]) -> int:
    """1 if a test was skipped that may not be, or a report holds no test that ran."""
    lines = (Path(__file__).parents[1] / ".ci/allowed-skips.txt").read_text("utf-8").splitlines()
    allowed = [line.partition("  # ")[0] for line in lines if line and not line.startswith("#")]
    failed = False
    for report in reports:
        cases = list(ET.parse(report).iter("testcase"))
        skipped = {f"{case.get('classname')}::{case.get('name')}": case.find("skipped") for case in cases}
        skipped = {name: reason for name, reason in skipped.items() if reason is not None}
        if len(cases) == len(skipped):
            print(f"{report}: no test ran")
            failed = True
        for name, reason in skipped.items():
            if not any(fnmatchcase(name, pattern) for pattern in allowed):
                print(f"{name} was skipped, and is not in allowed-skips.txt: {reason.get('message')}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
