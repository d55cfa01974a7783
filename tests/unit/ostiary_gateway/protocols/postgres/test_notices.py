"""Errors, notices and notifications, as PostgreSQL 18 words them, and what of them the agent may see."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.protocols.postgres.notices import MessageMask, mask_message_fields
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation, notice_body, parse_notice
from ostiary_policy.masking import ColumnMask, DetectorMask, MaskPlan, Strategy

DETECT = MaskPlan(detectors=(DetectorMask("Email", Strategy("Redact")), DetectorMask("CreditCard", Strategy("Null"))))
COLUMNS = MaskPlan(columns=(ColumnMask("public", "customers", "email", Strategy("Redact")),))


def seen(plan: MaskPlan, statement: str = "", **fields: str) -> dict[str, str]:
    return parse_notice(mask_message_fields(plan, notice_body(fields.items()), statement.encode()))


def test_detectors_see_every_text_but_no_code() -> None:
    shown = seen(DETECT, C="23505", M="no a@b.de", D="4111111111111111", H="ask a@b.de", n="a@b.de", F="a@b.de")
    assert shown == {
        "C": "23505", "M": "no [redacted]", "D": "[redacted]", "H": "ask [redacted]", "n": "[redacted]", "F": "a@b.de",
    }  # fmt: skip


def test_nothing_to_hide_is_the_same_object() -> None:
    body = notice_body([("C", "42P01"), ("M", 'relation "x" does not exist')])
    assert MessageMask(DETECT).fields(body) is body
    assert not MessageMask(MaskPlan())


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("Key (email)=(bob (x)) already exists.", "Key (email)=([redacted]) already exists."),
        ("Key (a, b)=(1, bob) is not present in table \"t\".", 'Key (a, b)=([redacted]) is not present in table "t".'),
        ("Failing row contains (1, bob, (2)).", "Failing row contains ([redacted])."),
        ("Partition key of the failing row contains (email) = (bob).",
         "Partition key of the failing row contains (email) = ([redacted])."),
        ('Token "bob" is invalid.', 'Token "[redacted]" is invalid.'),
    ],
)  # fmt: skip
def test_details_that_quote_a_row_are_redacted_where_columns_are_masked(detail: str, shown: str) -> None:
    fields = seen(COLUMNS, C="23505", M='duplicate key value violates unique constraint "k"', D=detail, t="t")
    assert fields["D"] == shown
    assert fields["M"] == 'duplicate key value violates unique constraint "k"'


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('invalid input syntax for type integer: "bob"', 'invalid input syntax for type integer: "[redacted]"'),
        ('value "bob" is out of range for type integer', 'value "[redacted]" is out of range for type integer'),
        ('relation "b"o"b" does not exist', 'relation "[redacted]" does not exist'),
        ('cut short: "bob', 'cut short: "[redacted]'),
        ("division by zero", "division by zero"),
    ],
)
def test_a_message_quotes_no_value_where_columns_are_masked(message: str, shown: str) -> None:
    assert seen(COLUMNS, "select email::int from customers", C="22P02", M=message)["M"] == shown


def test_what_the_statement_says_itself_is_no_secret() -> None:
    message = 'table "nosuch" does not exist, skipping'
    assert seen(COLUMNS, "drop table if exists nosuch", C="00000", M=message)["M"] == message
    assert seen(COLUMNS, C="00000", M=message)["M"] != message


def test_an_error_about_names_keeps_them() -> None:
    message = 'relation "orders" already exists'
    assert seen(COLUMNS, C="42P07", M=message)["M"] == message


def test_an_error_at_a_position_is_about_the_statements_text() -> None:
    message = 'invalid input syntax for type integer: "bob"'
    assert seen(COLUMNS, C="22P02", M=message, P="8")["M"] == message


def test_what_procedural_code_raises_is_withheld() -> None:
    shown = seen(
        COLUMNS, C="P0001", M="bob", D="bob", H="bob", R="exec_stmt_raise", W="PL/pgSQL function f() line 3 at RAISE"
    )
    assert (shown["M"], shown["D"], shown["H"]) == ("[redacted]",) * 3
    assert shown["W"] == "PL/pgSQL function f() line 3 at RAISE"


def test_contexts_that_quote_data_are_redacted() -> None:
    assert seen(COLUMNS, C="22P02", M="x", W="JSON data, line 1: bob...")["W"] == "JSON data, line 1: [redacted]"
    assert seen(COLUMNS, C="42601", M="x", q="select 'bob'")["q"] == "[redacted]"


def test_a_notification_is_searched_by_detectors() -> None:
    body = struct.pack("!i", 7) + b"channel\0mail a@b.de\0"
    assert MessageMask(DETECT).notification(body) == struct.pack("!i", 7) + b"channel\0mail [redacted]\0"
    assert MessageMask(COLUMNS).notification(body) is body


def test_malformed_messages_are_violations() -> None:
    mask = MessageMask(DETECT)
    for body in (b"", b"Mx", b"Mx\0", b"Mx\0\0z"):
        with pytest.raises(ProtocolViolation):
            mask.fields(body)
    for body in (b"", b"\0\0\0\0", b"\0\0\0\0a\0", b"\0\0\0\0a\0b", b"\0\0\0\0a\0b\0c"):
        with pytest.raises(ProtocolViolation):
            mask.notification(body)


@given(st.text(alphabet=st.characters(blacklist_characters="\0"), min_size=1, max_size=40), st.sampled_from("MDHWqtn"))
def test_no_quoted_value_survives_columns_masks(value: str, code: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    marked = f"se{value}cret"
    shown = seen(COLUMNS, C="22P02", **{code: f'bad: "{marked}"'})
    if code not in "tn":
        assert marked not in shown[code]
