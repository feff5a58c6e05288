"""Settings that are secrets: plain text for who uses them, redacted for who is shown the configuration."""

from typing import Annotated, Any

from pydantic import PlainSerializer

_REDACTED = "[REDACTED]"


def _opaque(value: str, info: Any) -> str:
    shown = not value or (info.context and info.context.get("unredacted"))
    return value if shown else _REDACTED


Opaque = Annotated[str, PlainSerializer(_opaque, return_type=str, when_used="json")]
