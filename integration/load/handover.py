"""A connection that more than one program or process has in its hands: handover.py HOW ADDRESS; a fact for each end, `role` server or client.

The fact of an end names whom the rules make its owner: whoever used the connection first. HOW:
pass_accepted (accepted, never touched, passed by SCM_RIGHTS; the other process talks), pass_used (touched, then passed),
pass_connected (connected, then passed), both_parent (fork after accept, both use it, the parent first), both_child (the child first),
exec_open (used, then the process runs another program, which goes on with it), exec_later (one connection, then the process runs
another program, which talks over a second one), activated (the listener comes from a parent), killed (SIGKILL with data that is not sent
yet), killed_silent (SIGKILL before any I/O).
"""

import os
import shutil
import signal
import socket
import sys
from typing import Any

from facts import ends, open_socket, process, read, say

ASK, ANSWER = 500, 300
LISTENER = 30  # the descriptor that an activated server finds it at


def fact(role: str, connection: socket.socket, sent: int = ANSWER, received: int = ASK) -> dict[str, Any]:
    """The fact of an end whose owner is this process, to be said when the connection is over."""
    return {"role": role, "sent": sent, "received": received, **ends(connection), **process()}


def answer(connection: socket.socket, asked: int = ASK) -> None:
    """What every server does: all is read, then answered, then it waits for the client's end."""
    read(connection, asked)
    connection.sendall(b"a" * ANSWER)
    assert connection.recv(1) == b""
    connection.close()


def ask(connection: socket.socket) -> None:
    """What every client does."""
    connection.sendall(b"q" * ASK)
    read(connection, ANSWER)
    connection.close()


def other_process(does: Any) -> int:
    """A child that ends when `does` has."""
    child = os.fork()
    if child == 0:
        does()
        os._exit(0)
    return child


def done(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert status == 0, status


def cat() -> str:
    found = shutil.which("cat")
    assert found
    return os.path.realpath(found)


def become_cat(connection: socket.socket) -> None:
    """This process runs another program, which sends back what it receives until the end."""
    os.dup2(connection.fileno(), 0)
    os.dup2(connection.fileno(), 1)
    os.execv(cat(), ["cat"])


def client(listener: socket.socket, how: str) -> None:
    """The other end, in a process of its own; two of them for `exec_later`."""
    for number in range(2 if how == "exec_later" else 1):
        connection = open_socket(listener.getsockname()[0])
        connection.connect(listener.getsockname()[:2])
        if how == "pass_connected":
            own = fact("client", connection, ASK, ANSWER)
            mine, other = socket.socketpair()
            child = other_process(lambda: take_and_ask(other))  # noqa: B023 it runs at once
            socket.send_fds(mine, [b"x"], [connection.fileno()])
            connection.close()
            done(child)
        elif how == "killed":
            own = fact("client", connection, ASK, 0)
            connection.sendall(b"q" * ASK)
            sys.stdin.readline()  # the server is gone
            while data := connection.recv(1 << 20):
                own["received"] += len(data)
            connection.close()
        elif how == "killed_silent":
            own = fact("client", connection, 0, 0)
            assert connection.recv(1) == b""
            connection.close()
        elif how == "exec_open" or (how == "exec_later" and number == 1):
            first = 100 if how == "exec_open" else 0
            own = fact("client", connection, first + ASK, ASK)
            connection.sendall(b"f" * first)
            connection.sendall(b"q" * ASK)
            read(connection, ASK)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
            connection.close()
        else:
            own = fact("client", connection, ASK, ANSWER)
            ask(connection)
        say(**own)


def take_and_ask(other: socket.socket) -> None:
    _, (number,), _, _ = socket.recv_fds(other, 1, 1)
    ask(socket.socket(fileno=number))


def take_and_answer(other: socket.socket, asked: int, named: bool) -> None:
    _, (number,), _, _ = socket.recv_fds(other, 1, 1)
    connection = socket.socket(fileno=number)
    own = fact("server", connection)
    answer(connection, asked)
    if named:
        say(**own)


def serve(listener: socket.socket, how: str) -> None:  # noqa: C901 a case for each HOW
    if how == "exec_later":
        connection, _ = listener.accept()
        own = fact("server", connection)
        answer(connection)
        say(**own)
    if how == "activated":
        os.dup2(listener.fileno(), LISTENER)
        os.execv(sys.executable, [sys.executable, __file__, "activated_child", "-"])
    connection, _ = listener.accept()
    if how in {"pass_accepted", "pass_used"}:
        mine, other = socket.socketpair()
        touched = read(connection, 100) if how == "pass_used" else 0
        own = fact("server", connection)
        child = other_process(lambda: take_and_answer(other, ASK - touched, named=not touched))
        socket.send_fds(mine, [b"x"], [connection.fileno()])
        connection.close()
        done(child)
        if touched:
            say(**own)
    elif how == "both_parent":
        own = fact("server", connection)
        touched = read(connection, 100)
        child = other_process(lambda: answer(connection, ASK - touched))
        connection.close()
        done(child)
        say(**own)
    elif how == "both_child":

        def first() -> None:
            say(**fact("server", connection))
            read(connection, ASK)

        done(other_process(first))
        connection.sendall(b"a" * ANSWER)
        assert connection.recv(1) == b""
        connection.close()
    elif how == "exec_open":
        read(connection, 100)
        say(**fact("server", connection, ASK, 100 + ASK))
        become_cat(connection)
    elif how == "exec_later":
        say(**fact("server", connection, ASK, ASK) | {"comm": "cat", "exe": cat()})
        become_cat(connection)
    elif how == "killed":
        read(connection, ASK)
        connection.setblocking(False)
        own, sent = fact("server", connection), 0
        while True:
            try:
                sent += connection.send(bytes(65536))
            except BlockingIOError:
                break
        own["sent"] = sent
        say(**own)
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "killed_silent":
        say(**fact("server", connection, 0, 0))
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        own = fact("server", connection)
        answer(connection)
        say(**own)


def main(how: str, address: str) -> None:
    if how == "activated_child":
        serve(socket.socket(fileno=LISTENER), "plain")
        return
    listener = open_socket(address)
    listener.bind((address, 0))
    listener.listen()
    server = os.fork()
    if server == 0:
        serve(listener, how)
        os._exit(0)
    other = other_process(lambda: client(listener, how))
    listener.close()
    os.waitpid(server, 0)
    say(server_ended=True)
    done(other)
    say(over=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
