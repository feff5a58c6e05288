"""What the compiled object says of its records is what this version's code reads."""

import numpy as np
import pytest

from receiver.kernel import objects
from receiver.kernel.btf import Btf
from receiver.kernel.dns import MESSAGE
from receiver.kernel.elf import Elf
from receiver.kernel.records import EVENT


@pytest.mark.parametrize(("name", "layout"), [("weir_event", EVENT), ("weir_dns", MESSAGE)])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_layout_is_the_objects(name: str, layout: np.dtype[np.void], machine: str) -> None:
    section = Elf(objects.read("flow", machine=machine)).section(".BTF")
    assert section is not None
    assert Btf(section.data).dtype(name) == layout
