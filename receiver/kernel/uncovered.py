"""Nothing in, how many open sockets in Weir's own network namespace are of kinds that make no flows, out; read from /proc/net."""

from pathlib import Path
from typing import Final

# Kind -> its tables: a line a socket after one header line.
TABLES: Final = {
    "raw": ("raw", "raw6"),
    "packet": ("packet",),
    "sctp": ("sctp/eps", "sctp/assocs"),
    "icmp": ("icmp", "icmp6"),  # ping sockets
    "udplite": ("udplite", "udplite6"),
}


def uncovered_sockets(net: Path = Path("/proc/self/net")) -> dict[str, int]:
    """Sockets by kind, those kinds only that this kernel has a table of."""
    found: dict[str, int] = {}
    for kind, names in TABLES.items():
        for name in names:
            try:
                lines = (net / name).read_bytes().splitlines()
            except OSError:
                continue
            found[kind] = found.get(kind, 0) + max(0, len(lines) - 1)
    return found
