"""A configuration tree to a `Config`: every section by its schema, every reference checked, every error collected."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from receiver.config import exporters, service
from receiver.config.errors import ConfigError
from receiver.config.receiver import Ebpf
from receiver.config.strict import Strict
from receiver.config.unbuilt import TEXT, UNBUILT_EXTENSIONS, unbuilt

SIGNALS: Final = ("logs", "metrics", "traces")
RECEIVERS: Final[dict[str, type[Strict]]] = {"ebpf": Ebpf}
_SECTIONS: Final = ("receivers", "exporters", "extensions", "service")
_ABSENT: Final = {"processors": "Weir has no processors", "connectors": "Weir has no connectors"}


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that is valid; `warnings` are for the log."""

    receivers: Mapping[str, Ebpf]
    exporters: Mapping[str, Any]
    extensions: Mapping[str, Any]
    service: service.Service
    warnings: tuple[str, ...] = field(default=())

    @property
    def receiver(self) -> Ebpf:
        """The one ebpf receiver."""
        return next(iter(self.receivers.values()))


def build(tree: Any, warnings: tuple[str, ...] = ()) -> Config:
    """A Config of plain values; ConfigError with everything that is wrong."""
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(["the configuration is not a map of sections"])
    errors = [f"{key}: {_ABSENT.get(key, 'unknown section')}" for key in tree if key not in _SECTIONS]
    receivers = _components("receivers", tree.get("receivers"), RECEIVERS, errors)
    found_exporters = _components("exporters", tree.get("exporters"), exporters.TYPES, errors)
    extensions = _components("extensions", tree.get("extensions"), service.EXTENSIONS, errors)
    made = _section(service.Service, tree.get("service"), "service", errors)
    if made is not None:
        _references(made, receivers, found_exporters, extensions, errors)
    if len(receivers) != 1 and not any(error.startswith("receivers") for error in errors):
        errors.append(f"receivers: exactly one ebpf receiver is needed, there are {len(receivers)}")
    if not errors:
        plain = {
            "receivers": {name: part.model_dump() for name, part in receivers.items()},
            "exporters": {name: part.model_dump() for name, part in found_exporters.items()},
            "service": made.model_dump() if made else {},
        }
        errors += unbuilt(plain)
    if errors or made is None:
        raise ConfigError(errors)
    return Config(receivers, found_exporters, extensions, made, warnings)


def _components(section: str, tree: Any, types: Mapping[str, type[Strict]], errors: list[str]) -> dict[str, Any]:
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        errors.append(f"{section}: must be a map of ids")
        return {}
    made: dict[str, Any] = {}
    for name, settings in tree.items():
        schema = types.get(name.partition("/")[0])
        if schema is None:
            errors.append(f"{section}::{name}: unknown type {name.partition('/')[0]!r} (known: {', '.join(types)})")
        elif (part := _section(schema, settings, f"{section}::{name}", errors)) is not None:
            made[name] = part
    return made


def _section(schema: type[Strict], settings: Any, path: str, errors: list[str]) -> Any:
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        errors.append(f"{path}: must be a map")
        return None
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        errors += [f"{'::'.join([path, *map(str, e['loc'])])}: {_message(e)}" for e in error.errors(include_url=False)]
        return None


def _message(error: Any) -> str:
    kind: str = error["type"]
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    return str(error["msg"])


def _references(
    made: service.Service,
    receivers: Mapping[str, Any],
    found: Mapping[str, Any],
    extensions: Mapping[str, Any],
    errors: list[str],
) -> None:
    if not made.pipelines:
        errors.append("service::pipelines: at least one pipeline is needed")
    for name, pipeline in made.pipelines.items():
        path = f"service::pipelines::{name}"
        signal = name.partition("/")[0]
        if signal not in SIGNALS:
            errors.append(f"{path}: unknown signal {signal!r} (known: {', '.join(SIGNALS)})")
        for kind, ids, known in (
            ("receivers", pipeline.receivers, receivers),
            ("exporters", pipeline.exporters, found),
        ):
            errors += [f"{path}::{kind}: {item!r} is not configured" for item in ids if item not in known]
            errors += [
                f"{path}::{kind}: {item!r} stands twice" for item in sorted({i for i in ids if ids.count(i) > 1})
            ]
    _spans(made, receivers, errors)
    _uses(made, found, extensions, errors)
    for name in made.extensions:
        kind = name.partition("/")[0]
        if kind not in service.EXTENSIONS or (name not in extensions and name != kind):
            errors.append(f"service::extensions: {name!r} is not configured")
        elif kind in UNBUILT_EXTENSIONS:
            errors.append(f"service::extensions: {name}: {TEXT}")


def _spans(made: service.Service, receivers: Mapping[str, Any], errors: list[str]) -> None:
    """Spans and a pipeline for them: the one without the other would silently do nothing."""
    wanted = [name for name, receiver in receivers.items() if receiver.flows.spans]
    pipelines = [name for name in made.pipelines if name.partition("/")[0] == "traces"]
    if wanted and not pipelines:
        errors.append(f"receivers::{wanted[0]}::flows::spans: spans leave by a traces pipeline, and there is none")
    if receivers and not wanted:
        errors += [
            f"service::pipelines::{name}: no receiver makes spans (set receivers::{next(iter(receivers))}::flows::spans)"
            for name in pipelines
        ]


def _uses(made: service.Service, found: Mapping[str, Any], extensions: Mapping[str, Any], errors: list[str]) -> None:
    """Extensions that exporters name must be there, be of the right type, and be turned on."""
    for name, exporter in found.items():
        queue, auth = getattr(exporter, "sending_queue", None), getattr(exporter, "auth", None)
        for path, wanted, kind in (
            ("sending_queue::storage", queue.storage if queue else "", "file_storage"),
            ("auth::authenticator", auth.authenticator if auth else "", "bearertokenauth"),
        ):
            if not wanted:
                continue
            where = f"exporters::{name}::{path}"
            if wanted.partition("/")[0] != kind:
                errors.append(f"{where}: {wanted!r} is no {kind} extension")
            elif wanted not in extensions and (wanted != kind or kind == "bearertokenauth"):
                errors.append(f"{where}: {wanted!r} is not configured under extensions")
            elif wanted not in made.extensions:
                errors.append(f"{where}: {wanted!r} is not listed in service::extensions")
