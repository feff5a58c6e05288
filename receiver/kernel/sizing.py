"""The configured limits and the container's memory limit in; the sizes of the kernel's tables out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Of one entry of `flows` (bpf/flow_state.h), which is allocated whole at load: element, key, value, its share of buckets.
FLOW_BYTES: Final = 48 + 8 + 112 + 16
LEAST_FLOWS: Final = 1024
_SHARE: Final = 4  # the tables may take one part in so many of the limit
_NO_LIMIT: Final = 1 << 60  # cgroup v1 says so with a number near 2^63


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is loaded."""

    max_flows: int
    table_bytes: int  # flows and ring: what the kernel allocates at once and charges to the container
    memory_limit: int | None  # bytes


def memory_limit(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int | None:
    """The least memory limit of this process's cgroup and those above it, in bytes; None where there is none."""
    try:
        lines = (proc / "self/cgroup").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            found += _limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "memory", path, "memory.limit_in_bytes")
    return min(found, default=None)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Of the cgroup at `path` and those above it; in a cgroup namespace the container's own is the root."""
    here = root / path.strip("/")
    found = []
    for folder in (here, *here.parents):
        if folder != root and root not in folder.parents:
            break
        try:
            limit = int((folder / name).read_text("ascii"))
        except (OSError, ValueError):  # none there, or the word "max"
            continue
        if 0 < limit < _NO_LIMIT:
            found.append(limit)
    return found


def fit(max_flows: int, ring_bytes: int, limit: int | None) -> Sizes:
    """`max_flows` as configured, or as many as a quarter of the memory limit holds beside the ring."""
    if limit is not None:
        room = (limit // _SHARE - ring_bytes) // FLOW_BYTES
        max_flows = min(max_flows, max(LEAST_FLOWS, room))
    return Sizes(max_flows, max_flows * FLOW_BYTES + ring_bytes, limit)
