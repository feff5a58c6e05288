"""The kernel's owner entry, as enrichment reads it: what BPF wrote of a process when it first owned a flow."""

from receiver.kernel.source import PID_BITS
from receiver.kernel.source import Owner as OwnerEntry

__all__ = ["PID_BITS", "OwnerEntry"]
