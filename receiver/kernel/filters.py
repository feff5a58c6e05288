"""`exclude` and `include` as they are configured in, the constants that bpf/flow_filter.h decides by out."""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST: Final = 64  # entries of each kind, as WEIR_FILTERS
_EXCLUDE, _INCLUDE = 1, 2
_NAME: Final = 64  # bytes of an executable's name, with the zero that ends it
_COMM: Final = 16
_V4_BITS: Final = 96  # of an IPv6 address that stand before a mapped IPv4 one
_V4: Final = 4
_MASK: Final = (1 << 64) - 1
_ROOTS: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: it matches where each list that is not empty has an entry that does."""

    ports: Sequence[int] = ()  # the server's
    cidrs: Sequence[str] = ()  # the peer's address
    executables: Sequence[str] = ()  # names, not paths
    cgroups: Sequence[str] = ()  # paths below the root of cgroup v2; what is below them matches too
    directions: Sequence[str] = ()  # inbound, outbound


@dataclass(frozen=True, slots=True)
class Filters:
    """What is not reported: what `exclude` matches, and where there is an `include`, what that does not."""

    exclude: Filter = field(default_factory=Filter)
    include: Filter = field(default_factory=Filter)

    def pack(self, dtype: np.dtype[np.void], cgroup_id: Callable[[str], int] | None = None) -> bytes:
        """The struct weir_filters. Raises ValueError for an entry that cannot be, or for too many of a kind."""
        made = np.zeros(1, dtype)
        both = ((_EXCLUDE, self.exclude), (_INCLUDE, self.include))
        row: Any = made[0]
        _fill(row, "port", "ports", _merged((entry, number) for number, one in both for entry in one.ports))
        names = _merged((entry, number) for number, one in both for entry in one.executables)
        _fill(row, "executable", "executables", [(name_hash(name, _NAME), number) for name, number in names])
        row["comms"][: len(names)] = [name_hash(name, _COMM) for name, _ in names]
        find = cgroup_id or find_cgroup
        _fill(row, "cgroup", "cgroups", _merged((find(path), number) for number, one in both for path in one.cgroups))
        self._cidrs(row)
        for number, one in both:
            directions = set(one.directions)
            lists = (one.cidrs, one.executables, one.cgroups, one.ports, one.directions)
            for kind, entries in zip(("cidr", "executable", "cgroup", "port", "direction"), lists, strict=True):
                row[f"by_{kind}"] |= number if entries else 0
            row["any"] |= number if any(lists) else 0
            row["inbound"] |= number if "inbound" in directions else 0
            row["outbound"] |= number if "outbound" in directions else 0
        return made.tobytes()

    def _cidrs(self, row: Any) -> None:  # noqa: ANN401 a numpy record
        """The longest prefix first; of the same network in both filters, `exclude` has it."""
        found: dict[tuple[int, bytes], int] = {}
        for number, one in ((_INCLUDE, self.include), (_EXCLUDE, self.exclude)):
            found |= {_network(text): number for text in one.cidrs}
        entries = sorted(found.items(), key=lambda entry: -entry[0][0])
        _fill(row, "cidr", None, entries)
        for at, ((length, address), _) in enumerate(entries):
            mask = ((1 << length) - 1 << 128 - length).to_bytes(16, "big")
            row["cidr_high"][at], row["cidr_low"][at] = np.frombuffer(address, "<u8")
            row["mask_high"][at], row["mask_low"][at] = np.frombuffer(mask, "<u8")


def _merged(entries: Any) -> list[tuple[Any, int]]:  # noqa: ANN401 pairs of any entry and its filter
    """Each entry once, with all its filters."""
    found: dict[Any, int] = {}
    for entry, number in entries:
        found[entry] = found.get(entry, 0) | number
    return list(found.items())


def _fill(row: Any, kind: str, values: str | None, entries: Sequence[tuple[Any, int]]) -> None:  # noqa: ANN401 as above
    if len(entries) > MOST:
        raise ValueError(f"{len(entries)} entries by {kind}: at most {MOST} in exclude and include together")
    if values is not None:
        row[values][: len(entries)] = [entry for entry, _ in entries]
    row[f"{kind}_filters"][: len(entries)] = [number for _, number in entries]
    row[f"{kind}_count"] = len(entries)


def _network(text: str) -> tuple[int, bytes]:
    """Prefix length and address of a network, IPv4 as ::ffff:a.b.c.d."""
    network = ipaddress.ip_network(text)
    if network.version == _V4:
        return network.prefixlen + _V4_BITS, bytes(10) + b"\xff\xff" + network.network_address.packed
    return network.prefixlen, network.network_address.packed


def name_hash(name: str, width: int) -> int:
    """As hash_name() in bpf/flow_filter.h, of a name that the kernel cuts to `width` bytes with its zero."""
    words: NDArray[np.uint64] = np.frombuffer(name.encode()[: width - 1].ljust(_NAME, b"\0"), "<u8")
    found = 0x9E3779B97F4A7C15
    for word in words.tolist():
        found = (found ^ word) * 0xBF58476D1CE4E5B9 & _MASK
        found ^= found >> 32
    return found


def find_cgroup(path: str, roots: Sequence[Path] = _ROOTS) -> int:
    """The id of a cgroup, by its path in the hierarchy that Weir sees. Raises ValueError where there is none."""
    for root in roots:
        if not (root / "cgroup.controllers").exists():  # no cgroup v2
            continue
        try:
            return (root / path.strip("/")).stat().st_ino  # of kernfs, an inode's number is the node's id
        except OSError as error:
            raise ValueError(f"cgroup {path}: {error.strerror}") from error
    raise ValueError(f"cgroup {path}: no cgroup v2 hierarchy is mounted in /sys/fs/cgroup")
