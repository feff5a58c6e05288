"""A server of known behaviour: serve.py ADDRESS WHO WHAT; prints its port, then a fact for each connection it handled.

WHO handles a connection: plain (one after the other), thread, prefork (three children accept), fork (a child talks, its parent
closes). WHAT it does: talk (as the client's header asks), greet (sends first), drain (reads all), silent (closes without I/O), ignore
(never touches it).
"""

import os
import select
import socket
import sys
import threading

from facts import HEADER, open_socket, process, read, say


def talk(connection: socket.socket) -> tuple[int, int]:
    request, answer, close_first = HEADER.unpack(connection.recv(HEADER.size, socket.MSG_WAITALL))
    received = HEADER.size + read(connection, request)
    connection.sendall(b"a" * answer)
    if not close_first:
        assert connection.recv(1) == b""
    return answer, received


def greet(connection: socket.socket) -> tuple[int, int]:
    connection.sendall(b"hello")
    received = read(connection, 7)
    assert connection.recv(1) == b""
    return 5, received


def drain(connection: socket.socket) -> tuple[int, int]:
    received = 0
    while data := connection.recv(65536):
        received += len(data)
    return 0, received


def silent(connection: socket.socket) -> tuple[int, int]:
    return 0, 0


def ignore(connection: socket.socket) -> tuple[int, int]:
    poller = select.poll()
    poller.register(connection, 0)  # POLLERR and POLLHUP come unasked
    poller.poll(20_000)
    return 0, 0


DOINGS = {"talk": talk, "greet": greet, "drain": drain, "silent": silent, "ignore": ignore}


def handle(connection: socket.socket, peer: tuple[str, int], what: str) -> None:
    known = {"local": connection.getsockname()[:2], "peer": peer[:2]}
    sent, received = DOINGS[what](connection)
    connection.close()
    say(role="server", sent=sent, received=received, **known, **process())


def main(address: str, who: str, what: str) -> None:
    listener = open_socket(address)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 0))
    listener.listen(1024)
    say(port=listener.getsockname()[1], **process())
    if who == "prefork":
        for _ in range(2):
            if os.fork() == 0:
                break
    while True:
        connection, peer = listener.accept()
        if who == "thread":
            threading.Thread(target=handle, args=(connection, peer, what)).start()
        elif who == "fork":
            child = os.fork()
            if child == 0:
                handle(connection, peer, what)
                os._exit(0)
            connection.close()
            os.waitpid(child, 0)
        else:
            handle(connection, peer, what)


if __name__ == "__main__":
    main(*sys.argv[1:])
