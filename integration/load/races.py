"""UDP flows that end while their datagrams are still coming: races.py; prints {"sent": n, "reported": n, ...}.

The kernel side alone, in this network namespace, with an idle timeout of a third of a millisecond and passes without pause, so
that ends and datagrams meet all the time.
"""

import random
import socket
import subprocess
import sys
import time
from threading import Thread

from facts import say

from receiver.kernel.capture import Capture, Options, own_netns, ring_bytes
from receiver.kernel.records import KIND_END, decode_pass

EACH, SIZE = 10_000, 10


def send() -> None:
    """Four sockets, one of them used by two threads, with pauses of about the timeout."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]

    def work(client: socket.socket, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(EACH):
            client.sendto(b"x" * SIZE, server.getsockname())
            if chance.random() < 0.2:
                time.sleep(chance.random() * 0.0008)

    threads = [Thread(target=work, args=(client, seed)) for seed, client in enumerate([*clients, clients[0]])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def watch() -> None:
    capture = Capture(Options(own_netns(), ring_bytes(1), 4096, udp_idle_timeout=0.0003))
    ends = datagrams = size = 0
    try:
        capture.attach()
        sender = subprocess.Popen([sys.executable, __file__, "send"])
        passes = iter(lambda: capture.run_pass() if sender.poll() is None else None, None)
        for raw in (part for source in (passes, capture.finish()) for part in source):
            records = decode_pass(raw).records
            records = records[records["kind"] == KIND_END]
            ends += len(records)
            datagrams += int(records["transmit_packets"].sum())
            size += int(records["transmit_bytes"].sum())
        missed = capture.counters().udp_missed
    finally:
        capture.close()
    say(sent=5 * EACH, reported=datagrams, size=size, ends=ends, missed=missed)


if __name__ == "__main__":
    send() if sys.argv[1:] == ["send"] else watch()
