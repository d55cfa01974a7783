"""What an approver is shown of SQL: secrets are hidden, what would run never is."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.postgres.veil import Veil
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alter role x password 'abc'", "alter role x password '[redacted]'"),
        ("alter role x password 'abc'\n -- and\n 'def'", "alter role x password '[redacted]'"),
        ("create user u password E'a\\'b' login", "create user u password '[redacted]' login"),
        ('where "db_password"::text = $q$x$q$ or a', "where \"db_password\"::text = '[redacted]' or a"),
        ("create subscription s connection 'host=a'", "create subscription s connection '[redacted]'"),
        ("do $$ begin create user x password 'a'; end $$", "do $$ begin create user x password '[redacted]'; end $$"),
        ("execute 'create user x password ''y'''", "execute 'create user x password ''[redacted]'''"),
        ("Filter: ((api_key)::text = 'abc'::text)", "Filter: ((api_key)::text = '[redacted]'::text)"),
        ("where token is /* '*/ 'a'", "where token is /* '*/ '[redacted]'"),
    ],
)
def test_the_literal_behind_the_name_of_a_secret_is_hidden(text: str, shown: str) -> None:
    veil = Veil(MaskPlan())
    assert veil.text(text) == shown
    assert veil.touched


@pytest.mark.parametrize(
    "text",
    [
        "delete from big where x = 'password' or true or y = ''",
        "delete from big where x = 'token' or true or y = 'x'",
        "do --token\n$$ begin delete from big; end $$",
        "/* /* */ password ' */ or true --'",
        "x = '\\' or 'password' or true or y = 'x'",
        "x = E'a'\n'\\' password ' or true or 'b'",
        'x = "password""\' or true or \'"',
        "a$password$ or true or a$password$",
        "select 'abc",
        "x = e'\\",
        "password $ 'x'",
    ],
)
def test_what_would_run_is_shown_though_a_literal_reads_like_a_secret(text: str) -> None:
    veil = Veil(MaskPlan())
    assert veil.text(text) == text
    assert not veil.touched


def test_a_detector_hides_in_literals_and_not_what_stands_between_them() -> None:
    veil = Veil(MaskPlan(detectors=tuple(DetectorMask(name, Strategy("Redact")) for name in ("PrivateKey", "Email"))))
    text = "delete from t where mail = 'a.b@example.com' or -----BEGIN PRIVATE KEY-----\ntrue"
    shown = veil.text(text)
    assert "a.b@example.com" not in shown
    assert shown.startswith("delete from t where mail = '")
    assert shown.endswith("\ntrue")
