"""What the last pass over the open sockets counted, so that a flow which ends during the pass is counted once."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.void]
COUNTED: Final = 4
_FIELDS: Final = (
    ("counted_transmit", "transmit_bytes"),
    ("counted_receive", "receive_bytes"),
    ("counted_retransmits", "retransmits"),
)


class LastPass:
    """Totals by instance id of the last pass; an end that was copied before the pass marked its flow is corrected."""

    def __init__(self) -> None:
        self._ids: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._totals: Records | None = None

    def remember(self, records: Records) -> None:
        """Take the records of a whole pass."""
        order = np.argsort(records["instance_id"], kind="stable")
        self._totals = records[order][["instance_id", *(total for _, total in _FIELDS)]]
        self._ids = np.ascontiguousarray(self._totals["instance_id"])

    def settle(self, ends: Records) -> Records:
        """`ends` with what the last pass counted; a corrected copy only where one of them was in that pass."""
        if self._totals is None or not len(self._ids) or not len(ends):
            return ends
        at = np.searchsorted(self._ids, ends["instance_id"])
        at[at == len(self._ids)] = 0
        stale = np.flatnonzero(
            (self._ids[at] == ends["instance_id"])
            & (
                (ends["flags"] & COUNTED == 0)
                | (ends["counted_transmit"] < self._totals["transmit_bytes"][at])
                | (ends["counted_receive"] < self._totals["receive_bytes"][at])
            )
        )
        if not stale.size:
            return ends
        fixed = ends.copy()
        for counted, total in _FIELDS:
            fixed[counted][stale] = self._totals[total][at[stale]]
        fixed["flags"][stale] |= COUNTED
        return fixed
