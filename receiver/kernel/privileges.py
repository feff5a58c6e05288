"""Capabilities: what this thread holds, and letting go of all but a few (capabilities(7), capset(2), prctl(2)).

Linux keeps capabilities for each thread, so `drop` is called before others are started; they inherit what is left.
"""

import ctypes
from collections.abc import Iterable
from typing import Final

NAMES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
_VERSION: Final = 0x20080522
_CAPBSET_DROP, _SET_NO_NEW_PRIVS, _AMBIENT, _AMBIENT_CLEAR = 24, 38, 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _read() -> tuple[int, int]:
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    if _libc.capget(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capget")
    return data[0].effective | data[1].effective << 32, data[0].permitted | data[1].permitted << 32


def held() -> frozenset[str]:
    """The effective capabilities of this thread, as `CAP_BPF`."""
    effective, _ = _read()
    return frozenset(f"CAP_{name}" for i, name in enumerate(NAMES) if effective >> i & 1)


def drop(keep: Iterable[str]) -> frozenset[str]:
    """Keep of what this thread holds only `keep`, forbid gaining any more, for good; what is held afterwards.

    The bounding set shrinks too where CAP_SETPCAP allows it. `no_new_privs` is set in any case.
    """
    kept = {NAMES.index(name.removeprefix("CAP_")) for name in keep}
    _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    for number in range(len(NAMES)):
        if number not in kept:
            _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)
    _, permitted = _read()
    wanted = permitted & sum(1 << number for number in kept)
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    for half in (0, 1):
        part = wanted >> 32 * half & 0xFFFFFFFF
        data[half] = _Data(part, part, 0)
    if _libc.capset(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capset")
    return held()
