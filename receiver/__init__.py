"""Weir: network flows, as the kernel saw them, turned into OTLP for an OpenTelemetry Collector."""

import os

__version__ = "0.1.0"

# Before numpy is imported anywhere: Weir multiplies no matrices, and a thread that is started before privileges are
# dropped would keep them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
