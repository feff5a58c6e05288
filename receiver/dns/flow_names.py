"""Flow records in, for each the row of the name that its server was asked for by, in a table of texts."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.dns.lookups import MAX_NAME
from receiver.dns.names import Names
from receiver.flows.columns import ROLE_CLIENT
from receiver.flows.events import start_seen
from receiver.flows.texts import Texts
from receiver.kernel.records import Records

MAX_NAMES: Final = 2048  # held as text; what is beyond in one batch leaves without a name
_KEY: Final = 20  # bytes: network namespace and address


class FlowNames:
    """The names of connections, by what their network namespace was told. Rows of `texts` stay valid until the next `rows`."""

    def __init__(self, names: Names, limit: int = MAX_NAMES) -> None:
        self._names, self._limit = names, limit
        self._rows: dict[str, int] = {}
        self.texts = Texts(limit + 1, MAX_NAME)

    def rows(self, records: Records) -> NDArray[np.uint32]:
        """Row in `texts` for each record: of clients whose start was seen; 0 where no name is known.

        The address asked for comes first, because it is the one that a name was told for; then the one reached.
        """
        found = np.zeros(len(records), np.uint32)
        if not len(self._names):
            return found
        if len(self._rows) > self._limit // 2:
            self._rows.clear()
        clients = np.flatnonzero((records["role"] == ROLE_CLIENT) & start_seen(records))
        self._find(records, clients, "peer_address", found)
        asked = clients[records["asked_port"][clients] > 0]
        self._find(records, asked, "asked_address", found)
        return found

    def _find(self, records: Records, at: NDArray[np.intp], field: str, found: NDArray[np.uint32]) -> None:
        """The names of the records `at`, by the address in `field`; each distinct address is looked up once."""
        if not at.size:
            return
        keys = np.empty((len(at), _KEY), np.uint8)
        keys[:, :4] = np.ascontiguousarray(records["netns"][at]).view(np.uint8).reshape(-1, 4)
        keys[:, 4:] = records[field][at]
        distinct, inverse = np.unique(keys.view(f"V{_KEY}").reshape(-1), return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        ends = np.cumsum(np.bincount(inverse, minlength=len(distinct)))
        for number, key in enumerate(distinct.tolist()):
            lives = self._names.lives(int.from_bytes(key[:4], "little"), key[4:])
            if not lives:
                continue
            rows = at[order[ends[number - 1] if number else 0 : ends[number]]]
            start = records["start_time"][rows]
            for since, until, name in reversed(lives):  # the newest last: it decides
                found[rows[(start >= since) & (start <= until)]] = self._row(name)

    def _row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is None:
            if len(self._rows) >= self._limit:
                return 0
            row = self._rows[name] = len(self._rows) + 1
            self.texts.put(row, name.encode())
        return row
