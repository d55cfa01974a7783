"""What is decided of each thing that is asked for over SSH, what the record keeps of it, and what the client hears."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.ssh_desk import HOST, USER, office, policy, rule

from ostiary_gateway.protocols.ssh import facts
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_policy.answer import Reason

CARD = {"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}}


def run(command: str, **more: object) -> Question:
    return facts.exec_question(command.encode(), **more)  # type: ignore[arg-type]


async def test_a_command_that_a_rule_allows_runs_and_is_recorded() -> None:
    async with office(policy("p", rule("uptime", "ssh.command == 'uptime'"))) as at:
        said = at.desk.decide(run("uptime"))
        assert isinstance(said, Admission), "nothing had to be waited for"
        assert said.allowed
        assert (said.number, said.lines) == (1, ())
        said.record(b"frames")
        said.end("ok", {"exitStatus": 0}, 12)
        (kept,) = at.record.requests
        assert (kept.text, kept.detail["kind"], kept.response) == ("uptime", "exec", b"frames")
        assert (kept.outcome, kept.ended) == ("ok", {"exitStatus": 0})
        said.end("lost", {}, 0)  # too late: it has ended


async def test_what_no_rule_allows_is_denied_with_a_line_for_agents() -> None:
    async with office(policy("p", rule("uptime", "ssh.command == 'uptime'"))) as at:
        said = await at.says(run("rm -rf /srv"))
        assert not said.allowed
        assert said.lines[0].startswith("No rule allows this. Policies in force: ")
        assert said.lines[0].endswith(f"[{said.request}]")
        answer = json.loads(said.lines[-1])
        assert (answer["decision"], answer["request"]) == ("Deny", said.request)
        (kept,) = at.record.requests
        assert kept.outcome == "denied"
        said.end("ok", {}, 0)  # nothing that was denied ends a second time


async def test_a_deny_rule_is_named_with_its_words_and_its_hint() -> None:
    never = rule("no-rm", "ssh.command.startsWith('rm ')", "Deny", message="Nothing is deleted.", hint="Move it.")
    async with office(policy("p", never, rule("rest"))) as at:
        said = await at.says(run("rm x"))
        assert said.stderr().decode().splitlines()[:2] == [
            f"ostiary: Nothing is deleted. (rule default/p#no-rm) [{said.request}]", "ostiary: Move it.",
        ]  # fmt: skip
        assert said.stderr(pty=True).endswith(b"\r\n")
        assert said.message == f"ostiary: Nothing is deleted. (rule default/p#no-rm) [{said.request}] Move it."
        assert json.loads(said.lines[-1])["rule"] == "no-rm"


async def test_nothing_that_is_told_can_steer_a_terminal() -> None:
    never = rule("p", "true", "Deny", messageExpression="'no: ' + ssh.command")
    async with office(policy("p", never)) as at:
        said = await at.says(run("echo \x1b[2J\nls"))
        assert "\x1b" not in said.stderr().decode()
        assert said.lines[0].startswith("no: echo \\x1b[2J ls")


@pytest.mark.parametrize(
    ("question", "text", "expression"),
    [
        (facts.shell_question(pty=True), "shell", "ssh.kind == 'shell' && ssh.pty && ssh.opaque"),
        (
            facts.subsystem_question(b"netconf"), "subsystem netconf",
            "ssh.kind == 'subsystem' && ssh.command == 'netconf' && ssh.opaque",
        ),
        (
            facts.subsystem_question(b"sftp"), "sftp session",
            "ssh.kind == 'sftp' && ssh.operation == 'session' && ssh.readOnly",
        ),
        (facts.scp_question(b"scp -t /srv"), "scp -t /srv", "ssh.kind == 'scp' && ssh.operation == 'session'"),
        (
            facts.file_question("sftp", "read", "/etc/hosts"), "sftp read /etc/hosts",
            "ssh.operation == 'read' && ssh.path == '/etc/hosts' && ssh.readOnly && ssh.user == 'deploy'",
        ),
        (
            facts.file_question("sftp", "rename", "/srv/a", target="/srv/b"), "sftp rename /srv/a → /srv/b",
            "ssh.target == '/srv/b' && !ssh.readOnly",
        ),
        (
            facts.forward_question("local", host="db", port=5432), "forward local db:5432",
            "ssh.direction == 'local' && ssh.destination.host == 'db' && ssh.destination.port == 5432",
        ),
        (
            facts.forward_question("remote", path="/run/x.sock"), "forward remote /run/x.sock",
            "ssh.destination.path == '/run/x.sock' && ssh.destination.port == 0",
        ),
        (facts.agent_question(), "agent forwarding", "ssh.kind == 'agent'"),
        (facts.x11_question(), "X11 forwarding", "ssh.kind == 'x11'"),
    ],
    ids=lambda value: value if isinstance(value, str) and not value.startswith("ssh.") else "",
)  # fmt: skip
async def test_each_kind_has_its_facts(question: Question, text: str, expression: str) -> None:
    async with office(policy("p", rule("this", expression))) as at:
        said = await at.says(question)
        assert said.allowed, said.lines
        assert [kept.text for kept in at.record.requests] == [text]


async def test_nothing_is_allowed_where_a_policy_does_not_say_so() -> None:
    only = rule("commands", "ssh.kind == 'exec'")
    questions = [
        facts.shell_question(pty=True), facts.subsystem_question(b"sftp"), facts.agent_question(), facts.x11_question(),
        facts.forward_question("local", host="db", port=1), facts.env_question(b"LANG", b"C"),
        facts.file_question("sftp", "read", "/etc/hosts"),
    ]  # fmt: skip
    async with office(policy("p", only)) as at:
        for question in questions:
            said = await at.says(question)
            assert not said.allowed, question.text


async def test_a_variable_of_the_environment_has_no_record_of_its_own() -> None:
    async with office(policy("p", rule("lang", "ssh.kind == 'env' && ssh.name == 'LANG'"))) as at:
        allowed = await at.says(facts.env_question(b"LANG", b"C.UTF-8"))
        refused = await at.says(facts.env_question(b"LD_PRELOAD", b"/tmp/x.so"))
        assert (allowed.allowed, refused.allowed) == (True, False)
        assert at.record.requests == []
        allowed.end("ok", {}, 0)


async def test_what_was_let_through_before_is_a_fact_of_the_command() -> None:
    async with office(policy("p", rule("lang", "ssh.env == {'LANG': 'C'}"))) as at:
        assert (await at.says(run("ls", env={"LANG": "C"}))).allowed
        assert not (await at.says(run("ls"))).allowed
        assert at.record.requests[0].detail["env"] == {"LANG": "C"}


async def test_what_only_looks_makes_no_record_unless_it_is_refused() -> None:
    async with office(policy("p", rule("srv", "ssh.path.startsWith('/srv/')"))) as at:
        assert (await at.says(facts.file_question("sftp", "stat", "/srv/a", quiet=True))).allowed
        assert at.record.requests == []
        assert not (await at.says(facts.file_question("sftp", "stat", "/etc/a", quiet=True))).allowed
        assert [kept.text for kept in at.record.requests] == ["sftp stat /etc/a"]


@pytest.mark.parametrize("command", [b"echo \xff", b"", b"  "])
async def test_what_is_no_text_or_empty_is_opaque(command: bytes) -> None:
    async with office(policy("p", rule("known", "!ssh.opaque"))) as at:
        assert not (await at.says(facts.exec_question(command))).allowed


async def test_a_command_with_nul_is_refused_whatever_is_allowed() -> None:
    async with office() as at:
        said = await at.says(facts.exec_question(b"ls\0rm"))
        assert not said.allowed
        assert "NUL" in said.lines[0]


@pytest.mark.parametrize(
    "question",
    [
        facts.file_question("scp", "write", "/a", size=2**64),
        facts.file_question("sftp", "read", "/\ud800"),
        facts.forward_question("local", host="a\0b", port=1),
    ],
    ids=["number", "surrogate", "nul"],
)
async def test_what_no_policy_can_read_is_refused(question: Question) -> None:
    async with office() as at:
        said = await at.says(question)
        assert not said.allowed
        assert said.lines[0].startswith("This request cannot be decided: ")


async def test_shells_need_a_recording() -> None:
    async with office(recording="Metadata") as at:
        shell = await at.says(facts.shell_question(pty=True))
        assert not shell.allowed
        assert "recorded" in shell.lines[0]
        assert at.record.requests[0].detail["refused"] == "recording"
        command = await at.says(run("ls"))
        assert command.allowed
        assert not command.keeps


# -- the record


async def test_nothing_runs_that_cannot_be_recorded() -> None:
    async with office(audit="Strict") as at:
        at.record.full = True
        said = await at.says(run("ls"))
        assert not said.allowed
        assert said.lines[0] == "Nothing may run now: the disk is full."
        assert json.loads(said.lines[-1])["reason"] == "Record"


async def test_strict_waits_until_the_record_is_durable() -> None:
    async with office(audit="Strict") as at:
        at.record.slow = True
        decided = at.desk.decide(run("ls"))
        assert not isinstance(decided, Admission)
        waiting = asyncio.ensure_future(decided)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        at.record.pending[0].tell("")
        assert (await waiting).allowed


async def test_strict_refuses_what_could_not_be_made_durable() -> None:
    async with office(audit="Strict") as at:
        at.record.slow = True
        waiting = asyncio.ensure_future(at.says(run("ls")))
        await asyncio.sleep(0.01)
        at.record.pending[0].tell("the disk is full")
        said = await waiting
        assert not said.allowed
        assert at.record.requests[0].outcome == "skipped"


async def test_who_leaves_while_it_is_written_has_run_nothing() -> None:
    async with office(audit="Strict") as at:
        at.record.slow = True
        waiting = asyncio.ensure_future(at.says(run("ls")))
        other = asyncio.ensure_future(at.says(run("uptime")))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert at.record.requests[0].outcome == "skipped"
        for pending in at.record.pending:
            pending.tell("")
        assert (await other).allowed


async def test_a_limit_is_refused_and_recorded_without_asking_a_policy() -> None:
    async with office() as at:
        said = at.desk.refuse(run("ls"), "limit", Reason.LIMIT, "There are too many channels.", "Close some.")
        assert said.lines[:2] == (f"There are too many channels. [{said.request}]", "Close some.")
        assert at.record.requests[0].detail["refused"] == "limit"


# -- masks


async def test_detectors_mask_output_and_other_masks_are_of_other_protocols() -> None:
    mask = rule("cards", "true", "Mask", masking=[CARD, {"column": "public.t.c"}, {"jsonPath": "$.data"}])
    async with office(policy("p", rule("all"), mask)) as at:
        said = await at.says(run("cat cards"))
        assert said.mask is not None
        stream = said.mask()
        assert stream.feed(b"4111 1111 1111 1111\n") == b"**** **** **** 1111\n"
        assert said.mask() is not stream, "one each for stdout and stderr"
        plain = await at.says(facts.env_question(b"A", b"b"))
        assert plain.allowed


# -- decisions that are made once


async def test_a_decision_is_made_once_for_the_same_request_and_not_for_another() -> None:
    async with office(policy("p", rule("safe", "ssh.command != 'rm x'"))) as at:
        assert (await at.says(run("ls"))).allowed
        assert not (await at.says(run("rm x"))).allowed
        made = at.desk.gate.checkpoint.counters.decision_buckets
        assert sum(made) == 2
        assert (await at.says(run("ls"))).allowed
        assert sum(made) == 2
        other = await at.says(run("ls", pty=True))
        assert other.allowed
        assert sum(made) == 3
        for _ in range(2):
            assert (await at.says(run("echo " + 5000 * "x"))).allowed
        assert sum(made) == 5, "what is long is not kept"


async def test_what_runs_ends_when_policies_come_that_would_not_let_it() -> None:
    async with office(policy("p", rule("shells", "ssh.kind == 'shell'"))) as at:
        question = facts.shell_question(pty=True)
        said = await at.says(question)
        assert at.desk.still(question, said) == ""
        at.policies(policy("p", rule("none", "ssh.kind == 'exec'")))
        assert at.desk.still(question, said).startswith("The policies that are in force now do not let it through: No")
        at.policies(policy("p", rule("shells"), rule("cards", "true", "Mask", masking=[CARD])))
        assert "mask" in at.desk.still(question, said)


# -- where a path leads

ETC = rule("no-etc", "ssh.kind == 'sftp' && ssh.realPath.startsWith('/etc/')", "Deny", message="Not /etc.")


async def test_where_a_path_leads_is_asked_only_when_a_rule_needs_it() -> None:
    asked: list[str] = []
    question = facts.file_question("sftp", "read", "/srv/link")
    question.find = lambda done: (asked.append("real"), done("/etc/shadow", ""))[1]  # type: ignore[func-returns-value]
    async with office() as at:
        assert (await at.says(question)).allowed
        assert asked == []
    async with office(policy("p", ETC, rule("all"))) as at:
        said = await at.says(question)
        assert asked == ["real"]
        assert said.lines[0].startswith("Not /etc.")
        assert at.record.requests[0].detail["realPath"] == "/etc/shadow"
        assert (await at.says(run("ls"))).allowed, "a command has no path, and needs no question"


async def test_where_it_leads_may_come_later_and_what_nobody_knows_is_denied() -> None:
    async with office(policy("p", ETC, rule("all"))) as at:
        question = facts.file_question("sftp", "read", "/srv/a")
        found: list[object] = []
        question.find = found.append
        waiting = asyncio.ensure_future(at.says(question))
        await asyncio.sleep(0)
        found[0]("/srv/a", "")  # type: ignore[operator]
        assert (await waiting).allowed
        question.find = lambda done: done("", "")
        assert "could not be worked out" in (await at.says(question)).lines[0]
        question.find = None
        assert not (await at.says(question)).allowed


# -- people

ASK = rule("restarts", "ssh.command.startsWith('systemctl')", "RequireApproval", message="Restarts are agreed on.")
RESTART = "systemctl restart web"
NOW = {"groups": ["ops"], "wait": "0s"}


async def test_a_request_waits_for_a_person_and_runs_once() -> None:
    async with office(policy("p", ASK)) as at:
        told: list[str] = []
        question = run(RESTART)
        question.tell = told.append
        waiting = asyncio.ensure_future(at.says(question))
        asked = await at.asked()
        summary = asked.spec.request.summary
        assert summary == f"run {RESTART} on {USER}@{HOST}:2022"
        evidence = asked.spec.request.evidence.text
        assert f"login       {USER} at {HOST}:2022" in evidence
        assert f"command     {RESTART}" in evidence
        await at.answers("Approve")
        said = await waiting
        assert said.allowed
        assert said.lines == (f"Approved by dana ({asked.metadata.name}).",)
        assert told[0].startswith("ostiary: Waiting up to 5 s for approval ")
        approval = at.record.requests[0].detail["approval"]
        assert isinstance(approval, dict)
        assert approval["state"] == "Consumed"
        again = asyncio.ensure_future(at.says(run(RESTART)))
        assert (await at.asked()).metadata.name != asked.metadata.name, "a grant is used once"
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


async def test_another_command_another_terminal_or_another_environment_is_another_request() -> None:
    async with office(policy("p", rule("all", "true", "RequireApproval", approval=NOW))) as at:
        names = set()
        questions = [
            run(RESTART), run(f"{RESTART} "), run(RESTART, pty=True), run(RESTART, env={"LANG": "C"}),
            facts.exec_question(RESTART.encode() + b"\xff"), facts.exec_question(RESTART.encode() + rb"\xff"),
            facts.file_question("sftp", "rename", "/a", target="/b"),
            facts.file_question("sftp", "rename", "/a", target="/c"),
            facts.file_question("sftp", "write", "/a", exact=(b"\1",)),
            facts.file_question("sftp", "write", "/a", exact=(b"\2",)),
        ]  # fmt: skip
        for question in questions:
            said = await at.says(question)
            assert not said.allowed
            answer = json.loads(said.lines[-1])
            names.add(answer["approval"]["name"])
            assert answer["next"]["do"] == "AwaitApproval"
        assert len(names) == len(questions)


async def test_a_person_may_say_no() -> None:
    async with office(policy("p", ASK)) as at:
        waiting = asyncio.ensure_future(at.says(run(RESTART)))
        await at.answers("Deny", reason="not on Fridays")
        said = await waiting
        assert not said.allowed
        assert "dana denied it: not on Fridays" in said.lines[0]


async def test_who_leaves_leaves_the_question_open() -> None:
    async with office(policy("p", ASK)) as at:
        waiting = asyncio.ensure_future(at.says(run(RESTART)))
        asked = await at.asked()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        (kept,) = at.record.requests
        assert (kept.outcome, kept.decision.message) == ("denied", "the client stopped waiting")
        await at.answers()
        said = await at.says(run(RESTART))
        assert said.allowed
        assert asked.metadata.name in said.lines[0]


async def test_without_a_place_for_approvals_it_is_denied() -> None:
    async with office(policy("p", ASK), people=False) as at:
        said = await at.says(run(RESTART))
        assert not said.allowed
        assert "keeps no approvals" in said.lines[0]


async def test_policies_may_change_while_it_waits() -> None:
    async with office(policy("p", ASK)) as at:
        waiting = asyncio.ensure_future(at.says(run(RESTART)))
        await at.asked()
        at.policies(policy("p", rule("never", "true", "Deny", message="Not any more.")))
        await at.answers()
        said = await waiting
        assert not said.allowed
        assert said.lines[0].startswith("Not any more.")


@pytest.mark.parametrize(
    ("question", "extension"),
    [
        (facts.forward_question("local", host="db", port=5432), "permit-port-forwarding"),
        (facts.forward_question("remote", host="", port=8080), "permit-port-forwarding"),
        (facts.agent_question(), "permit-agent-forwarding"),
        (facts.x11_question(), "permit-X11-forwarding"),
    ],
)
async def test_what_the_certificate_does_not_permit_is_told_before_anybody_is_asked(
    question: Question, extension: str
) -> None:
    signed = {"caSecretRef": {"name": "ca"}, "principals": [USER]}
    ask = rule("ask", "true", "RequireApproval", approval={"groups": ["dba"]})
    for rules in (rule("all"), ask):
        async with office(policy("p", rules), credentials={"sshCertificate": signed}) as at:
            said = await at.says(question)
            assert not said.allowed
            assert "the gateway's certificate does not permit it there" in said.lines[0]
            where = "the Connection's credentials.sshCertificate.extensions"
            assert said.lines[1].endswith(f"Ask for {extension} in {where}.")
            assert json.loads(said.lines[-1])["reason"] == Reason.TARGET
            assert at.record.requests[0].detail["refused"] == "certificate"
