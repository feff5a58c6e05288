"""YAML text to plain values, by YAML 1.2's core rules, with an error for a key that stands twice. The only user of PyYAML."""

import re
from typing import Any, Final

import yaml as pyyaml

from receiver.config.errors import ConfigError

MAX_BYTES: Final = 1 << 20


class _Loader(pyyaml.SafeLoader):
    """PyYAML keeps the last of two equal keys silently, and reads `22:22` as 1342 and `yes` as true: this one does not."""


class _Dumper(pyyaml.SafeDumper):
    pass


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"^(?:{_pattern})$"),
        [*_first.replace("\0", ""), *([""] if "\0" in _first else [])],
    )


def _int(loader: _Loader, node: pyyaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)


def _mapping(loader: _Loader, node: pyyaml.MappingNode) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            key = key_node.value if isinstance(key_node, pyyaml.ScalarNode) else repr(key)
        if key in made:
            raise pyyaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands here a second time", key_node.start_mark
            )
        made[key] = loader.construct_object(value_node, deep=True)
    return made


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, name: str) -> Any:
    """The one document of `text`; ConfigError names `name`, line and column."""
    if len(text) > MAX_BYTES:
        raise ConfigError([f"{name}: larger than {MAX_BYTES} bytes"])
    try:
        return pyyaml.load(text, Loader=_Loader)  # noqa: S506 a subclass of the safe loader
    except pyyaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError([f"{where}: {error.problem}"]) from error
    except (pyyaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([f"{name}: {error}"]) from error


def dump(value: Any) -> str:
    """As a person would write it: no anchors, keys in their order."""
    return pyyaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]
