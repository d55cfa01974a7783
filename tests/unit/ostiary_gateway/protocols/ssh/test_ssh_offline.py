"""Requests over SSH in the tests of policies: their facts without a target."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from pydantic import ValidationError
from support.policies import bundle, policy, rule
from support.ssh_desk import connection

from ostiary_api.cases import SSHTest
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.protocols.ssh import facts as made
from ostiary_gateway.protocols.ssh.commands import command_facts
from ostiary_gateway.protocols.ssh.offline import offline_facts
from ostiary_policy.bundle import Bundle
from ostiary_policy.facts import CommandFacts, SshFacts

CASES: list[dict[str, Any]] = [
    {"command": "uptime"},
    {"kind": "shell"},
    {"kind": "subsystem", "command": "netconf"},
    {"kind": "sftp", "operation": "session"},
    {"kind": "sftp", "operation": "read", "path": "/etc/hosts"},
    {"kind": "sftp", "operation": "rename", "path": "/a", "target": "/b"},
    {"kind": "sftp", "operation": "fsync@openssh.com"},
    {"kind": "scp", "operation": "session"},
    {"kind": "scp", "operation": "write", "path": "/srv/a", "size": 5},
    {"kind": "forward", "destination": {"host": "db", "port": 5432}},
    {"kind": "forward", "direction": "remote", "destination": {"port": 0}},
    {"kind": "forward", "destination": {"path": "/run/docker.sock"}},
    {"kind": "agent"},
    {"kind": "x11"},
    {"kind": "env", "name": "LANG", "value": "C"},
]


def of(**case: Any) -> SshFacts:
    return offline_facts(SSHTest.model_validate(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_kind_has_every_fact(case: dict[str, Any]) -> None:
    found = of(**case)
    declared = set(get_type_hints(SshFacts))
    if case.get("kind") == "scp" and case["operation"] != "session":
        declared -= {"realPath", "realTarget"}  # nobody can be asked where its paths lead
    assert set(found) == declared, "also the costly ones: nothing is asked here"
    assert found["kind"] == case.get("kind", "exec")
    assert found["user"] == "agent"


def test_commands_have_the_facts_that_are_declared() -> None:
    (found,) = command_facts("ls -l").facts() or [None]
    if found is not None:
        assert set(found) == set(get_type_hints(CommandFacts))


def test_where_a_path_leads_is_the_path_unless_the_test_says_otherwise() -> None:
    found = of(kind="sftp", operation="read", path="/srv/a")
    assert (found["realPath"], found["realTarget"]) == ("/srv/a", "")
    found = of(kind="sftp", operation="rename", path="/srv/a", target="/b", realPath="/etc/a", realTarget="/c")
    assert (found["realPath"], found["realTarget"]) == ("/etc/a", "/c")
    assert of(kind="sftp", operation="symlink", path="/srv/a", target="/b")["realTarget"] == ""
    assert of(command="ls")["realPath"] == ""


@pytest.mark.parametrize(
    ("says", "case"),
    [
        ("shell has no command", {"kind": "shell", "command": "ls"}),
        ("exec has no path", {"command": "ls", "path": "/a"}),
        ("sftp has no size", {"kind": "sftp", "operation": "write", "path": "/a", "size": 1}),
        ("say what sftp does", {"kind": "sftp", "path": "/a"}),
        ("say its path", {"kind": "sftp", "operation": "read"}),
        ("say target", {"kind": "sftp", "operation": "rename", "path": "/a"}),
        ("has no second path", {"kind": "sftp", "operation": "read", "path": "/a", "target": "/b"}),
        ("leave out path", {"kind": "sftp", "operation": "session", "path": "/a"}),
        ("scp does", {"kind": "scp", "operation": "rename", "path": "/a"}),
        ("say where", {"kind": "forward"}),
        ("a host and a port", {"kind": "forward", "destination": {"host": "db"}}),
        ("a path, or a host", {"kind": "forward", "destination": {"host": "db", "path": "/x"}}),
        ("say the variable's name", {"kind": "env", "value": "x"}),
        ("say the subsystem's name", {"kind": "subsystem"}),
        ("of the kind sftp", {"kind": "subsystem", "command": "sftp"}),
    ],
)
def test_what_no_request_can_be_is_said(says: str, case: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=says):
        of(**case)


def test_a_field_that_is_no_fact_is_refused() -> None:
    with pytest.raises(ValidationError):
        of(kind="exec", cmd="ls")


def test_what_is_asked_in_earnest_has_the_same_facts() -> None:
    earnest = made.whole(made.exec_question(b"ls -l", pty=True, env={"A": "b"}), "agent")
    assert earnest == of(command="ls -l", pty=True, env={"A": "b"})
    earnest = made.whole(made.forward_question("local", host="db", port=1), "agent")
    assert earnest == of(kind="forward", destination={"host": "db", "port": 1})
    earnest = made.whole(made.file_question("sftp", "read", "/a"), "agent")
    assert {**earnest, "realPath": "/a", "realTarget": ""} == of(kind="sftp", operation="read", path="/a")


def with_tests(*tests: dict[str, Any]) -> Bundle:
    rules = (
        rule("shells", "Deny", "ssh.kind == 'shell'"),
        rule("etc", "Deny", "ssh.kind == 'sftp' && ssh.realPath.startsWith('/etc/')"),
        rule("restarts", "RequireApproval", "ssh.command.startsWith('systemctl ')"),
        rule("reads", "Allow", "ssh.readOnly || ssh.command == 'uptime'"),
        rule("cards", "Mask", "true", masking=[{"detector": "CreditCard"}]),
    )
    guard = policy("guard", *rules, match={"protocols": ["SSH"]}, tests=list(tests))
    return bundle(guard, connections=[connection()], fact_sources=fact_sources())


def test_policies_bring_their_tests_along() -> None:
    found = with_tests(
        {"name": "no shell", "ssh": {"kind": "shell"}, "expect": "Deny", "rule": "shells"},
        {"name": "asked", "ssh": {"command": "systemctl restart web"}, "expect": "RequireApproval"},
        {"name": "read", "ssh": {"kind": "sftp", "operation": "read", "path": "/srv/a"}, "expect": "Allow"},
        {"name": "etc", "ssh": {"kind": "sftp", "operation": "read", "path": "/etc/a"}, "expect": "Deny"},
        {
            "name": "a link", "expect": "Deny",
            "ssh": {"kind": "sftp", "operation": "read", "path": "/srv/a", "realPath": "/etc/a"},
        },
        {"name": "masked", "ssh": {"command": "uptime"}, "expect": "Allow", "masks": ["CreditCard"]},
    )  # fmt: skip
    assert not found.problems


def test_a_test_that_does_not_hold_is_a_problem() -> None:
    found = with_tests({"name": "wrong", "ssh": {"kind": "shell"}, "expect": "Allow"})
    assert ["expect" in problem.message or "Deny" in problem.message for problem in found.problems] == [True]
    found = with_tests({"name": "wrong", "ssh": {"kind": "forward"}, "expect": "Allow"})
    assert "destination" in found.problems[0].message
