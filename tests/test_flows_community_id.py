"""Community ID v1, against the vectors that its authors publish (seed 0)."""

import base64
import hashlib
import socket
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.flows.community_id import community_ids
from tests.records import address

# github.com/corelight/community-id-spec, baseline/baseline_seed0.json: TCP and UDP.
PUBLISHED = [
    ("1:LQU9qZlK+B5F3KDmev6m5PMibrg=", 6, "128.232.110.120", 34855, "66.35.250.204", 80),
    ("1:LQU9qZlK+B5F3KDmev6m5PMibrg=", 6, "66.35.250.204", 80, "128.232.110.120", 34855),
    ("1:d/FP5EW3wiY1vCndhwleRRKHowQ=", 17, "192.168.1.52", 54585, "8.8.8.8", 53),
    ("1:d/FP5EW3wiY1vCndhwleRRKHowQ=", 17, "8.8.8.8", 53, "192.168.1.52", 54585),
    ("1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=", 6, "2001:470:e5bf:dead:4957:2174:e82c:4887", 63943, "2607:f8b0:400c:c03::1a", 25),
    ("1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=", 6, "2607:f8b0:400c:c03::1a", 25, "2001:470:e5bf:dead:4957:2174:e82c:4887", 63943),
]  # fmt: skip


def ids(flows: list[tuple[int, str, int, str, int]]) -> list[str]:
    def ends(column: int) -> np.ndarray:
        return np.frombuffer(b"".join(address(flow[column]) for flow in flows), np.uint8).reshape(-1, 16)

    family = np.array([6 if ":" in flow[1] else 4 for flow in flows], np.uint8)
    transport = np.array([flow[0] for flow in flows], np.uint8)
    ports = [np.array([flow[i] for flow in flows], np.uint16) for i in (2, 4)]
    return [row.tobytes().decode() for row in community_ids(family, transport, ends(1), ports[0], ends(3), ports[1])]


@pytest.mark.parametrize(("expected", "transport", "one", "one_port", "two", "two_port"), PUBLISHED)
def test_published_vectors(expected: str, transport: int, one: str, one_port: int, two: str, two_port: int) -> None:
    assert ids([(transport, one, one_port, two, two_port)]) == [expected]


def reference(transport: int, one: str, one_port: int, two: str, two_port: int) -> str:
    """The specification, one flow at a time."""
    family = socket.AF_INET6 if ":" in one else socket.AF_INET
    ends = sorted(((socket.inet_pton(family, one), one_port), (socket.inet_pton(family, two), two_port)))
    data = struct.pack(">H", 0) + ends[0][0] + ends[1][0] + struct.pack(">BBHH", transport, 0, ends[0][1], ends[1][1])
    return "1:" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None).map(str)
PORT = st.integers(0, 65535)
FLOW = st.one_of(*(st.tuples(st.sampled_from([6, 17]), ip, PORT, ip, PORT) for ip in (V4, V6)))


@given(st.lists(FLOW, max_size=20))
def test_any_batch_equals_the_specification_and_both_ends_agree(flows: list[tuple[int, str, int, str, int]]) -> None:
    assert ids(flows) == [reference(*flow) for flow in flows]
    assert ids(flows) == ids([(t, two, p2, one, p1) for t, one, p1, two, p2 in flows])
