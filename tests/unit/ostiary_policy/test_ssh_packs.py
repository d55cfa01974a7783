"""The packs for SSH: accepted as they are, their own cases hold, and what they let through they do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from support.packs import ALLOWING, PACKS, SSH, lets_requests_through, pack
from support.policies import CLIENT, NOON, bound, bundle, subject

from ostiary_api.cases import SSHTest
from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_cli.main import cli
from ostiary_gateway.protocols.ssh.offline import offline_facts
from ostiary_policy.decision import Decision

ALLOW_ALL = {
    "metadata": {"name": "allow-all"},
    "spec": {
        "match": {"protocols": ["SSH"]},
        "rules": [{"name": "everything", "action": "Allow", "expression": "true"}],
    },
}
CASES = [(name, case) for name in SSH for case in lets_requests_through(name)]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, arguments, prog_name="ostiary")
    return result.exit_code, result.output


def decide(case: dict[str, Any], *packs: str) -> Decision:
    """What comes out of packs at one Connection, beside a policy that allows everything unless one of them allows."""
    manifests: list[Any] = [pack(name) for name in packs]
    if not set(packs) & set(ALLOWING):
        manifests.append(ALLOW_ALL)
    policies = [GatewayPolicy.model_validate(manifest) for manifest in manifests]
    who = subject("planner", "agents")
    host = Connection.model_validate({
        "metadata": {
            "name": "host",
            "namespace": "default",
            "labels": {f"packs.ostiary.dev/{name}": "enabled" for name in packs},
        },
        "spec": {
            "protocol": "SSH",
            "upstream": {"host": "host.example", "hostKeys": ["ssh-ed25519 AAAA"]},
            "credentials": {"static": {"secretRef": {"name": "host"}}},
            "listener": {"port": 2222},
        },
    })  # fmt: skip
    found = bound(bundle(*policies, connections=[host]), "host", "default").for_subject(who, CLIENT)
    now = "2026-01-01T12:00:00Z"
    counts = dict.fromkeys(("requests", "rowsRead", "bytesRead", "rowsWritten"), 0)
    request = {
        "time": now,
        "connection": dict(found.connection),
        "subject": dict(who),
        "client": dict(CLIENT),
        "session": {"id": "s", "startedAt": now, **counts},
    }
    facts = offline_facts(SSHTest.model_validate(case))
    decided = found.decide({"request": request, "ssh": dict(facts)}, NOON, final=True)
    assert isinstance(decided, Decision)
    return decided


@pytest.mark.parametrize("name", SSH)
def test_a_pack_is_accepted_and_its_cases_hold(name: str) -> None:
    code, output = run("lint", str(PACKS / name))
    assert code == 0, output
    code, output = run("test", "--json", str(PACKS / name))
    assert code == 0, output
    found = json.loads(output)
    assert len(found) >= 15
    assert all(case["passed"] for case in found)


@pytest.mark.parametrize("name", SSH)
def test_a_pack_is_written_for_agents_and_their_platform(name: str) -> None:
    spec = pack(name)["spec"]
    assert spec["match"]["connectionSelector"]["matchLabels"] == {f"packs.ostiary.dev/{name}": "enabled"}
    assert spec["match"]["protocols"] == ["SSH"]
    for rule in spec["rules"]:
        if rule["action"] in ("Deny", "RequireApproval"):
            assert rule["message"]
            assert rule["hint"]
    assert any(rule["action"] == "Allow" for rule in spec["rules"]) == (name in ALLOWING)
    tested = {test.get("rule") for test in spec["tests"]}
    assert {rule["name"] for rule in spec["rules"] if rule["action"] != "Mask"} <= tested
    readme = (PACKS / name / "README.md").read_text()
    for heading in ("## What it stops", "## What it lets through", "## How to tune it", "## Known limits"):
        assert heading in readme
    assert len(readme.splitlines()) <= 80


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {str(case)[:70]}" for name, case in CASES])
def test_what_a_pack_says_it_lets_through_it_does(name: str, case: dict[str, Any]) -> None:
    decision = decide(case, name)
    allows = {rule["name"] for rule in pack(name)["spec"]["rules"] if rule["action"] == "Allow"}
    rules = [f"{name}#{rule}" for rule in allows] or ["allow-all#everything"]
    assert decision.action == "Allow", decision.message
    assert decision.message in [f"Allowed by rule default/{rule}." for rule in rules]


def exec(command: str, **more: Any) -> dict[str, Any]:
    return {"command": command, **more}


@pytest.mark.parametrize(
    ("case", "action", "rule"),
    [
        (exec("ls -la | grep x"), "Allow", "everything"),
        (exec("rm -rf /tmp/build"), "Allow", "everything"),
        (exec("sudo systemctl restart nginx"), "RequireApproval", "services"),
        (exec("sudo systemctl restart nginx; rm -rf /etc"), "Deny", "only-here"),
        (exec("eval $X"), "Deny", "no-opaque"),
        (exec("sudo reboot"), "Deny", "no-power"),
        ({"kind": "shell", "pty": True}, "Deny", "no-shell"),
        ({"kind": "agent"}, "Deny", "no-agent"),
    ],
    ids=str,
)
def test_together_the_strictest_decides_and_masks_add_up(case: dict[str, Any], action: str, rule: str) -> None:
    decision = decide(case, *(name for name in SSH if name not in ALLOWING))
    assert decision.rule is not None
    assert (decision.action, decision.rule.rule) == (action, rule), decision.message
    assert {"CreditCard", "Email", "PrivateKey"} <= {mask.detector for mask in decision.masks.detectors}
    assert decide(case, *SSH).action == "Deny"
