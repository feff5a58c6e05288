"""A socket and counts in, one JSON line out: what the process at this end knows of a connection."""

import json
import os
import socket
import struct
from typing import Any, Final

HEADER: Final = struct.Struct("!II?")  # bytes of the request after this, bytes of the answer, the server closes first
LINGER_RESET: Final = struct.pack("ii", 1, 0)  # close() sends an RST


def say(**fact: Any) -> None:
    """One line, in one piece, whoever else writes to the same pipe."""
    os.write(1, (json.dumps(fact) + "\n").encode())


def process() -> dict[str, Any]:
    """Who this is."""
    with open("/proc/self/comm") as file:
        comm = file.read().rstrip("\n")
    return {"pid": os.getpid(), "comm": comm, "exe": os.readlink("/proc/self/exe")}


def ends(connection: socket.socket) -> dict[str, Any]:
    """Both addresses."""
    return {"local": connection.getsockname()[:2], "peer": connection.getpeername()[:2]}


def read(connection: socket.socket, count: int) -> int:
    """`count` bytes; EOFError if there are fewer."""
    left = count
    while left:
        data = connection.recv(min(left, 65536))
        if not data:
            raise EOFError
        left -= len(data)
    return count


def open_socket(address: str) -> socket.socket:
    """A TCP socket for `address`; IPv6 ones take v4-mapped addresses."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made
