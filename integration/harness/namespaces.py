"""Nothing in, network namespaces with loopback up out, alone or joined by a veth pair; removed at the end."""

import itertools
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_RUN: Final = "/run/netns"
_numbers = itertools.count()


def ip(*arguments: str) -> None:
    """`ip ...`; AssertionError with what it says if it fails."""
    made = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert made.returncode == 0, f"ip {' '.join(arguments)}: {made.stderr}"


@dataclass(frozen=True)
class Namespace:
    """A network namespace with a name; only the network differs for a command in it."""

    name: str

    @property
    def inode(self) -> int:
        return os.stat(f"{_RUN}/{self.name}").st_ino

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in here; it keeps its pid, its mounts and its rights."""
        return ["nsenter", f"--net={_RUN}/{self.name}", *map(str, command)]

    def run(self, *command: str) -> str:
        """What `command` prints in here; AssertionError if it fails."""
        made = subprocess.run(self.inside(command), capture_output=True, text=True, timeout=20, check=False)
        assert made.returncode == 0, f"{' '.join(command)}: {made.stderr}"
        return made.stdout

    def drop(self, rule: str) -> None:
        """From now on packets that arrive here and match the nft expression `rule` are lost, unknown to their sender."""
        self.run(
            "nft",
            "add table inet weir; add chain inet weir input { type filter hook input priority 0; };"
            f" add rule inet weir input {rule} drop",
        )


class Namespaces:
    """Makes namespaces, and removes what it made."""

    def __init__(self) -> None:
        self._made: list[Namespace] = []

    def new(self) -> Namespace:
        space = Namespace(f"weir-{os.getpid()}-{next(_numbers)}")
        ip("netns", "add", space.name)
        self._made.append(space)
        ip("-n", space.name, "link", "set", "lo", "up")
        return space

    def pair(self) -> tuple[Namespace, Namespace]:
        """Two namespaces joined by a veth pair: 10.99.0.1 and fd99::1 here, 10.99.0.2 and fd99::2 there."""
        left, right = self.new(), self.new()
        ip("link", "add", "weir0", "netns", left.name, "type", "veth", "peer", "name", "weir0", "netns", right.name)
        for number, space in enumerate((left, right), 1):
            ip("-n", space.name, "address", "add", f"10.99.0.{number}/24", "dev", "weir0")
            ip("-n", space.name, "address", "add", f"fd99::{number}/64", "dev", "weir0", "nodad")
            ip("-n", space.name, "link", "set", "weir0", "up")
        return left, right

    def end(self) -> None:
        for space in reversed(self._made):
            ip("netns", "delete", space.name)
        self._made.clear()
