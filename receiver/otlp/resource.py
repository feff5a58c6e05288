"""The attributes of an observed workload in, the bytes of its OTLP Resource out."""

from collections.abc import Mapping, Sequence

from receiver.otlp import wire


def encode_resource(attributes: Mapping[str, str | int | float | bool | Sequence[str]]) -> bytes:
    """The Resource message of `attributes`, in their order; ValueError or TypeError names the key that has no form."""
    return wire.attributes(1, attributes)
