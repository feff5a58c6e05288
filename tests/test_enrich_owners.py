"""Owner keys to Resources: cached, vectorised, honest about what is not known, never waiting for a read."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.enrich.cgroup import CgroupIdentity
from receiver.enrich.entry import OwnerEntry
from receiver.enrich.host import INITIAL_PID, Pod
from receiver.enrich.identity import Composer, Owner, for_metrics, iso_milliseconds
from receiver.enrich.owners import Owners, Resolution, proc_pid
from receiver.enrich.process import Outcome, Profile
from receiver.enrich.reader import ProcessReader, ReadRequest, ReadResult
from receiver.enrich.resources import ResourceTable
from receiver.enrich.service import Declared

OWN = 0xF0000001  # inode of Weir's pid namespace, a sidecar's
BOOT = 1_700_000_000_000_000_000
ID = "0123456789abcdef" * 4
HOST = {"host.name": "node", "host.id": "f" * 32, "os.type": "linux"}
DISTRO = {"telemetry.distro.name": "weir", "telemetry.distro.version": "1"}


def encode(attributes: Mapping[str, object]) -> bytes:
    return json.dumps(attributes).encode()


def entry(pid: int, start: int = 5, **more: object) -> OwnerEntry:
    fields = {"uid": 0, "vpid": pid % 1000, "pidns": OWN, "cgroup_id": 1, "comm": b"worker", "executable": b"prog"}
    return OwnerEntry(**{"pid": pid, "start": start, "cgroup_name": b"", "cgroup_parent": b"", **fields, **more})


class Recorded:
    """A reader that keeps the requests and hands over what a test puts into `results`."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.requests: list[ReadRequest] = []
        self.results: list[ReadResult] = []

    def submit(self, request: ReadRequest) -> bool:
        if len(self.requests) >= self.room:
            return False
        self.requests.append(request)
        return True

    def finished(self) -> list[ReadResult]:
        results, self.results = self.results, []
        return results

    def answer(self, number: int = 0, outcome: Outcome = Outcome.READ, **profile: object) -> None:
        found = Profile(**profile) if outcome is Outcome.READ else None
        self.results.append(ReadResult(replace(self.requests[number].owner, profile=found), outcome))


class Bench:
    """Owners with everything around them."""

    def __init__(
        self,
        entries: Sequence[OwnerEntry] = (),
        *,
        reader: object = None,
        own: int = OWN,
        limit: int = 64,
        **composer: object,
    ) -> None:
        self.entries = {e.key: e for e in entries}
        self.lookups: list[list[tuple[int, int]]] = []
        made = Composer(HOST, "1", lambda boot: boot + BOOT, **composer)
        self.logs = ResourceTable(encode, 2 * limit, made.host_only())
        self.metrics = ResourceTable(encode, limit, for_metrics(made.host_only()))
        self.owners = Owners(made, self.logs, self.metrics, self.lookup, reader, own, limit=limit)

    def lookup(self, keys: Sequence[tuple[int, int]]) -> list[OwnerEntry | None]:
        self.lookups.append(list(keys))
        return [self.entries.get(key) for key in keys]

    def resolve(self, *pids: int, start: int = 5, comm: bytes = b"task", cgroup: int = 0) -> Resolution:
        count = len(pids)
        comms = np.tile(np.frombuffer(comm.ljust(16, b"\0"), np.uint8), (count, 1))
        return self.owners.resolve(
            np.array(pids, np.uint32), np.full(count, start, np.uint64), comms, np.full(count, cgroup, np.uint64)
        )

    def log(self, *pids: int, **more: object) -> dict[str, object]:
        return json.loads(self.logs.encoded[self.resolve(*pids, **more).resource[0]])

    def metric(self, *pids: int) -> dict[str, object]:
        return json.loads(self.metrics.encoded[self.resolve(*pids).metric_resource[0]])


def test_an_unknown_owner_leaves_only_the_host_keys() -> None:
    bench = Bench()
    found = bench.resolve(0, 0)
    assert found.resource.tolist() == found.metric_resource.tolist() == [0, 0]
    assert not found.pending.any()
    assert json.loads(bench.logs.encoded[0]) == HOST | DISTRO
    assert bench.lookups == []


def test_a_process_that_runs_another_program_is_another_owner() -> None:
    both = [entry(7, executable=b"shell"), entry(7, executable=b"server", execs=1)]
    bench = Bench(both)
    found = [bench.log(made.key[0]) for made in both]
    assert [owner["process.executable.name"] for owner in found] == ["shell", "server"]
    assert [owner["process.pid"] for owner in found] == [7, 7]


def test_a_sidecar_names_a_stranger_by_the_kernels_entry_alone() -> None:
    reader = Recorded()
    names = {"cgroup_name": f"docker-{ID}.scope".encode(), "cgroup_parent": b"system.slice", "cgroup_id": 77}
    bench = Bench([entry(4321, vpid=9, pidns=0xF0000009, **names)], reader=reader)
    found = bench.log(4321)
    assert found.pop("service.instance.id")
    assert found == HOST | DISTRO | {
        "process.pid": 4321,
        "process.vpid": 9,
        "process.creation.time": "2023-11-14T22:13:20.000Z",
        "process.executable.name": "prog",
        "weir.process.comm": "worker",
        "container.id": ID,
        "container.runtime.name": "docker",
        "service.name": "unknown_service:prog",
    }
    assert reader.requests == []
    assert not bench.resolve(4321).pending.any()


def test_a_neighbour_is_read_by_its_pid_there_and_pending_until_then() -> None:
    reader = Recorded()
    bench = Bench([entry(4321, vpid=9)], reader=reader)
    first = bench.resolve(4321)
    assert first.pending.all()
    assert [(r.pid, r.owner.pid) for r in reader.requests] == [(9, 4321)]
    assert bench.resolve(4321).pending.all()
    reader.answer(executable_path="/opt/prog", declared=Declared("cart", "shop"))
    second = bench.resolve(4321)
    assert not second.pending.any()
    assert second.resource[0] != first.resource[0]
    found = bench.log(4321)
    assert (found["service.name"], found["service.namespace"]) == ("cart", "shop")
    assert (found["process.executable.path"], found["process.vpid"]) == ("/opt/prog", 9)
    assert len(reader.requests) == len(bench.lookups) == 1
    assert json.loads(bench.logs.encoded[first.resource[0]])["service.name"] == "unknown_service:prog"  # still valid
    assert bench.owners.counters.read == 1


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.RECYCLED, Outcome.CHANGED, Outcome.UNREADABLE])
def test_a_read_that_fails_ends_the_wait_and_leaves_what_the_kernel_said(outcome: Outcome) -> None:
    reader = Recorded()
    bench = Bench([entry(7)], reader=reader)
    before = bench.resolve(7)
    reader.answer(outcome=outcome)
    after = bench.resolve(7)
    assert not after.pending.any()
    assert after.resource[0] == before.resource[0]
    assert getattr(bench.owners.counters, outcome.value) == 1


def test_a_recycled_pid_is_another_owner() -> None:
    bench = Bench([entry(7, 5, executable=b"old"), entry(7, 6, executable=b"new")])
    assert bench.log(7, start=5)["process.executable.name"] == "old"
    assert bench.log(7, start=6)["process.executable.name"] == "new"
    assert "process.executable.name" not in bench.log(7, start=7)


def test_who_waited_long_enough_gets_the_result_later() -> None:
    reader = Recorded()
    bench = Bench([entry(7)], reader=reader)
    assert bench.resolve(7).pending.all()
    bench.owners.give_up(np.array([7, 8], np.uint32), np.array([5, 5], np.uint64))
    assert not bench.resolve(7).pending.any()
    reader.answer(executable_path="/opt/prog")
    assert bench.log(7)["process.executable.path"] == "/opt/prog"


def test_a_full_queue_is_counted_and_asked_again_when_there_is_room() -> None:
    reader = Recorded(room=1)
    bench = Bench([entry(7), entry(8)], reader=reader)
    assert bench.resolve(7, 8).pending.sum() == 1
    assert bench.owners.counters.queue_full == 1
    bench.resolve(7, 8)
    assert len(reader.requests) == 1
    reader.room = 5
    bench.resolve(0)
    assert {r.owner.pid for r in reader.requests} == {7, 8}
    reader.answer(0, executable_path="/opt/prog")
    reader.answer(1, executable_path="/opt/prog")
    assert bench.log(7)["process.executable.path"] == bench.log(8)["process.executable.path"] == "/opt/prog"


def test_an_entry_that_is_missing_leaves_what_the_record_says() -> None:
    reader = Recorded()
    bench = Bench(reader=reader)
    found = bench.log(7, comm=b"cur\xffl")
    assert (found["weir.process.comm"], found["process.pid"], found["service.name"]) == (
        "cur\ufffdl",
        7,
        "unknown_service",
    )
    assert reader.requests == []
    assert bench.owners.counters.entry_missing == 1


def test_an_owner_without_entry_is_in_the_container_its_cgroup_id_is_known_for() -> None:
    names = {"cgroup_name": f"libpod-{ID}.scope".encode(), "cgroup_parent": b"machine.slice", "cgroup_id": 77}
    bench = Bench([entry(7, **names)])
    assert "container.id" not in bench.log(8, cgroup=77)
    bench.resolve(7)
    assert bench.log(9, cgroup=77)["container.id"] == ID
    assert "container.id" not in bench.log(10, cgroup=78)


def test_the_rule_of_who_may_be_read() -> None:
    assert proc_pid(entry(4321, vpid=9), 4321, OWN) == 9
    assert proc_pid(entry(4321, vpid=9, pidns=OWN + 1), 4321, OWN) == 0
    assert proc_pid(entry(4321, vpid=9, pidns=0), 4321, 0) == 0
    assert proc_pid(None, 4321, OWN) == 0
    assert proc_pid(None, 4321, INITIAL_PID) == 4321


def test_metrics_do_not_tell_processes_of_one_program_apart() -> None:
    reader = Recorded()
    bench = Bench([entry(7), entry(8), entry(9, executable=b"other")], reader=reader)
    found = bench.resolve(7, 8, 9)
    assert len(set(found.resource.tolist())) == 3
    assert found.metric_resource[0] == found.metric_resource[1] != found.metric_resource[2]
    log, metric = bench.log(7), bench.metric(7)
    assert set(log) - set(metric) == {"process.pid", "process.vpid", "process.creation.time"}
    assert all(log[key] == value for key, value in metric.items())


def test_the_pod_names_its_own_and_no_other() -> None:
    uid = "0f0e0d0c-1111-4222-a333-444455556666"
    names = {"cgroup_name": f"cri-containerd-{ID}.scope".encode(), "cgroup_id": 3}
    entries = [
        entry(7, cgroup_parent=f"kubepods-pod{uid.replace('-', '_')}.slice".encode(), **names),
        entry(8, cgroup_parent=f"pod{uid.replace('0', '1')}".encode(), **(names | {"cgroup_id": 4})),
        entry(9, cgroup_id=5),
    ]
    reader = Recorded()
    bench = Bench(entries, reader=reader, pod=Pod("cart-1", uid, "shop"))
    mine, other, unsaid = bench.log(7), bench.log(8), bench.log(9)
    assert (mine["service.name"], mine["service.namespace"], mine["k8s.pod.uid"]) == ("cart-1", "shop", uid)
    assert (other["service.name"], other["k8s.pod.uid"]) == ("unknown_service:prog", uid.replace("0", "1"))
    assert "k8s.pod.name" not in other
    assert unsaid["k8s.pod.name"] == "cart-1"
    reader.answer(0, declared=Declared(container_name="main"))
    assert bench.log(7)["service.instance.id"] == "shop.cart-1.main"


def test_configured_attributes_replace_and_the_tenant_stands_above() -> None:
    extra = {"service.name": "mine", "team": "a", "weir.tenant.id": "forged"}
    bench = Bench([entry(7)], extra=extra, tenant="t1")
    for found in (bench.log(7), bench.log(0), bench.metric(7)):
        assert (found["service.name"], found["team"], found["weir.tenant.id"]) == ("mine", "a", "t1")


def test_the_instance_id_is_that_of_host_and_executable_without_a_container() -> None:
    reader = Recorded()
    bench = Bench([entry(7), entry(8)], reader=reader)
    assert "service.instance.id" not in bench.log(7, 8)
    reader.answer(0, executable_path="/opt/prog")
    reader.answer(1, executable_path="/opt/prog")
    assert bench.log(7)["service.instance.id"] == bench.log(8)["service.instance.id"]
    assert bench.resolve(7).metric_resource[0] == bench.resolve(8).metric_resource[0]


def test_proc_completes_the_kernels_cgroup_names() -> None:
    reader = Recorded()
    bench = Bench([entry(7, cgroup_name=b"nginx.service", cgroup_parent=b"system.slice")], reader=reader)
    bench.resolve(7)
    reader.answer(cgroup=CgroupIdentity("web1", "lxc"))
    assert (bench.log(7)["container.id"], bench.log(7)["container.runtime.name"]) == ("web1", "lxc")


def test_a_step_of_another_source_adds_what_it_knows() -> None:
    def cluster(owner: Owner, attributes: dict[str, object]) -> None:
        attributes.update({"k8s.namespace.name": "shop", "k8s.pod.name": f"p{owner.pid}", "k8s.container.name": "c"})

    bench = Bench([entry(7)], steps=(cluster,))
    assert (bench.log(7)["service.name"], bench.log(7)["service.instance.id"]) == ("p7", "shop.p7.c")


def test_the_cache_is_bounded_and_keeps_who_was_met_last() -> None:
    bench = Bench(limit=8)
    for pid in range(1, 41):
        bench.resolve(pid)
        bench.resolve(1)
    counters = bench.owners.counters
    assert counters.misses == 40
    assert counters.evicted >= 32
    assert counters.overflow == 0
    assert (counters.hits, len(bench.lookups)) == (40, 40)


def test_more_owners_than_room_in_one_batch_are_host_only_and_counted() -> None:
    bench = Bench(limit=8)
    found = bench.resolve(*range(1, 21))
    known = found.resource > 0
    assert 0 < known.sum() <= 8
    assert bench.owners.counters.overflow == 20 - known.sum()
    for pid, index in zip(range(1, 21), found.resource.tolist(), strict=True):
        assert index == 0 or json.loads(bench.logs.encoded[index])["process.pid"] == pid


def test_handed_out_numbers_stay_valid_until_they_are_collected() -> None:
    bench = Bench(limit=8)
    kept = bench.resolve(1).resource
    for pid in range(2, 200):
        bench.resolve(pid)
        if bench.logs.crowded:
            bench.owners.collect_logs(kept)
        bench.owners.collect_metrics(np.empty(0, np.uint32))
    assert json.loads(bench.logs.encoded[kept[0]])["process.pid"] == 1
    assert bench.logs.overflow == bench.metrics.overflow == 0
    assert len(bench.logs) <= 16


def test_a_result_for_an_owner_that_left_is_late() -> None:
    reader = Recorded()
    bench = Bench([entry(1)], reader=reader, limit=8)
    bench.resolve(1)
    for pid in range(2, 20):
        bench.resolve(pid)
    reader.answer(executable_path="/opt/prog")
    bench.resolve(0)
    assert bench.owners.counters.late == 1


@given(st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 2)), max_size=12), max_size=8))
def test_every_row_gets_its_own_owner(batches: list[list[tuple[int, int]]]) -> None:
    bench = Bench(limit=5)
    for batch in batches:
        pids, starts = (np.array([row[i] for row in batch], kind) for i, kind in ((0, np.uint32), (1, np.uint64)))
        comms = np.zeros((len(batch), 16), np.uint8)
        comms[:, 0] = 97 + pids
        found = bench.owners.resolve(pids, starts, comms, np.zeros(len(batch), np.uint64))
        if bench.logs.crowded:
            bench.owners.collect_logs(found.resource)
        if bench.metrics.crowded:
            bench.owners.collect_metrics(found.metric_resource)
        for (pid, start), log, metric in zip(batch, found.resource, found.metric_resource, strict=True):
            if log:
                resource = json.loads(bench.logs.encoded[log])
                assert resource["process.pid"] == pid
                assert resource["process.creation.time"] == iso_milliseconds(BOOT + start)
                assert resource["weir.process.comm"] == chr(97 + pid)
            if metric:
                assert json.loads(bench.metrics.encoded[metric])["weir.process.comm"] == chr(97 + pid)
            assert pid or not (log or metric)


def until(condition: object, seconds: float = 20) -> None:
    """Wait for `condition`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was never met"
        threading.Event().wait(0.002)


def test_a_real_child_is_named_by_the_discover_thread() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(
        command, env={"OTEL_SERVICE_NAME": "cart"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()
        ticks = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        start = ticks * 10_000_000 + 1234
        path = str(Path(sys.executable).resolve())
        reader = ProcessReader()
        known = entry(99_999, start, vpid=child.pid, executable=path.rpartition("/")[2].encode())
        stranger = entry(99_998, start + 10_000_000, vpid=child.pid, executable=known.executable)
        bench = Bench([known, stranger], reader=reader)
        reader.start()
        try:
            bench.resolve(99_998, start=stranger.start)
            until(lambda: not bench.resolve(99_999, start=start).pending.any())
            found = bench.log(99_999, start=start)
            assert (found["service.name"], found["process.executable.path"]) == ("cart", path)
            assert bench.owners.counters.recycled == 1
            assert bench.log(99_998, start=stranger.start)["service.name"] != "cart"
        finally:
            child.kill()
            assert reader.stop(10)


def test_a_read_that_hangs_holds_only_its_own_thread() -> None:
    entered, free = threading.Event(), threading.Event()

    def hang(proc: Path, pid: int, start: int, executable: bytes, ticks: int) -> tuple[Outcome, Profile | None]:
        del proc, pid, start, executable, ticks
        entered.set()
        assert free.wait(20)
        return Outcome.GONE, None

    reader = ProcessReader(queue_size=2, read=hang)
    bench = Bench([entry(pid) for pid in range(1, 11)], reader=reader)
    reader.start()
    try:
        assert bench.resolve(1).pending.all()
        assert entered.wait(20)
        assert bench.resolve(*range(2, 11)).pending.sum() == 2  # the queue's room; the rest does not wait
        assert bench.owners.counters.queue_full == 7
        assert not reader.stop(0.01)
        assert not reader.submit(ReadRequest(Owner(1, 1, b""), 1))
    finally:
        free.set()
    assert reader.stop(10)
    assert len(reader.finished()) == 1
    assert reader.finished() == []
