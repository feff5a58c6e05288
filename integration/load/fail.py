"""Connections that end badly, one way each: fail.py HOW ADDRESS PORT; prints a fact when it has happened.

refused, unanswered (the kernel gives up), aborted (closed by its own process while connecting), reset_by_client, reset_by_server
(PORT is ignored: both ends are here, in two processes), stalled (established, then nothing more gets through: waits for a line on its
standard input before it sends), open (stays open, with known sizes, until a line comes; so do both ends of it).
"""

import os
import socket
import sys
from typing import Any

from facts import LINGER_RESET, ends, open_socket, process, read, say

TCP_SYNCNT, TCP_USER_TIMEOUT = 7, 18


def connect_badly(how: str, address: str, port: int) -> None:
    connection = open_socket(address)
    connection.bind(("127.0.0.1", 0))
    known = {"local": connection.getsockname()[:2], "peer": [address, port]}
    error = 0
    if how == "aborted":
        connection.setblocking(False)
        connection.connect_ex((address, port))
    else:
        if how == "unanswered":
            connection.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, 1)
        error = connection.connect_ex((address, port))
    connection.close()
    say(role="client", how=how, error=error, sent=0, received=0, **known, **process())


def reset(connection: socket.socket, how: str, fact: dict[str, Any]) -> None:
    """One end resets when it has read all, and the other meets it while it reads."""
    if how == f"reset_by_{fact['role']}":
        if fact["role"] == "server":  # the client has read its answer when it says so
            fact["received"] += read(connection, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    else:
        if fact["role"] == "client":
            connection.sendall(b"!")
            fact["sent"] += 1
        try:
            connection.recv(1)
        except ConnectionResetError:
            fact["error"] = "ECONNRESET"
    connection.close()
    say(**fact)


def stall(connection: socket.socket, how: str, fact: dict[str, Any]) -> None:
    """When it is told, the client sends what will not arrive."""
    say(**fact)
    if fact["role"] == "server":
        connection.recv(1)
        return
    sys.stdin.readline()
    connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 500)
    connection.sendall(b"lost")
    try:
        connection.recv(1)
    except TimeoutError:
        say(timed_out=True)
    connection.close()


def hold(connection: socket.socket, how: str, fact: dict[str, Any]) -> None:
    """Open until the client is told."""
    say(**fact)
    if fact["role"] == "client":
        sys.stdin.readline()
    else:
        connection.recv(1)
    connection.close()


def both_ends(how: str, address: str) -> None:
    """A parent that serves and a child that connects."""
    listener = open_socket(address)
    listener.bind((address, 0))
    listener.listen()
    child = os.fork()
    if child:
        connection, _ = listener.accept()
        known = ends(connection)  # now: there is no peer any more once it has reset
        sent, received = 6, read(connection, 8)
        connection.sendall(b"answer")
    else:
        connection = open_socket(address)
        connection.connect(listener.getsockname())
        known = ends(connection)
        connection.sendall(b"question")
        sent, received = 8, read(connection, 6)
    role = "server" if child else "client"
    fact = {"role": role, "how": how, "sent": sent, "received": received, **known, **process()}
    {"stalled": stall, "open": hold}.get(how, reset)(connection, how, fact)
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    if sys.argv[1] in {"refused", "unanswered", "aborted"}:
        connect_badly(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        both_ends(sys.argv[1], sys.argv[2])
