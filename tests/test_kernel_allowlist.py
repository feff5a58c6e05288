"""Wall 2: an object that could do more than observe is refused, by section, helper, kfunc, symbol or license."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.kernel import allowlist
from receiver.kernel.allowlist import HELPERS, ForbiddenError, check, findings
from tests.elf_writer import EXIT, call, instruction, write_elf

GOOD = "raw_tp/inet_sock_set_state"


def test_an_object_that_only_observes_passes() -> None:
    wide_load = instruction(0x18, immediate=0x85) + bytes(8)  # its second half is no instruction
    local = call(5, source=1)
    assert (
        findings(write_elf({GOOD: wide_load + b"".join(map(call, HELPERS)) + local + EXIT, ".text": EXIT}), "flow")
        == []
    )


@pytest.mark.parametrize(
    "section",
    ["xdp", "tc", "?tc", "classifier", "cgroup/connect4", "cgroup_skb/egress", "lsm/socket_connect", "sk_msg", "sockops",
     "struct_ops/tcp", "freplace/f", "fmod_ret/f", "kprobe/tcp_connect", "tp_btf/sys_enter", "raw_tp/sys_enter", "syscall",
     "?raw_tp/inet_sock_set_state", "raw_tp/inet_sock_set_state2"],
)  # fmt: skip
def test_other_sections_are_refused(section: str) -> None:
    with pytest.raises(ForbiddenError, match="section"):
        check(write_elf({GOOD: EXIT, section: EXIT}), "flow")


@pytest.mark.parametrize("helper", [4, 6, 9, 11, 23, 36, 44, 51, 58, 65, 109, 181, 2**31 - 1])
def test_other_helpers_are_refused_wherever_they_hide(helper: int) -> None:
    for name in (GOOD, ".text"):
        with pytest.raises(ForbiddenError, match=f"instruction at 8: helper {helper}"):
            check(write_elf({name: EXIT + call(helper) + EXIT}), "flow")


def test_kernel_functions_and_calls_by_register_are_refused() -> None:
    assert "kernel function call" in findings(write_elf({GOOD: call(1, source=2)}), "flow")[0]
    assert "call by register" in findings(write_elf({GOOD: instruction(0x8D, target=1)}), "flow")[0]
    assert "bpf_kfunc" in findings(write_elf({GOOD: EXIT}, undefined=("bpf_kfunc",)), "flow")[0]


def test_the_license_is_checked() -> None:
    assert findings(write_elf({GOOD: EXIT}, licence=b"Proprietary\0"), "flow") == ["license"]


def test_the_benchmarks_may_run_once_but_flow_may_not() -> None:
    loop = write_elf({"syscall": call(181) + EXIT})
    assert findings(loop, "bench_ring") == []
    assert findings(loop, "flow")


@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 255))
def test_any_bytes_are_refused_or_read_but_never_crash(junk: bytes, at: int, value: int) -> None:
    assert findings(junk, "flow")
    good = bytearray(write_elf({GOOD: call(1) + EXIT}))
    good[at % len(good)] = value
    findings(bytes(good), "flow")


def test_the_command_names_file_and_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.bpf.o", tmp_path / "bad.bpf.o"
    good.write_bytes(write_elf({GOOD: EXIT}))
    bad.write_bytes(write_elf({"xdp": EXIT}))
    assert allowlist.main([str(good)]) == 0
    assert allowlist.main([str(good), str(bad)]) == 1
    assert "bad.bpf.o: section 'xdp'" in capsys.readouterr().err
