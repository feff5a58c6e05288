"""One exporter's configuration in, the exporter out: the list of the exporters that there are."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from receiver.export.batch import BatchSettings
from receiver.export.exporter import Destination, Exporter, Options, QueueSettings
from receiver.export.halt import Clock
from receiver.export.lane import Fatal
from receiver.export.notices import Log
from receiver.export.queue import Storage
from receiver.export.retry import RetryPolicy
from receiver.ledger import Ledger, Signal

if TYPE_CHECKING:
    from receiver.export.credentials import Bearer

# Settings are read by the names that the configuration has; a name that it does not have keeps its default here.
_Settings: TypeAlias = Any
_Built: TypeAlias = tuple[Destination, Options]
_NAMES: Final = ("user_agent", "authority", "balancer_name")


def build(  # noqa: PLR0913 - what the composition root knows
    exporter_id: str,
    settings: _Settings,
    ledger: Ledger,
    signals: Sequence[Signal],
    fatal: Fatal,
    *,
    extensions: Mapping[str, _Settings] = MappingProxyType({}),
    storages: Mapping[str, Storage] = MappingProxyType({}),
    previous: Exporter | None = None,
    clock: Clock | None = None,
    log: Log | None = None,
) -> Exporter:
    """The exporter `exporter_id`, of the type that stands before its slash.

    Raises ValueError that names the setting: an unknown type, an endpoint or a file that cannot be used.
    """
    make = TYPES.get(exporter_id.partition("/")[0])
    if make is None:
        raise ValueError(f"exporters::{exporter_id}: unknown type; there are {sorted(TYPES)}")
    try:
        destination, options = make(settings, extensions)
    except ValueError as error:
        raise ValueError(f"exporters::{exporter_id}::{error}") from error
    storage = storages[options.queue.storage] if options.queue.storage else None
    return Exporter(exporter_id, destination, options, ledger, signals, fatal, log or _logger(), clock, storage=storage,
                    previous=previous)  # fmt: skip


def _otlp_grpc(settings: _Settings, extensions: Mapping[str, _Settings]) -> _Built:
    # Here, because grpc costs 15 MiB and 0.2 s: only who exports by it pays.
    from receiver.export.credentials import TlsSettings  # noqa: PLC0415
    from receiver.export.endpoint import parse_endpoint  # noqa: PLC0415
    from receiver.export.otlp_grpc import Keepalive, OtlpGrpc, Transport  # noqa: PLC0415

    try:
        endpoint = parse_endpoint(settings.endpoint)
    except ValueError as error:
        raise ValueError(f"endpoint: {error}") from error
    retry = _part(settings, "retry_on_failure")
    keepalive = _part(settings, "keepalive")
    headers = settings.headers
    transport = Transport(
        endpoint=endpoint,
        tls=TlsSettings(**_named(TlsSettings, _part(settings, "tls"))),
        headers=tuple((key, _plain(value)) for key, value in headers.items()),
        keepalive=Keepalive(**_named(Keepalive, keepalive)) if keepalive is not None else None,
        retry_resource_exhausted=getattr(retry, "retry_resource_exhausted", "") == "unless_oversize",
        bearer=_bearer(_part(settings, "auth"), extensions),
        **_named(Transport, settings, "compression", "timeout", "wait_for_ready", *_NAMES),
    )
    options = Options(
        queue=_queue(_part(settings, "sending_queue")),
        retry=RetryPolicy(**_named(RetryPolicy, retry)),
        **_named(Options, settings, "max_request_bytes"),
    )
    return OtlpGrpc(transport), options


def _bearer(auth: _Settings, extensions: Mapping[str, _Settings]) -> "Bearer | None":
    from receiver.export.credentials import Bearer  # noqa: PLC0415

    if auth is None:
        return None
    settings = extensions[auth.authenticator]
    return Bearer(auth.authenticator, settings.scheme, settings.token, settings.filename)


def _queue(settings: _Settings) -> QueueSettings:
    named = _named(QueueSettings, settings)
    batch = _part(settings, "batch")
    if batch is not None:
        named["batch"] = BatchSettings(**{**_named(BatchSettings, batch), "sizer": settings.batch_sizer})
    return QueueSettings(**named)


def _debug(settings: _Settings, _: Mapping[str, _Settings]) -> _Built:
    from receiver.export.debug import Debug  # noqa: PLC0415 - decodes with protobuf, which nothing else needs

    # One consumer, so that lines come in their order; what cannot be printed is not tried again.
    options = Options(
        QueueSettings(num_consumers=1),
        RetryPolicy(enabled=False),
        wants_owner_rule=True,
        **_named(Options, settings, "max_request_bytes"),
    )
    return Debug(**_named(Debug, settings, "verbosity")), options


TYPES: Final[Mapping[str, Callable[[_Settings, Mapping[str, _Settings]], _Built]]] = MappingProxyType(
    {
        "otlp_grpc": _otlp_grpc,
        "otlp": _otlp_grpc,  # its name before the Collector's v0.144
        "debug": _debug,
    }
)


def _part(settings: _Settings, name: str) -> _Settings:
    return getattr(settings, name, None)


def _named(kind: type, settings: _Settings, *names: str) -> dict[str, Any]:
    """The attributes of `settings` that have the names of `kind`'s fields (or `names`), where they are there and set."""
    wanted = names or getattr(kind, "__dataclass_fields__", ())
    found = {name: getattr(settings, name, None) for name in wanted}
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever the configuration holds
    """A secret's text; anything else as it is."""
    reveal = getattr(value, "get_secret_value", None)
    return reveal() if reveal is not None else value


def _logger() -> Log:
    from receiver.logs import get_logger  # noqa: PLC0415 - tests bring their own

    return get_logger("export")
