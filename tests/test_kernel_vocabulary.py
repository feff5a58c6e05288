"""Wall 1: what is not in the vocabulary cannot be said."""

import ctypes
import re

import pytest

from receiver.kernel import syscall
from receiver.kernel.libbpf import DECLARED
from receiver.kernel.syscall import ALLOWED, RefusedError, bpf

FORBIDDEN = re.compile(
    r"xdp|tc_|_tc|tcx|cgroup|lsm|netfilter|freplace|netkit|netns|sockmap|pin|struct_ops|update_elem|set_link",
    re.IGNORECASE,
)


def test_libbpf_is_declared_without_a_call_that_could_change_or_pin() -> None:
    assert [name for name in DECLARED if FORBIDDEN.search(name.replace("bpf_program__", ""))] == []
    attaching = {name for name in DECLARED if "attach" in name}
    assert attaching == {
        "bpf_program__attach_raw_tracepoint", "bpf_program__attach_trace", "bpf_program__attach_iter",
        "bpf_program__attach_uprobe", "bpf_program__set_expected_attach_type",
    }  # fmt: skip


def test_every_other_command_and_attach_type_is_refused_before_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[int] = []

    class Kernel:
        @staticmethod
        def syscall(_number: object, command: ctypes.c_int, *_rest: object) -> int:
            reached.append(command.value)
            return 0

    monkeypatch.setattr(syscall, "_libc", Kernel)
    attributes = ctypes.create_string_buffer(64)
    for command in range(64):
        for attach_type in range(-1, 80):
            types = ALLOWED.get(command)
            if command in ALLOWED and (types is None or attach_type in types):
                bpf(command, attributes, attach_type=attach_type)
            else:
                with pytest.raises(RefusedError):
                    bpf(command, attributes, attach_type=attach_type)
    assert set(reached) == set(ALLOWED)


def test_only_multi_uprobes_are_linked_by_hand() -> None:
    assert {command: types for command, types in ALLOWED.items() if types is not None} == {28: frozenset({48})}
    assert 2 not in ALLOWED  # MAP_UPDATE_ELEM
    assert not {8, 9} & ALLOWED.keys()  # PROG_ATTACH, PROG_DETACH
    assert 6 not in ALLOWED  # OBJ_PIN
