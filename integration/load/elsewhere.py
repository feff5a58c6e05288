"""Connections over a network namespace that is not their process's: elsewhere.py NAMESPACE ADDRESS PORT COUNT FIRST.

The process enters NAMESPACE (a file), opens its sockets there, goes back to its own and only then connects, to load/serve.py at
ADDRESS PORT, from the ports FIRST and up. Prints a fact for each connection. FIRST 0: there is no route to ADDRESS.
"""

import ctypes
import socket
import sys

from facts import HEADER, open_socket, process, read, say

_CLONE_NEWNET = 0x40000000


def enter(path: str) -> None:
    """Be in that network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path) as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def main(namespace: str, address: str, port: str, count: str, first: str) -> None:
    with open("/proc/self/ns/net") as home:
        enter(namespace)
        made: list[socket.socket] = [open_socket(address) for _ in range(int(count))]
        enter(f"/proc/self/fd/{home.fileno()}")
    for number, connection in enumerate(made):
        if first == "0":
            error = connection.connect_ex((address, int(port) + number))
            known = {"local": ["0.0.0.0", 0], "peer": [address, int(port) + number]}
            say(role="client", sent=0, received=0, error=error, **known, **process())
            continue
        connection.bind(("", int(first) + number))
        connection.connect((address, int(port)))
        known = {"local": connection.getsockname()[:2], "peer": [address, int(port)]}
        connection.sendall(HEADER.pack(10, 20, False) + bytes(10))
        read(connection, 20)
        connection.close()
        say(role="client", sent=HEADER.size + 10, received=20, **known, **process())
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
