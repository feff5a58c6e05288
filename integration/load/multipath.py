"""An MPTCP connection, both ends, in two processes: multipath.py HOW ADDRESS; a fact for each end.

HOW: talk (the client sends first), greet (the server sends first), silent (closed without I/O by the server), plain (the server speaks TCP
only, so the client falls back). A line on standard input ends the connection. Or one end alone: `serve ADDRESS`, which prints its port
first, and `connect ADDRESS PORT`.
"""

import os
import socket
import sys

from facts import ends, process, read, say

MPTCP = 262
ASK, ANSWER = 3000, 7000


def open_end(address: str, protocol: int) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, protocol)


def serve(listener: socket.socket, how: str) -> None:
    connection, _ = listener.accept()
    sent = received = 0
    if how == "greet":
        connection.sendall(b"a" * ANSWER)
        sent = ANSWER
    if how != "silent":
        received = read(connection, ASK)
    if how in {"talk", "plain"}:
        connection.sendall(b"a" * ANSWER)
        sent = ANSWER
    say(role="server", sent=sent, received=received, **ends(connection), **process())
    if how != "silent":
        assert connection.recv(1) == b""
    connection.close()


def connect(address: tuple[str, int], how: str) -> None:
    connection = open_end(address[0], MPTCP)
    connection.connect(address)
    sent = received = 0
    if how == "greet":
        received = read(connection, ANSWER)
    if how != "silent":
        connection.sendall(b"q" * ASK)
        sent = ASK
    if how in {"talk", "plain"}:
        received = read(connection, ANSWER)
    say(role="client", sent=sent, received=received, **ends(connection), **process())
    if how == "silent":
        assert connection.recv(1) == b""
    else:
        sys.stdin.readline()
    connection.close()


def main(how: str, address: str, port: str = "") -> None:
    if how == "connect":
        connect((address, int(port)), "talk")
        sys.stdin.read()
        return
    listener = open_end(address, 0 if how == "plain" else MPTCP)
    listener.bind((address, 0))
    listener.listen()
    if how == "serve":
        say(port=listener.getsockname()[1])
        serve(listener, "talk")
        sys.stdin.read()
        return
    child = os.fork()
    if child:
        serve(listener, how)
        os.waitpid(child, 0)
        say(over=True)
        sys.stdin.read()
    else:
        server = listener.getsockname()[:2]
        listener.close()
        connect(server, how)
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
