"""Sockets that make no flows are counted by kind, from the tables that the kernel has."""

import socket
from pathlib import Path

from receiver.kernel.uncovered import TABLES, uncovered_sockets


def test_lines_after_the_header_are_counted(tmp_path: Path) -> None:
    (tmp_path / "sctp").mkdir()
    for name, sockets in (("raw", 2), ("raw6", 1), ("packet", 0), ("sctp/eps", 3)):
        (tmp_path / name).write_text("header\n" + "socket\n" * sockets)
    assert uncovered_sockets(tmp_path) == {"raw": 3, "packet": 0, "sctp": 3}


def test_a_kernel_without_tables_says_nothing(tmp_path: Path) -> None:
    assert uncovered_sockets(tmp_path) == {}


def test_a_socket_of_ones_own_is_seen() -> None:
    before = uncovered_sockets()
    assert before.keys() <= TABLES.keys()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136) as lite:  # IPPROTO_UDPLITE
        lite.bind(("127.0.0.1", 0))
        assert uncovered_sockets().get("udplite", 0) == before.get("udplite", 0) + ("udplite" in before)
