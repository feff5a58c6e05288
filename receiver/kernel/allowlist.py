"""Compiled BPF objects to a verdict: only sections and helpers that observe, checked when built and again before each load.

The lists are closed. What can change, drop, redirect or write to another's memory is not on them: no XDP, TC, cgroup,
LSM or struct_ops section, no `bpf_probe_write_user`, no `bpf_override_return`, no `bpf_send_signal`, no kfunc at all.
"""

import struct
import sys
from pathlib import Path
from typing import Final

from receiver.kernel.elf import Elf, ElfError, Instruction

# Programs: the whole section name. A leading "?" (not loaded by default) is not accepted: nothing forbidden may be carried.
PROGRAMS: Final = frozenset(
    {
        "raw_tp/inet_sock_set_state",
        "raw_tp/tcp_rcv_space_adjust",
        "raw_tp/sock_send_length",
        "tp_btf/inet_sock_set_state",
        "tp_btf/sock_send_length",
        "tp_btf/sock_recv_length",
        "tp_btf/sys_exit",
        "iter/bpf_map_elem",
        "iter/task_file",
        "iter/tcp",
        "raw_tp/fib_table_lookup",
        "raw_tp/net_dev_queue",
        "raw_tp/fib6_table_lookup",
        "iter/udp",
        "uprobe",
    }
)
# Only in objects of the benchmarks, which attach to nothing (run once by BPF_PROG_TEST_RUN).
BENCH_PROGRAMS: Final = frozenset({"syscall"})
DATA: Final = frozenset({"", ".text", ".maps", "license", ".bss", ".data", ".rodata", ".BTF", ".BTF.ext", ".strtab",
                         ".symtab", ".llvm_addrsig", ".rodata.cst16", ".rodata.str1.1"})  # fmt: skip
# Helper id -> name (uapi/linux/bpf.h, ___BPF_FUNC_MAPPER): those that Weir's programs call, no more.
HELPERS: Final = {
    1: "map_lookup_elem",
    2: "map_update_elem",
    3: "map_delete_elem",
    8: "get_smp_processor_id",
    14: "get_current_pid_tgid",
    15: "get_current_uid_gid",
    35: "get_current_task",
    46: "get_socket_cookie",
    80: "get_current_cgroup_id",
    93: "spin_lock",  # of an element of Weir's own tables
    94: "spin_unlock",
    112: "probe_read_user",
    113: "probe_read_kernel",
    115: "probe_read_kernel_str",
    120: "get_ns_current_pid_tgid",
    125: "ktime_get_boot_ns",
    127: "seq_write",
    131: "ringbuf_reserve",
    132: "ringbuf_submit",
    133: "ringbuf_discard",
    134: "ringbuf_query",
    158: "get_current_task_btf",
    162: "sock_from_file",
    175: "task_pt_regs",
}
BENCH_HELPERS: Final = {181: "loop"}
LICENSES: Final = frozenset({b"GPL\0", b"Dual BSD/GPL\0"})
_CALL: Final = 0x85
_LOCAL_CALL: Final = 1
_CONTROL: Final = frozenset({0x85, 0x8D})  # call by number, call by register


class ForbiddenError(ValueError):
    """An object carries what only observing does not need."""

    def __init__(self, name: str, findings: list[str]) -> None:
        super().__init__(f"{name}: " + "; ".join(findings))
        self.findings = findings


def findings(data: bytes, name: str) -> list[str]:
    """What is forbidden in an object, each with its section and instruction; empty for one that only observes."""
    try:
        return _walk(Elf(data), name)
    except (ElfError, struct.error, ValueError, IndexError) as error:
        return [f"not a BPF object that can be read: {error}"]


def _walk(elf: Elf, name: str) -> list[str]:
    bench = name.startswith("bench_")
    helpers = HELPERS | (BENCH_HELPERS if bench else {})
    found = []
    for section in elf.sections:
        plain = section.name.removeprefix(".rel")
        if plain not in DATA and plain not in PROGRAMS and not (bench and plain in BENCH_PROGRAMS):
            found.append(f"section {section.name!r}")
        if section.executable:
            found += [
                f"section {section.name}, instruction at {i.offset}: {problem}"
                for i in elf.instructions(section)
                if (problem := _problem(i, helpers))
            ]
    found += [f"symbol {symbol!r} from outside" for symbol in elf.undefined_symbols()]
    types = elf.section(".BTF")
    if types is not None and b"\0pinning\0" in types.data:
        found.append("a map that pins itself")
    license_section = elf.section("license")
    if license_section is None or license_section.data not in LICENSES:
        found.append("license")
    return found


def _problem(instruction: Instruction, helpers: dict[int, str]) -> str:
    if instruction.code not in _CONTROL:
        return ""
    if instruction.code != _CALL:
        return "call by register"
    if instruction.source == _LOCAL_CALL:
        return ""
    if instruction.source != 0:
        return "kernel function call"
    return "" if instruction.immediate in helpers else f"helper {instruction.immediate}"


def check(data: bytes, name: str) -> None:
    """ForbiddenError unless the object only observes."""
    found = findings(data, name)
    if found:
        raise ForbiddenError(name, found)


def main(paths: list[str]) -> int:
    """Check files; 1 if anything is forbidden."""
    failed = 0
    for path in map(Path, paths):
        for finding in findings(path.read_bytes(), path.name):
            sys.stderr.write(f"{path}: {finding}\n")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
