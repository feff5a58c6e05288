"""What a gRPC status means: every code, RetryInfo, and the texts that real failures have."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.export.answer import read_answer
from receiver.export.errors import OversizeError, PermanentError, RetryableError, UnimplementedError
from receiver.export.faults import CODES, classify, size_limit
from receiver.export.request import Receipt
from receiver.export.status import decide, retry_delay
from receiver.export.walk import fields
from tests.export_parts import request
from tests.otlp_server import length_delimited, partial_success, retry_info, varint

RETRYABLE = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_is_decided_as_otlp_says(code: grpc.StatusCode) -> None:
    number = code.value[0]
    plain = decide(number, "something", b"", "logs")
    hinted = decide(number, "something", retry_info(7.5), "logs")
    retried = code.name in RETRYABLE
    no_service = code is grpc.StatusCode.UNIMPLEMENTED
    assert plain.kind == ("retry" if retried else "no_service" if no_service else "permanent")
    assert (plain.delay, plain.throttle) == (0, False)
    if retried or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        assert (hinted.kind, hinted.delay, hinted.throttle) == ("retry", 7.5, True)
    else:
        assert hinted.kind == plain.kind
    assert plain.text.startswith(f"rpc error: code = {CODES[number].name} desc = something")


def test_a_code_that_does_not_exist_is_permanent() -> None:
    assert decide(77, "new", b"", "logs").text == "rpc error: code = Code(77) desc = new"
    assert isinstance(decide(77, "new", b"", "logs").error(), PermanentError)


def test_resource_exhausted_with_a_retry_info_of_zero_is_retryable_and_holds_nothing() -> None:
    found = decide(8, "busy", retry_info(0), "logs")
    assert (found.kind, found.delay, found.throttle) == ("retry", 0, False)


def test_resource_exhausted_may_be_made_retryable_unless_it_is_about_the_size() -> None:
    assert decide(8, "RESOURCE_EXHAUSTED", b"", "logs", retry_resource_exhausted=True).kind == "retry"
    text = "grpc: received message larger than max (5 vs. 4)"
    assert decide(8, text, retry_info(1), "logs", retry_resource_exhausted=True).kind == "oversize"


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("grpc: received message larger than max (4404297 vs. 4194304)", 4194304),
        ("grpc: received message after decompression larger than max 4194304", 4194304),
        ("SERVER: Received message larger than max (5000000 vs. 4194304)", 4194304),
        ("Decompressed message larger than max", None),
    ],
)
def test_a_refusal_by_size_tells_the_limit_where_it_can(text: str, limit: int | None) -> None:
    error = decide(8, text, b"", "logs").error()
    assert isinstance(error, OversizeError)
    assert error.limit == limit == size_limit(text)


def test_an_answer_of_ours_that_is_too_large_is_not_a_refusal() -> None:
    found = decide(8, "CLIENT: Received message larger than max (5 vs. 4)", b"", "logs", retry_resource_exhausted=True)
    assert (found.kind, found.fault.name) == ("permanent", "oversize_answer")


@pytest.mark.parametrize(
    ("code", "text", "name"),
    [
        (14, "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused", "refused"),
        (14, "failed to connect to all addresses; last error: FAILED_PRECONDITION: unix:/x.sock: connect failed: addr: unix:/x.sock error: No such file or directory", "refused"),
        (14, "errors resolving alert-manager.invalid:4317: [field:hostname lookup error:address lookup failed for nowhere.invalid:4317: Domain name not found]", "name"),
        (14, "... Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: Invalid certificate verification context: OK", "tls_mismatch"),
        (14, "... error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK", "certificate"),
        (14, "... OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "certificate_expired"),
        (14, "... Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.", "certificate_name"),
        (14, "Unwrap failed (TSI_DATA_CORRUPTED)", "client_certificate"),
        (14, "... Failed to create security handshaker.", "tls_material"),
        (14, "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", "closed"),
        (14, "Stream removed (Socket closed)", "closed"),
        (14, "data refused due to high memory usage", "memory"),
        (14, "sending queue is full", "remote_queue"),
        (14, "upstream says no", "unavailable"),
        (4, "Deadline Exceeded", "timeout"),
        (13, "Permanent error: no", "refused_data"),
        (16, "missing or empty authorization header: Authorization", "authentication"),
        (7, "no", "permission"),
        (12, "unknown service opentelemetry.proto.collector.logs.v1.LogsService", "no_service"),
        (12, "Method not found!", "no_service"),
        (12, 'grpc: Decompressor is not installed for grpc-encoding "gzip"', "compression"),
        (12, "Received http2 header with status: 404", "not_grpc"),
        (3, "bad", "other"),
    ],
)  # fmt: skip
def test_failures_that_have_one_code_are_told_apart_by_their_text(code: int, text: str, name: str) -> None:
    fault = classify(code, text)
    assert fault.name == name
    assert fault.remedy.endswith(".")


def test_unknown_service_turns_a_signal_off_and_a_missing_decompressor_does_not() -> None:
    assert isinstance(decide(12, "unknown service x", b"", "logs").error(), UnimplementedError)
    found = decide(12, 'grpc: Decompressor is not installed for grpc-encoding "gzip"', b"", "logs")
    assert found.kind == "compression"
    assert not isinstance(found.error(), UnimplementedError)
    assert decide(12, "Received http2 header with status: 404", b"", "logs").kind == "permanent"


@given(st.integers(0, 10**6), st.integers(0, 999_999_999))
def test_retry_info_is_read_to_the_nanosecond(seconds: int, nanos: int) -> None:
    assert retry_delay(retry_info(seconds + nanos / 1e9)) == pytest.approx(seconds + nanos / 1e9, abs=2e-9)


def test_retry_info_is_found_behind_other_details_and_negative_is_none_at_all() -> None:
    other = length_delimited(3, length_delimited(1, b"type.googleapis.com/google.rpc.Help") + length_delimited(2, b""))
    assert retry_delay(other + retry_info(3)) == 3
    assert retry_delay(other) is None
    back = length_delimited(1, b"\x08" + varint(-5))
    info = length_delimited(1, b"type.googleapis.com/google.rpc.RetryInfo") + length_delimited(2, back)
    assert retry_delay(length_delimited(3, info)) == 0


@given(st.binary(max_size=200), st.integers(0, 16), st.text(max_size=40))
def test_any_bytes_in_a_trailer_are_survived(details: bytes, code: int, text: str) -> None:
    assert decide(code, text, details, "logs").delay >= 0


@given(st.binary(max_size=60))
def test_any_bytes_in_an_answer_are_survived_and_balance(data: bytes) -> None:
    receipt = read_answer(data, request(5))
    assert receipt.accepted + receipt.rejected == 5
    assert receipt.accepted >= 0 <= receipt.rejected


def test_answers() -> None:
    ten = request(10)
    assert read_answer(b"", ten) == Receipt(10)
    assert read_answer(b"\x0a\x00", ten) == Receipt(10)
    assert read_answer(partial_success(3, "too old"), ten) == Receipt(7, 3, "too old")
    assert read_answer(partial_success(0, "careful"), ten) == Receipt(10, 0, "careful")
    assert read_answer(partial_success(99), ten) == Receipt(0, 10)
    assert read_answer(partial_success(-4), ten) == Receipt(10)
    assert "cannot be read" in read_answer(b"\x0a\x7f", ten).message


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\x00\x00", b"\xff" * 11, b"\x0d\x00"])
def test_a_malformed_message_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        list(fields(data))


def test_fields_of_every_wire_type() -> None:
    data = b"\x08\x96\x01" + b"\x11" + (5).to_bytes(8, "little") + b"\x1a\x02ab" + b"\x25" + (6).to_bytes(4, "little")
    assert list(fields(data)) == [(1, 150), (2, 5), (3, b"ab"), (4, 6)]


def test_errors_carry_what_to_do() -> None:
    error = decide(14, "Connection refused", retry_info(2), "logs").error()
    assert isinstance(error, RetryableError)
    assert (error.delay, error.throttle) == (2, True)
    assert error.about()["cause"] == "refused"
    assert "start the Collector" in error.about()["remedy"]
