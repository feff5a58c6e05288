"""A compiled object's name to its bytes: found in the package, its digest checked, its contents held against the allowlist."""

import hashlib
import os
from pathlib import Path
from typing import Final

from receiver.kernel import allowlist

DIRECTORY: Final = Path(__file__).with_name("objects")
DIGESTS: Final = "SHA256SUMS"


class IntegrityError(RuntimeError):
    """An object is missing, or is not the one that was built."""


def read(name: str, *, machine: str | None = None, directory: Path = DIRECTORY) -> bytes:
    """The object `name` for this machine. IntegrityError or allowlist.ForbiddenError before anything is loaded."""
    file = f"{name}.{machine or os.uname().machine}.bpf.o"
    try:
        data = (directory / file).read_bytes()
        digests = (directory / DIGESTS).read_text("ascii")
    except OSError as error:
        raise IntegrityError(f"{error.filename}: {error.strerror}; in a checkout, `make bpf` builds it") from error
    expected = {parts[1]: parts[0] for line in digests.splitlines() if len(parts := line.split()) == 2}  # noqa: PLR2004
    if expected.get(file) != hashlib.sha256(data).hexdigest():
        raise IntegrityError(f"{file}: its digest is not the one in {DIGESTS}: it was changed after it was built")
    allowlist.check(data, name)
    return data
