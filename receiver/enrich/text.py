"""Names as the outside wrote them (any bytes) into text that may leave: valid UTF-8 of at most 256 bytes."""

MAX_TEXT = 256  # bytes of UTF-8; a Collector stores longer and invalid strings as they are


def text(raw: bytes) -> str:
    """`raw` up to its first NUL as text of at most 256 bytes: whole characters, and U+FFFD for what is not UTF-8.

    Control characters stay: they are part of the name, and whoever shows it escapes it.
    """
    return cut(raw[: MAX_TEXT + 4].partition(b"\0")[0].decode("utf-8", "replace"))


def cut(value: str) -> str:
    """`value` as valid UTF-8 of at most 256 bytes, never a torn character; lone surrogates become `?`."""
    return value.encode("utf-8", "replace")[:MAX_TEXT].decode("utf-8", "ignore")
