"""Connects that find no route: noroute.py PORT COUNT ADDRESS...; COUNT times each, from two threads; prints a fact for each."""

import socket
import sys
import threading

from facts import process, say


def connect(address: str, port: int, *, blocking: bool) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as connection:
        connection.setblocking(blocking)
        error = connection.connect_ex((address, port))
    nowhere = "::" if ":" in address and not address.startswith("::ffff:") else "0.0.0.0"
    say(role="client", error=error, sent=0, received=0, local=[nowhere, 0], peer=[address, port], **process())


def main(port: str, count: str, *addresses: str) -> None:
    def some(*, blocking: bool) -> None:
        for number in range(int(count)):
            for address in addresses:
                connect(address, int(port) + number, blocking=blocking)

    other = threading.Thread(target=some, kwargs={"blocking": False})
    other.start()
    some(blocking=True)
    other.join()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
