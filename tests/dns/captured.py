"""Records of DNS messages as the kernel side writes them, for tests."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from receiver.kernel.dns import MESSAGE, TRANSMIT
from tests.records import address

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.53", 53)
S = 1_000_000_000


def captured(data: bytes, *, transmit: bool = True, flags: int = 0, size: int = 0, **values: Any) -> NDArray[np.void]:
    """One record of a client that talks to SERVER (shape (1,))."""
    fields: dict[str, Any] = {
        "version": 1, "transport": 17, "family": 4, "local_port": CLIENT[1], "peer_port": SERVER[1], "netns": 9,
        "owner_pid": 77, "owner_start": 5, "cgroup_id": 3, "cookie": 11, "time": S, "size": size or len(data),
        "captured": min(len(data), 511), "local_address": CLIENT[0], "peer_address": SERVER[0], "comm": b"app",
    }  # fmt: skip
    fields |= values
    made = np.zeros(1, MESSAGE)
    made["flags"] = flags | (TRANSMIT if transmit else 0)
    made["data"][0, : min(len(data), 511)] = np.frombuffer(data[:511], np.uint8)
    for name, value in fields.items():
        if name.endswith("_address"):
            made[name][0] = np.frombuffer(address(value), np.uint8)
        elif name == "comm":
            made[name][0, : len(value)] = np.frombuffer(value, np.uint8)
        else:
            made[name] = value
    return made
