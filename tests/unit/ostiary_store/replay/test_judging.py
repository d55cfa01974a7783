"""Recorded requests decided again: what changes, what stays, and what nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ostiary_gateway.feed.loading import Loaded
from ostiary_policy.bundle import Bundle
from ostiary_store.replay.candidate import compile_candidate
from ostiary_store.replay.judging import Replay
from ostiary_store.replay.recorded import Recorded
from ostiary_store.replay.report import Change, Verdict

CONNECTIONS = """
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: app, namespace: shop}
spec:
  protocol: Postgres
  upstream: {host: db, tls: {mode: Disable}}
  credentials: {static: {secretRef: {name: db}}}
  listener: {port: 6432}
---
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: api, namespace: shop}
spec:
  protocol: Kubernetes
  credentials: {serviceAccountToken: {name: planner}}
  listener: {port: 6443}
---
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: web, namespace: shop}
spec:
  protocol: SSH
  upstream: {host: web, hostKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6nlPnYTLLXQHqBXBPFJ5dFqNZlzdoVAHzTbqFGlRo9"]}
  credentials: {static: {secretRef: {name: web}}}
  listener: {port: 2222}
"""


def policy(name: str, *rules: str, more: str = "") -> str:
    lines = "\n".join(f"  - {{{rule}}}" for rule in rules)
    head = f"apiVersion: ostiary.dev/v1alpha1\nkind: GatewayPolicy\nmetadata: {{name: {name}, namespace: shop}}\n"
    return f"{head}spec:\n  match: {{}}\n{more}  rules:\n{lines}\n"


def bundle(*policies: str) -> Bundle:
    found = compile_candidate({"new.yaml": "---\n".join(policies)}, {"base.yaml": CONNECTIONS})
    assert isinstance(found, Loaded), found
    assert not found.problems
    return found.bundle


ALL = policy("old", "name: all, action: Allow, expression: 'true'")
REST = "name: rest, action: Allow, expression: 'true'"
SUBJECT = {
    "username": "planner", "uid": "7", "groups": ["agents"], "kind": "User", "namespace": "", "name": "planner",
    "claims": {}, "onBehalfOf": "",
}  # fmt: skip
ALLOWED = {"action": "Allow", "rule": {"namespace": "shop", "policy": "old", "rule": "all"}, "message": "Allowed."}
THEN = Verdict("Allow", "shop/old#all")


def recorded(
    text: str, detail: Mapping[str, object] | None = None, *, protocol: str = "Postgres",
    decision: Mapping[str, object] = ALLOWED, number: int = 1, session: str = "01m83by641k1rsvnhked",
) -> Recorded:  # fmt: skip
    name = {"Postgres": "app", "Kubernetes": "api", "SSH": "web"}[protocol]
    opening = {
        "Postgres": {"database": "shop", "upstreamUser": "app"}, "Kubernetes": {}, "SSH": {"login": "deploy"},
    }[protocol]  # fmt: skip
    return Recorded(
        f"{session}-{number}", 1_790_000_000.0 + number, f"shop/{name}", protocol, SUBJECT,
        {"address": "10.0.0.7", "application": "psql"}, opening, 1_790_000_000.0, text, detail or {}, decision,
    )  # fmt: skip


def play(candidate: Bundle, *requests: Recorded, base: Bundle | None = None) -> Replay:
    replay = Replay(candidate, base)
    for each in requests:
        replay.add(each)
    return replay


def test_a_new_deny_rule_is_told_with_its_words_and_its_counts() -> None:
    candidate = bundle(
        policy(
            "careful", "name: no-drop, action: Deny, message: 'Nothing is dropped here.', "
            "expression: 'sql.statements.exists(s, s.verb == \"DROP\")'",
            REST,
        )
    )  # fmt: skip
    texts = ("drop table orders", "DROP TABLE customers", "select 1")
    report = play(candidate, *(recorded(text, number=at) for at, text in enumerate(texts, 1))).report
    change = Change(THEN, Verdict("Deny", "shop/careful#no-drop"))
    assert (report.requests, report.same, report.changes) == (3, 1, 2)
    group = report.changed[change]
    assert group.requests == 2
    assert group.usernames == {"planner": 2}
    assert [(each.text, each.message) for each in group.examples] == [
        ("drop table orders", "Nothing is dropped here. (rule shop/careful#no-drop)"),
        ("DROP TABLE customers", "Nothing is dropped here. (rule shop/careful#no-drop)"),
    ]  # fmt: skip


def test_what_is_let_through_by_the_new_policies_comes_first() -> None:
    candidate = bundle(policy("open", "name: reads, action: Allow, expression: 'sql.statements.all(s, s.readOnly)'"))
    refused = {"action": "Deny", "rule": None, "message": "No rule allows this. Policies in force: old."}
    many = [recorded("delete from orders", number=each) for each in range(1, 6)]
    report = play(candidate, *many, recorded("select * from orders", decision=refused, number=9)).report
    assert [(change.after.action, group.requests) for change, group in report.by_size()] == [("Allow", 1), ("Deny", 5)]


@pytest.mark.parametrize("protocol", ["Postgres", "Kubernetes", "SSH"])
def test_the_same_policies_change_nothing(protocol: str) -> None:
    candidate = bundle(ALL)
    texts = {
        "Postgres": [("select 1", {}), ("update t set a = $1", {"statement": "s", "parameters": ["4"]})],
        "Kubernetes": [("GET /api/v1/namespaces/shop/pods", {"verb": "list"}),
                       ("DELETE /api/v1/namespaces/shop/pods/web-1", {"verb": "delete"})],
        "SSH": [("uptime", {"kind": "exec"}),
                ("sftp read /etc/hosts", {"kind": "sftp", "operation": "read", "path": "/etc/hosts"}),
                ("forward local db:5432", {"kind": "forward", "direction": "local", "destination": "db:5432"}),
                ("shell", {"kind": "shell", "pty": True}), ("subsystem netconf", {"kind": "subsystem"})],
    }[protocol]  # fmt: skip
    told = (recorded(text, detail, protocol=protocol, number=at) for at, (text, detail) in enumerate(texts, 1))
    report = play(candidate, *told).report
    assert (report.same, report.changes, report.undecided) == (len(texts), 0, {})


def test_literals_of_one_statement_are_decided_once_and_rules_that_read_them_are_asked_each_time() -> None:
    texts = [f"select * from orders where id = {each}" for each in range(50)]
    tables = "sql.statements[0].relations.size() > 0"
    shape = bundle(policy("shape", f"name: no-orders, action: Deny, expression: '{tables}'"))
    assert play(shape, *map(recorded, texts)).report.changes == 50
    literal = bundle(
        policy("literal", "name: one, action: Deny, expression: 'sql.text.endsWith(\" 7\")'",
               REST)
    )  # fmt: skip
    report = play(literal, *map(recorded, texts)).report
    ((change, group),) = report.changed.items()
    assert change == Change(THEN, Verdict("Deny", "shop/literal#one"))
    assert [each.text for each in group.examples] == [texts[7]]
    assert report.changes == 1


def test_what_the_record_does_not_have_is_not_guessed() -> None:
    candidate = bundle(
        policy("big", "name: big-reads, action: Deny, expression: 'sql.estimatedRows > 1000'",
               REST)
    )  # fmt: skip
    report = play(candidate, recorded("select * from orders")).report
    assert (report.changes, report.same) == (0, 0)
    assert {why: group.requests for why, group in report.undecided.items()} == {
        "a rule reads sql.estimatedRows, which the record does not have": 1
    }
    report = play(candidate, recorded("select * from orders", {"estimatedRows": 5000})).report
    assert (report.changes, report.undecided) == (1, {}), "a gateway whose policies read it has recorded it"


def test_scaling_is_decided_only_as_far_as_the_record_tells() -> None:
    large = 'k8s.subresource == "scale" && k8s.object.spec.replicas > 5'
    candidate = bundle(policy("scale", f"name: large, action: Deny, expression: '{large}'", REST))
    detail: dict[str, object] = {"verb": "patch", "body": {"spec": {"replicas": 9}}}
    patch = recorded("PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale", detail, protocol="Kubernetes")
    assert list(play(candidate, patch).report.undecided) == [
        "a rule reads k8s.object, which the record does not have"
    ]
    noted = {**detail, "facts": {"object": {"spec": {"replicas": 9}}, "oldObject": {}, "oldObjects": [], "affected": 1}}
    known = play(candidate, replace(patch, detail=noted)).report
    assert [change.after.rule for change in known.changed] == ["shop/scale#large"], "as it was recorded"
    detail = {"verb": "create", "body": {"kind": "Deployment", "spec": {"replicas": 9}}}
    create = recorded("POST /apis/apps/v1/namespaces/shop/deployments", detail, protocol="Kubernetes", number=2)
    large = 'k8s.verb == "create" && k8s.object.spec.replicas > 5'
    every = bundle(policy("size", f"name: large, action: Deny, expression: '{large}'", REST))
    ((_, group),) = play(every, create).report.changed.items()
    assert group.assumed == {"k8s.object": 1}, "what the API server fills in is not there, and it is said"


def test_what_the_gateway_refuses_by_itself_no_policy_changes() -> None:
    refused = {"action": "Deny", "rule": None, "message": "Impersonation headers are not taken from agents."}
    candidate = bundle(ALL)
    report = play(candidate, recorded("GET /api", {}, protocol="Kubernetes", decision=refused)).report
    assert (report.outside, report.changes) == (1, 0)


@pytest.mark.parametrize(
    "policies",
    [
        [],
        [policy("away", REST, more="  matchConditions: [{name: never, expression: 'false'}]\n")],
        [policy("none", "name: none, action: Allow, expression: 'false'")],
    ],
)
def test_a_denial_by_no_rule_is_one_that_policies_change(policies: list[str]) -> None:
    """The three ways in which nothing holds, each in the engine's own words."""
    now = bundle(*policies)
    ((change, group),) = play(now, recorded("select 1")).report.changed.items()
    assert change.after == Verdict("Deny", "")
    denied = {"action": "Deny", "rule": None, "message": group.examples[0].message}
    report = play(bundle(ALL), recorded("select 1", decision=denied)).report
    assert (report.changes, report.outside) == (1, 0), denied


def test_with_a_base_the_change_is_that_of_the_policies_alone() -> None:
    reads = policy("old", "name: reads, action: Allow, expression: 'sql.statements.all(s, s.readOnly)'")
    inserts = policy("more", "name: inserts, action: Allow, expression: 'sql.statements[0].verb == \"INSERT\"'")
    told = recorded("delete from a"), recorded("insert into a values (1)", number=2)
    report = play(bundle(reads, inserts), *told, base=bundle(reads)).report
    assert report.changed.keys() == {Change(Verdict("Deny", ""), Verdict("Allow", "shop/more#inserts"))}
    assert report.drifted == 2, "both were allowed then, and today's policies deny them"


def test_masks_that_come_and_go_are_changes() -> None:
    masked = {**ALLOWED, "masks": [{"detector": "creditCard", "strategy": "Partial"}]}
    candidate = bundle(ALL)
    report = play(candidate, recorded("select * from cards", decision=masked)).report
    ((change, _),) = report.changed.items()
    assert change.before.masks == ("detector creditCard: Partial",)
    assert change.after.masks == ()


def test_audit_rules_stand_beside_what_they_did_then() -> None:
    rule = {"namespace": "shop", "policy": "trial", "rule": "no-star"}
    then = {**ALLOWED, "matched": [{**rule, "action": "Deny", "enforced": False}]}
    selects = 'sql.statements[0].verb == "SELECT"'
    trial = policy(
        "trial", f"name: no-star, action: Deny, expression: '{selects}'", more="  enforcement: Audit\n"
    )  # fmt: skip
    candidate = bundle(ALL, trial)
    report = play(candidate, recorded("select 1", decision=then), recorded("select 2", number=2)).report
    ((key, group),) = report.audited()
    assert (key, group.requests, report.would_then[key]) == (("shop/trial#no-star", "Deny"), 2, 1)
    assert report.changes == 0


def test_a_connection_without_a_manifest_is_counted_not_judged() -> None:
    stranger = replace(recorded("select 1"), connection="other/db")
    report = play(bundle(ALL), stranger).report
    assert (report.elsewhere, report.changes, report.same) == ({"other/db": 1}, 0, 0)


@pytest.mark.parametrize(
    ("protocol", "text", "detail"),
    [
        ("Kubernetes", "GET /api/v1/" + "a" * 20 + "…", {}),
        ("Kubernetes", "BREW /coffee", {}),
        ("Kubernetes", "", {}),
        ("SSH", "echo " + "a" * 20 + "…", {"kind": "exec"}),
        ("SSH", "?", {}),
        ("SSH", "sftp frobnicate", {"kind": "sftp", "operation": "frobnicate", "path": 7}),
        ("Postgres", "select \0", {}),
        ("Postgres", "select from where '", {}),
    ],
)
def test_whatever_stands_in_the_record_nothing_breaks(protocol: str, text: str, detail: Mapping[str, object]) -> None:
    candidate = bundle(ALL)
    report = play(candidate, recorded(text, detail, protocol=protocol)).report
    assert report.requests == 1
    assert report.same + report.changes + sum(group.requests for group in report.undecided.values()) == 1
