"""Canonical JSON: one text for one value, and the hashes made of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_api.canonical import MAX_DEPTH, approval_hash, canonical_json, revision

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False)
# A float of 2**53 and over is written like the integer that it is, and read back as one.
scalars = st.none() | st.booleans() | st.integers() | floats.filter(lambda number: abs(number) < 2**53) | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=20
)


def shuffled(value: Any) -> Any:
    """The same value with the keys of its objects in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_it_is_json_of_the_same_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(values)
def test_the_order_of_keys_does_not_count(value: object) -> None:
    assert canonical_json(shuffled(value)) == canonical_json(value)


@given(values)
def test_what_was_canonical_stays_so(value: object) -> None:
    once = canonical_json(value)
    assert canonical_json(json.loads(once)) == once


@given(values, values)
def test_different_values_have_different_texts(left: object, right: object) -> None:
    # Through json, since Python takes True for 1; 1.0 and 1 are one number in JSON.
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    if same:
        assert canonical_json(left) == canonical_json(right)
    elif canonical_json(left) == canonical_json(right):
        assert left == right


@given(floats)
def test_a_float_read_back_is_the_same(number: float) -> None:
    assert float(canonical_json(number)) == number


# RFC 8785, appendix B.
NUMBERS = [
    (0.0, "0"),
    (-0.0, "0"),
    (5e-324, "5e-324"),
    (-5e-324, "-5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (9007199254740992.0, "9007199254740992"),
    (-9007199254740992.0, "-9007199254740992"),
    (295147905179352830000.0, "295147905179352830000"),
    (9.999999999999997e22, "9.999999999999997e+22"),
    (1e23, "1e+23"),
    (1.0000000000000001e23, "1.0000000000000001e+23"),
    (999999999999999700000.0, "999999999999999700000"),
    (999999999999999900000.0, "999999999999999900000"),
    (1e21, "1e+21"),
    (9.999999999999997e-7, "9.999999999999997e-7"),
    (0.000001, "0.000001"),
    (333333333.3333332, "333333333.3333332"),
    (333333333.33333325, "333333333.33333325"),
    (333333333.3333333, "333333333.3333333"),
    (-0.0000033333333333333333, "-0.0000033333333333333333"),
    (1424953923781206.2, "1424953923781206.2"),
]


@pytest.mark.parametrize(("number", "written"), NUMBERS)
def test_numbers_are_written_as_rfc_8785_has_them(number: float, written: str) -> None:
    assert canonical_json(number).decode() == written


def test_keys_are_sorted_by_utf_16_as_rfc_8785_has_them() -> None:
    value = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "😀": 5, "\x80": 6, "ö": 7}
    assert [*json.loads(canonical_json(value)).values()] == [2, 4, 6, 7, 1, 5, 3]


def test_strings_have_the_shortest_escapes() -> None:
    assert canonical_json('€$\x0f\nA\'B"\\\\"/\x7f').decode() == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f"'


def test_whole_numbers_keep_all_their_digits() -> None:
    assert canonical_json(2**64 + 1) == b"18446744073709551617"


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {1: 2}, {"a": b"x"}, object(), {"a": {1, 2}}])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical_json(value)


def test_depth_is_bounded() -> None:
    value: object = 0
    for _ in range(MAX_DEPTH):
        value = [value]
    assert canonical_json(value)
    with pytest.raises(ValueError, match="nested deeper"):
        canonical_json([value])


SUBJECT: dict[str, object] = {
    "username": "planner",
    "uid": "7",
    "groups": ["agents", "readers"],
    "kind": "User",
    "namespace": "",
    "name": "planner",
    "claims": {"iat": 1},
    "onBehalfOf": "alice",
}
REQUEST: dict[str, Any] = {
    "protocol": "Postgres",
    "request": {"database": "app", "text": "delete from orders where id = $1"},
    "parameters": ["1", None],
    "connection_uid": "u-1",
    "subject": SUBJECT,
    "resource_version": "",
}


def hashed(**changes: object) -> str:
    return approval_hash(**(REQUEST | changes))


def subject(**changes: object) -> Mapping[str, object]:
    return SUBJECT | changes


def test_the_hash_of_a_request_never_changes_between_versions() -> None:
    # Grants that wait for an answer outlive an upgrade of the gateway.
    text = (
        '{"connectionUid":"u-1","domain":"ostiary.dev/v1alpha1 approval request","parameters":["1",null],'
        '"protocol":"Postgres","request":{"database":"app","text":"delete from orders where id = $1"},'
        '"resourceVersion":"","subject":{"groups":["agents","readers"],"kind":"User","name":"planner",'
        '"namespace":"","onBehalfOf":"alice","uid":"7","username":"planner"}}'
    )
    assert hashed() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "SSH"},
        {"request": {"database": "other", "text": "delete from orders where id = $1"}},
        {"request": {"database": "app", "text": "delete from orders where id = $1 "}},
        {"parameters": ["2", None]},
        {"parameters": ["1"]},
        {"parameters": ["1", ""]},
        {"parameters": None},
        {"connection_uid": "u-2"},
        {"resource_version": "5"},
        {"subject": subject(username="other")},
        {"subject": subject(uid="8")},
        {"subject": subject(groups=["agents"])},
        {"subject": subject(kind="ServiceAccount")},
        {"subject": subject(onBehalfOf="")},
    ],
)
def test_anything_that_differs_is_another_request(changes: dict[str, object]) -> None:
    assert hashed(**changes) != hashed()


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": subject(claims={"iat": 2})},
        {"subject": subject(groups=["readers", "agents", "agents"])},
        {"request": {"text": "delete from orders where id = $1", "database": "app"}},
    ],
)
def test_what_changes_by_itself_does_not_count(changes: dict[str, object]) -> None:
    assert hashed(**changes) == hashed()


def test_groups_that_are_no_list_are_refused() -> None:
    with pytest.raises(ValueError, match=r"subject\.groups"):
        hashed(subject=subject(groups="agents"))


def test_a_revision_is_64_hex_digits() -> None:
    assert revision({"b": 1, "a": [True, None]}) == revision({"a": [True, None], "b": 1})
    assert len(revision({})) == 64
