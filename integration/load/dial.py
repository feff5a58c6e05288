"""A client of known behaviour: dial.py ADDRESS PORT WHAT COUNT FIRST [THREADS]; prints a fact for each connection.

Connections leave from the ports FIRST, FIRST + 1, ..., so that none comes twice. It stays until its standard input ends. WHAT: talk (sizes by chance, seeded with FIRST; every
other time the server closes first), greet (the server sends first), silent (waits for the
server's close), ignore (resets at once).
"""

import random
import socket
import sys
import threading

from facts import HEADER, LINGER_RESET, open_socket, process, read, say


def talk(connection: socket.socket, request: int, answer: int, close_first: bool) -> tuple[int, int]:
    connection.sendall(HEADER.pack(request, answer, close_first) + b"r" * request)
    received = read(connection, answer)
    if close_first:
        assert connection.recv(1) == b""
    return HEADER.size + request, received


def one(address: str, port: int, what: str, own: int, request: int, answer: int, close_first: bool) -> None:
    sent = received = 0
    with open_socket(address) as connection:
        if what == "ignore":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        connection.bind(("", own))
        connection.connect((address, port))
        known = {"local": connection.getsockname()[:2], "peer": [address, port]}
        if what == "talk":
            sent, received = talk(connection, request, answer, close_first)
        elif what == "greet":
            received = read(connection, 5)
            connection.sendall(b"my word")
            sent = 7
        elif what == "silent":
            assert connection.recv(1) == b""
    say(role="client", sent=sent, received=received, **known, **process())


def main(address: str, port: str, what: str, count: str, first: str, threads: str = "1") -> None:
    chance = random.Random(int(first))
    jobs = [(chance.randrange(20_000), chance.randrange(20_000), number % 2 == 1) for number in range(int(count))]
    sizes = [0, 1, 1448, 65483]  # the edges: nothing, one byte, a segment, several
    jobs[: len(sizes)] = [(size, sizes[-1 - at], at % 2 == 0) for at, size in enumerate(sizes)][: len(jobs)]

    def some(worker: int) -> None:
        for number in range(worker, len(jobs), int(threads)):
            one(address, int(port), what, int(first) + number, *jobs[number])

    workers = [threading.Thread(target=some, args=(worker,)) for worker in range(1, int(threads))]
    for worker in workers:
        worker.start()
    some(0)
    for worker in workers:
        worker.join()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
