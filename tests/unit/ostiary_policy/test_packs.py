"""The policy packs: accepted as they are, their own cases hold, and together the strictest decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.gateway import ALLOW_ALL
from support.packs import ALLOWING, NAMES, PACKS, lets_through, pack
from support.policies import CLIENT, NOON, bound, bundle, connection, subject

from ostiary_api.policy import GatewayPolicy
from ostiary_cli.main import cli
from ostiary_gateway.protocols.postgres.offline import sql_facts
from ostiary_policy.decision import Decision

CASES = [(name, sql) for name in NAMES for sql in lets_through(name)]
GUARD = "default/no-destructive-ddl"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, arguments, prog_name="ostiary")
    return result.exit_code, result.output


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_is_accepted_and_its_cases_hold(name: str) -> None:
    code, output = run("lint", str(PACKS / name))
    assert code == 0, output
    code, output = run("test", "--json", str(PACKS / name))
    assert code == 0, output
    found = json.loads(output)
    assert len(found) >= 12
    assert all(case["passed"] for case in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_is_written_for_agents_and_their_platform(name: str) -> None:
    spec = pack(name)["spec"]
    assert spec["match"]["connectionSelector"]["matchLabels"] == {f"packs.ostiary.dev/{name}": "enabled"}
    for rule in spec["rules"]:
        if rule["action"] in ("Deny", "RequireApproval"):
            assert rule["message"]
            assert rule["hint"]
    if "Mask" not in {rule["action"] for rule in spec["rules"]}:
        assert any("s.opaque" in rule.get("expression", "") for rule in spec["rules"] if rule["action"] == "Deny")
    allows = any(rule["action"] == "Allow" for rule in spec["rules"])
    assert allows == (name in ALLOWING)
    readme = (PACKS / name / "README.md").read_text()
    for heading in ("## What it stops", "## What it lets through", "## How to tune it", "## Known limits"):
        assert heading in readme
    assert len(readme.splitlines()) <= 80


def decide(sql: str, *packs: str, estimated: int = 1) -> Decision:
    """What comes out of packs at one Connection, beside a policy that allows everything unless one of them allows."""
    manifests: list[Any] = [pack(name) for name in packs]
    if not set(packs) & set(ALLOWING):
        manifests.append(ALLOW_ALL)
    policies = [GatewayPolicy.model_validate(manifest) for manifest in manifests]
    labels = {f"packs.ostiary.dev/{name}": "enabled" for name in packs}
    who = subject("planner", "agents")
    built = bundle(*policies, connections=[connection("db", "default", **labels)])
    found = bound(built, "db", "default").for_subject(who, CLIENT)
    request = {
        "time": "2026-01-01T12:00:00Z",
        "connection": dict(found.connection),
        "subject": dict(who),
        "client": dict(CLIENT),
        "session": {
            "id": "s",
            "startedAt": "2026-01-01T12:00:00Z",
            "requests": 0,
            "rowsRead": 0,
            "bytesRead": 0,
            "rowsWritten": 0,
        },
    }
    facts = {**sql_facts(sql, database="shop", user="app"), "estimatedRows": estimated}
    decided = found.decide({"request": request, "sql": facts}, NOON, final=True)
    assert isinstance(decided, Decision)
    return decided


@pytest.mark.parametrize(("name", "sql"), CASES, ids=[f"{name}: {sql[:50]}" for name, sql in CASES])
def test_what_a_pack_says_it_lets_through_it_does(name: str, sql: str) -> None:
    decision = decide(sql, name)
    assert (decision.action, decision.message) == ("Allow", "Allowed by rule default/allow-all#everything.")


COMBINED = [
    ("select * from orders", 1, "Allow", "work"),
    ("update orders set status = 'paid' where id = 7", 1, "Allow", "work"),
    ("update orders set status = 'paid' where id > 7", 5000, "RequireApproval", "large-writes"),
    ("update orders set status = 'paid'", 5000, "Deny", "bounded-changes"),
    ("delete from orders where 1 = 1", 1, "Deny", "bounded-changes"),
    ("drop table orders", 1, "Deny", "no-drop"),
    ("copy orders to '/tmp/x'", 1, "Deny", "no-files-and-programs"),
    ("copy orders to program 'sh'", 1, "Deny", None),
    ("select pg_read_file('x') from orders", 1, "Deny", "no-server-functions"),
    ("create rule r as on insert to orders do instead nothing", 1, "Deny", None),
    ("create table t (a int)", 1, "Deny", None),
]


@pytest.mark.parametrize(("sql", "rows", "action", "rule"), COMBINED, ids=[case[0] for case in COMBINED])
def test_together_the_strictest_decides_and_masks_add_up(sql: str, rows: int, action: str, rule: str | None) -> None:
    everything = [name for name in NAMES if name != "read-only-agents"]
    decision = decide(sql, *everything, estimated=rows)
    assert decision.action == action
    if rule is not None:
        assert decision.rule is not None
        assert decision.rule.rule == rule
    detectors = {mask.detector for mask in decision.masks.detectors}
    assert {"CreditCard", "Email", "Phone", "IBAN"} <= detectors


def test_a_read_only_pack_outvotes_one_that_allows_writes() -> None:
    decision = decide("update orders set status = 'paid' where id = 7", "approve-large-writes", "read-only-agents")
    assert decision.rule is not None
    assert (decision.action, decision.rule.rule) == ("Deny", "only-reads")


def test_all_packs_are_served_together(tmp_path: Path) -> None:
    code, output = run("lint", str(PACKS))
    assert code == 0, output
    assert "2 Connections, 19 policies: all is well" in output
