"""Scalar wire encoding agrees with opentelemetry-proto, and texts from outside are made valid and short."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from receiver.otlp import wire
from receiver.otlp.resource import encode_resource

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
_scalar = st.one_of(_text, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
_value = st.one_of(_scalar, st.lists(_scalar, max_size=4))


def _any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    out = AnyValue()
    out.array_value.values.extend(_any_value(item) for item in value)
    out.array_value.SetInParent()
    return out


@given(st.dictionaries(_text, _value, max_size=5))
def test_a_resource_equals_the_reference(values: dict[str, Any]) -> None:
    reference = Resource(attributes=[KeyValue(key=key, value=_any_value(value)) for key, value in values.items()])
    assert Resource.FromString(encode_resource(values)) == reference


@given(st.integers(0, 2**64 - 1))
def test_varints(value: int) -> None:
    parsed = AnyValue.FromString(b"\x18" + wire.varint(value)).int_value
    assert parsed % 2**64 == value
    assert len(wire.varint(value)) == max(1, -(-value.bit_length() // 7))


@given(st.integers(0, 2**63 - 1), st.integers(1, 9))
def test_padded_varints_are_the_same_number(value: int, width: int) -> None:
    if value >> 7 * width:
        with pytest.raises(ValueError, match="does not fit"):
            wire.padded(value, width)
    else:
        assert len(wire.padded(value, width)) == width
        assert AnyValue.FromString(b"\x18" + wire.padded(value, width)).int_value == value


@pytest.mark.parametrize("value", [-1, 2**64])
def test_varints_have_bounds(value: int) -> None:
    with pytest.raises(ValueError, match=f"varint: {value} is outside"):
        wire.varint(value)


@given(st.one_of(st.text(max_size=300), st.binary(max_size=400)))
def test_texts_come_out_valid_and_short(text: str | bytes) -> None:
    data = wire.clean(text)
    assert len(data) <= wire.MAX_TEXT
    whole = text if isinstance(text, str) else text.decode(errors="replace")
    whole = whole.encode(errors="replace").decode()
    decoded = data.decode()
    assert whole.startswith(decoded)
    if decoded != whole:  # cut no shorter than a character makes it
        assert len(data) + len(whole[len(decoded)].encode()) > wire.MAX_TEXT


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (b"ok\xff", "ok\ufffd".encode()),
        ("a\udc80b", b"a?b"),
        ("x" * 300, b"x" * 256),
        ("é" * 200, "é".encode() * 128),
        ("x" + "é" * 200, b"x" + "é".encode() * 127),
        ("😀" * 64, "😀".encode() * 64),
        ("xx" + "😀" * 64, b"xx" + "😀".encode() * 63),
    ],
)
def test_cleaning(text: str | bytes, data: bytes) -> None:
    assert wire.clean(text) == data


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (2**63, ValueError, "attribute a.b: 9223372036854775808 does not fit"),
        (None, TypeError, "attribute a.b: NoneType has no OTLP form"),
        ({}, TypeError, "attribute a.b: dict has no OTLP form"),
        ([1, object()], TypeError, "attribute a.b: object has no OTLP form"),
    ],
)
def test_values_without_a_form_are_named(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode_resource({"a.b": value})


def test_scope() -> None:
    parsed = ScopeLogs.FromString(wire.scope("weir.l4", "1.2")).scope
    assert parsed == InstrumentationScope(name="weir.l4", version="1.2")
    assert ScopeLogs.FromString(wire.scope("weir.l4", "")).scope == InstrumentationScope(name="weir.l4")
