"""The repository's own promises: a short README, docs that point somewhere, dependencies with a reason, text about itself alone."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
# Made by the verbs, or by tools; git ignores them.
MADE: Final = frozenset({"build", "dist", "__pycache__", "objects", "results", "output", "node_modules"})
HIDDEN: Final = frozenset({".ci", ".gitignore", ".dockerignore"})
TEXT: Final = frozenset(
    {
        ".c",
        ".conf",
        ".go",
        ".h",
        ".html",
        ".json",
        ".md",
        ".mod",
        ".proto",
        ".py",
        ".sh",
        ".toml",
        ".txt",
        ".yaml",
        ".yml",
    }
)
# The places that this tree was written at, and the hosts that registries happen to have: no business of a reader.
FOREIGN: Final = [
    "../" + "shared",
    "/work" + "/main",
    "/work" + "/shared",
    "/root" + "/",
    "pypi" + ".org",
    "python" + "hosted",
    "proxy.golang" + ".org",
    "deb.debian" + ".org",
    "crates" + ".io",
    "registry.npmjs" + ".org",
]
SPECIFIER: Final = re.compile(r'^"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?[^"]*",?\s*(?:#\s*(.*))?$')
LINK: Final = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
FRAGMENT: Final = re.compile(r"^(\d+|\+[a-z0-9-]+)\.(feature|fix|change)\.md$")
ADR_LINES: Final = range(10, 46)  # half a page


def files() -> Iterator[Path]:
    """What is, or may become, tracked: found without git, because a release is no clone."""

    def walk(directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if path.name in MADE or (path.name.startswith(".") and path.name not in HIDDEN) or ".egg-info" in path.name:
                continue
            if path.is_dir() and not path.is_symlink():
                yield from walk(path)
            elif path.is_file():
                yield path

    return walk(ROOT)


FILES: Final = list(files())
PAGES: Final = [path for path in FILES if path.suffix == ".md"]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_walk_finds_the_tree() -> None:
    assert {"README.md", "Makefile", ".ci/run", "bpf/flow.bpf.c", "receiver/__init__.py"} <= {name_of(p) for p in FILES}
    assert not any(name_of(path).startswith((".venv", ".git/")) for path in FILES)


def test_the_readme_is_read_in_a_minute() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert 20 < len(lines) <= 100
    for command in ("make run", "weir run --config"):
        assert any(command in line for line in lines), command


def foreign(text: str) -> list[str]:
    return [f"line {n}: {word}" for n, line in enumerate(text.splitlines(), 1) for word in FOREIGN if word in line]


def test_the_tree_speaks_of_itself_alone() -> None:
    offending = {}
    for path in FILES:
        said = path.suffix in TEXT or path.name in {"Makefile", "Dockerfile", "LICENSE", "run"}
        if said and (found := foreign(path.read_text("utf-8"))):
            offending[name_of(path)] = found
    assert offending == {}
    assert foreign("a\nsee " + FOREIGN[0]) == [f"line 2: {FOREIGN[0]}"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_points_at_what_is_there(page: Path) -> None:
    dead = [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert dead == []


def decisions() -> list[Path]:
    return sorted((ROOT / "docs/adr").glob("[0-9]*.md"))


def test_a_decision_is_half_a_page_and_listed() -> None:
    index = (ROOT / "docs/adr/README.md").read_text("utf-8")
    assert len(decisions()) >= 5
    for page in decisions():
        lines = page.read_text("utf-8").splitlines()
        assert lines[0].startswith(f"# {page.name[:4]} "), page.name
        assert len(lines) in ADR_LINES, page.name
        assert f"({page.name})" in index, page.name
        assert any(line.startswith("**Decision.**") for line in lines), page.name
        assert any(line.startswith("**Again when**") for line in lines), page.name


def test_changes_are_said_in_fragments() -> None:
    fragments = [path for path in (ROOT / "newsfragments").iterdir() if path.name != ".gitignore"]
    released = re.search(r"^## \d", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert fragments or released
    for path in fragments:
        assert FRAGMENT.match(path.name), path.name
        assert path.read_text("utf-8").strip(), path.name
    assert {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]} == {"feature", "fix", "change"}


def reasons() -> dict[str, str]:
    """Each requirement that pyproject.toml names, and the comment beside it."""
    found = {}
    for line in (ROOT / "pyproject.toml").read_text("utf-8").splitlines():
        match = SPECIFIER.match(line.strip())
        if match and line.startswith("    "):
            found[match[1]] = match[2] or ""
    return found


def required(group: list[str]) -> list[str]:
    return [re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0] for requirement in group]


def test_a_dependency_says_why_it_is_there() -> None:
    names = required(PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"])
    assert {name: reasons().get(name) for name in names if not reasons().get(name)} == {}
    assert "numpy" in names


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("runtime.txt", PROJECT["project"]["dependencies"]),
        ("build.txt", PROJECT["build-system"]["requires"]),
        ("dev.txt", PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_a_lock_pins_what_is_wanted_by_digest(lock: str, wanted: list[str]) -> None:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    pins = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    locked = {normal(pin.partition("==")[0]) for pin in pins if "==" in pin}
    assert {normal(name) for name in required(wanted)} <= locked
    assert [pin.partition("==")[0] for pin in pins if "==" in pin and "--hash=sha256:" not in pin] == []
    assert "://" not in text


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def test_the_verbs_of_the_docs_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {verb for page in PAGES for verb in re.findall(r"`make ([a-z][a-z-]*)`", page.read_text("utf-8"))}
    assert {"setup", "run", "test", "integration", "bench", "check"} <= targets
    assert named <= targets


def test_a_skip_in_ci_is_allowed_by_name_and_reason() -> None:
    for line in (ROOT / ".ci/allowed-skips.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            test, _, reason = line.partition("  # ")
            assert "::" in test, line
            assert len(reason) > 10, line
