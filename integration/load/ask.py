"""One HTTP GET over one connection: ask.py PORT PATH; prints the body."""

import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as connection:
    connection.sendall(f"GET {sys.argv[2]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = b"".join(iter(lambda: connection.recv(65536), b""))
head, _, body = answer.partition(b"\r\n\r\n")
assert head.split()[1] == b"200", head
print(body.decode())
