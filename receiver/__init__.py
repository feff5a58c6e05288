"""Weir: network flows, as the kernel saw them, turned into OTLP for an OpenTelemetry Collector."""

__version__ = "0.1.0"
