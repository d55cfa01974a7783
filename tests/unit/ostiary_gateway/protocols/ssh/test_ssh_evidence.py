"""What a person is shown of a request over SSH before they agree, and what is hidden from them."""

from __future__ import annotations

import shlex
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ssh_desk import connection

from ostiary_gateway.protocols.ssh import evidence, facts
from ostiary_gateway.protocols.ssh.questions import Question
from ostiary_gateway.protocols.ssh.veil import HIDDEN, Veil
from ostiary_policy.masking import NOTHING, DetectorMask, MaskPlan, Strategy


def shown(question: Question, plan: MaskPlan = NOTHING, **more: Any) -> evidence.Shown:
    found = {**facts.whole(question, "deploy"), **more}
    return evidence.shown(question, found, connection(), Veil(plan))


def command(*argv: str, **more: Any) -> dict[str, Any]:
    return {
        "program": argv[0], "path": argv[0], "argv": list(argv), "exact": True, "flags": [], "assignments": [],
        "inputs": [], "redirects": [], "substitutions": [], "via": [], "runAs": "", **more,
    }  # fmt: skip


def test_a_command_with_all_that_it_runs() -> None:
    question = facts.exec_question(b"sudo rm -rf '/srv/old one' && date > /tmp/x", pty=True, env={"LANG": "C"})
    commands = [
        command("rm", "-rf", "/srv/old one", via=["sudo"], runAs="root"),
        command("date", redirects=["/tmp/x"], exact=False, assignments=["TZ"]),
    ]
    found = shown(question, commands=commands, opaque=False, opaqueReason="")
    assert found.summary == "run sudo rm -rf '/srv/old one' && date > /tmp/x on deploy@web.example:2022"
    assert found.text.splitlines() == [
        "login       deploy at web.example:2022",
        "command     sudo rm -rf '/srv/old one' && date > /tmp/x",
        "runs        rm -rf '/srv/old one'   (by sudo; as root)",
        "            date > /tmp/x   (its arguments are only known when it runs; with TZ set)",
        "terminal    yes",
        "environment LANG=C",
    ]
    assert not found.redacted


def test_a_command_of_many_lines_is_shown_whole_and_on_one_line() -> None:
    found = shown(facts.exec_question(b"cd /srv\nrm -rf *"), commands=[])
    assert found.summary == "run cd /srv rm -rf * on deploy@web.example:2022\ncd /srv\nrm -rf *"
    assert "command     cd /srv\n            rm -rf *" in found.text


def test_what_cannot_be_known_is_said() -> None:
    found = shown(facts.exec_question(b""))
    assert found.summary.startswith("run (an empty command) on ")
    assert "not known   what it does: an empty command is a shell to some servers" in found.text


@pytest.mark.parametrize(
    ("question", "summary", "line"),
    [
        (
            facts.file_question("sftp", "rename", "/srv/a", target="/srv/b"),
            "rename /srv/a to /srv/b", "target      /srv/b",
        ),
        (
            facts.file_question("scp", "write", "/srv/a", size=5000),
            "write /srv/a (5,000 bytes)", "size        5,000 bytes",
        ),
        (facts.file_question("sftp", "symlink", "/srv/a", target="/x"), "make a symbolic link /srv/a → /x", ""),
        (facts.file_question("sftp", "new@example", "/srv/a"), "new@example /srv/a", "operation   new@example"),
        (facts.subsystem_question(b"sftp"), "begin a session of file operations (sftp)", ""),
        (facts.forward_question("local", host="::1", port=5432), "connect to [::1]:5432", "leads to    [::1]:5432"),
        (
            facts.forward_question("remote", host="", port=80),
            "listen for connections at :80", "listens at  :80",
        ),
        (facts.shell_question(pty=True), "open an interactive shell", "not known   what it does: a shell runs what"),
        (facts.agent_question(), "use the agent's keys", ""),
        (facts.x11_question(), "use the agent's display", ""),
        (facts.subsystem_question(b"netconf"), "start the subsystem netconf", "subsystem   netconf"),
    ],
    ids=lambda value: value.text if isinstance(value, Question) else "",
)  # fmt: skip
def test_every_kind_says_what_it_is_in_one_line(question: Question, summary: str, line: str) -> None:
    found = shown(question)
    assert found.summary == f"{summary} on deploy@web.example:2022"
    assert line in found.text


def test_where_a_path_leads_is_shown_where_it_leads_elsewhere() -> None:
    found = shown(facts.file_question("sftp", "read", "/srv/a"), realPath="/etc/shadow")
    assert "path        /srv/a\nwhich is    /etc/shadow" in found.text


# -- what is hidden


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("mysql -u root -phunter2 app", "hunter2"),
        ("mysqldump --password=hunter2 app", "hunter2"),
        ("PGPASSWORD=hunter2 psql -c 'select 1'", "hunter2"),
        ("PGPASSWORD='hunter2' psql", "hunter2"),
        ("export API_TOKEN=hunter2; ./run", "hunter2"),
        ("vault login --token hunter2", "hunter2"),
        ("sshpass -p hunter2 ssh host", "hunter2"),
        ("curl -u admin:hunter2 https://x", "hunter2"),
        ("curl -H 'Authorization: Bearer hunter2hunter2' https://x", "hunter2hunter2"),
        ("git clone https://bot:hunter2@git.example/x", "hunter2"),
    ],
)
def test_passwords_in_a_command_line_are_hidden(text: str, secret: str) -> None:
    veil = Veil(NOTHING)
    assert secret not in veil.text(text)
    assert HIDDEN in veil.text(text)
    assert veil.touched
    found = shown(facts.exec_question(text.encode()), commands=[command(*shlex.split(text.partition(";")[0]))])
    assert secret not in found.summary + found.text + str(found.facts)
    assert found.redacted


@pytest.mark.parametrize(
    "text",
    [
        "mysql --password=$(rm -rf /srv)",
        "mysql --password=`rm -rf /srv`",
        'mysql --password="$(rm -rf /srv)"',
        "PGPASSWORD=$(rm -rf /srv) psql",
        "PGPASSWORD=x$(rm -rf /srv) psql",
        "mysql -p$(rm -rf /srv)",
        "login --token ;rm -rf /srv",
        "login --token\nrm -rf /srv",
        "x --password=a;rm -rf /srv",
        "x --password a&&rm -rf /srv",
        "curl -u a:b|rm -rf /srv",
        "curl https://a:b@c;rm -rf /srv",
        "curl https://a:$(rm -rf /srv)@c",
        "TOKEN=a rm -rf /srv",
        "TOKEN='rm -rf /srv' sh -c 'eval $TOKEN'",
        "x --token 'rm -rf /srv'",
    ],
)
def test_what_would_run_is_never_hidden(text: str) -> None:
    assert "rm -rf /srv" in Veil(NOTHING).text(text)


@pytest.mark.parametrize("text", ["ls -p x", "ls --port 22", "cut -d: -f1", "rm -rf /srv", "echo tokens", "ls a:b@c"])
def test_what_is_no_password_is_shown(text: str) -> None:
    veil = Veil(NOTHING)
    assert veil.text(text) == text
    assert veil.argv(shlex.split(text)) == shlex.split(text)
    assert not veil.touched


def test_variables_by_their_names_and_what_detectors_of_the_policy_find() -> None:
    question = facts.exec_question(b"pay 4111111111111111", env={"DB_PASSWORD": "hunter2", "LANG": "C"})
    plan = MaskPlan((), (), (DetectorMask("CreditCard", Strategy("Partial", keep_last=4)),))
    found = shown(question, plan, commands=[command("pay", "4111111111111111")])
    everything = found.summary + found.text + str(found.facts)
    assert "4111111111111111" not in everything
    assert "************1111" in everything
    assert "hunter2" not in everything
    assert "LANG=C" in everything
    assert found.redacted


def test_long_words_are_looked_at_in_time() -> None:
    texts = (
        "--token " * 4000, "a=" * 20_000, "-p" * 20_000, "https://" + "a:" * 15_000, "curl -u " * 4000, "mysql " * 5000,
        "'" * 30_001, '"' * 30_001, "\\" * 30_001, "token" * 7000, "bearer " * 5000, "://" * 10_000, "$" * 30_000,
    )  # fmt: skip
    began = time.process_time()
    for text in texts:
        assert Veil(NOTHING).text(text)
    assert time.process_time() - began < 2


PARTS = [
    "--token", "PASSWORD=", "x", " ", "\n", ";", "|", "&", "$", "$(", "`", "(", ")", "<", ">", "mysql", "-p", "curl",
    "-u", "a:b", "https://", "@", "sshpass", "\\", "Bearer ", "rm", "=", "-",
]  # fmt: skip
STEERS = frozenset("$`;|&<>()\n\\")


@given(st.lists(st.sampled_from(PARTS), max_size=30).map("".join))
def test_no_part_of_a_line_that_steers_a_shell_is_ever_hidden(text: str) -> None:
    shown = Veil(NOTHING).text(text)
    assert [each for each in shown if each in STEERS] == [each for each in text if each in STEERS]


@given(st.text(max_size=200))
def test_any_text_is_shown_whole_where_nothing_is_hidden(text: str) -> None:
    veil = Veil(NOTHING)
    shown = veil.text(text)
    assert veil.touched == (shown != text)
    assert HIDDEN in shown or shown == text
