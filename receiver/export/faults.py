"""A gRPC status code and text in, the kind of failure and its remedy out.

The code alone says little: a wrong certificate, an unknown name and an absent server are all UNAVAILABLE. The texts are
those of gRPC C-core 1.85 (our side), grpc-go 1.7x and the Collector 0.161 (the other side), each seen in a real failure.
"""

import re
from typing import Final, NamedTuple

from receiver.export.errors import Fault


class Code(NamedTuple):
    """One gRPC status code: its number and its name as Go writes it, which is how the Collector logs it."""

    number: int
    name: str


CODES: Final = {
    code.number: code
    for code in (
        Code(0, "OK"), Code(1, "Canceled"), Code(2, "Unknown"), Code(3, "InvalidArgument"),
        Code(4, "DeadlineExceeded"), Code(5, "NotFound"), Code(6, "AlreadyExists"), Code(7, "PermissionDenied"),
        Code(8, "ResourceExhausted"), Code(9, "FailedPrecondition"), Code(10, "Aborted"), Code(11, "OutOfRange"),
        Code(12, "Unimplemented"), Code(13, "Internal"), Code(14, "Unavailable"), Code(15, "DataLoss"),
        Code(16, "Unauthenticated"),
    )
}  # fmt: skip

CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 1, 2, 4, 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16

OVERSIZE: Final = Fault(
    "oversize", "The request is split; to send fewer, raise max_recv_msg_size_mib of the Collector's otlp receiver."
)
OVERSIZE_ANSWER: Final = Fault("oversize_answer", "The destination answers with more than 4 MiB; that is its fault.")
COMPRESSION: Final = Fault("compression", "The destination cannot decompress this: set compression: none.")
NO_SERVICE: Final = Fault(
    "no_service",
    "The destination has no pipeline for this signal: add one there, or take this exporter out of the signal's pipeline.",
)

# First match wins. Keys: the codes that it applies to (empty: any), a pattern for the text, the fault.
_TEXTS: Final[tuple[tuple[frozenset[int], re.Pattern[str], Fault], ...]] = tuple(
    (frozenset(codes), re.compile(pattern, re.IGNORECASE), fault)
    for codes, pattern, fault in (
        ((RESOURCE_EXHAUSTED,), r"^CLIENT: Received message larger than max", OVERSIZE_ANSWER),
        ((RESOURCE_EXHAUSTED,), r"larger than max", OVERSIZE),
        ((UNIMPLEMENTED,), r"decompress|grpc-encoding|compression algorithm", COMPRESSION),
        ((UNIMPLEMENTED,), r"unknown service|method not found|unknown method", NO_SERVICE),
        (
            (UNIMPLEMENTED, UNAVAILABLE, UNKNOWN, INTERNAL, PERMISSION_DENIED, UNAUTHENTICATED),
            r"http2 header with status|unexpected HTTP status",
            Fault("not_grpc", "Something that speaks plain HTTP answers there: the endpoint must be the gRPC port, 4317."),
        ),
        (
            (),
            r"hostname verification check failed|peer name .* is not in peer certificate",
            Fault(
                "certificate_name",
                "The server's certificate is for another name: correct the endpoint or set tls.server_name_override.",
            ),
        ),
        (
            (),
            r"certificate has expired|certificate is not yet valid",
            Fault("certificate_expired", "Renew the server's certificate, or correct the clock of this host."),
        ),
        (
            (),
            r"CERTIFICATE_VERIFY_FAILED|unable to get local issuer|self.signed certificate",
            Fault("certificate", "The server's certificate is not from a known authority: set tls.ca_file to its CA."),
        ),
        (
            (),
            r"WRONG_VERSION_NUMBER|HTTP_REQUEST",
            Fault("tls_mismatch", "The server does not speak TLS: set tls.insecure: true, or use http://."),
        ),
        (
            (),
            r"security handshaker",
            Fault("tls_material", "The CA, certificate or key cannot be used: check tls.ca_file, cert_file and key_file."),
        ),
        (
            (),
            r"TSI_DATA_CORRUPTED|certificate required|bad certificate|_ALERT_|UNKNOWN_CA",
            Fault(
                "client_certificate",
                "The server does not take our client certificate: check tls.cert_file and key_file, and its client_ca_file.",
            ),
        ),
        (
            (),
            r"hostname lookup error|domain name not found|name resolution|errors resolving|name or service not known",
            Fault("name", "The name in the endpoint cannot be resolved: check its spelling and the host's DNS."),
        ),
        (
            (),
            r"connection refused|no such file or directory",
            Fault("refused", "Nothing listens at the endpoint: start the Collector, or correct the endpoint."),
        ),
        (
            (),
            r"no route to host|network is unreachable|host is down|connection timed out|connect.* timeout",
            Fault("unreachable", "The endpoint's host cannot be reached: check routes and firewalls."),
        ),
        (
            (UNAVAILABLE, RESOURCE_EXHAUSTED),
            r"memory usage",
            Fault("memory", "The Collector's memory_limiter refuses data: give it more memory, or send it less."),
        ),
        (
            (UNAVAILABLE, RESOURCE_EXHAUSTED),
            r"queue is full",
            Fault("remote_queue", "A queue of the Collector is full: look at the destination behind it."),
        ),
        (
            (UNAVAILABLE,),
            r"failed to connect to all addresses.*socket closed",
            Fault(
                "closed",
                "The server closes the connection at once: it may want TLS (tls.insecure: false) or a client certificate.",
            ),
        ),
        ((UNAVAILABLE,), r"socket closed|GOAWAY|reset by peer", Fault("closed", "The connection broke; look at the Collector.")),
    )
)  # fmt: skip

_BY_CODE: Final = {
    CANCELLED: Fault("cancelled", "The destination, or a proxy before it, cancelled the call."),
    DEADLINE_EXCEEDED: Fault("timeout", "No answer in time: look at the Collector's load, or raise timeout."),
    PERMISSION_DENIED: Fault(
        "permission", "The credentials are not allowed to write there: check headers and the token."
    ),
    UNAUTHENTICATED: Fault("authentication", "The destination wants other credentials: check headers and the token."),
    RESOURCE_EXHAUSTED: Fault(
        "exhausted", "The destination is out of a resource or quota: give it more, or send it less."
    ),
    INTERNAL: Fault("refused_data", "A component behind the destination's receiver refuses the data: see its log."),
    UNIMPLEMENTED: NO_SERVICE,
    UNAVAILABLE: Fault("unavailable", "The destination does not take data now: look at the Collector."),
}
_OTHER: Final = Fault("other", "Look at the destination's log.")
_LIMIT: Final = re.compile(r"larger than max\D*(?:\d+ vs\. )?(\d+)")


def classify(code: int, text: str) -> Fault:
    """The fault that code and text tell of."""
    for codes, pattern, fault in _TEXTS:
        if (not codes or code in codes) and pattern.search(text):
            return fault
    return _BY_CODE.get(code, _OTHER)


def size_limit(text: str) -> int | None:
    """The largest message, in bytes, that a refusal by size names."""
    found = _LIMIT.search(text)
    return int(found[1]) if found else None
