"""Tables that fit into the container's memory limit."""

from pathlib import Path

import pytest

from receiver.kernel.sizing import FLOW_BYTES, LEAST_FLOWS, fit, memory_limit

MIB = 1 << 20


def place(tmp_path: Path, cgroup: str, **limits: str) -> tuple[Path, Path]:
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(cgroup)
    for path, text in limits.items():
        file = root / path.replace("__", "/").replace("_max", ".max").replace("_in_bytes", ".limit_in_bytes")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root, proc


@pytest.mark.parametrize(
    ("cgroup", "limits", "limit"),
    [
        ("0::/pod/app\n", {"pod__app__memory_max": "max\n", "pod__memory_max": "134217728\n"}, 128 * MIB),
        ("0::/pod/app\n", {"pod__app__memory_max": "67108864\n", "pod__memory_max": "134217728\n"}, 64 * MIB),
        ("0::/\n", {"memory_max": "67108864\n"}, 64 * MIB),  # a cgroup namespace
        ("0::/pod\n", {"pod__memory_max": "max\n"}, None),
        ("0::/../other\n", {}, None),
        ("5:cpu,memory:/docker/a\n0::/\n", {"memory__docker__a__memory_in_bytes": "33554432"}, 32 * MIB),
        ("5:memory:/a\n", {"memory__a__memory_in_bytes": "9223372036854771712"}, None),
        ("nonsense", {}, None),
    ],
)
def test_the_least_limit_on_the_way_up(tmp_path: Path, cgroup: str, limits: dict[str, str], limit: int | None) -> None:
    assert memory_limit(*place(tmp_path, cgroup, **limits)) == limit


def test_no_cgroup_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path, tmp_path) is None


def test_what_is_configured_is_taken_where_it_fits() -> None:
    assert fit(65536, 2 * MIB, None).max_flows == 65536
    assert fit(65536, 2 * MIB, 128 * MIB).max_flows == 65536
    small = fit(65536, 2 * MIB, 32 * MIB)
    assert small.max_flows == 6 * MIB // FLOW_BYTES
    assert small.table_bytes <= 8 * MIB
    assert fit(65536, 16 * MIB, 32 * MIB).max_flows == LEAST_FLOWS
    assert fit(100, 2 * MIB, 32 * MIB).max_flows == 100
