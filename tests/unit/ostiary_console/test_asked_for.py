"""Query parameters as questions to the store."""

from __future__ import annotations

from typing import Any

import pytest

from ostiary_console import asked_for
from ostiary_console.problems import Problem
from ostiary_store.model import ALL, Scope

NOW = 1_795_435_200.0


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", None), ("15m", NOW - 900), ("24h", NOW - 86_400), ("7d", NOW - 604_800), ("2w", NOW - 1_209_600),
        ("2026-11-23T12:00", NOW), ("2026-11-23T13:00:00+01:00", NOW), ("2026-11-23T12:00:00Z", NOW),
        ("2026-11-23", NOW - 43_200),
    ],
)  # fmt: skip
def test_a_time_is_an_age_or_a_moment(text: str, at: float | None) -> None:
    assert asked_for.moment(text, NOW) == at


@pytest.mark.parametrize("text", ["yesterday", "24", "-1h", "999999d", "9999-99-99", "1e9", "٢٤h"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(Problem, match="no time"):
        asked_for.moment(text, NOW)


@pytest.mark.parametrize(
    ("query", "requests"),
    [({}, False), ({"q": "a"}, True), ({"q": "a", "view": "sessions"}, False), ({"rule": "a/b/c"}, True),
     ({"decision": "Deny"}, False), ({"session": "01"}, True), ({"view": "requests"}, True)],
)  # fmt: skip
def test_what_is_listed(query: dict[str, str], requests: bool) -> None:
    assert asked_for.shows_requests(asked_for.search_form(query)) is requests


def test_a_rule_is_a_policy_and_a_rule() -> None:
    found = asked_for.request_query(asked_for.search_form({"rule": "shop/agents/no-drop", "would": "1"}), NOW)
    assert (found.policy, found.rule, found.would_deny) == ("shop/agents", "no-drop", True)
    assert asked_for.request_query(asked_for.search_form({"rule": "shop/agents"}), NOW).rule is None
    for odd in ("shop", "a/b/c/d", "//", "a//b"):
        with pytest.raises(Problem):
            asked_for.request_query(asked_for.search_form({"rule": odd}), NOW)


@pytest.mark.parametrize(
    ("scope", "connection", "seen"),
    [
        (ALL, "a/b", True), (Scope(frozenset()), "a/b", False), (Scope(frozenset({"a/b"})), "a/b", True),
        (Scope(frozenset({"a/*"})), "a/b", True), (Scope(frozenset({"a/*"})), "ab/c", False),
        (Scope(frozenset({"a/b"})), "a/bc", False), (Scope(frozenset({"a/b"})), "", False),
    ],
)  # fmt: skip
def test_what_is_within_a_scope(scope: Scope, connection: str, seen: bool) -> None:
    assert asked_for.within(scope, connection) is seen


def test_a_form_keeps_to_its_fields() -> None:
    given: Any = {"q": " a ", "unknown": "x", "user": "x" * 5000}
    found = asked_for.search_form(given)
    assert (found.q, len(found.user)) == ("a", 1000)
