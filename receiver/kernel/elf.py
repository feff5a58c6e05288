"""A compiled BPF object's bytes to its sections and instructions: ELF64 little endian, bounded, nothing executed."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQ")
_BPF_MACHINE: Final = 247
_EXECUTABLE: Final = 4
_SYMTAB, _REL = 2, 9
_MAX_SIZE: Final = 16 << 20
_MAX_SECTIONS: Final = 4096
_NOBITS: Final = 8


class ElfError(ValueError):
    """Bytes that are not a BPF object."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section with its contents."""

    index: int
    name: str
    kind: int
    flags: int
    data: bytes
    link: int
    info: int

    @property
    def executable(self) -> bool:
        """Whether it holds instructions."""
        return bool(self.flags & _EXECUTABLE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One BPF instruction (uapi/linux/bpf.h `struct bpf_insn`)."""

    offset: int
    code: int
    target: int
    source: int
    immediate: int


class Elf:
    """The sections of one object."""

    def __init__(self, data: bytes) -> None:
        if len(data) > _MAX_SIZE:
            raise ElfError(f"{len(data)} bytes is no BPF object")
        try:
            self._parse(data)
        except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
            raise ElfError(f"not a BPF object: {error}") from error

    def _parse(self, data: bytes) -> None:
        ident, _, machine, _, _, _, at, _, _, _, _, size, count, names = _HEADER.unpack_from(data)
        if ident[:6] != b"\x7fELF\x02\x01" or machine != _BPF_MACHINE:
            raise ValueError("the header is not that of 64-bit little-endian BPF")
        if size != _SECTION.size or count > _MAX_SECTIONS:
            raise ValueError(f"{count} sections of {size} bytes")
        raw = [_SECTION.unpack_from(data, at + i * size) for i in range(count)]

        def content(header: tuple[int, ...]) -> bytes:
            if header[1] == _NOBITS:
                return b""
            if header[4] + header[5] > len(data):
                raise ValueError("a section ends after the file")
            return data[header[4] : header[4] + header[5]]

        texts = content(raw[names])
        self.sections = [Section(i, _text(texts, h[0]), h[1], h[2], content(h), h[6], h[7]) for i, h in enumerate(raw)]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def instructions(self, section: Section) -> Iterator[Instruction]:
        """What a section executes, in order; the second half of a 16-byte load is left out."""
        at = 0
        while at < len(section.data):
            code, registers, _, immediate = struct.unpack_from("<BBhi", section.data, at)
            yield Instruction(at, code, registers & 15, registers >> 4, immediate)
            at += 16 if code == 0x18 else 8  # noqa: PLR2004 BPF_LD | BPF_IMM | BPF_DW

    def undefined_symbols(self) -> list[str]:
        """Names that the kernel or another object would have to give: kfuncs and kernel variables."""
        table = next((section for section in self.sections if section.kind == _SYMTAB), None)
        if table is None:
            return []
        texts = self.sections[table.link].data
        symbols = _SYMBOL.iter_unpack(table.data)
        return [_text(texts, name) for name, _, _, where, _, _ in symbols if where == 0 and name]


def _text(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode("ascii")
