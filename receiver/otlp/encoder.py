"""Flow event columns in, OTLP export requests out: numpy copies and patches a template for each shape of event.

What log records and spans share; each of them says what its template is.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.flows.columns import ROLE_CLIENT, EventColumns
from receiver.flows.texts import Texts
from receiver.otlp import vector, wire
from receiver.otlp.encoded import Encoded
from receiver.otlp.envelope import Parts, pack
from receiver.otlp.forms import Forms, forms
from receiver.otlp.layout import FAMILIES, Template
from receiver.otlp.semconv import FLOW_SCOPE
from receiver.otlp.shape import MAX_CLASSES, arrange, check, codes, shape_of

_TEMPLATES = 256  # held at once; a template is about 1 KiB and as much again for its fields
_CHUNK = 1 << 19  # bytes of records patched at a time, so that they stay in the cache
_BLOCK = 5120  # events encoded at a time: bounds the memory that is kept for records to about 5 MiB

_Rows: TypeAlias = NDArray[np.intp]
_Named: TypeAlias = dict[str, _Rows]


@dataclass(frozen=True, slots=True)
class _Records:
    """Records of one width and one Resource that stand side by side: an `envelope.Run`."""

    resource: int
    data: memoryview
    width: int
    count: int

    def fits(self, at: int, room: int) -> int:
        return min(room // self.width, self.count - at)

    def cut(self, at: int, count: int, parts: Parts) -> int:
        part = self.data[at * self.width : (at + count) * self.width]
        parts.append(part)
        return len(part)


@dataclass(slots=True)
class _Texts:
    """One kind of text of a batch in wire form: the events of a width class side by side, in the batch's order."""

    fragments: dict[int, NDArray[np.void]]
    taken: dict[int, int]  # how many of each class the groups so far have used

    def next(self, number: int, count: int) -> NDArray[np.void]:
        """The fragments of the next `count` events of class `number`."""
        first = self.taken.get(number, 0)
        self.taken[number] = first + count
        return self.fragments[number][first : first + count]


class EventEncoder:
    """Encodes flow events as records of scope `weir.l4`.

    `addresses`, `names` (of servers) and `extras` are the tables that the columns' rows refer to; `extras` holds
    attributes as fields of the record. `families` are the address families to write (any of FAMILIES). `owner_rule` adds
    `weir.process.owner_rule`, a `sampling` over 1 `weir.flow.sampling.factor`. No request is larger than `max_bytes`
    unless one record alone is.
    Raises ValueError for a family that does not exist or a table of a width it cannot take.
    """

    TEMPLATE: ClassVar[type[Template]]

    def __init__(
        self,
        addresses: Texts,
        extras: Texts,
        families: Sequence[str] = FAMILIES,
        version: str = "",
        *,
        owner_rule: bool = False,
        sampling: int = 1,
        names: Texts | None = None,
        max_bytes: int = 1 << 20,
    ) -> None:
        unknown = sorted(set(families) - set(FAMILIES))
        if unknown:
            message = f"families: {', '.join(unknown)}: not of {', '.join(FAMILIES)}"
            raise ValueError(message)
        names = names or Texts(1, vector.MIN_WIDTH)
        self._tables = {
            "local": addresses, "peer": addresses, "asked": addresses, "server": names, "extra": extras
        }  # fmt: skip
        self._strings = vector.string_fragments(addresses.width)
        self._names = vector.string_fragments(names.width)
        self._extras = self.extra_fragments(extras.width)
        if len(self._strings.members) > MAX_CLASSES:
            message = f"addresses of up to {addresses.width} bytes are outside what a shape can tell apart"
            raise ValueError(message)
        self._fragments = dict.fromkeys(self._tables, self._strings) | {"server": self._names, "extra": self._extras}
        self._families = tuple(families)
        self._owner_rule, self._sampling = owner_rule, sampling
        self._max_bytes = max_bytes
        self._scope = wire.scope(FLOW_SCOPE, version)
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._templates: OrderedDict[int, Template] = OrderedDict()

    def requests(self, columns: EventColumns, resources: Sequence[bytes]) -> list[Encoded]:
        """Requests with every event once, grouped by Resource; within one, in order of shape.

        `resources` are Resource messages, indexed by `columns.resource`. Sizes are clamped to 2^56 - 1. Raises
        ValueError for a kind that is no event or a Resource that is not there.
        """
        if not len(columns):
            return []
        check(columns, len(resources))
        if len(columns) <= _BLOCK:
            return list(pack(self._records(columns), resources, self._scope, self._max_bytes))
        out: list[Encoded] = []
        for rows in np.array_split(np.arange(len(columns)), -(-len(columns) // _BLOCK)):
            runs = self._records(columns.take(rows))
            out += pack(runs, resources, self._scope, self._max_bytes)
        return out

    @staticmethod
    def extra_fragments(longest: int) -> vector.Fragments:
        """The widths of what `extras` holds, up to `longest` bytes."""
        raise NotImplementedError

    def forms(self, columns: EventColumns) -> Forms:
        """What the template's patches name, but for the texts."""
        return forms(columns)

    def prepare(self, template: Any) -> None:  # noqa: ANN401 a TEMPLATE
        """Write into `template` what all records of a batch share."""

    def _records(self, columns: EventColumns) -> list[_Records]:
        """The events as records, in order of Resource; they stand in memory that the next call uses again."""
        rows, lengths, classes = self._measure(columns)
        order, groups = arrange(codes(columns, classes, owner_rule=self._owner_rule), columns.resource)
        if order is not None:
            columns = columns.take(order)
        ready = self.forms(columns)
        texts = {name: self._gather(name, rows[name], lengths[name], classes[name], order) for name in rows}
        runs: list[_Records] = []
        templates = [self._template(group.code) for group in groups]
        sizes = [
            template.width * (group.starts[-1] - group.starts[0])
            for template, group in zip(templates, groups, strict=True)
        ]
        if sum(sizes) > len(self._memory):
            self._memory = np.empty(sum(sizes), np.uint8)  # kept: fresh pages cost as much as the encoding
        memory, at = self._memory.data, 0
        for group, template, size in zip(groups, templates, sizes, strict=True):
            self.prepare(template)
            begin, end, width = group.starts[0], group.starts[-1], template.width
            found = {name: texts[name].next(number, end - begin) for name, number in template.texts}
            data = memory[at : at + size]
            at += size
            _fill(data, template, ready, found, begin)
            for resource, first, last in zip(group.resources, group.starts, group.starts[1:], strict=False):
                part = data[(first - begin) * width : (last - begin) * width]
                runs.append(_Records(resource, part, width, last - first))
        runs.sort(key=attrgetter("resource"))
        return runs

    def _measure(self, columns: EventColumns) -> tuple[_Named, _Named, dict[str, NDArray[np.uint8]]]:
        """Row, length and width class of each text that any event has."""
        sources = {
            "local": columns.local_text,
            "peer": columns.peer_text,
            "asked": columns.asked_text,
            "server": np.where(columns.role == ROLE_CLIENT, columns.server_text, 0),
            "extra": columns.extra,
        }
        rows: _Named = {}
        lengths: _Named = {}
        classes: dict[str, NDArray[np.uint8]] = {}
        for name, source in sources.items():
            if not source.any():
                continue
            row = source.astype(np.intp)
            length = self._tables[name].lengths.take(row).astype(np.intp)
            length[row == 0] = 0
            rows[name], lengths[name] = row, length
            classes[name] = self._fragments[name].classes.take(length)
        return rows, lengths, classes

    def _gather(
        self, name: str, rows: _Rows, lengths: _Rows, classes: NDArray[np.uint8], order: _Rows | None
    ) -> _Texts:
        """The texts `name` of a batch in wire form, each class in the batch's order."""
        if order is not None:
            rows, lengths, classes = rows[order], lengths[order], classes[order]
        table, fragments = self._tables[name], self._fragments[name]
        out: dict[int, NDArray[np.void]] = {}
        present = np.flatnonzero(np.bincount(classes)).tolist()
        for number in present:
            if number == 0:
                continue
            at = slice(None) if len(present) == 1 else np.flatnonzero(classes == number)
            out[number] = fragments[number].gather(table, rows[at], lengths[at])
        return _Texts(out, {})

    def _template(self, code: int) -> Template:
        found = self._templates.get(code)
        if found is None:
            shape = shape_of(code, owner_rule=self._owner_rule)
            found = self.TEMPLATE(shape, self._families, self._strings, self._names, self._extras, self._sampling)
            self._templates[code] = found
            if len(self._templates) > _TEMPLATES:
                self._templates.popitem(last=False)
        else:
            self._templates.move_to_end(code)
        return found


def _fill(data: memoryview, template: Template, ready: Forms, texts: Forms, begin: int) -> None:
    """Write the records of the events from `begin` on, all of the template's shape, side by side into `data`."""
    count = len(data) // template.width
    matrix: NDArray[np.uint8] = np.ndarray((count, template.width), np.uint8, data)
    records: NDArray[np.void] = np.ndarray(count, template.dtype, data)
    step = max(1, _CHUNK // template.width)
    for first in range(0, count, step):
        last = min(first + step, count)
        matrix[first:last] = template.data
        part = records[first:last]
        for field, column in template.patches:
            part[field] = ready[column][begin + first : begin + last]
        for field, column in template.text_patches:
            part[field] = texts[column][first:last]
