"""`ostiary replay` on what real gateways recorded: the same policies change nothing, others what they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from support import ssh_gateway as gateways
from support import sshd as servers
from support.gateway import Gateway, Manifest, StartGateway, policy, run_ostiary
from support.servers import Server
from support.ssh_pairs import through

READS = {"name": "reads", "action": "Allow", "expression": "sql.statements.all(s, s.readOnly)"}
VERBS = "s.verb in ['INSERT', 'UPDATE', 'CREATE']"
WRITES = {"name": "writes", "action": "Allow", "expression": f"sql.statements.all(s, {VERBS})"}
STAR = "sql.statements.exists(s, s.relations.exists(r, '*' in r.columns))"
TRIAL = policy("trial", [{"name": "no-star", "action": "Deny", "expression": STAR}], enforcement="Audit")


def candidate(directory: Path, *policies: Manifest) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "policies.yaml").write_text(yaml.safe_dump_all(policies))
    return directory


def replayed(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.run("replay", *arguments, "--json"))
    return found


@pytest.fixture(scope="module")
def gateway(pg18: Server, start_gateway: StartGateway) -> Gateway:
    """Statements of many kinds, simple, prepared, in transactions, allowed and denied."""
    gateway = start_gateway(pg18, policy("app", [READS, WRITES]), TRIAL)
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute("create table replayed (id int primary key, note text)")
        for number in range(5):
            agent.execute("insert into replayed values (%s, %s)", (number, "a note"), prepare=True)
            agent.execute(f"select note from replayed where id = {number}")
        agent.execute("select * from replayed")
        with agent.transaction():
            agent.execute("update replayed set note = 'b' where id = 1")
        for denied in ("delete from replayed", "drop table replayed"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                agent.execute(denied)
        with pytest.raises(psycopg.errors.UndefinedTable):
            agent.execute("select * from nowhere")
    return gateway


def test_the_policies_that_were_in_force_change_nothing(gateway: Gateway) -> None:
    report = replayed(gateway, "--policy", str(gateway.manifests))
    assert report["changes"] == []
    assert report["undecided"] == []
    assert report["requests"] == report["same"] >= 14
    assert (report["complete"], report["elsewhere"], report["outside"]) == (True, {}, 0)


def test_a_stricter_policy_lists_what_it_would_refuse(gateway: Gateway, tmp_path: Path) -> None:
    new = candidate(tmp_path / "new", policy("app", [READS]))
    report = replayed(gateway, "--policy", str(new), "--base", str(gateway.manifests))
    (change,) = report["changes"]
    assert change["before"]["rule"] == "default/app#writes"
    assert change["after"]["action"] == "Deny"
    assert change["requests"] == 7
    assert change["usernames"] == {"planner": 7}
    shown = gateway.run("replay", "--policy", str(new), "--base", str(gateway.manifests))
    assert "7 would be decided otherwise" in shown
    assert "Allow default/app#writes  →  Deny by no rule" in shown
    assert change["examples"][0]["request"] in shown


def test_an_audit_rule_that_would_be_enforced(gateway: Gateway, tmp_path: Path) -> None:
    """What was recorded of it in Audit is what enforcing it then changes."""
    enforced = {**TRIAL, "spec": {**TRIAL["spec"], "enforcement": "Enforce"}}  # type: ignore[dict-item]
    now = replayed(gateway, "--policy", str(gateway.manifests))["audit"]
    new = candidate(tmp_path / "new", policy("app", [READS, WRITES]), enforced)
    report = replayed(gateway, "--policy", str(new), "--base", str(gateway.manifests))
    (audited,) = now
    assert (audited["rule"], audited["action"]) == ("default/trial#no-star", "Deny")
    assert audited["then"] == audited["requests"] > 2, "the facts are those that the gateway had"
    assert {each["after"]["rule"] for each in report["changes"]} == {"default/trial#no-star"}
    allowed = [each for each in report["changes"] if each["before"]["action"] == "Allow"]
    assert allowed == report["changes"], "what is denied anyway is no change"
    assert sum(each["requests"] for each in allowed) == audited["then"] - 2, "but for delete and drop"


def test_a_store_tells_the_same_as_the_record_that_it_took_in(gateway: Gateway, tmp_path: Path) -> None:
    gateway.run("search", "replayed")  # reads the record into the store beside it
    new = candidate(tmp_path / "new", policy("app", [READS]))
    arguments = ("--policy", str(new), "--base", str(gateway.manifests), "--json")
    stored = run_ostiary("replay", "--store", f"sqlite:{gateway.data / 'store.db'}", *arguments)
    assert json.loads(stored) == replayed(gateway, *arguments[:-1])


def test_one_session_by_the_beginning_of_its_id_and_the_exit_code(gateway: Gateway, tmp_path: Path) -> None:
    session = json.loads(gateway.run("sessions", "--json").splitlines()[0])["id"]
    new = candidate(tmp_path / "new", policy("app", [READS]))
    arguments = ("replay", session, "--policy", str(new), "--base", str(gateway.manifests))
    assert "of 1 session," in gateway.run(*arguments)
    with pytest.raises(AssertionError, match="→ 1"):
        gateway.run(*arguments, "--exit-code")
    gateway.run("replay", session, "--policy", str(gateway.manifests), "--exit-code")
    assert "there is no session" in gateway.run("replay", "zz", "--policy", str(gateway.manifests), check=False)


def test_what_is_wrong_with_the_candidate_is_said_at_its_place(gateway: Gateway, tmp_path: Path) -> None:
    broken = candidate(tmp_path / "new", policy("app", [{**READS, "expression": "sql.statement"}]))
    said = gateway.run("replay", "--policy", str(broken), "--base", str(gateway.manifests), check=False)
    assert "policies.yaml:" in said
    assert "statement" in said
    alone = candidate(tmp_path / "alone", policy("app", [READS]))
    assert "--base PATH" in gateway.run("replay", "--policy", str(alone), check=False)


def test_sessions_over_ssh(tmp_path: Path) -> None:
    with servers.sshd() as target, gateways.ssh_gateway(target) as gateway:
        agent = through(gateway, tmp_path)
        for command in ("uptime", "echo $HOME | wc -c", "rm -rf /tmp/nothing-of-that-name", "sh -c 'ls / | head -1'"):
            done = agent.ssh("target", command)
            assert done.code == 0, done.said
        report = replayed(gateway, "--policy", str(gateway.manifests))
        assert report["changes"] == []
        assert report["requests"] == report["same"] == 4
        rules = [
            gateways.rule("no-rm", "ssh.commands.exists(c, c.program == 'rm')", "Deny"),
            gateways.rule("opaque", "ssh.opaque", "Deny"),
            gateways.rule("rest"),
        ]
        new = candidate(tmp_path / "new", gateways.policy("allow-all", *rules))
        report = replayed(gateway, "--policy", str(new), "--base", str(gateway.manifests))
        assert {each["after"]["rule"]: each["requests"] for each in report["changes"]} == {"default/allow-all#no-rm": 1}


def test_help_says_what_it_does_not_do() -> None:
    assert "Nothing is contacted and nothing runs" in run_ostiary("replay", "--help")
