"""Builders of approvals for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from support.policies import connection, subject

from ostiary_api.approval import ApprovalRequest, ApproverDecision, Evidence
from ostiary_gateway.approvals.request import Action, draft
from ostiary_policy.decision import Action as Decided
from ostiary_policy.decision import Approval, Decision, Matched, RuleRef
from ostiary_policy.facts import SubjectFacts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULE = RuleRef("default", "ask", "big", "r1")


def decision(rule: RuleRef = RULE, **terms: object) -> Decision:
    values: dict[str, object] = {
        "groups": ("dba",), "min_approvals": 1, "pending_ttl": 900.0, "grant_ttl": 600.0, "scope": "ExactRequest",
        "wait": 0.0, **terms,
    }  # fmt: skip
    matched = (Matched(rule, "RequireApproval", True, 0),)
    return Decision(Decided.REQUIRE_APPROVAL, rule, "ask", approval=Approval(**values), matched=matched)  # type: ignore[arg-type]


def action(text: str = "update orders", *parameters: object, facts: dict[str, object] | None = None) -> Action:
    return Action("Postgres", {"text": text}, list(parameters), text, facts or {})


def write(diff: str = "-  replicas: 3\n+  replicas: 50") -> Action:
    """Of a Deployment, through the Kubernetes API."""
    title = "Deployment shop/web: spec.replicas 3 → 50"
    summary = f"{title}\nPATCH /apis/apps/v1/namespaces/shop/deployments/web"
    facts = {"k8s": {"verb": "patch", "resource": "deployments", "namespace": "shop", "name": "web", "subresource": ""}}
    return Action("Kubernetes", {"path": "…"}, None, summary, facts, Evidence(type="Diff", text=diff), title=title)


def question(
    name: str = "apr-1", text: str = "update orders", who: SubjectFacts | None = None, now: datetime = NOON,
    **terms: object,
) -> ApprovalRequest:  # fmt: skip
    return draft(
        action(text), name=name, connection=connection(), subject=who or subject("agent"), session="s1",
        decision=decision(**terms), now=now,  # type: ignore[arg-type]
    )  # fmt: skip


def says(approver: str, verdict: str = "Approve", reason: str = "") -> ApproverDecision:
    return ApproverDecision.model_validate({"approver": approver, "verdict": verdict, "reason": reason})
