"""The walls between the rooms: who may import what, and how large a room may be."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from importlinter.cli import lint_imports

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "receiver"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
SOURCES: Final = MODULES + sorted((ROOT / "bpf").glob("*.[ch]"))

# A package that not everybody may import -> the rooms that may.
ONLY_IN: Final = {
    "ctypes": ("kernel",),
    "mmap": ("kernel",),
    "yaml": ("config",),
    "pydantic": ("config",),
    "grpc": ("export", "admin"),
    "tenacity": ("export",),
    "click": ("cli",),
    "opentelemetry": ("export",),
    # Weir never forks after its start, and has no event loop.
    "subprocess": (),
    "multiprocessing": (),
    "asyncio": (),
    "concurrent": (),
}
PURE: Final = ("dns", "flows", "l7", "otlp")
IMPURE: Final = frozenset(
    {"datetime", "glob", "io", "mmap", "os", "pathlib", "queue", "select", "selectors", "shutil", "signal", "socket"}
    | {"socketserver", "ssl", "tempfile", "threading", "time"}
)
FORKS: Final = frozenset({"fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen"})
IMPURE_CALLS: Final = frozenset({"open", "input", "print", "exec", "eval"})
# What names the kernel's tracing and BPF file systems, or the number of bpf(2).
KERNEL_WORDS: Final = re.compile(r"/sys/kernel/(debug/)?tracing|/sys/fs/bpf|\bSYS_bpf\b|\blibbpf\.so")
NO_ROOMS: Final = frozenset({"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"})
LONGEST: Final = 400


def room(module: Path) -> str:
    """The package below receiver/ that a module stands in; its own name where it stands alone."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path, text: str) -> Iterator[tuple[str, int]]:
    """Absolute names that a module imports anywhere in it, and the line."""
    for node in ast.walk(ast.parse(text, str(module))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


def offences(module: Path, text: str) -> list[str]:
    """Each thing in a module that its room may not have."""
    here = room(module)
    found = [(line, problem) for name, line in imported(module, text) for problem in import_problems(here, name)]
    for node in ast.walk(ast.parse(text, str(module))):
        found += [(node.lineno, problem) for problem in problems(here, node)]
    return [f"{module.name}:{line}: {problem}" for line, problem in found]


def import_problems(here: str, name: str) -> Iterator[str]:
    top = name.partition(".")[0]
    allowed = ONLY_IN.get(top)
    if allowed is not None and here not in allowed:
        yield f"{top} belongs to {', '.join(allowed) or 'nobody'}"
    if here in PURE and top in IMPURE:
        yield f"{here} knows no {top}"


def problems(here: str, node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id=name)) if here in PURE and name in IMPURE_CALLS:
            yield f"{here} does not {name}"
        case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in FORKS:
            yield "nobody forks"
        case ast.Constant(value=str() | bytes() as value) if here != "kernel":
            text = value if isinstance(value, str) else value.decode("latin-1")
            # A sentence may name a path; a path alone is about to be opened.
            if KERNEL_WORDS.search(text) and " " not in text:
                yield f"{text!r} belongs to kernel"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_to_its_room(module: Path) -> None:
    assert offences(module, module.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("flows/x.py", "import ctypes"),
        ("enrich/x.py", "from ctypes import CDLL"),
        ("export/x.py", "import yaml"),
        ("enrich/x.py", "def f():\n    import grpc.aio"),
        ("flows/x.py", "import time"),
        ("otlp/x.py", "from datetime import UTC"),
        ("l7/x.py", "from threading import Lock"),
        ("otlp/x.py", "open('/etc/passwd')"),
        ("export/x.py", "import subprocess"),
        ("enrich/x.py", "import os\nos.fork()"),
        ("enrich/x.py", "PATH = '/sys/kernel/tracing/events'"),
        ("config/x.py", "PIN = b'/sys/fs/bpf/weir'"),
    ],
)
def test_an_offence_is_found(where: str, text: str) -> None:
    assert len(offences(PACKAGE / where, text)) == 1


def test_what_is_allowed_is_not_an_offence() -> None:
    assert offences(PACKAGE / "kernel/x.py", "import ctypes\nimport time\nP = '/sys/fs/bpf'") == []
    assert offences(PACKAGE / "config/x.py", "import yaml\nfrom pydantic import BaseModel") == []


def test_a_hop_imports_only_hops_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_one_job(source: Path) -> None:
    with source.open(encoding="utf-8") as file:
        assert sum(1 for _ in file) <= LONGEST
    assert source.name.partition(".")[0] not in NO_ROOMS
