"""DNS lookups as LogRecords say what is known of them, and nothing else; every one once, under the size asked for."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from receiver.dns.lookups import TCP, Lookup
from receiver.dns.message import Address
from receiver.otlp.encoded import Encoded
from receiver.otlp.lookups import MAX_ANSWERS, LookupEncoder
from receiver.otlp.resource import encode_resource
from receiver.otlp.semconv import SCHEMA_URL
from tests.dns.test_durations import LOOKUP
from tests.dns.wire import mapped

RESOURCES = [encode_resource({"host.name": "h"}), encode_resource({"service.name": "s"})]
PLAIN = {
    "dns.question.name": "www.test", "weir.dns.question.type": "A", "weir.dns.lookup.duration": 0.007,
    "weir.dns.attempts": 1, "weir.dns.role": "client", "network.transport": "udp", "weir.dns.response.code": "NOERROR",
    "server.address": "10.0.0.53", "server.port": 53,
}  # fmt: skip


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(Address("www.test", "A", 60, mapped(text)) for text in texts)


def encode(*lookups: Lookup[str], max_bytes: int = 1 << 20, resource: int = 1) -> list[Encoded]:
    numbers = np.full(len(lookups), resource, np.uint32)
    return LookupEncoder("0.1.0", max_bytes).encode(lookups, numbers, 1000, 2000, RESOURCES)


def records(encoded: list[Encoded]) -> list[tuple[str, LogRecord]]:
    found = []
    for request in encoded:
        for resource in ExportLogsServiceRequest.FromString(request.data).resource_logs:
            (scope,) = resource.scope_logs
            assert (scope.scope.name, scope.schema_url, resource.schema_url) == ("weir.l4", SCHEMA_URL, SCHEMA_URL)
            found += [(resource.resource.attributes[0].key, record) for record in scope.log_records]
    return found


def attributes(record: LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in record.attributes:
        value: Any = getattr(item.value, str(item.value.WhichOneof("value")))
        found[item.key] = [part.string_value for part in value.values] if item.value.HasField("array_value") else value
    return found


def of(lookup: Lookup[str]) -> dict[str, Any]:
    ((_, record),) = records(encode(lookup))
    return attributes(record)


def test_a_record_says_what_became_of_its_lookup() -> None:
    ((resource, record),) = records(encode(replace(LOOKUP, started=5)))
    assert resource == "service.name"
    assert (record.event_name, record.severity_number) == ("weir.dns.lookup", 9)
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (1005 + LOOKUP.duration, 2000)
    assert attributes(record) == PLAIN


@pytest.mark.parametrize(
    ("changes", "more", "less"),
    [
        ({"addresses": addresses("192.0.2.1", "192.0.2.2", "192.0.2.1")}, {"dns.answers": ["192.0.2.1", "192.0.2.2"]}, ""),
        ({"rcode": "NXDOMAIN", "error_type": "NXDOMAIN"}, {"weir.dns.response.code": "NXDOMAIN", "error.type": "NXDOMAIN"}, ""),
        ({"rcode": "", "error_type": "timeout", "attempts": 3}, {"error.type": "timeout", "weir.dns.attempts": 3},
         "weir.dns.response.code"),
        ({"truncated": True}, {"weir.dns.response.truncated": True}, ""),
        ({"cut": True}, {"weir.dns.answers.incomplete": True}, ""),
        ({"conversation": LOOKUP.conversation._replace(transport=TCP, role="server")},
         {"network.transport": "tcp", "weir.dns.role": "server"}, ""),
        ({"conversation": LOOKUP.conversation._replace(server_address=mapped("0.0.0.0"))}, {}, "server.address"),
    ],
)  # fmt: skip
def test_what_differs_is_said(changes: dict[str, Any], more: dict[str, Any], less: str) -> None:
    wanted = {key: value for key, value in (PLAIN | more).items() if key != less}
    assert of(replace(LOOKUP, **changes)) == wanted


def test_a_server_that_is_not_known_is_left_out() -> None:
    found = of(replace(LOOKUP, conversation=LOOKUP.conversation._replace(server_address=b"", server_port=0)))
    assert not {"server.address", "server.port"} & found.keys()


def test_answers_are_bounded() -> None:
    found = of(replace(LOOKUP, addresses=addresses(*(f"192.0.2.{number}" for number in range(MAX_ANSWERS + 5)))))
    assert len(found["dns.answers"]) == MAX_ANSWERS
    assert found["weir.dns.answers.incomplete"]


@pytest.mark.parametrize("max_bytes", [1, 700, 1 << 20])
def test_every_lookup_is_there_once(max_bytes: int) -> None:
    lookups = [replace(LOOKUP, name=f"{number}.test") for number in range(50)]
    out = encode(*lookups, max_bytes=max_bytes)
    assert sum(request.items for request in out) == 50
    assert all(len(request.data) <= max_bytes or request.items == 1 for request in out)
    names = Counter(attributes(record)["dns.question.name"] for _, record in records(out))
    assert names == Counter(lookup.name for lookup in lookups)


def test_each_goes_under_its_resource() -> None:
    out = LookupEncoder().encode([LOOKUP, LOOKUP, LOOKUP], np.array([1, 0, 1], np.uint32), 0, 0, RESOURCES)
    assert Counter(resource for resource, _ in records(out)) == {"service.name": 2, "host.name": 1}
