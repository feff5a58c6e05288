"""Weir itself into the Resource of its own telemetry."""

import os
import uuid
from collections.abc import Mapping

from receiver.enrich.resources import Attributes


def own_resource(host: Mapping[str, str], version: str) -> Attributes:
    """The Resource of Weir's own metrics and logs: configured resource attributes never apply to it.

    The instance id is drawn anew at each call, so call it once a run. `process.pid` is the pid in Weir's own namespace.
    """
    return {
        **host,
        "service.name": "weir",
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
        "process.pid": os.getpid(),
        "telemetry.distro.name": "weir",
        "telemetry.distro.version": version,
    }
