"""UDP traffic of known counts: datagrams.py CASE ADDRESS; prints a fact for each flow and then {"done": CASE}.

A flow is a socket and a peer. It stays, with its sockets open, until its standard input ends. CASES below says what there is.
"""

import asyncio
import contextlib
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from facts import process, say

MSG_MORE: Final = 0x8000
IP_RECVERR: Final = 11
ROUNDS: Final = 20


class Flow:
    """What one socket exchanged with one peer."""

    def __init__(self, role: str, local: tuple[str, int]) -> None:
        self.role, self.local = role, local
        self.sent = self.received = self.sent_packets = self.received_packets = 0


class Ends:
    """A socket and its flows, counted by whoever uses it."""

    all: Final[list["Ends"]] = []

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.flows: dict[tuple[str, int], Flow] = {}
        self._lock = threading.Lock()
        Ends.all.append(self)

    def _flow(self, peer: tuple[Any, ...], role: str) -> Flow:
        key = (str(peer[0]), int(peer[1]))
        return self.flows.setdefault(key, Flow(role, self.socket.getsockname()[:2]))

    def sent(self, peer: tuple[Any, ...], size: int, packets: int = 1) -> None:
        with self._lock:
            flow = self._flow(peer, "client")
            flow.sent += size
            flow.sent_packets += packets

    def received(self, peer: tuple[Any, ...], size: int) -> None:
        with self._lock:
            flow = self._flow(peer, "server")
            flow.received += size
            flow.received_packets += 1


def bound(address: str) -> Ends:
    made = opened(address)
    made.socket.bind((address, 0))
    return made


def opened(address: str) -> Ends:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(10)
    return Ends(made)


def port(end: Ends) -> int:
    return int(end.socket.getsockname()[1])


def unconnected(address: str, dialled: str = "") -> None:
    server, client = bound(address), opened(dialled or address)
    to = (dialled or address, port(server))
    for size in range(ROUNDS):  # a datagram of no bytes is one
        client.socket.sendto(b"x" * size * 7, to)
        client.sent(to, size * 7)
        data, peer = server.socket.recvfrom(9999)
        server.received(peer, len(data))
        server.socket.sendto(data + b"yy", peer)
        server.sent(peer, len(data) + 2)
        data, peer = client.socket.recvfrom(9999)
        client.received(peer, len(data))


def mapped(address: str) -> None:
    unconnected(address, "::ffff:" + address)


def dual(address: str) -> None:
    """A server of both families, a client of IPv4."""
    server, client = opened("::"), opened(address)
    server.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.socket.bind(("::", 0))
    to = (address, port(server))
    for _ in range(ROUNDS):
        client.socket.sendto(b"zzzzz", to)
        client.sent(to, 5)
        data, peer = server.socket.recvfrom(99)
        server.received(peer, len(data))
        server.socket.sendto(data, peer)
        server.sent(peer, len(data))
        data, peer = client.socket.recvfrom(99)
        client.received(peer, len(data))


def connected(address: str, dialled: str = "") -> None:
    """The client by send and recv; the server by recvmsg and sendmsg."""
    server, client = bound(address), opened(dialled or address)
    to = (dialled or address, port(server))
    client.socket.connect(to)
    for size in range(1, ROUNDS):
        client.socket.send(b"x" * size)
        client.sent(to, size)
        data, _, _, peer = server.socket.recvmsg(9999)
        server.received(peer, len(data))
        server.socket.sendmsg([data, b"yy"], [], 0, peer)
        server.sent(peer, len(data) + 2)
        client.received(to, len(client.socket.recv(9999)))


def connected_mapped(address: str) -> None:
    connected(address, "::ffff:" + address)


def read_write(address: str) -> None:
    """Both connected, by read and write."""
    one, other = bound(address), bound(address)
    one.socket.setblocking(True)
    other.socket.setblocking(True)
    to, back = (address, port(other)), (address, port(one))
    one.socket.connect(to)
    other.socket.connect(back)
    for size in range(1, ROUNDS):
        one.sent(to, os.write(one.socket.fileno(), b"x" * size))
        other.received(back, len(os.read(other.socket.fileno(), 9999)))
        other.sent(back, os.write(other.socket.fileno(), b"y"))
        one.received(to, len(os.read(one.socket.fileno(), 9999)))


def peek(address: str) -> None:
    """Looked at twice, received once; cut, and cut with its true length asked for."""
    server, client = bound(address), opened(address)
    to = (address, port(server))
    for flags, counted in ((0, 20), (socket.MSG_TRUNC, 50)) * 5:
        client.socket.sendto(b"z" * 50, to)
        client.sent(to, 50)
        server.socket.recvfrom(99, socket.MSG_PEEK)
        size, peer = server.socket.recvfrom_into(bytearray(20), 20, flags)
        assert size == counted
        server.received(peer, size)


def failed(address: str) -> None:
    """Sends that fail count nothing; one that the peer refuses was sent, and the error queue is no datagram."""
    server, client = bound(address), opened(address)
    to = (address, port(server))
    with contextlib.suppress(OSError):
        client.socket.sendto(b"x" * 70000, to)
    with contextlib.suppress(OSError):
        client.socket.sendto(b"x", ("203.0.113.1", 9))
    client.socket.sendto(b"abc", to)
    client.sent(to, 3)
    data, peer = server.socket.recvfrom(99)
    server.received(peer, len(data))
    refused = opened(address)
    nobody = bound(address)
    to = (address, port(nobody))
    nobody.socket.close()
    Ends.all.remove(nobody)
    refused.socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    refused.socket.connect(to)
    refused.socket.send(b"anyone?")
    refused.sent(to, 7)
    try:
        refused.socket.recv(99)
    except OSError as error:
        assert error.errno == errno.ECONNREFUSED
    refused.socket.recvmsg(99, 512, socket.MSG_ERRQUEUE)
    refused.socket.setblocking(True)
    refused.socket.shutdown(socket.SHUT_RD)
    assert refused.socket.recv(99) == b""  # no datagram


def cork(address: str) -> None:
    """Two calls, one datagram."""
    server, client = bound(address), opened(address)
    to = (address, port(server))
    for _ in range(5):
        client.socket.sendto(b"first", MSG_MORE, to)
        client.socket.sendto(b"second", to)
        client.sent(to, 11)
        data, peer = server.socket.recvfrom(99)
        server.received(peer, len(data))


def reconnect(address: str) -> None:
    """One socket: to a first peer, to a second one with an address of its own, then connected to the second."""
    first, second, client = bound(address), bound(address), opened(address)
    to, other = (address, port(first)), (address, port(second))
    client.socket.connect(to)
    client.socket.send(b"1" * 5)
    client.sent(to, 5)
    client.socket.sendto(b"2" * 6, other)
    client.sent(other, 6)
    client.socket.connect(other)
    client.socket.send(b"3" * 7)
    client.sent(other, 7)
    for server, sizes in ((first, [5]), (second, [6, 7])):
        for size in sizes:
            data, peer = server.socket.recvfrom(99)
            assert len(data) == size
            server.received(peer, size)


def threads(address: str) -> None:
    """Four threads that serve one socket, four clients."""
    server = bound(address)
    to = (address, port(server))

    def serve() -> None:
        while True:
            data, peer = server.socket.recvfrom(999)
            server.received(peer, len(data))
            if data == b"stop":
                return
            server.socket.sendto(data, peer)
            server.sent(peer, len(data))

    def ask() -> None:
        client = opened(address)
        for number in range(400):
            client.socket.sendto(b"m" * (number % 50 + 1), to)
            client.sent(to, number % 50 + 1)
            data, peer = client.socket.recvfrom(999)
            client.received(peer, len(data))

    serving, asking = ([threading.Thread(target=work) for _ in range(4)] for work in (serve, ask))
    for thread in (*serving, *asking):
        thread.start()
    for thread in asking:
        thread.join()
    last = opened(address)
    for _ in serving:
        last.socket.sendto(b"stop", to)
        last.sent(to, 4)
    for thread in serving:
        thread.join()


class _Protocol(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ends = Ends(transport.get_extra_info("socket"))


class _Server(_Protocol):
    def datagram_received(self, data: bytes, peer: tuple[Any, ...]) -> None:
        self.ends.received(peer, len(data))
        self.transport.sendto(data * 2, peer)
        self.ends.sent(peer, 2 * len(data))


class _Client(_Protocol):
    answers = 0

    def ask(self, to: tuple[Any, ...]) -> None:
        self.transport.sendto(b"q" * 11)
        self.ends.sent(to, 11)

    def datagram_received(self, data: bytes, peer: tuple[Any, ...]) -> None:
        self.ends.received(peer, len(data))
        self.answers += 1
        if self.answers < 30:
            self.ask(peer)
        else:
            self.done.set_result(None)

    done: asyncio.Future[None]


async def _asyncio(address: str) -> None:
    loop = asyncio.get_running_loop()
    served, _ = await loop.create_datagram_endpoint(_Server, local_addr=(address, 0))
    to = served.get_extra_info("sockname")
    _, client = await loop.create_datagram_endpoint(_Client, remote_addr=to[:2])
    client.done = loop.create_future()
    client.ask(to)
    await client.done
    report()


def by_asyncio(address: str) -> None:
    asyncio.run(_asyncio(address))


def casts(address: str) -> None:
    """To a group that somebody listens to, and to everybody."""
    group, member, client = "239.7.7.7", opened("0.0.0.0"), opened(address)
    member.socket.bind(("", 0))
    membership = socket.inet_aton(group) + socket.inet_aton(address)
    member.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    client.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    to = (group, port(member))
    client.socket.sendto(b"all of you", to)
    client.sent(to, 10)
    data, peer = member.socket.recvfrom(99)
    member.received(peer, len(data))
    client.socket.sendto(b"everybody", ("255.255.255.255", 9))
    client.sent(("255.255.255.255", 9), 9)


def nameless(address: str) -> None:
    """recv() on a socket that is not connected: the program does not learn who it was. Facts: as far as it can be known."""
    server, client = bound(address), bound(address)
    to, back = (address, port(server)), (address, port(client))
    for _ in range(5):
        client.socket.sendto(b"q" * 9, to)
        client.sent(to, 9)
        server.received(("0.0.0.0", 0), len(server.socket.recv(99)))
    server.socket.sendto(b"r" * 8, back)
    server.sent(back, 8)
    client.received(to, len(client.socket.recv(99)))  # taken to be of the last peer that it sent to
    client.socket.sendto(b"q" * 9, to)
    client.sent(to, 9)
    server.received(back, len(server.socket.recv(99)))
    for flow in server.flows.values():
        flow.role = "unknown"


def endless(address: str) -> None:
    """A server that asks who sent a datagram, and a client, until standard input ends; no facts."""
    server, client = bound(address), opened(address)
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.02):
            client.socket.sendto(b"again", (address, port(server)))
            server.socket.recvfrom(99)

    worker = threading.Thread(target=go_on)
    worker.start()
    say(done="endless")
    sys.stdin.read()
    stop.set()
    worker.join()


def sink(address: str) -> None:
    """Port 53, where nobody answers; prints {"asked": n} as questions come. No flows."""
    server = opened(address)
    server.socket.bind((address, 53))
    server.socket.settimeout(None)

    def take() -> None:
        for number in range(1, 1000):
            server.socket.recvfrom(999)
            say(asked=number)

    threading.Thread(target=take, daemon=True).start()


def many(address: str) -> None:
    """One socket and 200 peers."""
    server = bound(address)
    clients = [opened(address) for _ in range(200)]
    for client in clients:
        client.socket.sendto(b"c" * 10, (address, port(server)))
        data, peer = server.socket.recvfrom(99)
        client.sent((address, port(server)), 10)
        server.received(peer, len(data))


def facts() -> Iterator[dict[str, Any]]:
    who = process()
    for end in Ends.all:
        for peer, flow in end.flows.items():
            yield {"peer": peer, **vars(flow), **who}


def report() -> None:
    for fact in facts():
        say(**fact)
    Ends.all.clear()


CASES: Final[dict[str, Callable[[str], None]]] = {
    f.__name__: f
    for f in (unconnected, mapped, dual, connected, connected_mapped, read_write, peek, failed, cork, reconnect, threads,
              by_asyncio, casts, nameless, endless, sink, many)
}  # fmt: skip


def main(case: str, address: str) -> None:
    CASES[case](address)
    kept = list(Ends.all)
    report()
    say(done=case)
    sys.stdin.read()
    del kept


if __name__ == "__main__":
    main(*sys.argv[1:])
