"""An endpoint as the configuration names it in, gRPC's target and what follows from its form out."""

import ipaddress
from dataclasses import dataclass

_FORMS = "host:port, http://host:port, https://host:port, dns:///host:port, unix:/path or unix:///path"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to."""

    target: str  # for gRPC
    plaintext: bool | None  # what the scheme says; None: it says nothing
    local: bool  # a unix socket or a loopback address
    balanced: bool = False  # a name whose addresses all serve


def parse_endpoint(text: str) -> Endpoint:
    """Read an endpoint. Raises ValueError that says which forms there are."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        path = rest.removeprefix("//")
        if not path or (rest.startswith("//") and scheme == "unix" and not path.startswith("/")):
            raise ValueError(f"{text!r} names no socket; an endpoint is {_FORMS}")
        return Endpoint(f"{scheme}:{path}", plaintext=None, local=True)
    if colon and scheme == "dns" and rest.startswith("/"):
        _host(rest.rpartition("/")[2], text)
        return Endpoint(text, plaintext=None, local=False, balanced=True)
    if colon and scheme in ("http", "https", "passthrough") and rest.startswith("//"):
        authority = rest[2:].lstrip("/") if scheme == "passthrough" else rest[2:].removesuffix("/")
        host = _host(authority, text)
        return Endpoint(authority, None if scheme == "passthrough" else scheme == "http", _is_loopback(host))
    return Endpoint(text, plaintext=None, local=_is_loopback(_host(text, text)))


def _host(authority: str, text: str) -> str:
    """The host of `host:port`; IPv6 stands in brackets."""
    host, colon, port = authority.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = bare != host
    if not colon or not bare or "/" in authority or (":" in bare and not bracketed):
        raise ValueError(f"{text!r} has no host and port; an endpoint is {_FORMS}")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"{text!r} has no port from 1 to 65535; an endpoint is {_FORMS}")
    return bare


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
