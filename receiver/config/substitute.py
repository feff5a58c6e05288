"""`${env:NAME}`, `${env:NAME:-default}`, `${NAME}`, `${file:PATH}` and `$$` in strings, filled in as the Collector does."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from receiver.config import yaml
from receiver.config.errors import ConfigError

_REFERENCE: Final = re.compile(r"\$(?:\$|\{((?:[^{}$]|\$\$)*)\})")
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PASSES: Final = 10


class Substitution:
    """Fills in references; `warnings` says which variables were not set, `errors` what could not be filled in."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def apply(self, value: Any, path: str = "") -> Any:
        """`value` with every string filled in, at any depth; `path` for messages."""
        if isinstance(value, dict):
            return {key: self.apply(item, f"{path}::{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list):
            return [self.apply(item, f"{path}::{i}") for i, item in enumerate(value)]
        if isinstance(value, str) and "$" in value:
            return self._fill(value, path)
        return value

    def _fill(self, text: str, path: str) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole and whole[1] is not None:  # the reference is the value: what it gives is read as YAML
            found = self._look_up(whole[1], path)
            try:
                parsed = yaml.parse(found, path)
            except ConfigError as error:
                self.errors += error.errors
                return found
            return parsed if found else None
        for _ in range(_PASSES):
            filled = _REFERENCE.sub(lambda m: "$$" if m[1] is None else self._look_up(m[1], path), text)
            if filled == text:
                break
            text = filled
        return text.replace("$$", "$")

    def _look_up(self, reference: str, path: str) -> str:
        scheme, colon, rest = reference.partition(":")
        if not colon or not re.fullmatch(r"[a-z]+", scheme):
            scheme, rest = "env", reference
        if scheme == "file":
            return self._file(rest, path)
        if scheme == "yaml":
            return rest
        if scheme != "env":
            self.errors.append(
                f"{path}: ${{{reference}}}: the scheme {scheme!r} is not supported (env, file, yaml are)"
            )
            return ""
        name, default_given, default = rest.partition(":-")
        if not _NAME.fullmatch(name):
            self.errors.append(f"{path}: ${{{reference}}}: {name!r} is not the name of an environment variable")
            return ""
        if name in self._environ and (self._environ[name] or not default_given):
            return self._environ[name]
        if not default_given:
            self.warnings.append(f"{path}: the environment variable {name} is not set")
        return default

    def _file(self, name: str, path: str) -> str:
        try:
            with Path(name).open(encoding="utf-8") as file:
                text = file.read(yaml.MAX_BYTES + 1)
        except (OSError, UnicodeDecodeError) as error:
            self.errors.append(f"{path}: ${{file:{name}}}: {error}")
            return ""
        if len(text) > yaml.MAX_BYTES:
            self.errors.append(f"{path}: ${{file:{name}}}: larger than {yaml.MAX_BYTES} bytes")
            return ""
        return text.rstrip("\n")
