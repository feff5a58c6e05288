"""The raw bpf(2) calls that libbpf 1.1 has no narrow function for: a closed set of commands and attach types."""

import ctypes
import os
from typing import Final

from receiver.kernel.libbpf import KernelError

_NUMBER: Final = {"x86_64": 321, "aarch64": 280}

MAP_LOOKUP_ELEM: Final = 1
OBJ_GET_INFO_BY_FD: Final = 15
LINK_CREATE: Final = 28
ENABLE_STATS: Final = 32
# command -> the attach types it may carry; None where a command attaches nothing.
ALLOWED: Final[dict[int, frozenset[int] | None]] = {
    MAP_LOOKUP_ELEM: None,
    OBJ_GET_INFO_BY_FD: None,
    LINK_CREATE: frozenset({48}),  # BPF_TRACE_UPROBE_MULTI: uprobes of named processes
    ENABLE_STATS: None,
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class RefusedError(ValueError):
    """A bpf(2) command or attach type outside Weir's vocabulary."""


def bpf(command: int, attributes: ctypes.Structure | ctypes.Array[ctypes.c_char], *, attach_type: int = -1) -> int:
    """Make one system call; its result. RefusedError outside the closed set, KernelError where the kernel says no."""
    if command not in ALLOWED:
        message = f"bpf command {command} is not in Weir's vocabulary"
        raise RefusedError(message)
    types = ALLOWED[command]
    if types is not None and attach_type not in types:
        message = f"bpf command {command} with attach type {attach_type} is not in Weir's vocabulary"
        raise RefusedError(message)
    result: int = _libc.syscall(
        ctypes.c_long(_NUMBER[os.uname().machine]),
        ctypes.c_int(command),
        ctypes.byref(attributes),
        ctypes.c_uint(ctypes.sizeof(attributes)),
    )
    if result < 0:
        raise KernelError(ctypes.get_errno(), f"bpf command {command}")
    return result


class _UprobeMulti(ctypes.Structure):
    """union bpf_attr for LINK_CREATE of a multi-uprobe."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("path", ctypes.c_uint64),
        ("offsets", ctypes.c_uint64),
        ("ref_ctr_offsets", ctypes.c_uint64),
        ("cookies", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("multi_flags", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


class _Info(ctypes.Structure):
    _fields_ = (("bpf_fd", ctypes.c_uint32), ("info_len", ctypes.c_uint32), ("info", ctypes.c_uint64))


_RECURSION_MISSES: Final = 208  # offset in struct bpf_prog_info (uapi/linux/bpf.h), since Linux 5.12


def runs_missed(program_fd: int) -> int:
    """How often the kernel left out a program because it was running on that CPU already; 0 where it does not say."""
    info = ctypes.create_string_buffer(_RECURSION_MISSES + 8)
    bpf(OBJ_GET_INFO_BY_FD, _Info(program_fd, len(info), ctypes.addressof(info)))
    return int.from_bytes(info.raw[_RECURSION_MISSES:], "little")


UPROBE_MULTI: Final = 48


def attach_uprobe_multi(program_fd: int, path: str, offset: int, pid: int) -> int:
    """Attach one program at a file offset in one process (of Weir's pid namespace); the link's file descriptor."""
    name = ctypes.create_string_buffer(path.encode())
    offsets = (ctypes.c_uint64 * 1)(offset)
    attributes = _UprobeMulti(
        prog_fd=program_fd,
        attach_type=UPROBE_MULTI,
        path=ctypes.addressof(name),
        offsets=ctypes.addressof(offsets),
        count=1,
        pid=pid,
    )
    return bpf(LINK_CREATE, attributes, attach_type=UPROBE_MULTI)


class _Element(ctypes.Structure):
    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


def lookup(map_fd: int, key: bytes, value_size: int) -> bytes | None:
    """One element of a map, or None."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_size)
    attributes = _Element(map_fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value), 0)
    try:
        bpf(MAP_LOOKUP_ELEM, attributes)
    except KernelError as error:
        if error.errno == 2:  # noqa: PLR2004 ENOENT
            return None
        raise
    return value.raw
