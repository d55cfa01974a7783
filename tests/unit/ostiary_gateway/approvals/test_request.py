"""What a grant is for, and what a person sees: bounded, and saying so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from support.approvals import NOON, RULE, action, decision, question, write
from support.policies import connection, subject

from ostiary_gateway.approvals.request import MAX_FACTS, MAX_SUMMARY, bounded, draft, hash_of, shortened, titled
from ostiary_policy.decision import RuleRef


def digest(text: str = "update", *parameters: object, **changes: object) -> str:
    given = {"connection": connection(), "subject": subject("agent", "agents"), "decision": decision(), **changes}
    return hash_of(action(text, *parameters), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        digest("update x"),
        digest("update", 1),
        digest("update", "1"),
        digest(subject=subject("other", "agents")),
        digest(subject=subject("agent", "agents", "more")),
        digest(subject=subject("agent", "agents", onBehalfOf="carol")),
        digest(connection=connection("other")),
        digest(connection=connection(namespace="other")),
        digest(decision=decision(RuleRef("default", "ask", "big", "r2"))),
        digest(decision=decision(RuleRef("default", "ask", "other", "r1"))),
    ],
)
def test_anything_that_differs_is_another_request(other: str) -> None:
    assert other != digest()
    assert digest() == digest(subject=subject("agent", "agents", claims={"jti": "renewed"}))


def test_a_long_text_shows_its_beginning_and_its_end() -> None:
    text = "select 1; " * 5000 + "drop table everything"
    short = shortened(text, MAX_SUMMARY)
    assert len(short) <= MAX_SUMMARY
    assert short.startswith("select 1; ")
    assert short.endswith("drop table everything")
    assert "not shown" in short
    made = draft(
        action(text), name="apr-1", connection=connection(), subject=subject("agent"), session="s",
        decision=decision(), now=question().metadata.creation_timestamp,  # type: ignore[arg-type]
    )  # fmt: skip
    assert made.spec.request.truncated


def test_facts_are_bounded_however_large() -> None:
    facts = {"sql": {"statements": [{"text": "x" * 5000, "n": [list(range(200))] * 200}] * 300}}
    small, cut = bounded(facts)
    assert cut
    assert len(str(small)) < 2 * MAX_FACTS
    assert bounded({"a": [1, "b", None, True]}) == ({"a": [1, "b", None, True]}, False)


def test_the_question_names_the_rule_and_its_terms() -> None:
    spec = question(groups=("dba", "oncall"), min_approvals=2).spec
    assert (spec.policies[0].rule, spec.policies[0].revision) == (RULE.rule, RULE.revision)
    assert (spec.approval.groups, spec.approval.min_approvals) == (("dba", "oncall"), 2)
    assert question().to_manifest()["kind"] == "ApprovalRequest"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("select 1", "select 1"),
        ("update orders\n  set paid = true\n", "update orders set paid = true"),
        ("x" * 61, "x" * 59 + "…"),
        (" " * 960 + "drop table orders", "…"),
        ("select '\x1b[2J'", "select '?[2J'"),
        ("", ""),
    ],
)
def test_a_list_shows_the_beginning_on_one_line(text: str, title: str) -> None:
    assert titled(text) == title


def test_a_write_is_listed_by_its_first_line() -> None:
    made = draft(
        write(), name="apr-1", connection=connection(), subject=subject("agent"), session="s1", decision=decision(),
        now=NOON,
    )  # fmt: skip
    assert made.spec.request.title == "Deployment shop/web: spec.replicas 3 → 50"
    assert made.spec.request.summary.endswith("PATCH /apis/apps/v1/namespaces/shop/deployments/web")
