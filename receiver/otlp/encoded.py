"""What encoding hands to export: the bytes of one request and how many items it carries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """One OTLP export request."""

    data: bytes  # the serialised Export*ServiceRequest
    items: int  # log records, data points or spans in it
