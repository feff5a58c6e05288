"""The constants that the kernel side filters by, against a plain reading of the configuration."""

import ipaddress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.kernel.filters import MOST, Filter, Filters, find_cgroup, name_hash
from tests.records import address

_U8, _U64, _LIST = "u1", "<u8", (MOST,)
# As struct weir_filters of bpf/flow_filter.h; at load it comes from the object itself.
DTYPE = np.dtype(
    [
        *((name, _U64, _LIST) for name in ("cidr_high", "cidr_low", "mask_high", "mask_low")),
        *((name, _U64, _LIST) for name in ("executables", "comms", "cgroups")),
        ("ports", "<u2", _LIST),
        *((f"{kind}_filters", _U8, _LIST) for kind in ("cidr", "executable", "cgroup", "port")),
        *((f"{kind}_count", "<u4") for kind in ("cidr", "executable", "cgroup", "port")),
        *((name, _U8) for name in ("by_cidr", "by_executable", "by_cgroup", "by_port", "by_direction")),
        *((name, _U8) for name in ("inbound", "outbound", "any")),
    ]
)
EXCLUDE, INCLUDE = 1, 2


def packed(filters: Filters) -> Any:
    return np.frombuffer(filters.pack(DTYPE, len), DTYPE)[0]


def verdict_of_cidrs(made: Any, peer: str) -> int:
    """As bpf/flow_filter.h walks them: the first that matches."""
    high, low = np.frombuffer(address(peer), "<u8")
    for at in range(made["cidr_count"]):
        if high & made["mask_high"][at] == made["cidr_high"][at] and low & made["mask_low"][at] == made["cidr_low"][at]:
            return int(made["cidr_filters"][at])
    return 0


def mapped(network: str) -> ipaddress.IPv6Network:
    made = ipaddress.ip_network(network)
    if isinstance(made, ipaddress.IPv6Network):
        return made
    return ipaddress.IPv6Network((address(str(made.network_address)), made.prefixlen + 96))


V4 = st.tuples(st.integers(0, 3), st.sampled_from([0, 8, 9, 16, 24, 31, 32])).map(
    lambda pair: str(ipaddress.ip_network((10 << 24 | pair[0] << 22 | pair[0], pair[1]), strict=False))
)
V6 = st.tuples(st.integers(0, 3), st.sampled_from([0, 10, 64, 96, 127, 128])).map(
    lambda pair: str(ipaddress.ip_network((0xFD << 120 | pair[0] << 60 | pair[0], pair[1]), strict=False))
)
CIDRS = st.lists(st.one_of(V4, V6), max_size=8, unique=True)
PEERS = st.one_of(
    st.integers(0, 3).map(lambda n: str(ipaddress.IPv4Address(10 << 24 | n << 22 | n))),
    st.integers(0, 3).map(lambda n: str(ipaddress.IPv6Address(0xFD << 120 | n << 60 | n))),
    st.just("192.0.2.1"),
)


@given(exclude=CIDRS, include=CIDRS, peer=PEERS)
def test_the_longest_prefix_decides_and_exclude_wins_where_they_are_equal(
    exclude: list[str], include: list[str], peer: str
) -> None:
    made = packed(Filters(Filter(cidrs=exclude), Filter(cidrs=include)))
    host = ipaddress.IPv6Address(address(peer))
    lengths = {
        number: max([mapped(text).prefixlen for text in texts if host in mapped(text)], default=-1)
        for number, texts in ((EXCLUDE, exclude), (INCLUDE, include))
    }
    longest = max(lengths.values())
    expected = 0 if longest < 0 else EXCLUDE if lengths[EXCLUDE] == longest else INCLUDE
    assert verdict_of_cidrs(made, peer) == expected
    assert (made["by_cidr"], made["any"]) == ((bool(exclude) * EXCLUDE) | (bool(include) * INCLUDE),) * 2


def test_an_entry_of_both_filters_stands_once() -> None:
    made = packed(
        Filters(
            Filter(ports=[53, 80], executables=["curl"], cgroups=["/a"], directions=["inbound"]),
            Filter(ports=[80, 443], executables=["curl", "a-very-long-executable-name"], directions=["outbound"]),
        )
    )
    count = made["port_count"]
    assert dict(zip(made["ports"][:count].tolist(), made["port_filters"][:count].tolist(), strict=True)) == {
        53: EXCLUDE, 80: EXCLUDE | INCLUDE, 443: INCLUDE
    }  # fmt: skip
    assert made["executable_count"] == 2
    assert made["executable_filters"][:2].tolist() == [EXCLUDE | INCLUDE, INCLUDE]
    assert made["executables"][0] == made["comms"][0] == name_hash("curl", 64)
    assert made["comms"][1] == name_hash("a-very-long-exe", 16) != made["executables"][1]
    assert (made["cgroups"][0], made["cgroup_filters"][0], made["cgroup_count"]) == (2, EXCLUDE, 1)
    assert (made["inbound"], made["outbound"], made["by_direction"]) == (EXCLUDE, INCLUDE, EXCLUDE | INCLUDE)
    assert (made["by_cgroup"], made["by_cidr"], made["any"]) == (EXCLUDE, 0, EXCLUDE | INCLUDE)


def test_no_filter_is_all_zeros() -> None:
    assert Filters().pack(DTYPE) == bytes(DTYPE.itemsize)


def test_too_many_are_refused() -> None:
    with pytest.raises(ValueError, match="65 entries by port: at most 64"):
        packed(Filters(Filter(ports=range(1, 40)), Filter(ports=range(40, 66))))


def test_a_cgroup_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "unified/a/b").mkdir(parents=True)
    (tmp_path / "unified/cgroup.controllers").touch()
    roots = [tmp_path, tmp_path / "unified"]
    assert find_cgroup("/a/b", roots) == (tmp_path / "unified/a/b").stat().st_ino
    assert find_cgroup("/", roots) == (tmp_path / "unified").stat().st_ino
    with pytest.raises(ValueError, match="cgroup /c: No such file"):
        find_cgroup("/c", roots)
    with pytest.raises(ValueError, match="no cgroup v2"):
        find_cgroup("/a", [tmp_path])
