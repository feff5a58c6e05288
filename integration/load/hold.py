"""Connections that are opened early and ended late: hold.py ADDRESS HOW COUNT; a line on standard input goes on to the end.

Two processes, a server and its client. HOW says what happens after that line: idle (both close), busy (both send more first),
half (the client has ended its side long before), pending (only then the server accepts), reset (the client resets).
Prints {"held": n} when all are open and then, at the end, a fact for each end.
"""

import os
import resource
import socket
import sys
from contextlib import suppress

from facts import LINGER_RESET, ends, open_socket, process, read, say

BEFORE, AFTER = (3000, 500), (700, 90)  # bytes from client to server, and back


def main(address: str, how: str, count: str) -> None:
    number = int(count)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (number + 64, max(number + 64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    )
    listener = open_socket(address)
    listener.bind((address, 0))
    listener.listen(number)
    to_client, from_server = os.pipe()
    to_server, from_client = os.pipe()
    if os.fork():
        listener_end(listener, how, number, to_server, from_server)
    else:
        os.close(from_server)
        client_end(listener.getsockname()[:2], how, number, to_client, from_client, listener)


def listener_end(listener: socket.socket, how: str, number: int, wait: int, tell: int) -> None:
    made, names = [], []
    if how != "pending":
        made = [listener.accept()[0] for _ in range(number)]
        for connection in made:
            read(connection, BEFORE[0])
            connection.sendall(b"s" * BEFORE[1])
        names = [ends(connection) for connection in made]
    assert os.read(wait, 1) == b"c"  # the client has everything
    say(held=number)
    sys.stdin.readline()
    os.write(tell, b"g")
    if how == "pending":
        made = [listener.accept()[0] for _ in range(number)]
        for connection in made:
            read(connection, BEFORE[0])
            connection.sendall(b"s" * BEFORE[1])
        names = [ends(connection) for connection in made]
    for connection, known in zip(made, names, strict=True):
        sent, received = BEFORE[1], BEFORE[0]
        if how in {"busy", "half"}:
            connection.sendall(b"s" * AFTER[1])
            sent += AFTER[1]
        if how == "busy":
            received += read(connection, AFTER[0])
        if how == "reset":
            with suppress(ConnectionResetError):
                connection.recv(1)
        else:
            assert connection.recv(1) == b""
        connection.close()
        say(role="server", sent=sent, received=received, **known, **process())
    sys.stdin.read()  # both live on, so that they can be looked at
    os.write(tell, b"e")
    os.wait()


def client_end(  # noqa: C901 a case for each HOW
    server: tuple[str, int], how: str, number: int, wait: int, tell: int, listener: socket.socket
) -> None:
    listener.close()
    made = []
    for _ in range(number):
        connection = open_socket(server[0])
        connection.connect(server)
        connection.sendall(b"c" * BEFORE[0])
        made.append(connection)
    for connection in made:
        if how != "pending":
            read(connection, BEFORE[1])
    names = [ends(connection) for connection in made]
    if how == "half":
        for connection in made:
            connection.shutdown(socket.SHUT_WR)
    os.write(tell, b"c")
    assert os.read(wait, 1) == b"g"
    for connection, known in zip(made, names, strict=True):
        sent, received = BEFORE[0], BEFORE[1]
        if how == "pending":
            read(connection, BEFORE[1])
        if how == "busy":
            connection.sendall(b"c" * AFTER[0])
            sent += AFTER[0]
        if how in {"busy", "half"}:
            received += read(connection, AFTER[1])
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        connection.close()
        say(role="client", sent=sent, received=received, **known, **process())
    os.read(wait, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
