"""DNS messages as one end of a socket saw them in, finished lookups out: query and answer paired, or a query timed out.

A query waits for its answer under its conversation (socket, server, transport, role), its id and its question. A query
sent again is the same lookup: its first attempt counts. A query that goes on over TCP, as after a truncated answer, is
the same lookup too, if its UDP attempt is still waiting. An answer that nobody waits for is counted and not believed.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from receiver.dns.codes import QUERY
from receiver.dns.message import Address, Message, Question

Owner = TypeVar("Owner")
Role: TypeAlias = Literal["client", "server"]

TCP: Final = 6
UDP: Final = 17
TIMEOUT_NS: Final = 10_000_000_000  # twice what resolvers wait before they ask again
MAX_ATTEMPTS: Final = 16  # that move a timeout on, so that a query sent for ever ends too
MAX_NAME: Final = 256  # characters of a name that leave


class Conversation(NamedTuple):
    """Who asks whom, as one of both ends sees it."""

    local: Hashable  # this end: what tells its socket, or its address and port
    server_address: bytes  # 16 octets
    server_port: int
    transport: int  # 6 TCP, 17 UDP
    role: Role  # this end asks, or answers: where both ends are in scope, each has its own lookup

    @classmethod
    def of(
        cls,
        message: Message,
        *,
        transmit: bool,
        local: Hashable,
        here: tuple[bytes, int],
        peer: tuple[bytes, int],
        transport: int,
    ) -> "Conversation":
        """The conversation of a message that this end sends (`transmit`) or receives; `here` and `peer` are address and port.

        Whoever sends a query or receives an answer is the client: the message says it, not the port.
        """
        if transmit != message.response:
            return cls(local, *peer, transport, "client")
        return cls(local, *here, transport, "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup(Generic[Owner]):
    """One question and what became of it."""

    owner: Owner  # as it came with the first query
    conversation: Conversation  # of the last query
    name: str  # presentation format in lower case, at most MAX_NAME characters
    type: str
    klass: str
    rcode: str  # "" where no answer came
    error_type: str  # "" for NOERROR, "timeout", or the response code's name
    addresses: tuple[Address, ...]
    answer_count: int
    truncated: bool  # the server says that its answer did not fit
    cut: bool  # not all of the answer was read, so addresses may be missing
    attempts: int  # queries sent
    started: int  # ns, the first query
    duration: int  # ns to the answer; of a timeout: to the last query and the timeout after it


@dataclass(slots=True)
class Counters:
    """What happened so far, each a total."""

    lookups: int = 0  # finished by an answer
    timeouts: int = 0  # finished without one
    repeated: int = 0  # queries sent again
    unpaired: int = 0  # answers that nobody waited for: late, sent twice, forged, or asked before Weir began
    ambiguous: int = 0  # answers without a question, while several questions of that id waited
    evicted: int = 0  # queries forgotten to make room: their answers will be unpaired
    unasked: int = 0  # queries without a question, or cut before its end
    other: int = 0  # messages that are no ordinary query: notify, update, status


class _Key(NamedTuple):
    conversation: Conversation
    id: int
    question: Question


@dataclass(slots=True)
class _Waiting(Generic[Owner]):
    owner: Owner
    started: int
    last: int
    attempts: int = 1


_Short: TypeAlias = tuple[bytes, int, Role, int]  # server, its port, role, id


class Lookups(Generic[Owner]):
    """The bounded table of queries that wait for an answer; one thread uses it."""

    def __init__(self, limit: int = 4096, timeout: int = TIMEOUT_NS) -> None:
        if limit < 1 or timeout < 1:
            raise ValueError(f"limit {limit} and timeout {timeout} must be at least 1")
        self.counters = Counters()
        self._limit = limit
        self._timeout = timeout
        self._waiting: OrderedDict[_Key, _Waiting[Owner]] = OrderedDict()  # by the time of the last attempt that counts
        self._ids: dict[_Short, dict[_Key, None]] = {}  # the keys that share a server and an id

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Message, conversation: Conversation, owner: Owner, when: int) -> Lookup[Owner] | None:
        """Take in a message of the time `when` (ns); the lookup that it finishes, if it does."""
        if message.opcode != QUERY:
            self.counters.other += 1
            return None
        if message.response:
            return self._answer(message, conversation, when)
        self._query(message, conversation, owner, when)
        return None

    def expire(self, now: int) -> list[Lookup[Owner]]:
        """The lookups whose last query is `timeout` old at `now` (ns): to be called at each tick."""
        gone = []
        while self._waiting:
            key, waiting = next(iter(self._waiting.items()))
            end = waiting.last + self._timeout
            if end > now:
                break
            gone.append(_finished(key, self._remove(key), None, end))
        self.counters.timeouts += len(gone)
        return gone

    def _query(self, message: Message, conversation: Conversation, owner: Owner, when: int) -> None:
        if message.question is None:
            self.counters.unasked += 1
            return
        key = _Key(conversation, message.id, message.question)
        waiting = self._waiting.get(key)
        if waiting is not None:
            self._again(waiting, when)
            if waiting.attempts <= MAX_ATTEMPTS:
                waiting.last = max(when, waiting.last)
                self._waiting.move_to_end(key)
            return
        earlier = self._earlier(key, owner) if conversation.transport == TCP else None
        if earlier is not None:
            waiting = self._remove(earlier)
            self._again(waiting, when)
            waiting.last = max(when, waiting.last)
        elif len(self._waiting) >= self._limit:
            self._remove(next(iter(self._waiting)))
            self.counters.evicted += 1
        self._waiting[key] = waiting or _Waiting(owner, when, when)
        self._ids.setdefault(_short(key.conversation, key.id), {})[key] = None

    def _answer(self, message: Message, conversation: Conversation, when: int) -> Lookup[Owner] | None:
        if message.question is not None:
            key = _Key(conversation, message.id, message.question)
        else:  # FORMERR and the like may come as a header alone
            alike = [k for k in self._ids.get(_short(conversation, message.id), ()) if k.conversation == conversation]
            if len(alike) > 1:
                self.counters.ambiguous += 1
                return None
            if not alike:
                self.counters.unpaired += 1
                return None
            key = alike[0]
        if key not in self._waiting:
            self.counters.unpaired += 1
            return None
        self.counters.lookups += 1
        return _finished(key, self._remove(key), message, when)

    def _again(self, waiting: _Waiting[Owner], when: int) -> None:
        waiting.attempts += 1
        waiting.started = min(waiting.started, when)
        self.counters.repeated += 1

    def _earlier(self, key: _Key, owner: Owner) -> _Key | None:
        """The UDP query of the same owner that the TCP query `key` goes on with: same server, id and question."""
        for other in self._ids.get(_short(key.conversation, key.id), ()):
            same = other.question == key.question and other.conversation.transport == UDP
            if same and self._waiting[other].owner == owner:
                return other
        return None

    def _remove(self, key: _Key) -> _Waiting[Owner]:
        short = _short(key.conversation, key.id)
        keys = self._ids[short]
        del keys[key]
        if not keys:
            del self._ids[short]
        return self._waiting.pop(key)


def _short(conversation: Conversation, number: int) -> _Short:
    return conversation.server_address, conversation.server_port, conversation.role, number


def _finished(key: _Key, waiting: _Waiting[Owner], message: Message | None, when: int) -> Lookup[Owner]:
    """The lookup that `message` answers; without one it timed out."""
    question = key.question
    rcode = message.rcode if message else ""
    return Lookup(
        owner=waiting.owner,
        conversation=key.conversation,
        name=question.name[:MAX_NAME],
        type=question.type,
        klass=question.klass,
        rcode=rcode,
        error_type="" if rcode == "NOERROR" else rcode or "timeout",
        addresses=message.addresses if message else (),
        answer_count=message.answer_count if message else 0,
        truncated=message.truncated if message else False,
        cut=message.cut if message else False,
        attempts=waiting.attempts,
        started=waiting.started,
        duration=max(when - waiting.started, 0),
    )
