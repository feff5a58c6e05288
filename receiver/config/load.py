"""Files, environment and `--set` to one tree: read, merged, filled in, validated."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from receiver.config import yaml
from receiver.config.errors import ConfigError
from receiver.config.model import Config, build
from receiver.config.substitute import Substitution

# `weir run` without a configuration: flows on standard output, at once.
DEFAULT: Final[dict[str, Any]] = {
    "receivers": {"ebpf": {}},
    "exporters": {"debug": {}},
    "service": {"extensions": [], "pipelines": {"logs": {"receivers": ["ebpf"], "exporters": ["debug"]}}},
}


def load(sources: Sequence[str], sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of `sources` (paths, or `file:`, `env:`, `yaml:`), later ones over earlier ones, `sets` last.

    Without a source it is DEFAULT. Raises ConfigError with everything that is wrong, before anything is touched.
    """
    environ = os.environ if environ is None else environ
    errors: list[str] = []
    tree: Any = {} if sources else DEFAULT
    for source in sources:
        try:
            tree = merge(tree, _read(source, environ))
        except ConfigError as error:
            errors += error.errors
    for item in sets:
        try:
            tree = merge(tree, _assignment(item))
        except ConfigError as error:
            errors += error.errors
    if errors:
        raise ConfigError(errors)
    substitution = Substitution(environ)
    tree = substitution.apply(tree)
    if substitution.errors:
        raise ConfigError(substitution.errors)
    return build(tree, tuple(substitution.warnings))


def default() -> Config:
    """What runs without a configuration."""
    return load([])


def merge(under: Any, over: Any) -> Any:
    """`over` laid on `under`: maps merge at any depth, everything else, lists too, replaces; null wipes."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{key: merge(under.get(key), value) for key, value in over.items()}}
    return over


def _read(source: str, environ: Mapping[str, str]) -> Any:
    scheme, colon, rest = source.partition(":")
    if colon and scheme == "yaml":
        return _map(yaml.parse(rest, "yaml:"), source)
    if colon and scheme == "env":
        if rest not in environ:
            raise ConfigError([f"{source}: the environment variable is not set"])
        return _map(yaml.parse(environ[rest], source), source)
    name = rest if colon and scheme == "file" else source
    try:
        with Path(name).open(encoding="utf-8") as file:
            text = file.read(yaml.MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{name}: {error.strerror if isinstance(error, OSError) else error}"]) from error
    return _map(yaml.parse(text, name), name)


def _map(value: Any, name: str) -> Any:
    if value is not None and not isinstance(value, dict):
        raise ConfigError([f"{name}: not a map of sections"])
    return value or {}


def _assignment(item: str) -> dict[str, Any]:
    path, equals, text = item.partition("=")
    keys = path.replace("::", ".").split(".")
    if not equals or not all(keys):
        raise ConfigError([f"--set {item}: not of the form a.b=value"])
    value = yaml.parse(text, f"--set {path}")
    for key in reversed(keys):
        value = {key: value}
    return {**value}
