"""`weir doctor`: what this host can do and what it cannot, each with its reason and remedy."""

import json as json_module
import sys

from receiver.kernel.probe import capture_blockers, probe_all
from receiver.kernel.uncovered import uncovered_sockets

TLS = "off: TLS coverage is not observed, and is absent from every flow, because l7 is not enabled"


def doctor(*, json: bool = False) -> int:
    """Print the features as a table or as JSON; 0."""
    features = probe_all()
    blockers = capture_blockers(features)
    uncovered = uncovered_sockets()
    if json:
        report = {
            "capture": "unavailable" if blockers else "available",
            "reason": "; ".join(blockers),
            "tls": TLS,
            "not_covered": uncovered,
            "features": [feature.as_dict() for feature in features],
        }
        sys.stdout.write(json_module.dumps(report, indent=2) + "\n")
        return 0
    width = max(len(feature.name) for feature in features)
    for feature in features:
        state = "available" if feature.available else "unavailable"
        sys.stdout.write(f"{feature.name:{width}}  {state:11}  {feature.detail or feature.reason}\n")
        if feature.remedy:
            sys.stdout.write(f"{'':{width}}  {'':11}  remedy: {feature.remedy}\n")
    sys.stdout.write(f"{'tls coverage':{width}}  {'unavailable':11}  {TLS}\n")
    counts = ", ".join(f"{kind} {count}" for kind, count in uncovered.items())
    sys.stdout.write(
        f"{'not covered':{width}}  {'':11}  open sockets in this network namespace that make no flows: {counts}\n"
    )
    sys.stdout.write(f"\ncapture: {'unavailable: ' + '; '.join(blockers) if blockers else 'available'}\n")
    return 0
