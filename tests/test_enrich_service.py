"""What a workload declares, and the precedence of its service name and instance id."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.enrich.service import INSTANCE_NAMESPACE, declared, decode_attributes, instance_id, service_name
from receiver.enrich.text import cut, text


def test_percent_encoding_is_undone_in_keys_and_values() -> None:
    assert decode_attributes(b"a=1, b%2Cb = x%3Dy%20z ,c=%C3%A9,d=a=b,") == {
        "a": "1",
        "b,b": "x=y z",
        "c": "\xe9",
        "d": "a=b",
    }


@pytest.mark.parametrize("raw", [b"a", b"a=1,b", b"=1", b"a=%", b"a=%4", b"a=%zz", b"a=%ff", b"a=\xff"])
def test_one_error_discards_the_whole_variable(raw: bytes) -> None:
    assert decode_attributes(raw) is None
    found = declared({b"OTEL_RESOURCE_ATTRIBUTES": b"service.name=x," + raw, b"OTEL_SERVICE_NAME": b"y"})
    assert (found.service_name, found.malformed) == ("y", True)


def test_the_service_name_variable_goes_first() -> None:
    both = {b"OTEL_SERVICE_NAME": b"one", b"OTEL_RESOURCE_ATTRIBUTES": b"service.name=two,service.namespace=shop"}
    assert (declared(both).service_name, declared(both).service_namespace) == ("one", "shop")
    assert declared(both | {b"OTEL_SERVICE_NAME": b""}).service_name == "two"
    assert declared({}).service_name is None
    assert not declared({}).malformed


def test_the_service_name_precedence() -> None:
    assert service_name("declared", "pod-1", "curl") == "declared"
    assert service_name(None, "pod-1", "curl") == "pod-1"
    assert service_name(None, None, "curl") == "unknown_service:curl"
    assert service_name(None, None, None) == "unknown_service"


def test_the_instance_id_is_stable_and_never_per_process() -> None:
    pod = {"k8s.namespace.name": "shop", "k8s.pod.name": "cart-1"}
    host = {"host.id": "f" * 32, "process.executable.path": "/usr/bin/curl", "process.pid": 7}
    container = {"container.id": "abc"}
    assert instance_id({**pod, **container, "k8s.container.name": "main"}) == "shop.cart-1.main"
    by_container = str(uuid.uuid5(INSTANCE_NAMESPACE, "abc"))
    assert instance_id({**pod, **container, **host}) == by_container  # without the container's name no pod rule
    by_host = instance_id(host)
    assert by_host == instance_id({**host, "process.pid": 8})
    assert by_host != instance_id({**host, "process.executable.path": "/usr/bin/wget"})
    assert instance_id({"host.id": "f" * 32}) is None
    assert instance_id({"process.executable.path": "/usr/bin/curl"}) is None


@given(st.binary(max_size=600))
def test_any_bytes_become_text_that_may_leave(raw: bytes) -> None:
    value = text(raw)
    assert len(value.encode("utf-8")) <= 256
    assert "\0" not in value
    decode_attributes(raw)


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_valid_text_is_only_cut(value: str) -> None:
    kept = cut(value)
    assert value.startswith(kept)
    assert len(kept.encode()) <= 256
    assert kept == value or len(kept.encode()) > 252  # never more than one character short


def test_control_characters_stay_and_surrogates_go() -> None:
    assert cut("a\x1b[1m\ud800") == "a\x1b[1m?"
    assert text(b"\xff\xc3\xa9rest\0junk") == "\ufffd\xe9rest"
