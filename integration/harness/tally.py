"""Files of a Collector's log requests in, a 64-bit hash of each record's identity kept, what came twice out."""

import json
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

_AT_ONCE: Final = 1 << 20  # bytes read in one go


def identities(request: Mapping[str, Any]) -> Iterator[int]:
    """One for each log record: of its flow, its event and its time."""
    for resource in request["resourceLogs"]:
        for scope in resource["scopeLogs"]:
            for record in scope["logRecords"]:
                (flow,) = [pair for pair in record["attributes"] if pair["key"] == "weir.flow.instance.id"]
                yield hash((flow["value"]["stringValue"], record["eventName"], record["timeUnixNano"])) % (1 << 64)


@dataclass(frozen=True)
class Count:
    """What was in the files."""

    records: int
    distinct: int
    copied_requests: int  # requests all of whose records were there already
    mixed_requests: int  # requests some of whose records were there already: no repeated attempt makes one

    @property
    def copies(self) -> int:
        return self.records - self.distinct


class Tally:
    """Takes 8 bytes a record."""

    def __init__(self) -> None:
        self._identities, self._starts = array("Q"), array("Q")

    def add(self, request: Mapping[str, Any]) -> None:
        self._starts.append(len(self._identities))
        self._identities.extend(identities(request))

    def count(self) -> Count:
        if not self._starts:
            return Count(0, 0, 0, 0)
        all_of_them, starts = np.array(self._identities), np.array(self._starts).astype(np.int64)
        first = np.unique(all_of_them, return_index=True)[1]
        copied = np.ones(len(all_of_them), np.int64)
        copied[first] = 0
        copies, sizes = np.add.reduceat(copied, starts), np.diff(np.append(starts, len(all_of_them)))
        whole = int(np.count_nonzero((copies == sizes) & (copies > 0)))
        return Count(len(all_of_them), len(first), whole, int(np.count_nonzero(copies)) - whole)


class Tail:
    """The file of one life of a Collector, read as it grows and removed when that life is over."""

    def __init__(self, path: Path, tally: Tally) -> None:
        self._path, self._tally = path, tally
        self._read, self._half = 0, b""

    def size(self) -> int:
        """Bytes of the file."""
        return self._path.stat().st_size if self._path.exists() else 0

    def look(self) -> bool:
        """Take in some of what is new; whether there was any."""
        if not self._path.exists():
            return False
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read(_AT_ONCE)
        self._read += len(data)
        *lines, self._half = (self._half + data).split(b"\n")
        for line in lines:
            self._tally.add(json.loads(line))
        return bool(data)

    def end(self) -> bool:
        """Take in the rest and remove the file; whether its last line was torn."""
        while self.look():
            pass
        self._path.unlink(missing_ok=True)
        with suppress(ValueError):
            if self._half:
                self._tally.add(json.loads(self._half))  # all of it is there but its newline
            return False
        return True
