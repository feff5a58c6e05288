"""Cgroup paths of every runtime, as the kernel wrote them, and what each tells."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.enrich.cgroup import NOTHING, CgroupIdentity, identify_file, identify_levels, identify_names, merge

SAMPLES = json.loads((Path(__file__).parent / "data/cgroups/samples.json").read_text())
ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
UID = "0f0e0d0c-1111-4222-a333-444455556666"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_recorded_sample_tells_what_it_should(name: str) -> None:
    assert identify_file(SAMPLES[name]["content"].encode()) == CgroupIdentity(**SAMPLES[name]["expected"])


# Where two levels are too few to see the container, the kernel's names say less, and never something else.
DEEPER = {"podman-systemd-inside", "lxc-systemd-inside"}


@pytest.mark.parametrize("name", [name for name in SAMPLES if name.endswith((".v2", ".view"))])
def test_the_last_two_levels_agree_with_the_whole_path(name: str) -> None:
    path = SAMPLES[name]["content"].strip().removeprefix("0::")
    parent, last = ["", *path.strip("/").split("/")][-2:]
    told = identify_names(parent.encode(), last.encode())
    whole = CgroupIdentity(**SAMPLES[name]["expected"])
    if name.partition(".")[0] in DEEPER:
        assert told == CgroupIdentity(unit=whole.unit)
    else:
        assert (told.container_id, told.runtime) == (whole.container_id, whole.runtime)
        assert told.pod_uid in {None, whole.pod_uid}
        assert (told.pod_uid is None) == (whole.pod_uid is None or name == "kubepods-systemd-crio-crun.v2")


def test_the_v2_line_goes_first_wherever_it_stands() -> None:
    content = f"1:name=systemd:/docker/{ID}\n0::/docker/{OTHER}\n"
    assert identify_file(content.encode()).container_id == OTHER


def test_a_removed_cgroup_is_still_named() -> None:
    assert identify_file(f"0::/system.slice/docker-{ID}.scope (deleted)\n".encode()).container_id == ID


@pytest.mark.parametrize(
    "level",
    [f"docker-{ID[:-1]}.scope", f"docker-{ID.upper()}.scope", f"xdocker-{ID}.scope", f"docker-{ID}.scopes", f"{ID}0"],
)
def test_what_only_looks_like_a_container_is_none(level: str) -> None:
    assert identify_levels(["system.slice", level]).container_id is None


@pytest.mark.parametrize(
    "level", ["podcast", f"pod{UID[:-1]}", f"tripod{UID}", f"pod{UID.replace('-', '_', 1)}", "pod"]
)
def test_what_only_looks_like_a_pod_is_none(level: str) -> None:
    assert identify_levels(["kubepods", level]).pod_uid is None


@given(st.binary(max_size=2000))
def test_any_bytes_are_taken(content: bytes) -> None:
    identity = identify_file(content)
    assert all(value is None or len(value.encode()) <= 256 for value in (identity.container_id, identity.unit))


LEVELS = st.one_of(
    st.sampled_from(
        ["docker", "lxc", "..", "", "system.slice", "a.service", f"pod{UID}", ID, f"libpod-{ID}", "lxc.payload.x"]
    ),
    st.text(max_size=300),
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["0::", "1:name=systemd:", "4:memory:", ":"]), st.lists(LEVELS, max_size=6)),
        max_size=5,
    )
)
def test_any_paths_are_taken(lines: list[tuple[str, list[str]]]) -> None:
    content = "\n".join(f"{head}/{'/'.join(levels)}" for head, levels in lines).encode("utf-8", "replace")
    identity = identify_file(content)
    assert identity.pod_uid in {None, UID}
    assert identity.runtime is None or identity.container_id


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_names_are_taken(parent: bytes, name: bytes) -> None:
    assert identify_names(parent, name).runtime in {None, "lxc"}


def test_the_kernel_and_proc_complete_each_other_on_one_container_only() -> None:
    pod = CgroupIdentity(ID, None, UID)
    assert merge(CgroupIdentity(ID, "cri-o"), pod) == CgroupIdentity(ID, "cri-o", UID)
    assert merge(NOTHING, pod) == pod
    moved = CgroupIdentity(OTHER, "docker")
    assert merge(moved, pod) == moved
    other_pod = CgroupIdentity(None, None, UID.replace("0", "9"))
    assert merge(other_pod, pod) == other_pod
