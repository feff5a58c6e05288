"""Connects that are turned away: rejected.py OWN_ADDRESS ADDRESS PORT...; facts for each port.

A connect that blocks; one that does not, whose socket is asked why when it is over (SO_ERROR); and, where OWN_ADDRESS is ADDRESS, one that
does not and is given up at once, after the kernel was told: its fact has the error of the others, as nobody asked.
"""

import errno
import select
import socket
import sys

from facts import open_socket, process, say


def attempt(own: str, address: str, port: int, how: str) -> tuple[int, list[object]]:
    """The error and the local end."""
    with open_socket(address) as connection:
        connection.bind((own, 0))
        connection.setblocking(how == "blocking")
        error = connection.connect_ex((address, port))
        if how == "waiting" and error == errno.EINPROGRESS:
            poller = select.poll()
            poller.register(connection, select.POLLOUT)
            poller.poll(20_000)
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return error, list(connection.getsockname()[:2])


def main(own: str, address: str, *ports: str) -> None:
    for port in map(int, ports):
        last = 0
        for how in ("blocking", "waiting", "given_up") if own == address else ("blocking", "waiting"):
            error, local = attempt(own, address, port, how)
            last = last if how == "given_up" else error
            say(role="client", how=how, local=local, peer=[address, port], sent=0, received=0,
                error=errno.errorcode[last], **process())  # fmt: skip
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
