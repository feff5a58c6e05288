"""Names on the wire: the schema that Weir follows, and every attribute key that is Weir's own, with its type."""

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
FLOW_SCOPE = "weir.l4"
OVERFLOW = "otel.metric.overflow"  # reserved by the metrics SDK specification; not in the attribute registry
ERROR_OTHER = "_OTHER"  # error.type of an error that has no name here

# What semantic conventions v1.44.0 have no key for. A key outside both is refused by a test.
WEIR_ATTRIBUTES = {
    "weir.flow.id": "string",
    "weir.flow.instance.id": "string",
    "weir.flow.role": "string",
    "weir.flow.cast": "string",
    "weir.flow.peer.inferred": "boolean",
    "weir.flow.packets.lower_bound": "boolean",
    "weir.flow.end_reason": "string",
    "weir.flow.duration": "double",
    "weir.flow.connect.duration": "double",
    "weir.flow.transmit.size": "int",
    "weir.flow.receive.size": "int",
    "weir.flow.transmit.packets": "int",
    "weir.flow.receive.packets": "int",
    "weir.flow.rtt": "double",
    "weir.flow.congestion.window": "int",
    "weir.flow.retransmits": "int",
    "weir.flow.send.window": "int",
    "weir.flow.sampling.factor": "int",
    "weir.flow.mptcp": "boolean",
    "weir.flow.nat.destination.address": "string",
    "weir.flow.nat.destination.port": "int",
    "weir.process.owner_rule": "string",
    "weir.dns.question.type": "string",
    "weir.dns.response.code": "string",
    "weir.dns.response.truncated": "boolean",
    "weir.dns.answers.incomplete": "boolean",
    "weir.dns.lookup.duration": "double",
    "weir.dns.attempts": "int",
    "weir.dns.role": "string",
}
