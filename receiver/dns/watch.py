"""Records of captured messages in, finished lookups out; the addresses that were told are remembered by their names."""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from receiver.dns.lookups import TCP, Conversation, Lookup, Lookups
from receiver.dns.message import DnsError, parse
from receiver.dns.names import Names
from receiver.dns.streams import Streams
from receiver.kernel.dns import SELF, SEVERAL, TRANSMIT
from receiver.kernel.records import Records

MOST_A_SECOND: Final = 1000  # messages that are parsed; twice that many at once
_NANO: Final = 1_000_000_000


class Asker(NamedTuple):
    """The process at this end, as the kernel knows it."""

    pid: int
    start: int
    cgroup_id: int
    netns: int
    comm: bytes


Found: TypeAlias = Lookup[Asker]


@dataclass(slots=True)
class Counters:
    """What became of messages, each a total."""

    parsed: int = 0
    malformed: int = 0  # not DNS, or not what it says of itself
    rate: int = 0  # not looked at, because there were too many
    unsure: int = 0  # queries without an answer while messages were lost: nobody knows that there was none


class Watch:
    """Queries, answers and names of one source; one thread uses it."""

    def __init__(self, rate: int = MOST_A_SECOND) -> None:
        self.lookups: Lookups[Asker] = Lookups()
        self.names = Names()
        self.streams = Streams()
        self.counters = Counters()
        self._rate = rate
        self._room = 2 * rate * _NANO  # messages that may be parsed, in billionths
        self._filled = 0
        self._lost = self._lost_at = 0

    def take(self, records: Records, now: int, lost: int = 0) -> list[Found]:
        """The lookups that `records` finish, and those that have timed out at `now` (boot ns).

        `lost` is how many messages were lost before they came here, a total.
        """
        self._room = min(2 * self._rate * _NANO, self._room + max(0, now - self._filled) * self._rate)
        self._filled = now
        found: list[Found] = []
        for record in records:
            data = record["data"][: record["captured"]].tobytes()
            if record["transport"] == TCP:
                key = (int(record["cookie"]), int(record["flags"]) & TRANSMIT)
                for piece, size in self.streams.push(key, data, int(record["size"])):
                    if not self._message(record, piece, size, found):
                        self.streams.give_up(key)
            else:
                self._message(record, data, int(record["size"]), found)
        return found + self._timed_out(now, lost)

    def _timed_out(self, now: int, lost: int) -> list[Found]:
        """Those of which it is certain: no message was lost since their query."""
        lost += self.counters.rate + self.streams.gaps
        if lost != self._lost:
            self._lost, self._lost_at = lost, now
        late = self.lookups.expire(now)
        sure = [lookup for lookup in late if lookup.started > self._lost_at]
        self.counters.unsure += len(late) - len(sure)
        return sure

    def _message(self, record: Records, data: bytes, size: int, found: list[Found]) -> bool:
        """One message; False where it is none."""
        if self._room < _NANO:
            self.counters.rate += 1
            return True
        self._room -= _NANO
        try:
            message = parse(data, size)
        except DnsError:
            self.counters.malformed += 1
            return False
        self.counters.parsed += 1
        flags = int(record["flags"])
        if flags & SELF and not message.response:
            return True
        conversation = Conversation.of(
            message,
            transmit=bool(flags & TRANSMIT),
            local=int(record["cookie"]),
            here=(record["local_address"].tobytes(), int(record["local_port"])),
            peer=(record["peer_address"].tobytes(), int(record["peer_port"])),
            transport=int(record["transport"]),
        )
        comm = record["comm"].tobytes()
        asker = Asker(
            int(record["owner_pid"]), int(record["owner_start"]), int(record["cgroup_id"]), int(record["netns"]), comm
        )
        lookup = self.lookups.add(message, conversation, asker, int(record["time"]))
        if lookup is None or flags & SELF:  # what Weir itself asked is nobody's business
            return True
        if flags & SEVERAL:
            lookup = replace(lookup, conversation=lookup.conversation._replace(server_address=b"", server_port=0))
        self.names.learn(lookup.owner.netns, lookup)
        found.append(lookup)
        return True
