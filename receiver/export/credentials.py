"""Paths and PEM text of a configuration in, the bytes that gRPC wants out; read again when files rotate."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# As Go's crypto/x509 (root_linux.go) looks for the system's pool, so that the Collector's users find the same one.
_SYSTEM_POOLS: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_MAX_FILE: Final = 4 << 20  # bytes of a PEM or token file


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """`tls`: paths or PEM text, each empty where it is not set."""

    insecure: bool = False
    ca_file: str = ""
    ca_pem: str = ""
    cert_file: str = ""
    cert_pem: str = ""
    key_file: str = ""
    key_pem: str = ""
    include_system_ca_certs_pool: bool = False
    server_name_override: str = ""
    reload_interval: float = 0.0  # s; 0 is never


@dataclass(frozen=True, slots=True)
class Pem:
    """What a TLS connection is made of; None where gRPC's own default serves."""

    roots: bytes | None
    key: bytes | None
    chain: bytes | None


def read_pem(settings: TlsSettings) -> Pem:
    """Read everything now. Raises ValueError that names the setting and says why."""
    roots = _read("tls::ca_file", settings.ca_file, settings.ca_pem)
    if roots is None or settings.include_system_ca_certs_pool:
        pool = system_pool()
        roots = b"\n".join(part for part in (roots, pool) if part) or None
    key = _read("tls::key_file", settings.key_file, settings.key_pem)
    chain = _read("tls::cert_file", settings.cert_file, settings.cert_pem)
    if (key is None) != (chain is None):
        raise ValueError("tls: a client certificate needs both cert_file and key_file")
    return Pem(roots, key, chain)


def system_pool() -> bytes | None:
    """The host's certificate authorities, SSL_CERT_FILE first; None where it has none."""
    override = os.environ.get("SSL_CERT_FILE")
    for name in (override,) if override else _SYSTEM_POOLS:
        try:
            return Path(name).read_bytes()
        except OSError:
            continue
    return None


@dataclass(frozen=True, slots=True)
class Bearer:
    """The `bearertokenauth` extension `name`: a token, or the file that holds it."""

    name: str
    scheme: str = "Bearer"
    token: str = ""
    filename: str = ""


class Token:
    """The `authorization` header of each call; a file may rotate: it is read again when it changes."""

    def __init__(self, bearer: Bearer) -> None:
        self._bearer = bearer
        self._seen: tuple[int, int, int] | None = None
        self._header = f"{bearer.scheme} {bearer.token}"
        self.header()

    def header(self) -> str:
        """The header's value. Raises ValueError where the first read fails; later the old one serves."""
        if not self._bearer.filename:
            return self._header
        path = Path(self._bearer.filename)
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_ino, found.st_size)
            if state != self._seen:
                self._header = f"{self._bearer.scheme} {_bounded(path).decode('ascii').strip()}"
                self._seen = state
        except (OSError, UnicodeDecodeError) as error:
            if self._seen is None:
                raise ValueError(f"auth: extensions::{self._bearer.name}::filename: {error}") from error
        return self._header


def _read(setting: str, path: str, pem: str) -> bytes | None:
    if not path:
        return pem.encode() or None
    try:
        data = _bounded(Path(path))
    except OSError as error:
        raise ValueError(f"{setting}: {error}") from error
    if b"-----BEGIN " not in data:
        raise ValueError(f"{setting}: {path} is not a PEM file")
    return data


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise OSError(f"{path} has more than {_MAX_FILE} bytes")
    return data
