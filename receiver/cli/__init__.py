"""The command line: verbs to calls, and results to exit codes. What a verb needs is imported when it runs."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from receiver import __version__

if TYPE_CHECKING:
    from receiver.config import Config

OK: Final = 0
INVALID: Final = 1
FAILED: Final = 3
_CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_EPILOG: Final = "Exit codes: 0 done, 1 the configuration is not valid, 2 wrong usage, 3 failed while running."
_Verb = TypeVar("_Verb", bound=Callable[..., Any])

_config_option = click.option(
    "--config", "sources", multiple=True, metavar="FILE",
    help="Configuration: a path, or file:PATH, env:NAME, yaml:TEXT. May repeat: maps merge, lists replace.",
)  # fmt: skip
_set_option = click.option("--set", "sets", multiple=True, metavar="A.B=VALUE", help="One setting, over all files.")


def _configured(verb: _Verb) -> _Verb:
    return _config_option(_set_option(verb))


def _load(sources: tuple[str, ...], sets: tuple[str, ...]) -> "Config":
    from receiver.config import ConfigError, load  # noqa: PLC0415

    try:
        return load(sources, sets)
    except ConfigError as error:
        for line in error.errors:
            click.echo(line, err=True)
        sys.exit(INVALID)


def _start(sources: tuple[str, ...], sets: tuple[str, ...]) -> "Config":
    """The configuration of a verb that runs, and its log from now on."""
    from receiver import logs  # noqa: PLC0415

    config = _load(sources, sets)
    own = config.service.telemetry.logs
    logs.configure(own.level, own.encoding)
    for warning in config.warnings:
        logs.get_logger("config").warning("Configuration references an unset environment variable.", detail=warning)
    return config


@click.group(context_settings=_CONTEXT, epilog=_EPILOG)
@click.version_option(__version__, "-v", "--version", prog_name="weir", message="%(prog)s %(version)s")
def main() -> None:
    """Watch every network flow of a workload with eBPF, and push each as OTLP to an OpenTelemetry Collector.

    \b
    weir run                               show TCP flows of this network namespace
    weir run --config /etc/weir/config.yaml
    weir doctor                            what this host can do, and why not
    """  # noqa: D301 click reads the backspace


@main.command(epilog=_EPILOG)
@_configured
def run(sources: tuple[str, ...], sets: tuple[str, ...]) -> None:
    """Capture and export until SIGTERM or Ctrl-C. Without --config flows are printed on standard output."""
    config = _start(sources, sets)
    from receiver import life  # noqa: PLC0415
    from receiver.config import load  # noqa: PLC0415

    sys.exit(life.run(config, lambda: load(sources, sets)))


@main.command(epilog=_EPILOG)
@_configured
def validate(sources: tuple[str, ...], sets: tuple[str, ...]) -> None:
    """Check a configuration: silent and 0 if it is good, else every error with its path."""
    _load(sources, sets)


@main.command()
def components() -> None:
    """The components of this build, as YAML."""
    from receiver.config import yaml  # noqa: PLC0415
    from receiver.config.exporters import TYPES  # noqa: PLC0415
    from receiver.config.service import EXTENSIONS  # noqa: PLC0415
    from receiver.config.unbuilt import UNBUILT_EXTENSIONS  # noqa: PLC0415

    signals = {"logs": "Alpha", "metrics": "Alpha", "traces": "Alpha"}
    exporters = [{"name": name, "stability": dict(signals)} for name in TYPES]
    click.echo(
        yaml.dump(
            {
                "buildinfo": {"command": "weir", "description": "Weir", "version": __version__},
                "receivers": [{"name": "ebpf", "stability": dict(signals)}],
                "exporters": exporters,
                "extensions": [
                    {"name": name, "stability": {"extension": "Alpha"}}
                    for name in EXTENSIONS
                    if name not in UNBUILT_EXTENSIONS
                ],
            }
        ),
        nl=False,
    )


@main.command("print-config", epilog=_EPILOG)
@_configured
@click.option(
    "--mode", type=click.Choice(["redacted", "unredacted"]), default="redacted", help="Whether secrets are shown."
)
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", help="How it is written.")
@click.option("--full", is_flag=True, help="Every key with its default and what it does, whatever the configuration.")
def print_config(sources: tuple[str, ...], sets: tuple[str, ...], mode: str, form: str, *, full: bool) -> None:
    """Print the configuration as it runs: merged, filled in, defaults included."""
    from receiver.config import dump, full_yaml  # noqa: PLC0415

    if full:
        click.echo(full_yaml(), nl=False)
        return
    click.echo(dump(_load(sources, sets), redact=mode == "redacted", form=form), nl=False)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(*, as_json: bool) -> None:
    """Say what this host can do and what it cannot, each with its reason and remedy. Every feature is tried."""
    from receiver.cli.doctor import doctor as examine  # noqa: PLC0415

    sys.exit(examine(json=as_json))


@main.command(epilog=_EPILOG)
@_configured
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write."
)
@click.option("--duration", default="10s", help="How long, as 10s or 5m.")
@click.option("--limit-mib", default=256, type=click.IntRange(1, 65536), help="The file grows no larger.")
def record(sources: tuple[str, ...], sets: tuple[str, ...], output: Path, duration: str, limit_mib: int) -> None:
    """Record what the kernel hands over, to be replayed elsewhere. It holds addresses, process and cgroup names."""
    from receiver.cli.recording import record as write  # noqa: PLC0415
    from receiver.config.durations import parse_duration  # noqa: PLC0415

    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--duration") from error
    sys.exit(write(_start(sources, sets), output, seconds, limit_mib << 20))


@main.command(epilog=_EPILOG)
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@_configured
def replay(path: Path, sources: tuple[str, ...], sets: tuple[str, ...]) -> None:
    """Send a recording through the same corridor: to standard output, or to where the configuration says."""
    from receiver.cli.recording import replay as read  # noqa: PLC0415

    sys.exit(read(_start(sources, sets), path))
