"""Data that is read after its connection has ended: late.py COUNT; a fact for each end, then it stays until its input ends."""

import socket
import struct
import sys

from facts import ends, process, read, say

TCP_CLOSE, ANSWER = 7, 1000


def main(count: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients, facts = [], []
        for _ in range(int(count)):
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
            client.shutdown(socket.SHUT_WR)
            assert server.recv(1) == b""
            facts.append({"role": "server", "sent": ANSWER, "received": 0, **ends(server)})
            facts.append({"role": "client", "sent": 0, "received": ANSWER, **ends(client)})
            server.sendall(bytes(ANSWER))
            server.close()
            clients.append(client)
        for client in clients:
            while struct.unpack("B", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0] != TCP_CLOSE:
                pass
            read(client, ANSWER)
        for fact in facts:
            say(**fact, **process())
        sys.stdin.readline()  # the sockets are closed only now: no other takes their place before


if __name__ == "__main__":
    main(*sys.argv[1:])
