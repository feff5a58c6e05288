"""A narrow ctypes binding of libbpf 1.x: only calls that load, attach observers and read; none that can change traffic.

What is not declared here cannot be called: no XDP, TC, cgroup, LSM or netfilter attachment, no pinning, no freplace.
"""

import ctypes
import os
import threading
from functools import cache
from typing import Final, TypeAlias

Pointer: TypeAlias = int | None

_P, _I, _S, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
_U32, _U64, _B = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_bool

# name -> (result, arguments); the whole vocabulary.
DECLARED: Final = {
    "bpf_object__open_mem": (_P, (_P, _Z, _P)),
    "bpf_object__load": (_I, (_P,)),
    "bpf_object__close": (None, (_P,)),
    "bpf_object__btf": (_P, (_P,)),
    "btf__raw_data": (_P, (_P, _P)),
    "bpf_object__find_program_by_name": (_P, (_P, _S)),
    "bpf_object__find_map_by_name": (_P, (_P, _S)),
    "bpf_object__next_program": (_P, (_P, _P)),
    "bpf_object__next_map": (_P, (_P, _P)),
    "bpf_map__name": (_S, (_P,)),
    "bpf_map__fd": (_I, (_P,)),
    "bpf_map__set_max_entries": (_I, (_P, _U32)),
    "bpf_map__max_entries": (_U32, (_P,)),
    "bpf_map__initial_value": (_P, (_P, _P)),
    "bpf_program__name": (_S, (_P,)),
    "bpf_program__section_name": (_S, (_P,)),
    "bpf_program__fd": (_I, (_P,)),
    "bpf_program__set_autoload": (_I, (_P, _B)),
    "bpf_program__set_expected_attach_type": (_I, (_P, _I)),
    "bpf_program__attach_raw_tracepoint": (_P, (_P, _S)),
    "bpf_program__attach_trace": (_P, (_P,)),
    "bpf_program__attach_iter": (_P, (_P, _P)),
    "bpf_program__attach_uprobe": (_P, (_P, _B, _I, _S, _Z)),
    "bpf_link__fd": (_I, (_P,)),
    "bpf_link__destroy": (_I, (_P,)),
    "bpf_iter_create": (_I, (_I,)),
    "libbpf_set_print": (_P, (_P,)),
    "libbpf_major_version": (_U32, ()),
    "libbpf_minor_version": (_U32, ()),
}

_PRINT = ctypes.CFUNCTYPE(_I, _I, _S, _P)
_LOG_LINES = 200
VMLINUX_BTF: Final = "/sys/kernel/btf/vmlinux"


class KernelError(OSError):
    """The kernel or libbpf refused: errno, what was tried, and the end of libbpf's own log."""

    def __init__(self, errno: int, what: str, log: str = "") -> None:
        super().__init__(errno, f"{what}: {os.strerror(errno)}")
        self.what = what
        self.log = log


class _OpenOptions(ctypes.Structure):
    """struct bpf_object_open_opts of libbpf 1.1 (size 80)."""

    _fields_ = (
        ("sz", _Z),
        ("object_name", _S),
        ("relaxed_maps", _B),
        ("pin_root_path", _S),
        ("reserved1", _U32),
        ("kconfig", _S),
        ("btf_custom_path", _S),
        ("kernel_log_buf", _P),
        ("kernel_log_size", _Z),
        ("kernel_log_level", _U32),
    )


class _IterInfo(ctypes.Structure):
    """union bpf_iter_link_info, as far as a map iterator needs it."""

    _fields_ = (("map_fd", _U32), ("padding", _U32 * 3))


class _IterOptions(ctypes.Structure):
    """struct bpf_iter_attach_opts."""

    _fields_ = (("sz", _Z), ("link_info", ctypes.POINTER(_IterInfo)), ("link_info_len", _U32))


_log: list[str] = []
_log_lock = threading.Lock()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.vsnprintf.argtypes = (_S, _Z, _S, _P)


def _keep_log(level: int, text: bytes, arguments: int) -> int:
    line = ctypes.create_string_buffer(1024)
    _libc.vsnprintf(line, len(line), text, arguments)
    del _log[:-_LOG_LINES]
    _log.append(line.value.decode("utf-8", "replace").rstrip())
    return level


_keep_log_callback = _PRINT(_keep_log)


@cache
def library() -> ctypes.CDLL:
    """libbpf.so.1, declared; OSError names the package that is missing."""
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        message = "libbpf.so.1 is not installed (Debian: apt-get install libbpf1)"
        raise OSError(error.errno or 2, message) from error
    for name, (result, arguments) in DECLARED.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    lib.libbpf_set_print(_keep_log_callback)
    return lib


class Link:
    """An attached program; it detaches when closed, or when the process ends however it ends."""

    def __init__(self, pointer: int) -> None:
        self._pointer: int | None = pointer
        self.fd: int = library().bpf_link__fd(pointer)

    def close(self) -> None:
        """Detach."""
        if self._pointer is not None:
            library().bpf_link__destroy(self._pointer)
            self._pointer = None


class BpfObject:
    """One compiled object: open, sized and parametrised, loaded, attached; all of it undone by `close`."""

    def __init__(self, data: bytes, name: str, *, btf_path: str = VMLINUX_BTF) -> None:
        self.name = name
        self._lib = library()
        self._data = ctypes.create_string_buffer(data, len(data))
        options = _OpenOptions(sz=ctypes.sizeof(_OpenOptions), object_name=name.encode())
        # Naming vmlinux's BTF keeps libbpf from walking the modules', which needs CAP_SYS_ADMIN.
        options.btf_custom_path = btf_path.encode()
        with _log_lock:
            _log.clear()
            self._pointer: int | None = self._lib.bpf_object__open_mem(self._data, len(data), ctypes.byref(options))
            if not self._pointer:
                raise KernelError(ctypes.get_errno(), f"open {name}", "\n".join(_log))
        self._links: list[Link] = []

    def btf(self) -> bytes:
        """The object's own BTF, with the offsets of its data sections filled in."""
        size = _U32()
        at = self._lib.btf__raw_data(self._lib.bpf_object__btf(self._pointer), ctypes.byref(size))
        return ctypes.string_at(at, size.value)

    def _program(self, name: str) -> int:
        program: int | None = self._lib.bpf_object__find_program_by_name(self._pointer, name.encode())
        if not program:
            raise KernelError(2, f"{self.name}: program {name}")
        return program

    def _map(self, name: str) -> int:
        found: int | None = self._lib.bpf_object__find_map_by_name(self._pointer, name.encode())
        if not found:
            raise KernelError(2, f"{self.name}: map {name}")
        return found

    def programs(self) -> dict[str, str]:
        """Program name -> section name."""
        found: dict[str, str] = {}
        program = self._lib.bpf_object__next_program(self._pointer, None)
        while program:
            name, section = self._lib.bpf_program__name(program), self._lib.bpf_program__section_name(program)
            found[name.decode()] = section.decode()
            program = self._lib.bpf_object__next_program(self._pointer, program)
        return found

    def resize(self, name: str, entries: int) -> None:
        """Set a map's max_entries (bytes for a ring) before load."""
        self._check(self._lib.bpf_map__set_max_entries(self._map(name), entries), f"resize {name} to {entries}")

    def skip(self, program: str) -> None:
        """Do not load this program."""
        self._check(self._lib.bpf_program__set_autoload(self._program(program), False), f"skip {program}")  # noqa: FBT003

    def set_attach_type(self, program: str, attach_type: int) -> None:
        """Set a program's expected attach type before load (uprobe_multi: 48)."""
        self._check(
            self._lib.bpf_program__set_expected_attach_type(self._program(program), attach_type), f"type of {program}"
        )

    def write_initial(self, name: str, offset: int, value: bytes) -> None:
        """Write to a data section (`.rodata`) before load."""
        size = _Z()
        at = self._lib.bpf_map__initial_value(self._map(name), ctypes.byref(size))
        if not at or offset + len(value) > size.value:
            raise KernelError(22, f"{self.name}: {name} offset {offset}")
        ctypes.memmove(at + offset, value, len(value))

    def load(self) -> None:
        """Load all that is not skipped; KernelError carries the end of libbpf's and the verifier's log."""
        with _log_lock:
            _log.clear()
            result = self._lib.bpf_object__load(self._pointer)
            if result:
                raise KernelError(-result, f"load {self.name}", "\n".join(_log))

    def program_fd(self, name: str) -> int:
        """File descriptor of a loaded program."""
        fd: int = self._lib.bpf_program__fd(self._program(name))
        return fd

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""
        fd: int = self._lib.bpf_map__fd(self._map(name))
        return fd

    def attach(self, program: str) -> Link:
        """Attach a raw tracepoint or tp_btf program to what its section names."""
        kind, _, target = self.programs()[program].partition("/")
        pointer = self._program(program)
        if kind in {"raw_tp", "raw_tracepoint"}:
            link = self._lib.bpf_program__attach_raw_tracepoint(pointer, target.encode())
        elif kind == "tp_btf":
            link = self._lib.bpf_program__attach_trace(pointer)
        else:
            raise KernelError(22, f"{self.name}: {program} is of section {kind}")
        return self._linked(link, f"attach {program}")

    def attach_iterator(self, program: str, map_name: str | None = None) -> Link:
        """Attach an iterator, over the elements of `map_name` or over what its section names."""
        if map_name is None:
            return self._linked(self._lib.bpf_program__attach_iter(self._program(program), None), f"attach {program}")
        info = _IterInfo(map_fd=self.map_fd(map_name))
        options = _IterOptions(sz=ctypes.sizeof(_IterOptions), link_info=ctypes.pointer(info))
        options.link_info_len = ctypes.sizeof(info)
        link = self._lib.bpf_program__attach_iter(self._program(program), ctypes.byref(options))
        return self._linked(link, f"attach {program}")

    def attach_uprobe(self, program: str, *, pid: int, path: str, offset: int) -> Link:
        """Attach a uprobe to one process of `pid` at a file offset (perf based)."""
        link = self._lib.bpf_program__attach_uprobe(self._program(program), False, pid, path.encode(), offset)  # noqa: FBT003
        return self._linked(link, f"attach {program}")

    def _linked(self, pointer: int | None, what: str) -> Link:
        if not pointer:
            raise KernelError(ctypes.get_errno(), f"{self.name}: {what}")
        link = Link(pointer)
        self._links.append(link)
        return link

    def _check(self, result: int, what: str) -> None:
        if result:
            raise KernelError(abs(result), f"{self.name}: {what}")

    def detach(self) -> None:
        """Detach every program; maps and programs stay."""
        for link in self._links:
            link.close()
        self._links.clear()

    def close(self) -> None:
        """Detach and unload everything."""
        self.detach()
        if self._pointer is not None:
            self._lib.bpf_object__close(self._pointer)
            self._pointer = None


def open_iterator(link: Link) -> int:
    """A file descriptor that reads one pass of an attached iterator."""
    fd: int = library().bpf_iter_create(link.fd)
    if fd < 0:
        raise KernelError(-fd if fd < -1 else ctypes.get_errno(), "create iterator")
    return fd


def read_iterator(link: Link) -> bytes:
    """Everything that one walk of an iterator writes."""
    fd = open_iterator(link)
    parts: list[bytes] = []
    try:
        while True:
            try:
                part = os.read(fd, 1 << 20)
            except BlockingIOError:  # so many elements without a word that the kernel makes a pause
                continue
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(fd)
