"""Owner keys of flow records into Resource numbers: vectorised, cached by program of a process, never waiting for `/proc`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.enrich.cgroup import NOTHING, CgroupIdentity, identify_names
from receiver.enrich.entry import PID_BITS, OwnerEntry
from receiver.enrich.host import INITIAL_PID
from receiver.enrich.identity import Composer, Owner, for_metrics
from receiver.enrich.process import Outcome
from receiver.enrich.reader import ReadRequest, ReadResult
from receiver.enrich.resources import Indices, ResourceTable
from receiver.flows.table import KeyTable

Lookup: TypeAlias = Callable[[Sequence[tuple[int, int]]], Sequence[OwnerEntry | None]]
"""Owner entries of keys (`Owner.key`), in the same order; None for a key that the kernel map does not hold."""

_MAX_CGROUPS = 4096  # cgroup ids whose names are remembered
_MAX_UNQUEUED = 1024  # processes to be read once the queue has room again


class Reader(Protocol):
    """What `Owners` needs of a `ProcessReader`."""

    def submit(self, request: ReadRequest) -> bool:
        """Queue `request`, never waiting; False where there is no room."""

    def finished(self) -> list[ReadResult]:
        """The results since the last call."""


@dataclass(slots=True)
class Resolution:
    """The Resources of n rows, each array of length n."""

    resource: Indices  # row in the log Resource table; 0: owner not known, host only
    metric_resource: Indices  # row in the metric Resource table
    pending: NDArray[np.bool_]  # the process is still being read; ask again, or take what is here


@dataclass(slots=True)
class Counters:
    """What happened so far, each a total."""

    hits: int = 0  # rows whose owner was cached
    misses: int = 0  # new owners
    evicted: int = 0  # owners dropped to make room
    overflow: int = 0  # rows left host-only: more owners in one batch than the cache holds
    entry_missing: int = 0  # new owners that the kernel map did not hold
    queue_full: int = 0  # times a process could not be queued for reading
    read: int = 0  # processes read
    gone: int = 0  # gone before they were read
    recycled: int = 0  # the pid was another process's by then
    changed: int = 0  # ran another executable by then
    unreadable: int = 0  # processes of which something could not be read (permissions)
    truncated: int = 0  # files that were longer than what is read of them
    malformed: int = 0  # processes whose OTEL_RESOURCE_ATTRIBUTES could not be decoded
    late: int = 0  # read after their owner had left the cache


class Owners:
    """The bounded cache of owners; one thread (capture) uses it and both tables.

    A new owner gets a preliminary Resource at once, by its record and the kernel's entry. Where its `/proc/PID` may be
    read, `reader` is asked, and its rows are `pending` until the result is in, or `give_up` says to wait no longer.
    `own_pidns` is the inode of Weir's own pid namespace. Each cached owner holds its two Resources; a Resource that no
    owner holds any more stays valid until `collect_logs` or `collect_metrics` is told that no row needs it.
    """

    def __init__(
        self,
        composer: Composer,
        logs: ResourceTable,
        metrics: ResourceTable,
        lookup: Lookup,
        reader: Reader | None,
        own_pidns: int,
        *,
        limit: int = 8192,
    ) -> None:
        self.counters = Counters()
        self._composer = composer
        self._logs = logs
        self._metrics = metrics
        self._lookup = lookup
        self._reader = reader
        self._own_pidns = own_pidns
        self._cgroups: dict[int, CgroupIdentity] = {}
        self._table = KeyTable(2, limit)
        size = self._table.size + 1  # the last row stands for slot -1: no room, host only
        self._resource = np.zeros(size, np.uint32)
        self._metric_resource = np.zeros(size, np.uint32)
        self._pending = np.zeros(size, np.bool_)
        self._seen = np.zeros(size, np.uint64)  # the resolve that last met the owner
        self._resolves = 0
        self._unqueued: dict[tuple[int, int], ReadRequest] = {}  # to be read when the queue has room; bounded

    def resolve(
        self,
        pids: NDArray[np.uint32],
        starts: NDArray[np.uint64],
        comms: NDArray[np.uint8],
        cgroups: NDArray[np.uint64],
    ) -> Resolution:
        """The Resources of n rows; results that the reader has finished are taken in first.

        `pids` (n,) u4 as in keys, 0 for unknown, `starts` (n,) u8 boot clock ns, `comms` (n, 16) u1, `cgroups` (n,) u8 ids.
        """
        self.absorb()
        self._resolves += 1
        count = len(pids)
        known = np.flatnonzero(pids)
        everyone = known.size == count
        if not everyone:
            pids, starts = pids[known], starts[known]
        words = (pids.astype(np.uint64), np.ascontiguousarray(starts, np.uint64))
        before = self.counters.misses
        slots = self._place(words, comms, cgroups, known)
        if (slots < 0).any():
            self._evict()
            slots = self._place(words, comms, cgroups, known)
            self.counters.overflow += int((slots < 0).sum())
        self.counters.hits += max(0, known.size - (self.counters.misses - before))
        found = (self._resource[slots], self._metric_resource[slots], self._pending[slots])
        if everyone:
            return Resolution(*found)
        result = Resolution(np.zeros(count, np.uint32), np.zeros(count, np.uint32), np.zeros(count, np.bool_))
        result.resource[known], result.metric_resource[known], result.pending[known] = found
        return result

    def introduce(self, keys: Sequence[tuple[int, int]]) -> None:
        """Meet owners before their first record comes: keys of entries that the kernel has just written."""
        pids = np.array([pid for pid, _ in keys], np.uint32)
        starts = np.array([start for _, start in keys], np.uint64)
        self.resolve(pids, starts, np.zeros((len(keys), 16), np.uint8), np.zeros(len(keys), np.uint64))

    def absorb(self) -> None:
        """Take in what the reader has finished; its owners' Resources are full from now on."""
        if self._reader is None:
            return
        results = self._reader.finished()
        if results:
            keys = np.array([r.owner.key for r in results], np.uint64)
            slots = self._table.slots((keys[:, 0].copy(), keys[:, 1].copy()), insert=False)
            for result, slot in zip(results, slots.tolist(), strict=True):
                self._count(result)
                if slot < 0:
                    self.counters.late += 1
                    continue
                self._pending[slot] = False
                if result.owner.profile is not None:
                    self._logs.release(self._resource[slot : slot + 1])
                    self._metrics.release(self._metric_resource[slot : slot + 1])
                    self._describe(slot, result.owner)
        while self._unqueued:
            key, request = next(iter(self._unqueued.items()))
            if not self._reader.submit(request):
                break
            del self._unqueued[key]

    def give_up(self, pids: NDArray[np.uint32], starts: NDArray[np.uint64]) -> None:
        """Wait no longer for these owners; a result that still comes is taken in for their later rows."""
        slots = self._table.slots((pids.astype(np.uint64), starts.astype(np.uint64)), insert=False)
        self._pending[slots] = False

    def collect_logs(self, held: Indices) -> int:
        """Free log Resources; `held` are the indices in rows that still wait. For a drain boundary, when `crowded`."""
        return self._collect(self._logs, held)

    def collect_metrics(self, held: Indices) -> int:
        """Free metric Resources; `held` are the indices in the series table. For each metrics interval."""
        return self._collect(self._metrics, held)

    def _collect(self, table: ResourceTable, held: Indices) -> int:
        freed = table.collect(held)
        if table.crowded and self._table.used > self._table.limit // 2:
            self._evict()  # what keeps the table full are owners that nothing was heard of for long
            freed += table.collect(held)
        return freed

    def _place(
        self,
        words: tuple[NDArray[np.uint64], NDArray[np.uint64]],
        comms: NDArray[np.uint8],
        cgroups: NDArray[np.uint64],
        known: NDArray[np.intp],
    ) -> NDArray[np.intp]:
        """The slot of each key in `words`, new owners introduced; `known` are the rows the keys come from."""
        slots, fresh = self._table.place(words)
        self._seen[slots] = self._resolves
        if fresh.size:
            first = np.full(self._table.size + 1, -1, np.intp)
            first[slots[::-1]] = known[::-1]  # the last write stays: the first row of each slot
            rows = first[fresh]
            self._introduce(fresh, comms[rows], cgroups[rows].tolist())
        return slots

    def _introduce(self, slots: NDArray[np.intp], comms: NDArray[np.uint8], cgroups: list[int]) -> None:
        self.counters.misses += len(slots)
        pids, starts = (word.tolist() for word in self._table.keys(slots))
        keys = list(zip(pids, starts, strict=True))
        entries = self._lookup(keys)
        for slot, (pid, start), entry, comm, cgroup in zip(slots.tolist(), keys, entries, comms, cgroups, strict=True):
            self.counters.entry_missing += entry is None
            owner = Owner(
                pid & (1 << PID_BITS) - 1,
                start,
                comm.tobytes(),
                entry,
                self._cgroup(entry, cgroup),
                execs=pid >> PID_BITS,
            )
            self._describe(slot, owner)
            self._pending[slot] = self._ask(owner)

    def _describe(self, slot: int, owner: Owner) -> None:
        attributes = self._composer.compose(owner)
        self._resource[slot] = self._logs.intern(attributes)
        self._metric_resource[slot] = self._metrics.intern(for_metrics(attributes))

    def _ask(self, owner: Owner) -> bool:
        """Whether the process is being read from now on."""
        pid = proc_pid(owner.entry, owner.pid, self._own_pidns)
        if self._reader is None or pid == 0 or owner.start == 0:
            return False
        request = ReadRequest(owner, pid)
        if self._reader.submit(request):
            return True
        self.counters.queue_full += 1
        if len(self._unqueued) < _MAX_UNQUEUED:
            self._unqueued[owner.key] = request
        return False

    def _cgroup(self, entry: OwnerEntry | None, cgroup_id: int) -> CgroupIdentity:
        """The identity of a cgroup by the kernel's names. An id is never used again: what is learned once holds."""
        if entry is None:
            return self._cgroups.get(cgroup_id, NOTHING)
        identity = self._cgroups.get(entry.cgroup_id)
        if identity is None:
            identity = identify_names(entry.cgroup_parent, entry.cgroup_name)
            if len(self._cgroups) >= _MAX_CGROUPS:
                del self._cgroups[next(iter(self._cgroups))]
            self._cgroups[entry.cgroup_id] = identity
        return identity

    def _evict(self) -> None:
        """Drop the owners that were met longest ago, down to half the limit; renumbers every slot."""
        live = self._table.live()
        order = live[np.argsort(self._seen[live], kind="stable")]
        dropped, kept = np.split(order, [max(0, order.size - self._table.limit // 2)])
        self._logs.release(self._resource[dropped])
        self._metrics.release(self._metric_resource[dropped])
        self.counters.evicted += dropped.size
        slots = self._table.keep(kept)
        for column in (self._resource, self._metric_resource, self._pending, self._seen):
            values = column[kept]
            column[:] = 0
            column[slots] = values

    def _count(self, result: ReadResult) -> None:
        counters, profile = self.counters, result.owner.profile
        counters.read += result.outcome is Outcome.READ
        counters.gone += result.outcome is Outcome.GONE
        counters.recycled += result.outcome is Outcome.RECYCLED
        counters.changed += result.outcome is Outcome.CHANGED
        counters.unreadable += result.outcome is Outcome.UNREADABLE or (profile is not None and profile.denied > 0)
        if profile is not None:
            counters.truncated += profile.truncated
            counters.malformed += profile.declared.malformed


def proc_pid(entry: OwnerEntry | None, pid: int, own_pidns: int) -> int:
    """The pid by which `/proc` may be asked for an owner; 0: it must not be.

    Only a process of Weir's own pid namespace is asked for, by its pid there. Without an entry nobody knows its
    namespace; then only the initial one's numbers are right, because that is how the kernel reported `pid`.
    """
    if entry is None:
        return pid if own_pidns == INITIAL_PID else 0
    return entry.vpid if own_pidns and entry.pidns == own_pidns else 0
