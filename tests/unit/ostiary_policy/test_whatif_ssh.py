"""What an agent is told that its request over SSH could be instead."""

from __future__ import annotations

from typing import Any

from support.policies import CLIENT, NOON, bound, bundle, facts, policy, rule, statement, subject
from support.ssh_desk import connection

from ostiary_api.cases import SSHTest
from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.protocols.ssh.offline import offline_facts
from ostiary_policy.answer import Answer, Reason
from ostiary_policy.answer_size import line
from ostiary_policy.answering import answer
from ostiary_policy.decision import Decision

GUARD = policy(
    "guard",
    rule("force", "Deny", "ssh.commands.exists(c, '-f' in c.flags)", message="Without force."),
    rule("root", "Deny", "ssh.commands.exists(c, c.runAs == 'root')"),
    rule("out", "Deny", "ssh.commands.exists(c, c.redirects.exists(r, r.startsWith('/etc/')))"),
    rule("preload", "Deny", "'LD_PRELOAD' in ssh.env"),
    rule("typing", "Deny", "ssh.kind == 'exec' && ssh.pty"),
    rule("large", "RequireApproval", "ssh.kind == 'scp' && ssh.size > 1000"),
    rule("opaque", "Deny", "ssh.kind == 'exec' && ssh.opaque"),
    rule("safe", "Allow", "ssh.kind == 'exec' && ssh.commands.all(c, c.program in ['ls', 'git'])"),
    rule("files", "Allow", "ssh.kind == 'sftp' && ssh.readOnly || ssh.kind == 'scp'"),
    match={"protocols": ["SSH"]},
)


def command(program: str, *arguments: str, **more: Any) -> dict[str, Any]:
    return {
        "program": program, "path": program, "argv": [program, *arguments], "exact": True,
        "flags": [each for each in arguments if each.startswith("-")], "assignments": [], "inputs": [],
        "redirects": [], "substitutions": [], "via": [], "runAs": "", **more,
    }  # fmt: skip


def ask(*commands: dict[str, Any], of: GatewayPolicy = GUARD, opaque: bool = False, **case: Any) -> Answer:
    policies = bound(bundle(of, connections=[connection()]), "web").for_subject(subject(), CLIENT)
    found: dict[str, Any] = dict(offline_facts(SSHTest.model_validate(case)))
    if case.get("kind", "exec") == "exec":
        found |= {"command": "…", "commands": list(commands), "opaque": opaque, "opaqueReason": "eval"[: 4 * opaque]}
    given = {"request": facts(statement("SELECT"))["request"], "ssh": found}
    decision = policies.decide(given, NOON, final=True)
    assert isinstance(decision, Decision)
    reply = answer(decision, policies, given, NOON)
    assert Answer.model_validate_json(line(reply)).decision == decision.action
    return reply


def changes(reply: Answer) -> list[dict[str, Any]]:
    return [
        change.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"value"})
        for change in reply.allowed.changes
    ]


def test_without_a_flag() -> None:
    assert changes(ask(command("git", "push", "-f"))) == [
        {"fact": "ssh.commands[0].flags", "without": "-f", "then": "Allow"}
    ]


def test_without_one_of_the_commands() -> None:
    assert changes(ask(command("ls"), command("rm", "x"))) == [
        {"fact": "ssh.commands", "without": "rm", "then": "Allow"}
    ]


def test_without_a_redirection_root_a_variable_or_a_terminal() -> None:
    assert changes(ask(command("ls", redirects=["/etc/x"])))[0]["fact"] == "ssh.commands[0].redirects"
    assert changes(ask(command("ls", via=["sudo"], runAs="root")))[0] == {
        "fact": "ssh.commands[0].runAs", "without": "root", "then": "Allow",
    }  # fmt: skip
    assert changes(ask(command("ls"), env={"LD_PRELOAD": "x"})) == [
        {"fact": "ssh.env", "without": "LD_PRELOAD", "then": "Allow"}
    ]
    assert changes(ask(command("ls"), pty=True)) == [{"fact": "ssh.pty", "equals": False, "then": "Allow"}]


def test_what_is_opaque_might_be_written_otherwise() -> None:
    assert changes(ask(command("ls"), opaque=True)) == [{"fact": "ssh.opaque", "equals": False, "then": "Allow"}]


def test_a_file_that_is_written_could_be_read() -> None:
    reply = ask(kind="sftp", operation="write", path="/srv/a")
    assert changes(reply) == [{"fact": "ssh.readOnly", "equals": True, "then": "Allow"}]
    assert reply.reason is Reason.NO_RULE


def test_a_file_could_be_smaller() -> None:
    reply = ask(kind="scp", operation="write", path="/srv/a", size=5000)
    assert {"fact": "ssh.size", "atMost": 1000, "then": "Allow"} in changes(reply)


def test_kinds_that_nothing_allows_name_no_change_and_do_not_fail() -> None:
    for case in (
        {"kind": "shell"}, {"kind": "agent"}, {"kind": "x11"}, {"kind": "env", "name": "A", "value": "b"},
        {"kind": "subsystem", "command": "netconf"}, {"kind": "forward", "destination": {"host": "db", "port": 1}},
    ):  # fmt: skip
        reply = ask(of=policy("none", rule("r", "Allow", "ssh.user == 'x'")), **case)
        assert reply.decision == "Deny"
        assert reply.allowed.changes == ()
