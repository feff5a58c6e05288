"""The walls against real compiled objects: what a compiler makes of forbidden C is refused at build and at load."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.kernel import objects
from receiver.kernel.allowlist import ForbiddenError
from receiver.kernel.objects import IntegrityError

ROOT = Path(__file__).resolve().parent.parent
HEAD = '#include "kernel.h"\n#include <bpf/bpf_helpers.h>\n'
TAIL = '\nchar LICENSE[] SEC("license") = "GPL";\n'
GOOD = 'SEC("raw_tp/inet_sock_set_state") int f(struct bpf_raw_tracepoint_args *ctx) { return 0; }'
# name -> (C, header, what the refusal names)
BAD = {
    "xdp": ('SEC("xdp") int f(void *ctx) { return 1; }', "", "section 'xdp'"),
    "tc": ('SEC("?tc") int f(void *ctx) { return 2; }', "", "section '?tc'"),
    "cgroup": ('SEC("cgroup/connect4") int f(void *ctx) { return 1; }', "", "section 'cgroup/connect4'"),
    "lsm": ('SEC("lsm/socket_connect") int f(void *ctx) { return -1; }', "", "section 'lsm/socket_connect'"),
    "hidden": (
        'SEC("raw_tp/inet_sock_set_state") int f(struct bpf_raw_tracepoint_args *ctx) { return quiet(ctx); }',
        "static __noinline int quiet(void *to) { long x = 1; return bpf_probe_write_user(to, &x, sizeof(x)); }\n",
        "helper 36",
    ),
    "pinned": (
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32);"
        ' __uint(pinning, 1); } pinned SEC(".maps"); ' + GOOD,
        "",
        "a map that pins itself",
    ),
    "signal": (
        'SEC("raw_tp/inet_sock_set_state") int f(struct bpf_raw_tracepoint_args *ctx) { return bpf_send_signal(9); }',
        "",
        "helper 109",
    ),
    "kfunc": (
        (
            "extern void bpf_rcu_read_lock(void) __ksym;"
            ' SEC("raw_tp/inet_sock_set_state") int f(struct bpf_raw_tracepoint_args *ctx) { bpf_rcu_read_lock(); return 0; }'
        ),
        "",
        "bpf_rcu_read_lock",
    ),
}


def compiled(directory: Path, code: str, header: str = "") -> Path:
    (directory / "hidden.h").write_text(header)
    source, target = directory / "flow.bpf.c", directory / "flow.x86_64.bpf.o"
    source.write_text(HEAD + '#include "hidden.h"\n' + code + TAIL)
    command = [
        "clang",
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-mcpu=v2",
        "-D__TARGET_ARCH_x86",
        "-I",
        str(ROOT / "bpf"),
        "-I",
        str(directory),
    ]
    subprocess.run(
        [*command, "-c", str(source), "-o", str(target)], check=True, capture_output=True, text=True, timeout=60
    )
    subprocess.run(["llvm-strip", "-g", str(target)], check=True, timeout=60)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    (directory / "SHA256SUMS").write_text(f"{digest}  {target.name}\n")
    return target


def verdict(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "receiver.kernel.allowlist", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_good_sample_passes(tmp_path: Path) -> None:
    path = compiled(tmp_path, GOOD)
    assert verdict(path).returncode == 0
    assert objects.read("flow", machine="x86_64", directory=tmp_path) == path.read_bytes()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sample_is_refused_at_build_and_at_load(tmp_path: Path, name: str) -> None:
    code, header, finding = BAD[name]
    path = compiled(tmp_path, code, header)
    refused = verdict(path)
    assert refused.returncode == 1
    assert finding in refused.stderr
    with pytest.raises(ForbiddenError, match="flow"):
        objects.read("flow", machine="x86_64", directory=tmp_path)


def test_a_changed_byte_of_the_real_object_is_refused(tmp_path: Path) -> None:
    for source in objects.DIRECTORY.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    target = tmp_path / "flow.x86_64.bpf.o"
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    with pytest.raises(IntegrityError, match="changed after it was built"):
        objects.read("flow", machine="x86_64", directory=tmp_path)


def test_every_shipped_object_passes() -> None:
    shipped = sorted(objects.DIRECTORY.glob("*.bpf.o"))
    assert len(shipped) == 2 * len(list((ROOT / "bpf").glob("*.bpf.c")))
    for path in shipped:
        assert verdict(path).returncode == 0, path
