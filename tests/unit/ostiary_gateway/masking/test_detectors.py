"""What the detectors find, what they leave alone, and that no prefilter misses what they find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.masking.detectors import BUILT_IN, CustomDetector, Detectors, compile_detector, problem_of
from ostiary_gateway.masking.scan import card_spans, email_spans, is_card, luhn, may_hold_card, may_hold_email
from ostiary_gateway.masking.strategies import MaskError
from ostiary_policy.masking import ColumnMask, DetectorMask, Strategy

KEEP_4 = Strategy("Partial", keep_last=4)
CARDS = [
    "4111111111111111", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117",
    "3530111333300000", "30569309025904", "6200000000000005", "4222222222222", "2200770239097761", "6759649826438453",
]  # fmt: skip


def found(detector: str, value: str) -> list[str]:
    data = value.encode()
    spans = BUILT_IN[detector]().spans(data)
    if spans:
        assert BUILT_IN[detector]().could_hit(b"\x00\x10" + data + b"\x00"), "the prefilter missed a hit"
        looks = Detectors((DetectorMask(detector, KEEP_4),)).candidates
        if looks is not None:
            place = looks.next_other(b"\x00\x10" + data + b"\x00", 0)
            assert 2 <= place < 2 + len(data), "the scan of rows missed a hit"
    return [data[start:end].decode() for start, end in spans]


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("around", ["{}", "card: {}.", "({})", "a\n{}\nb", '"{}"', "é{}é", "no.{}", "x={}&y"])
def test_a_card_is_found_wherever_it_stands(card: str, around: str) -> None:
    assert found("CreditCard", around.format(card)) == [card]


@pytest.mark.parametrize(
    "text",
    ["4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005", "41-11 11111111-1111"],
)
def test_a_card_is_found_with_spaces_and_dashes(text: str) -> None:
    assert found("CreditCard", f"pay {text} now") == [text]


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn
        "1234567812345670",  # no issuer
        "411111111111",  # too short
        "41111111111111111111",  # 20 digits
        "a4111111111111111", "4111111111111111f",  # a piece of a hash
        "0.4111111111111111",  # a fraction
        "4111  1111  1111  1111x", "1693526400123456789",  # a snowflake id
        "51111111111111", "3782 822463 1000",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_card_is_left_alone(text: str) -> None:
    assert found("CreditCard", text) == []


def test_a_card_beside_other_groups_of_digits_is_found() -> None:
    assert found("CreditCard", "12 4111 1111 1111 1111 03") == ["4111 1111 1111 1111"]


def test_a_megabyte_of_single_digits_takes_linear_time() -> None:
    assert isinstance(card_spans(b"4 " * 200_000), list)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bob@example.com", ["bob@example.com"]),
        ("<a.b+c@x-y.example.co.uk>, z", ["a.b+c@x-y.example.co.uk"]),
        ("two a@b.de b@c.fr.", ["a@b.de", "b@c.fr"]),
        ("jörg@münchen.de", ["jörg@münchen.de"]),
        ("x@[10.0.0.1]", ["x@[10.0.0.1]"]),
        ("@handle", []),
        ("a@b", []),
        ("a@@b.de", []),
        ("a @b.de", []),
        ("10@1.5", []),
    ],
)
def test_emails(text: str, expected: list[str]) -> None:
    assert found("Email", text) == expected


@pytest.mark.parametrize(
    ("detector", "text", "expected"),
    [
        ("IBAN", "to DE89 3704 0044 0532 0130 00 please", ["DE89 3704 0044 0532 0130 00"]),
        ("IBAN", "GB82WEST12345698765432", ["GB82WEST12345698765432"]),
        ("IBAN", "GB82WEST12345698765433", []),
        ("Phone", "call +49 (170) 1234567", ["+49 (170) 1234567"]),
        ("Phone", "+1 2", []),
        ("USSocialSecurityNumber", "ssn 078-05-1120.", ["078-05-1120"]),
        ("USSocialSecurityNumber", "000-05-1120 666-05-1120 900-05-1120 078-00-1120 078-05-0000", []),
        ("USSocialSecurityNumber", "1078-05-1120 078-05-11201", []),
        ("IPAddress", "from 10.1.2.3 to 2001:db8::1", ["10.1.2.3", "2001:db8::1"]),
        ("IPAddress", "999.1.2.3 1.2.3.4.5 12:34:56 a::b", []),
        ("JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig", ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig"]),
        ("JWT", "eyJhbmdodWh1aHVoIjoxfQ.abc.def", []),
        ("PrivateKey", "a -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- b",
         ["-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----"]),
        ("PrivateKey", "-----BEGIN RSA PRIVATE KEY-----\ncut", ["-----BEGIN RSA PRIVATE KEY-----\ncut"]),
        ("PrivateKey", "-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----", []),
        ("AWSKey", "AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
        ("AWSKey", "AKIAIOSFODNN7EXAMPL", []),
        ("GitHubToken", "ghp_" + "a" * 30 + "1yLcDB", ["ghp_" + "a" * 30 + "1yLcDB"]),
        ("GitHubToken", "ghp_" + "a" * 36, []),  # a wrong checksum
        ("Phone", "+1 415 555 2671, +49 30 123456, +1 234 5678, +999 12345678", ["+1 415 555 2671", "+49 30 123456"]),
        ("IPAddress", "::ffff:10.1.2.3 and 1.2.3.400", ["::ffff:10.1.2.3"]),
        ("CreditCard", "12345678-4111-1111-1111-111112345678", []),  # a group of a UUID
        ("Email", "icon@2x.png a@b.pngs", ["a@b.pngs"]),
        ("SlackToken", "xoxb-123456789012-abc", ["xoxb-123456789012-abc"]),
        ("StripeKey", "sk_live_" + "a" * 24, ["sk_live_" + "a" * 24]),
    ],
)  # fmt: skip
def test_detectors_with_a_grammar(detector: str, text: str, expected: list[str]) -> None:
    assert found(detector, text) == expected


def test_a_detector_that_does_not_exist_is_refused() -> None:
    with pytest.raises(MaskError, match="no detector 'Passport'; there are"):
        compile_detector(DetectorMask("Passport", KEEP_4))


@pytest.mark.parametrize(
    ("pattern", "wrong"), [("(", "not a valid RE2"), (r"(?=a)", "not a valid RE2"), ("a*", "empty")]
)
def test_a_pattern_that_is_no_use_is_refused(pattern: str, wrong: str) -> None:
    with pytest.raises(MaskError, match=wrong):
        CustomDetector("mine", pattern)


def test_a_mask_tells_what_is_wrong_before_it_is_in_force() -> None:
    assert problem_of(DetectorMask("CreditCard", KEEP_4)) is None
    assert problem_of(ColumnMask("*", "*", "email", KEEP_4)) is None
    wrong = [
        DetectorMask("Passport", KEEP_4), DetectorMask("mine", KEEP_4, "("),
        ColumnMask("*", "*", "email", Strategy("Pseudonym")),
        ColumnMask("*", "*", "email", Strategy("Partial", char="7")),
    ]  # fmt: skip
    fields = [found[0] for mask in wrong if (found := problem_of(mask)) is not None]
    assert fields == ["detector", "pattern.regex", "strategy", "strategy"]


def test_a_pattern_that_looks_at_the_ends_of_a_value_is_not_filtered_by_the_buffer() -> None:
    assert CustomDetector("mine", "^[0-9]{4}$").could_hit(b"no digits at all")
    assert not CustomDetector("mine", "[0-9]{4}").could_hit(b"no digits at all")
    assert not CustomDetector("mine", "[^a-z ]{4}").could_hit(b"no digits at all")


def test_what_a_columns_partial_keeps_is_not_what_a_detector_hides() -> None:
    long = b"4111111111111111 " + b"x" * 40
    keeps = Strategy("Partial", keep_first=20)
    redacting = Detectors((DetectorMask("CreditCard", Strategy("Redact")),))
    assert redacting.over(keeps)(long) == b"[redacted]"
    assert redacting.over(keeps)(b"y" * 30) == b"y" * 20 + b"*" * 10
    assert Detectors((DetectorMask("CreditCard", KEEP_4),)).over(keeps)(long) == b"*" * len(long)
    assert Detectors((DetectorMask("CreditCard", Strategy("Null")),)).over(keeps)(long) is None


def test_where_two_detectors_meet_the_stronger_wins() -> None:
    detectors = Detectors(
        (DetectorMask("custom", Strategy("Redact"), "[0-9]{16} bob"), DetectorMask("CreditCard", KEEP_4))
    )
    assert detectors.mask(b"4111111111111111 bob 4111111111111111") == b"[redacted] ************1111"


def test_a_null_strategy_hides_the_whole_value() -> None:
    assert Detectors((DetectorMask("Email", Strategy("Null")),)).mask(b"mail bob@example.com") is None


def test_nothing_found_returns_the_same_object() -> None:
    value = b"nothing @ here 1234567890123"
    assert Detectors((DetectorMask("Email", KEEP_4), DetectorMask("CreditCard", KEEP_4))).mask(value) is value


@given(st.text(alphabet="0123456789 -ax.", max_size=60))
def test_cards_agree_with_a_naive_search(text: str) -> None:
    """Every window of whole groups is tried by hand; the spans must cover exactly those that are cards."""
    data = text.encode()
    covered: set[int] = set()
    for start in range(len(data)):
        for end in range(start + 13, min(len(data), start + 38) + 1):
            window = data[start:end]
            digits = window.translate(None, b" -")
            whole = (
                digits.isdigit() and window[:1].isdigit() and window[-1:].isdigit()
                and not any(pair in window for pair in (b"  ", b"--", b" -", b"- "))
                and not data[:start][-1:].isalnum() and not data[end:][:1].isalnum()
                and not (data[:start][-1:] == b"." and data[:start][-2:-1].isdigit())
            )  # fmt: skip
            if whole and is_card(digits):
                covered.update(range(start, end))
    assert {i for start, end in card_spans(data) for i in range(start, end)} == covered


@given(st.binary(max_size=20), st.sampled_from(CARDS), st.binary(max_size=20))
def test_the_prefilter_never_misses_a_card(before: bytes, card: str, after: bytes) -> None:
    assert may_hold_card(before + card.encode() + after)


@given(st.text(max_size=40))
def test_email_spans_are_ordered_and_hold_one_at(text: str) -> None:
    data = text.encode()
    last = 0
    for start, end in email_spans(data):
        assert last <= start < end <= len(data)
        assert b"@" in data[start:end]
        assert may_hold_email(data)
        last = end


def test_luhn_by_the_book() -> None:
    assert luhn(b"79927398713")
    assert not any(luhn(b"7992739871" + bytes((digit,))) for digit in b"012456789")
