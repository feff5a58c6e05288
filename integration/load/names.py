"""DNS of known answers: names.py serve ADDRESS | ask PORT NAME... | raw ADDRESS HOW NAME; prints a fact for each thing done.

serve: a DNS server on port 53 of ADDRESS (UDP and TCP) and a TCP server on any port, which is its first fact. A name's first
letters say what it does: nx is unknown, sf fails, big does not fit a datagram, quiet is not answered; what else there is has
the address 127.0.0.N, N being the number in the name.
ask: looks each NAME up as any program does and, where it has an address and PORT is not 0, connects to it there.
raw: asks for the address of NAME without a resolver; HOW: sendto (a socket that is not connected), twice (two questions in
one piece of a TCP stream), several (one question to two servers, by a socket that is not connected), mixed (such a socket
also exchanges datagrams with a port that has nothing to do with DNS).
"""

import re
import socket
import struct
import sys
import threading
import time

from facts import ends, process, say

A, IN = 1, 1
BIG = 40


def question(message: bytes) -> tuple[str, int]:
    """Its name, and where it ends."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += message[at] + 1
    return ".".join(labels), at + 5


def answer(message: bytes, *, stream: bool) -> bytes:
    name, end = question(message)
    kind = re.match("[a-z]+", name)[0]
    if kind == "quiet":
        return b""
    code = {"nx": 3, "sf": 2}.get(kind, 0)
    (asked,) = struct.unpack_from("!H", message, end - 4)
    count = 0 if code or asked != A else BIG if kind == "big" else 1
    flags = 0x8180 | code
    if kind == "big" and not stream:
        flags, count = flags | 0x0200, 0
    host = int(re.search(r"\d+", name)[0]) if count else 0
    record = struct.pack("!HHHIH4B", 0xC00C, A, IN, 60, 4, 127, 0, 0, host)
    return message[:2] + struct.pack("!5H", flags, 1, count, 0, 0) + message[12:end] + record * count


def exactly(connection: socket.socket, count: int) -> bytes:
    return connection.recv(count, socket.MSG_WAITALL)


def serve_stream(connection: socket.socket) -> None:
    with connection:
        while head := exactly(connection, 2):
            made = answer(exactly(connection, *struct.unpack("!H", head)), stream=True)
            connection.sendall(struct.pack("!H", len(made)) + made)


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listening(address: str, port: int) -> socket.socket:
    made = socket.socket(family(address))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(64)
    return made


def accept_all(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_stream, args=(connection,), daemon=True).start()


def echo_all(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(1000):
                connection.sendall(data)


def serve(address: str) -> None:
    datagrams = socket.socket(family(address), socket.SOCK_DGRAM)
    datagrams.bind((address, 53))
    plain = listening("0.0.0.0", 0)
    threading.Thread(target=accept_all, args=(listening(address, 53),), daemon=True).start()
    threading.Thread(target=echo_all, args=(plain,), daemon=True).start()
    say(port=plain.getsockname()[1], **process())
    while True:
        message, sender = datagrams.recvfrom(4096)
        if made := answer(message, stream=False):
            datagrams.sendto(made, sender)


def ask(port: str, *names: str) -> None:
    for name in names:
        try:
            found = socket.getaddrinfo(name, int(port), socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            say(name=name, error=str(error), **process())
            continue
        fact = {"name": name, "addresses": sorted({row[4][0] for row in found})}
        if int(port):
            with socket.create_connection(found[0][4]) as connection:
                connection.sendall(b"x" * 100)
                connection.recv(1000)
                fact |= ends(connection)
        say(**fact, **process())
    time.sleep(600)


def query(number: int, name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", A, IN)


def raw(address: str, how: str, name: str) -> None:
    if how != "twice":
        with socket.socket(family(address), socket.SOCK_DGRAM) as made:
            made.bind((address, 0))
            if how == "mixed":
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                    other.bind((address, 0))
                    other.sendto(b"SECRET", made.getsockname())
                    made.sendto(made.recv(100), other.getsockname())
            made.sendto(query(7, name), (address, 53))
            if how == "several":
                made.sendto(query(7, name), ("127.0.0.66", 53))  # nobody is there
            data, _ = made.recvfrom(1000)
            say(answer=len(data), **process())
    else:
        with socket.create_connection((address, 53)) as made:
            both = [query(7, name), query(8, f"other-{name}")]
            made.sendall(b"".join(struct.pack("!H", len(one)) + one for one in both))
            sizes = [len(exactly(made, *struct.unpack("!H", exactly(made, 2)))) for _ in both]
            say(answer=sizes, **process())
    time.sleep(600)


if __name__ == "__main__":
    {"serve": serve, "ask": ask, "raw": raw}[sys.argv[1]](*sys.argv[2:])
