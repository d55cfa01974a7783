"""What is shown in the place of a value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.masking.documents import mask_scalars, mask_whole
from ostiary_gateway.masking.strategies import MaskError, compile_strategy
from ostiary_policy.masking import Strategy, stronger

KEY = b"0123456789abcdef"


def shown(strategy: Strategy, value: str, *, card: bool = False) -> str | None:
    masked = compile_strategy(strategy, card=card)(value.encode())
    return None if masked is None else masked.decode()


def test_redact_shows_its_replacement() -> None:
    assert shown(Strategy("Redact"), "x") == "[redacted]"
    assert shown(Strategy("Redact", replacement="—"), "x") == "—"


def test_null_shows_nothing() -> None:
    assert shown(Strategy("Null"), "x") is None


def test_partial_counts_characters_not_bytes() -> None:
    assert shown(Strategy("Partial", keep_first=1, keep_last=2), "Jörg Ü") == "J***" + " Ü"
    assert shown(Strategy("Partial", keep_last=1, char="•"), "äöü") == "••ü"


def test_partial_never_shows_a_whole_value() -> None:
    assert shown(Strategy("Partial", keep_first=2, keep_last=2), "abcd") == "****"
    assert shown(Strategy("Partial", keep_last=4), "abc") == "***"
    assert shown(Strategy("Partial", keep_last=4), "") == ""


def test_partial_keeps_the_separators_of_a_card() -> None:
    assert shown(Strategy("Partial", keep_last=4), "4111-1111 1111-1111", card=True) == "****-**** ****-1111"


def test_pseudonyms_are_the_same_for_the_same_value_and_key() -> None:
    one = Strategy("Pseudonym", key=KEY)
    assert shown(one, "bob") == shown(one, "bob") != shown(one, "eve")
    assert shown(one, "bob") != shown(Strategy("Pseudonym", key=KEY[::-1]), "bob")
    assert shown(one, "4111 1111", card=True) == shown(one, "4111-1111", card=True)


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy("Partial", keep_first=-1),
        Strategy("Partial", char=""),
        Strategy("Partial", char="0"),
        Strategy("Partial", char="**"),
        Strategy("Pseudonym"),
        Strategy("Pseudonym", key=b"short"),
        Strategy("Rot13"),  # type: ignore[arg-type]
    ],
)
def test_a_strategy_that_hides_nothing_is_refused(strategy: Strategy) -> None:
    with pytest.raises(MaskError):
        compile_strategy(strategy)


def test_the_stronger_of_two() -> None:
    redact, partial = Strategy("Redact"), Strategy("Partial", keep_last=4)
    assert stronger(partial, redact) is redact
    assert stronger(partial, Strategy("Pseudonym", key=KEY)).type == "Pseudonym"
    assert stronger(partial, Strategy("Partial", keep_last=2)).keep_last == 2
    assert stronger(partial, Strategy("Partial", keep_last=8)) is partial


def test_of_two_partials_only_what_both_keep_is_kept() -> None:
    ends, begins = Strategy("Partial", keep_last=3), Strategy("Partial", keep_first=4)
    assert shown(stronger(begins, ends), "4111111111111111") == "*" * 16
    both = stronger(Strategy("Partial", keep_first=2, keep_last=4), Strategy("Partial", keep_first=6, keep_last=1))
    assert (both.keep_first, both.keep_last) == (2, 1)


@given(st.text(max_size=30), st.integers(0, 10), st.integers(0, 10))
def test_partial_keeps_the_length_and_hides_at_least_one_character(text: str, first: int, last: int) -> None:
    masked = shown(Strategy("Partial", keep_first=first, keep_last=last), text)
    assert masked is not None
    assert len(masked) == len(text)
    if text.replace("*", ""):
        assert "*" in masked


def test_json_keeps_its_spelling_around_what_is_replaced() -> None:
    def mask(value: bytes) -> bytes | None:
        return None if value == b"gone" else value.replace(b"secret", b"x")

    document = b'{ "secret" : ["a\\u0073ecret", 1.50, "gone"],\n "b":"secret"}'
    assert mask_scalars(document, mask) == b'{ "x" : ["ax", 1.50, null],\n "b":"x"}'
    untouched = b'{"a": "\\u00e9"}'
    assert mask_scalars(untouched, mask) is untouched


def test_a_json_number_becomes_a_string() -> None:
    assert mask_scalars(b"[4111, 41.11e2]", lambda v: b"*" if v == b"4111" else v) == b'["*", "*"]'


def test_a_json_document_as_one_value() -> None:
    partial = compile_strategy(Strategy("Partial", keep_last=2))
    assert mask_whole(b'"abcd"', partial, b"[redacted]") == b'"**cd"'
    assert mask_whole(b" 1234 ", partial, b"[redacted]") == b'"**34"'
    assert mask_whole(b'{"a": 1}', partial, b"[redacted]") == b'"[redacted]"'
    assert mask_whole(b"true", partial, b"[redacted]") == b'"[redacted]"'
