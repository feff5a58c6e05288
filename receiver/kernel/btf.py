"""BTF bytes to numpy dtypes and variable offsets, so that the record layout is written once, in C.

Format: Documentation/bpf/btf.rst of the kernel.
"""

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_MAGIC: Final = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC_PROTO, _VAR, _DATASEC = 8, 9, 10, 11, 13, 14, 15
_DECL_TAG, _ENUM64 = 17, 19
_MODIFIERS: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, 18})


class LayoutError(ValueError):
    """A type that is missing from BTF or that no fixed dtype can stand for."""


@dataclass(slots=True)
class _Type:
    name: str
    kind: int
    size: int  # or the id of the type referred to
    members: list[tuple[str, int, int]] = field(default_factory=list)  # name, type id, bit offset or count


class Btf:
    """The types of one object."""

    def __init__(self, data: bytes) -> None:
        magic, version, _flags, header, types_at, types_size, strings_at, strings_size = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != 1:
            message = f"not BTF: magic {magic:#x}, version {version}"
            raise LayoutError(message)
        self._strings = data[header + strings_at : header + strings_at + strings_size]
        self._types: list[_Type] = [_Type("void", 0, 0)]
        self._parse(data[header + types_at : header + types_at + types_size])
        self._by_name = {(t.kind, t.name): i for i, t in enumerate(self._types) if t.name}

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _parse(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            name, info, size = _TYPE.unpack_from(data, at)
            at += _TYPE.size
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            entry = _Type(self._text(name), kind, size)
            if kind in {_STRUCT, _UNION}:
                for i in range(count):
                    member, member_type, offset = _TYPE.unpack_from(data, at + 12 * i)
                    entry.members.append((self._text(member), member_type, offset & 0xFFFFFF if info >> 31 else offset))
            elif kind == _DATASEC:
                entry.members = [("", *_TYPE.unpack_from(data, at + 12 * i)[:2]) for i in range(count)]
            elif kind == _ARRAY:
                element, _index, length = _TYPE.unpack_from(data, at)
                entry.members = [("", element, length)]
            at += {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}.get(kind, 0)
            at += {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}.get(kind, 0) * count
            self._types.append(entry)

    def dtype(self, struct_name: str) -> np.dtype[np.void]:
        """The little-endian dtype of a struct; LayoutError if it has holes, pointers or bit fields."""
        index = self._by_name.get((_STRUCT, struct_name))
        if index is None:
            message = f"struct {struct_name} is not in BTF"
            raise LayoutError(message)
        return self._struct(self._types[index])

    def _struct(self, entry: _Type) -> np.dtype[np.void]:
        names: list[str] = []
        formats: list[Any] = []
        offsets: list[int] = []
        end = 0
        for name, member_type, bits in entry.members:
            if bits % 8 or bits // 8 != end:
                message = f"struct {entry.name}: implicit padding or bit field before {name}"
                raise LayoutError(message)
            form = self._format(member_type)
            names.append(name)
            formats.append(form)
            offsets.append(end)
            end += np.dtype(form).itemsize
        if end != entry.size:
            message = f"struct {entry.name}: {entry.size - end} bytes of padding at its end"
            raise LayoutError(message)
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": entry.size})

    def _format(self, index: int) -> Any:  # noqa: ANN401 what numpy takes for a dtype
        entry = self._types[index]
        while entry.kind in _MODIFIERS:
            entry = self._types[entry.size]
        if entry.kind == _INT and entry.size in {1, 2, 4, 8}:
            return f"<u{entry.size}"
        if entry.kind == _ARRAY:
            _, element, length = entry.members[0]
            return (self._format(element), (length,))
        if entry.kind == _STRUCT:
            return self._struct(entry)
        message = f"type {entry.name or index} of kind {entry.kind} has no fixed dtype"
        raise LayoutError(message)

    def variables(self, section: str) -> dict[str, int]:
        """Variable name -> byte offset in a data section such as `.bss`."""
        index = self._by_name.get((_DATASEC, section))
        if index is None:
            message = f"section {section} is not in BTF"
            raise LayoutError(message)
        return {self._types[var].name: offset for _, var, offset in self._types[index].members}
