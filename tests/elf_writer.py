"""The smallest BPF object that holds given sections: for tests of what must be refused, without a compiler."""

import struct

EXECUTABLE = 6


def instruction(code: int, *, target: int = 0, source: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, target | source << 4, 0, immediate)


def call(helper: int, *, source: int = 0) -> bytes:
    return instruction(0x85, source=source, immediate=helper)


EXIT = instruction(0x95)


def write_elf(programs: dict[str, bytes], *, licence: bytes = b"GPL\0", undefined: tuple[str, ...] = ()) -> bytes:
    """An object with executable sections, a license, and undefined symbols."""
    symbol_names = b"\0" + b"".join(name.encode() + b"\0" for name in undefined)
    symbols = bytes(24)
    for name in undefined:
        symbols += struct.pack("<IBBHQQ", symbol_names.index(name.encode()), 0x10, 0, 0, 0, 0)
    rows = [("", 0, 0, b"", 0)]
    rows += [(name, 1, EXECUTABLE, code, 0) for name, code in programs.items()]
    rows.append(("license", 1, 3, licence, 0))
    rows.append((".strtab", 3, 0, symbol_names, 0))
    rows.append((".symtab", 2, 0, symbols, len(rows) - 1))
    names = b"\0"
    offsets = []
    for name, *_ in rows:
        offsets.append(len(names) if name else 0)
        names += name.encode() + b"\0" if name else b""
    offsets.append(len(names))
    names += b".strtab2\0"
    body, headers = b"", b""
    at = 64
    for (name, kind, flags, data, link), offset in zip([*rows, ("names", 3, 0, names, 0)], offsets, strict=True):
        headers += struct.pack("<IIQQQQIIQQ", offset, kind, flags, 0, at + len(body), len(data), link, 0, 8, 0)
        body += data
        assert isinstance(name, str)
    count = len(rows) + 1
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 247, 1, 0, 0, at + len(body), 0, 64, 0, 0, 64, count, count - 1
    )
    # The names table is called ".strtab2" only to keep the writer small: give it the known name.
    return (head + body + headers).replace(b".strtab2\0", b".strtab\0\0")
