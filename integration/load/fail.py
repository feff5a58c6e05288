"""Connections that end badly, one way each: fail.py HOW ADDRESS PORT; prints a fact when it has happened.

refused, unanswered (the kernel gives up), aborted (closed by its own process while connecting), reset_by_client, reset_by_server
(PORT is ignored: both ends are here, in two processes), stalled (established, then nothing more gets through: waits for a line on its
standard input before it sends), open (stays open, with known sizes, until a line comes; so do both ends of it).
"""

import os
import socket
import sys

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


def both_ends(how: str, address: str) -> None:
    """A parent that serves and a child that connects."""
    listener = open_socket(address)
    listener.bind((address, 0))
    listener.listen()
    child = os.fork()
    role = "server" if child else "client"
    if child:
        connection, _ = listener.accept()
    else:
        connection = open_socket(address)
        connection.connect(listener.getsockname())
    known = ends(connection)
    if role == "client":
        connection.sendall(b"question")
        sent, received = 8, read(connection, 6)
    else:
        sent, received = 6, read(connection, 8)
        connection.sendall(b"answer")
    fact = {"role": role, "how": how, "sent": sent, "received": received, **known, **process()}
    if how.startswith("reset"):
        if how == f"reset_by_{role}":
            if role == "server":  # the client has read its answer when it says so
                fact["received"] += read(connection, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        else:
            if role == "client":
                connection.sendall(b"!")
                fact["sent"] += 1
            try:
                connection.recv(1)
            except ConnectionResetError:
                fact["error"] = "ECONNRESET"
        connection.close()
        say(**fact)
    elif how == "stalled":
        say(**fact)
        if role == "client":
            sys.stdin.readline()
            connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 500)
            connection.sendall(b"lost")
            try:
                connection.recv(1)
            except TimeoutError:
                say(timed_out=True)
            connection.close()
        else:
            connection.recv(1)
    else:
        say(**fact)
        if role == "client":
            sys.stdin.readline()
        else:
            connection.recv(1)
        connection.close()
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    if sys.argv[1] in {"refused", "unanswered", "aborted"}:
        connect_badly(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        both_ends(sys.argv[1], sys.argv[2])
