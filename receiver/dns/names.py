"""Addresses that an owner was given under a name in, the name that a connection to such an address was made by out.

The rule: of the names under which this owner was given this address, the one given last before the connection began,
among those whose life had not ended by then. A life is the answer's TTL, with a floor of FLOOR_S and a ceiling of
CEILING_S. A name is asked for once, by the time at which the connection began, and stays with the connection however long
that lives; a connection that is used again keeps the name that it was made by.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from receiver.dns.lookups import Lookup

FLOOR_S: Final = 1  # a TTL of 0 is good for the connection that follows at once
CEILING_S: Final = 7 * 86400  # RFC 8767, section 4
MAX_SHARED: Final = 4  # names remembered of one address and owner
_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Counters:
    """What happened so far, each a total."""

    given: int = 0  # addresses taken in
    evicted: int = 0  # addresses forgotten to make room, the one longest without use first
    displaced: int = 0  # names forgotten because their address had MAX_SHARED newer ones


class Names:
    """The bounded table of names by owner and address; one thread uses it.

    An owner is any number that tells who shares what it was told: a network namespace, or a process. Nothing leaves by
    its age alone: a flow that began while a name lived may be reported later.
    """

    def __init__(self, limit: int = 4096, floor: int = FLOOR_S) -> None:
        if limit < 1 or floor < 0:
            raise ValueError(f"limit {limit} must be at least 1, floor {floor} at least 0")
        self.counters = Counters()
        self._limit = limit
        self._floor = floor
        # For each owner and address: when given, when its life ends (both ns), and the name; the newest first.
        self._names: OrderedDict[tuple[int, bytes], tuple[tuple[int, int, str], ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def learn(self, owner: int, lookup: Lookup[Any]) -> None:
        """Take in what `lookup` told the one who asked. An answer that the workload itself gave tells it nothing."""
        if lookup.conversation.role == "client" and not lookup.error_type:
            when = lookup.started + lookup.duration
            for address in lookup.addresses:
                self.give(owner, address.address, lookup.name, address.ttl, when)

    def give(self, owner: int, address: bytes, name: str, ttl: int, when: int) -> None:
        """`owner` was told at `when` (ns) that `name` has `address` (16 octets), for `ttl` seconds."""
        self.counters.given += 1
        key = (owner, address)
        fresh = (when, when + min(max(ttl, self._floor), CEILING_S) * _NS, name)
        known = self._names.get(key)
        if known is None:
            if len(self._names) >= self._limit:
                self._names.popitem(last=False)
                self.counters.evicted += 1
            self._names[key] = (fresh,)
            return
        self._names.move_to_end(key)
        since, until, latest = known[0]
        if name == latest and since <= when <= until:  # told again while it lived: one life
            self._names[key] = ((since, max(until, fresh[1]), name), *known[1:])
            return
        kept = sorted((fresh, *known), key=lambda life: life[0], reverse=True)  # the fresh one first among equals
        self.counters.displaced += len(kept) > MAX_SHARED
        self._names[key] = tuple(kept[:MAX_SHARED])

    def lives(self, owner: int, address: bytes) -> tuple[tuple[int, int, str], ...]:
        """What `lookup` decides by: when each name of the address was given, when its life ends, the name; the newest first."""
        known = self._names.get((owner, address))
        if known is None:
            return ()
        self._names.move_to_end((owner, address))
        return known

    def lookup(self, owner: int, address: bytes, when: int) -> str:
        """The name by which a connection of `owner` to `address` was made that began at `when` (ns); "" where none is known."""
        key = (owner, address)
        known = self._names.get(key)
        if known is not None:
            for since, until, name in known:
                if since <= when <= until:
                    self._names.move_to_end(key)
                    return name
        return ""
