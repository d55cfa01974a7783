"""Secrets and agents' tokens: read, checked, and shown to nobody."""

from __future__ import annotations

import pytest

from ostiary_api.manifests import parse
from ostiary_api.secret import Secret

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
WORD = "correct-horse"


def token(**data: str) -> Secret:
    values = {"username": "planner", "groups": "agents", "sha256": HASH} | data
    return Secret.model_validate({"metadata": {"name": "t"}, "type": "ostiary.dev/token", "stringData": values})


def test_a_token_says_who_it_stands_for() -> None:
    agent = token(groups=" agents, readers ,,").token
    assert agent is not None
    assert (agent.username, agent.groups, agent.sha256) == ("planner", ("agents", "readers"), HASH)


def test_a_token_may_have_no_groups_and_a_hash_in_capitals() -> None:
    agent = token(groups="", sha256=HASH.upper() + "\n").token
    assert agent is not None
    assert (agent.groups, agent.sha256) == ((), HASH)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"username": ""}, "a token needs a username"),
        ({"sha256": ""}, "a token needs sha256"),
        ({"sha256": "abc"}, "a token needs sha256"),
        ({"sha256": WORD}, "a token needs sha256"),
    ],
)
def test_half_a_token_is_refused(data: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        token(**data)


def test_an_ordinary_secret_is_no_token() -> None:
    assert Secret.model_validate({"metadata": {"name": "t"}, "data": {"sha256": "AA=="}}).token is None


def test_string_data_goes_before_data() -> None:
    secret = Secret.model_validate({"metadata": {"name": "t"}, "data": {"a": "eA=="}, "stringData": {"a": "y"}})
    assert secret.text("a") == "y"


def test_a_value_that_is_not_text_is_told_without_showing_it() -> None:
    secret = Secret.model_validate({"metadata": {"name": "t"}, "data": {"a": "/w=="}})
    with pytest.raises(ValueError, match="a of Secret default/t is not UTF-8 text") as error:
        secret.text("a")
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    [
        f"data: {{password: {WORD}}}",
        f"data: {WORD}",
        f"data: [{WORD}]",
        f"stringData: {WORD}",
        f"stringData: {{password: [{WORD}]}}",
        f"stringData: {{password: {{{WORD}: {WORD}}}}}",
        f"{WORD[:4]}: {WORD}",
        f"type: [{WORD}]",
        f"immutable: {WORD}",
        f"kind2: {WORD}\nstringData: {{password: *{WORD}}}",
        f"stringData: {{password: !{WORD} a}}",
        f"stringData: {{password: '{WORD}",
        f'stringData: {{password: "\\q{WORD}"}}',
        f"type: ostiary.dev/token\nstringData: {{username: a, sha256: {WORD}}}",
    ],
)
def test_no_problem_shows_a_secret(text: str) -> None:
    found = parse(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{text}\n")
    assert found.problems
    assert WORD not in "".join(map(str, found.problems))


def test_no_repr_shows_a_secret() -> None:
    found = parse(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{password: {WORD}}}\n")
    assert found.ok
    assert WORD not in repr(found) + repr(found.secrets) + str(found.secret("default", "s"))
    assert HASH not in repr(token()) + repr(token().token)
