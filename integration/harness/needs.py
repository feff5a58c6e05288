"""What these tests need of the machine in, what is missing of it out."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from integration.harness.processes import LOAD
from integration.harness.weir import command

COMMANDS: Final = {
    "ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux", "unshare": "util-linux",
    "nft": "nftables", "ss": "iproute2", "bpftool": "bpftool", "cc": "gcc", "go": "Go 1.26 or later",
}  # fmt: skip


def missing() -> list[str]:
    """One sentence for each thing that is not there."""
    os.environ["PATH"] += ":/usr/sbin:/sbin:/usr/local/go/bin"
    found = [] if os.geteuid() == 0 else ["root: namespaces and BPF need it"]
    if not Path("/sys/kernel/btf/vmlinux").exists():
        found.append("BTF of the kernel: /sys/kernel/btf/vmlinux is not there")
    found += [f"{name} (from {package})" for name, package in COMMANDS.items() if shutil.which(name) is None]
    weir = command()[0]
    if shutil.which(weir) is None:
        found.append(f"Weir: {weir} is not a command; run `make setup`, or set WEIR")
    return found


def compiled(name: str) -> Path:
    """The program load/NAME.c, compiled once for each state of its source, outside the tree."""
    source = LOAD / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir" / f"{name}-{digest}"
    target = cache / name
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        half = cache / f"{name}.{os.getpid()}"
        subprocess.run(["cc", "-O2", "-Wall", "-o", str(half), str(source)], check=True, timeout=120)
        half.rename(target)
    return target
