"""Settings that the schema knows and this version cannot honour: refused, so that nothing is silently absent."""

from collections.abc import Callable
from typing import Any, Final

_ON: Callable[[Any], bool] = bool
# (path, whether it asks for what is not there). `*` stands for any id.
UNBUILT: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("receivers::ebpf::process::command_args", _ON),
    ("receivers::ebpf::unix::enabled", _ON),
    ("receivers::ebpf::kubernetes::enabled", lambda value: value is True),
    ("receivers::ebpf::kubernetes::peers", _ON),
    ("receivers::ebpf::kubernetes::labels", _ON),
    ("receivers::ebpf::kubernetes::annotations", _ON),
    ("receivers::ebpf::peers", _ON),
    ("receivers::ebpf::service_graph::enabled", _ON),
    ("receivers::ebpf::l7::enabled", _ON),
    ("service::telemetry::metrics::readers", _ON),
)
UNBUILT_EXTENSIONS: Final = frozenset({"observer"})
TEXT: Final = "not available in this version"


def unbuilt(tree: dict[str, Any]) -> list[str]:
    """Errors for what `tree` (the configuration as plain values) asks for and this version has not."""
    found = []
    for path, asks in UNBUILT:
        for where, value in _walk(tree, path.split("::"), ""):
            if asks(value):
                found.append(f"{where}: {TEXT}")
    return found


def _walk(node: Any, path: list[str], at: str) -> list[tuple[str, Any]]:
    if not path:
        return [(at, node)]
    if not isinstance(node, dict):
        return []
    keys = node.keys() if path[0] == "*" else [key for key in node if key.partition("/")[0] == path[0]]
    return [row for key in keys for row in _walk(node[key], path[1:], f"{at}::{key}" if at else key)]
