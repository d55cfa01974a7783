"""Approvals with a real server, real clients and the real command: who waits, who decides, and that it runs once."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, QueryCanceled
from support import wire as raw
from support.gateway import (
    AGENT,
    Gateway,
    Manifest,
    StartGateway,
    agent_token,
    connection,
    environment,
    ostiary,
    policy,
    secrets_for,
)
from support.servers import Server
from support.waiting import until

from ostiary_cli.admin_socket import AdminSocket, Item
from ostiary_cli.errors import CommandError
from ostiary_gateway.approvals.local import MAX_OPEN

OTHER = "another-agent's-token-of-enough-entropy-987654321"
LIMIT = "sql.statements.exists(s, s.writes) && sql.estimatedRows > 100"


def rules(**approval: object) -> list[Manifest]:
    terms = {"groups": ["dba"], "wait": "20s", **approval}
    return [
        {"name": "big", "action": "RequireApproval", "expression": LIMIT, "approval": terms},
        {
            "name": "secrets",
            "action": "RequireApproval",
            "expression": "sql.statements.exists(s, s.relations.exists(r, r.name == 'vault'))",
            "approval": terms,
        },
        {"name": "rest", "action": "Allow", "expression": "true"},
    ]


@pytest.fixture(scope="module")
def server(pg18: Server) -> Server:
    pg18.recreate("approvals")
    pg18.sql(
        "create table orders (id int primary key, status text, runs int not null default 0);"
        "insert into orders select g, 'new' from generate_series(1, 500) g; analyze orders;"
        "create table vault (id int, word text); insert into vault values (1, 'open'), (2, 'sesame'), (3, 'now')",
        "approvals",
    )
    return pg18


@pytest.fixture(scope="module")
def gateway(server: Server, start_gateway: StartGateway) -> Gateway:
    return start(server, start_gateway)


def start(server: Server, start_gateway: StartGateway, **approval: object) -> Gateway:
    made = start_gateway(server, policy("ask", rules(**approval)), database="approvals")
    made.database = "approvals"
    rewritten(made, agent_token("other-token", OTHER, "other"), file="more.yaml")
    return made


def rewritten(gateway: Gateway, *objects: Manifest, file: str = "all.yaml") -> None:
    """Writes manifests, and waits until they are in force."""
    before = until(lambda: gateway.log_text().count("bundle in force"), "the manifests that it began with")
    gateway.write(*objects, file=file)
    until(lambda: gateway.log_text().count("bundle in force") > before, "the manifests in force")


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        yield session


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def pending(gateway: Gateway, text: str) -> Item | None:
    found = AdminSocket(gateway.data).approvals()
    waiting = (item for item in found if item["state"] == "Pending")
    return next((item for item in waiting if text in item["approval"]["spec"]["request"]["summary"]), None)


def asked(gateway: Gateway, text: str) -> str:
    """The name of the question about this text, once it is asked."""
    item: Item = until(lambda: pending(gateway, text), f"a question about {text}")
    return str(item["approval"]["metadata"]["name"])


def decide(gateway: Gateway, name: str, verdict: str = "Approve", reason: str = "") -> Item:
    return AdminSocket(gateway.data).decide(name, verdict, reason)


def state(gateway: Gateway, name: str) -> str:
    return str(AdminSocket(gateway.data).approval(name)["state"])


def kinds(messages: list[raw.Message]) -> str:
    return "".join(message.type for message in messages if message.type != "N")


def detail(error: psycopg.Error) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(error.diag.message_detail or "")
    return found


def refusal(session: psycopg.Connection[Any], text: str, *parameters: object) -> dict[str, Any]:
    """`approval` in the DETAIL of a statement that does not run now."""
    with pytest.raises(InsufficientPrivilege) as refused, session.transaction():
        session.execute(text, parameters or None)
    found: dict[str, Any] = detail(refused.value)["approval"]
    return found


def update(mark: str) -> str:
    return f"update orders set runs = runs + 1, status = '{mark}' where id <= 400"


def runs(server: Server) -> int:
    return int(server.sql("select max(runs) from orders", "approvals"))


# -- the line of the story


def test_a_large_update_waits_is_approved_and_runs_once(
    gateway: Gateway, server: Server, agent: psycopg.Connection[Any], threads: ThreadPoolExecutor
) -> None:
    notices: list[str] = []
    agent.add_notice_handler(lambda notice: notices.append(f"{notice.message_primary}\n{notice.message_hint}"))
    before, text = runs(server), update("story")
    running = threads.submit(agent.execute, text)
    name = asked(gateway, "story")
    assert not running.done()
    assert "Waiting up to 20 s" in notices[0]
    assert f"ostiary approve {name}" in notices[0]
    decide(gateway, name, reason="the migration of today")
    assert running.result(10).rowcount == 400
    assert (runs(server), state(gateway, name)) == (before + 1, "Consumed")
    # The same text again is another question.
    again = refusal(agent, text)
    assert (again["state"], again["name"] == name) == ("Pending", False)
    assert runs(server) == before + 1


def test_a_small_update_is_nobodys_business(agent: psycopg.Connection[Any]) -> None:
    assert agent.execute("update orders set status = 'x' where id = 1").rowcount == 1


def test_the_question_holds_what_a_person_needs(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    text = "update orders set status = %s where id <= %s"
    name = refusal(agent, text, "evidence", 300)["name"]
    item = AdminSocket(gateway.data).approval(name)
    spec = item["approval"]["spec"]
    assert spec["requester"]["username"] == AGENT
    assert spec["policies"][0]["rule"] == "big"
    assert "Seq Scan" in spec["request"]["evidence"]["text"]
    assert "Update on orders" in spec["request"]["evidence"]["text"]
    assert spec["request"]["facts"]["sql"]["params"] == ["evidence", "300"]
    assert spec["request"]["facts"]["sql"]["estimatedRows"] > 100


def test_secrets_are_not_shown_to_who_decides(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    name = refusal(agent, "select * from vault where word = 'x' or password = 'hunter2'")["name"]
    shown = json.dumps(AdminSocket(gateway.data).approval(name))
    assert "hunter2" not in shown
    assert '"redacted": true' in shown
    assert "No plan: EXPLAIN failed" in shown  # there is no such column


def test_a_copy_is_explained_by_what_it_reads(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    name = refusal(agent, "copy vault to stdout")["name"]
    assert "Seq Scan on vault" in json.dumps(AdminSocket(gateway.data).approval(name))


# -- what a grant is for


def test_a_grant_is_for_these_parameters_only(gateway: Gateway, agent: psycopg.Connection[Any], server: Server) -> None:
    text = "update orders set runs = runs + 1, status = %s where id <= %s"
    decide(gateway, refusal(agent, text, "p", 200)["name"])
    assert refusal(agent, text, "p", 201)["state"] == "Pending"
    assert refusal(agent, text, "q", 200)["state"] == "Pending"
    before = runs(server)
    assert agent.execute(text, ("p", 200)).rowcount == 200
    assert runs(server) == before + 1
    assert refusal(agent, text, "p", 200)["state"] == "Pending"


def test_a_grant_is_for_this_subject_only(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    text = update("subject")
    decide(gateway, refusal(agent, text)["name"])
    with psycopg.connect(gateway.dsn(password=OTHER), autocommit=True) as other:
        assert refusal(other, text)["state"] == "Pending"
    assert agent.execute(text).rowcount == 400


def test_a_grant_holds_in_another_session_of_the_subject(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    text = update("session")
    decide(gateway, refusal(agent, text)["name"])
    with psycopg.connect(gateway.dsn(), autocommit=True) as another:
        assert another.execute(text + " ;\n").rowcount == 400
    assert refusal(agent, text)["state"] == "Pending"


def test_a_grant_is_for_what_the_names_mean_here(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    text = update("meaning")
    decide(gateway, refusal(agent, text)["name"])
    agent.execute("create temporary table orders (id int, status text, runs int)")
    for _ in range(5):
        agent.execute("insert into orders select g, 'mine', 0 from generate_series(1, 90) g")
    agent.execute("analyze pg_temp.orders")
    assert refusal(agent, text)["state"] == "Pending"
    with psycopg.connect(gateway.dsn(), autocommit=True) as another:
        assert another.execute(text).rowcount == 400


def test_a_changed_policy_or_connection_voids_the_grant(server: Server, start_gateway: StartGateway) -> None:
    gateway = start(server, start_gateway, wait="0s")
    manifests = gateway.connection_manifests
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        text = update("policy")
        first = refusal(agent, text)["name"]
        decide(gateway, first)
        rewritten(gateway, *manifests, policy("ask", rules(wait="0s", minApprovals=2)))
        changed = refusal(agent, text)
        assert (changed["state"], changed["minApprovals"], changed["name"] == first) == ("Pending", 2, False)
        limits = connection(server, gateway.port, database="approvals", limits={"maxSessions": 90})
        rewritten(gateway, limits, *secrets_for(server), policy("ask", rules(wait="0s")))
        # The policy is as it was, the Connection is not.
        assert refusal(agent, text)["name"] not in (first, changed["name"])
        rewritten(gateway, *manifests, policy("ask", rules(wait="0s")))
        assert agent.execute(text).rowcount == 400  # all is as it was when it was approved


# -- transactions and pipelines


def test_a_session_goes_on_where_too_much_is_asked(server: Server, start_gateway: StartGateway) -> None:
    gateway = start(server, start_gateway, wait="0s")
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        for number in range(MAX_OPEN):
            with pytest.raises(InsufficientPrivilege):
                session.execute(f"update orders set status = 'flood {number}'")
        with pytest.raises(psycopg.Error, match="too much waits for approval already") as full:
            session.execute("update orders set status = 'one too many'")
        assert full.value.sqlstate == "53400"
        assert session.execute("select 1").fetchone() == (1,)


def test_in_a_transaction_nobody_waits_and_the_grant_is_used_there(
    gateway: Gateway, agent: psycopg.Connection[Any], server: Server
) -> None:
    text = update("transaction")
    began = time.monotonic()
    name = refusal(agent, text)["name"]
    assert time.monotonic() - began < 15
    decide(gateway, name)
    with agent.transaction():
        assert agent.execute(text).rowcount == 400
    assert state(gateway, name) == "Consumed"


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_while_a_client_is_held_the_server_holds_nothing_for_it(
    gateway: Gateway, server: Server, agent: psycopg.Connection[Any], threads: ThreadPoolExecutor, protocol: str
) -> None:
    mark = f"held-{protocol}"
    if protocol == "simple":
        running = threads.submit(agent.execute, update(mark))
    else:
        text = "update orders set status = %s where id <= %s /* held-extended */"
        running = threads.submit(agent.execute, text, ("x", 400))
    name = asked(gateway, mark)
    locks = "select count(*) from pg_locks where relation = 'orders'::regclass"
    assert until(lambda: server.sql(locks, "approvals") == "0", "no lock is held")
    open_ = "select count(*) from pg_stat_activity where datname = 'approvals' and state like 'idle in%'"
    assert server.sql(open_, "approvals") == "0"
    decide(gateway, name)
    assert running.result(10).rowcount == 400


def test_a_pipeline_that_ran_something_is_not_held(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    began = time.monotonic()
    with pytest.raises(InsufficientPrivilege) as refused, agent.pipeline():
        agent.execute("select 1")
        agent.execute(update("pipeline"))
    assert time.monotonic() - began < 15
    assert detail(refused.value)["approval"]["state"] == "Pending"
    assert agent.execute("select 2").fetchone() == (2,)


def test_the_first_of_a_pipeline_may_wait_and_the_rest_follows(
    gateway: Gateway, server: Server, threads: ThreadPoolExecutor
) -> None:
    """Two portals bound before the first is run: both are there when it was approved."""
    session = gateway.login()
    session.send(raw.parse(update("two")) + raw.bind("one") + raw.parse("select 7", "s") + raw.bind("two", "s"))
    session.send(raw.execute("one") + raw.execute("two") + raw.SYNC)
    decide(gateway, asked(gateway, "two"))
    assert kinds(session.until()) == "1212CDCZ"
    session.close()


def test_several_statements_in_one_query_are_one_request(
    gateway: Gateway, server: Server, agent: psycopg.Connection[Any], threads: ThreadPoolExecutor
) -> None:
    before = runs(server)
    text = f"select 1; {update('several')}; select 2"
    running = threads.submit(agent.execute, text)
    name = asked(gateway, "several")
    assert "-- statement 2" in json.dumps(AdminSocket(gateway.data).approval(name))
    decide(gateway, name)
    running.result(10)
    assert runs(server) == before + 1


def test_prepare_asks_nobody_and_each_execution_does(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    asking = "select * from vault where id >= $1"
    session = gateway.login()
    session.send(raw.parse(asking, "s") + raw.describe("S", "s") + raw.bind("", "s", [b"1"]) + raw.SYNC)
    assert kinds(session.until()) == "1tT2Z"
    assert pending(gateway, asking) is None
    session.close()


def test_rows_that_come_in_portions_are_one_run(gateway: Gateway) -> None:
    text = "select id from vault order by id"
    session = gateway.login()

    def portions() -> str:
        """Parse, Bind, and three Executes of one row each, in a transaction of their own."""
        session.simple("begin")
        session.send(raw.parse(text) + raw.bind() + raw.execute("", 1) * 3 + raw.SYNC)
        found = kinds(session.until())
        session.simple("rollback")
        return found

    assert portions() == "12EZ"
    decide(gateway, asked(gateway, text))
    assert portions() == "12DsDsDsZ"
    assert portions() == "12EZ"  # another portal is another run
    session.close()


async def test_asyncpg_waits_and_runs(gateway: Gateway) -> None:
    session = await asyncpg.connect(
        host=gateway.host, port=gateway.port, user=AGENT, password=gateway.password, database="approvals", ssl=False
    )
    text = "update orders set status = $1 where id <= 400 /* asyncpg */"
    running = asyncio.create_task(session.execute(text, "x"))
    name = await asyncio.to_thread(asked, gateway, "asyncpg")
    await asyncio.to_thread(decide, gateway, name)
    assert await asyncio.wait_for(running, 10) == "UPDATE 400"
    await session.close()


# -- ends of the waiting


def test_a_denial_comes_at_once_and_says_who_and_why(
    gateway: Gateway, agent: psycopg.Connection[Any], threads: ThreadPoolExecutor
) -> None:
    running = threads.submit(agent.execute, update("denied"))
    decide(gateway, asked(gateway, "denied"), "Deny", "not before the backup")
    with pytest.raises(InsufficientPrivilege, match="not before the backup") as refused:
        running.result(10)
    me = pwd.getpwuid(os.getuid()).pw_name
    assert me in str(refused.value)
    assert detail(refused.value)["approval"]["state"] == "Denied"


def test_who_cancels_stops_waiting_and_the_question_stays(
    gateway: Gateway, agent: psycopg.Connection[Any], threads: ThreadPoolExecutor
) -> None:
    text = update("cancelled")
    running = threads.submit(agent.execute, text)
    name = asked(gateway, "cancelled")
    agent.cancel()
    with pytest.raises(QueryCanceled) as refused:
        running.result(10)
    assert detail(refused.value)["approval"]["name"] == name
    assert state(gateway, name) == "Pending"
    decide(gateway, name)
    assert agent.execute(text).rowcount == 400


def test_who_leaves_stops_waiting_and_the_question_stays(gateway: Gateway, threads: ThreadPoolExecutor) -> None:
    session = gateway.login()
    session.send(raw.query(update("left")))
    name = asked(gateway, "left")
    session.close()
    closed = 'ostiary_sessions_open{connection="default/app"} 0.0'
    until(lambda: closed in gateway.admin("/metrics")[1], "the end of the session")
    assert state(gateway, name) == "Pending"
    decide(gateway, name)
    assert state(gateway, name) == "Approved"


def test_the_wait_ends_and_the_question_stays(server: Server, start_gateway: StartGateway) -> None:
    gateway = start(server, start_gateway, wait="1s", pendingTTL="10s")
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        with pytest.raises(InsufficientPrivilege, match="Nobody has decided in 1 s") as refused:
            agent.execute(update("patience"))
        name = detail(refused.value)["approval"]["name"]
        assert state(gateway, name) == "Pending"
        until(lambda: state(gateway, name) == "Expired", "the question expires", 20)
        with pytest.raises(CommandError, match="closed"):
            decide(gateway, name)


def test_two_who_wait_for_one_grant_run_once(gateway: Gateway, server: Server, threads: ThreadPoolExecutor) -> None:
    before, text = runs(server), update("both")
    outcomes: list[Future[int]] = []

    def one() -> int:
        with psycopg.connect(gateway.dsn(), autocommit=True) as session:
            return session.execute(text).rowcount

    outcomes = [threads.submit(one) for _ in range(2)]
    first = asked(gateway, "both")
    time.sleep(0.5)
    decide(gateway, first)
    second = asked(gateway, "both")  # of the one that was slower
    assert second != first
    assert runs(server) == before + 1
    decide(gateway, second, "Deny")
    found = [outcome.exception(15) is None for outcome in outcomes]
    assert sorted(found) == [False, True]


def test_a_gateway_that_stops_says_so_to_who_waits(server: Server, start_gateway: StartGateway) -> None:
    gateway = start(server, start_gateway)
    session = gateway.login()
    session.send(raw.query(update("stop")))
    name = asked(gateway, "stop")
    gateway.stop()
    (said,) = raw.errors(session.until("E"))
    assert "shutting down" in said["M"]
    assert name in said["H"]


# -- restarts and crashes


def test_a_restart_loses_nothing(server: Server, start_gateway: StartGateway) -> None:
    gateway = start(server, start_gateway, wait="0s")
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        granted, open_ = refusal(agent, update("granted"))["name"], refusal(agent, update("open"))["name"]
    decide(gateway, granted)
    assert gateway.process is not None
    gateway.process.kill()
    gateway.process.wait()
    shown = gateway.run("approvals", "--json").splitlines()  # from the file
    assert {json.loads(line)["state"] for line in shown} == {"Pending", "Approved"}
    gateway.start()
    before = runs(server)
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        assert agent.execute(update("granted")).rowcount == 400
        assert refusal(agent, update("granted"))["name"] != granted
        decide(gateway, open_)
        assert agent.execute(update("open")).rowcount == 400
    assert runs(server) == before + 2


def test_killed_between_grant_and_end_it_never_runs_twice(server: Server, start_gateway: StartGateway) -> None:
    """The row is locked by somebody else, so the statement has begun and not ended when the gateway is killed."""
    gateway = start(server, start_gateway, wait="0s")
    text = update("killed")
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        name = refusal(agent, text)["name"]
    decide(gateway, name)
    before = runs(server)
    with psycopg.connect(server.dsn(dbname="approvals")) as locker:
        locker.execute("select * from orders where id = 1 for update")
        session = gateway.login()
        session.send(raw.query(text))
        until(lambda: state(gateway, name) == "Consumed", "the grant is used")
        os.kill(gateway.pid, signal.SIGKILL)
        assert gateway.process is not None
        gateway.process.wait()
        session.close()
    gateway.start()
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        assert refusal(agent, text)["state"] == "Pending"
    assert runs(server) <= before + 1


# -- people


def test_the_commands_as_a_person_uses_them(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    text = update("command")
    name = refusal(agent, text)["name"]
    assert name in gateway.run("approvals")
    shown = gateway.run("approval", name[4:8])
    for part in (name, AGENT, "EXPLAIN", "Seq Scan", "default/ask#big", "one person of dba", f"ostiary approve {name}"):
        assert part in shown
    assert "✓ approved" in gateway.run("approve", name, "--reason", "looked at")
    assert agent.execute(text).rowcount == 400
    assert "Consumed" in gateway.run("approvals", "--all")
    again = subprocess.run(
        [*ostiary(), "approve", name, "--data", str(gateway.data)], capture_output=True, text=True, env=environment()
    )
    assert again.returncode == 3
    assert "it was approved, and the request ran" in again.stderr
    record = gateway.run("session", json.loads(gateway.run("sessions", "--json", "--limit", "1").splitlines()[0])["id"])
    assert f"approval {name}, approved by" in " ".join(record.split())


def test_answers_are_in_the_record(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    name = refusal(agent, update("recorded"))["name"]
    decide(gateway, name, "Deny", "no reason at all")

    def events() -> list[dict[str, Any]]:
        return [e for e in _gateway_events(gateway.data) if e.get("name") == f"default/{name}"]

    until(lambda: len(events()) == 3, "the events are written")
    assert [event["step"] for event in events()] == ["Asked", "Answered", "Denied"]
    assert (events()[1]["verdict"], events()[1]["reason"]) == ("Deny", "no reason at all")
    assert gateway.run("verify")


def _gateway_events(data: Path) -> list[dict[str, Any]]:
    from ostiary_gateway.audit.reader import Reader

    with Reader.open(data) as reader:
        sessions = list(reader.sessions(gateway=True))
        return [e.fields for s in sessions for e in reader.events(s) if e.kind == "approval"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("approve", "apr-nothing"), "There is no approval apr-nothing"),
        (("approve", "../../x"), "no name of an approval"),
        (("approval", "apr-nothing"), "There is no approval"),
    ],
)
def test_what_is_wrong_is_said(gateway: Gateway, arguments: tuple[str, ...], says: str) -> None:
    assert says in gateway.run(*arguments, check=False)


def test_without_a_gateway_nobody_decides(tmp_path: Path) -> None:
    for arguments, says in (
        (("approve", "apr-1"), "No gateway listens"),
        (("approvals",), "There are no approvals in"),
    ):
        done = subprocess.run(
            [*ostiary(), *arguments, "--data", str(tmp_path)], capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 3
        assert says in done.stderr
        assert "--data DIR" in done.stderr


def test_nobody_approves_their_own(server: Server, start_gateway: StartGateway) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    gateway = start(server, start_gateway, wait="0s")
    mine = "my-own-token-which-is-of-enough-entropy-4711"
    rewritten(gateway, agent_token("my-token", mine, me), file="mine.yaml")
    with psycopg.connect(gateway.dsn(password=mine), autocommit=True) as agent:
        name = refusal(agent, update("own"))["name"]
    with pytest.raises(CommandError, match="asked for this"):
        decide(gateway, name)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes other users of this machine")
def test_two_different_people_of_the_group_must_agree(server: Server, start_gateway: StartGateway) -> None:
    gateway = start(server, start_gateway, wait="0s", minApprovals=2)
    gateway.stop()
    socket = gateway.directory / "people.sock"
    gateway.directory.chmod(0o755)
    process = _serve(gateway, "--approvers", "dba=games,%daemon", "--admin-socket", str(socket))
    try:
        with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
            name = refusal(agent, update("people"))["name"]
            assert "in none of the groups" not in _as("games", socket, "Approve", name)
            assert "answered already" in _as("games", socket, "Approve", name)
            assert "may answer for no group" in _as("nobody", socket, "Approve", name)
            assert "may answer for no group" in _as("root", socket, "Approve", name)
            assert refusal(agent, update("people"))["state"] == "Pending"
            assert _as("daemon", socket, "Approve", name) == "Approved"
            assert agent.execute(update("people")).rowcount == 400
            vetoed = refusal(agent, update("people"))["name"]
            assert _as("games", socket, "Approve", vetoed) == "Pending"
            assert _as("daemon", socket, "Deny", vetoed) == "Denied"
    finally:
        process.terminate()
        process.wait(20)


def _serve(gateway: Gateway, *more: str) -> subprocess.Popen[bytes]:
    command = [*ostiary(), "serve", str(gateway.manifests), "--data", str(gateway.data), "--admin", "off", *more]
    with gateway.log.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())

    def listens() -> bool:
        try:
            gateway.login().close()
        except OSError:
            return False
        return True

    until(listens, "the gateway listens", 30)
    return process


def _as(user: str, socket: Path, verdict: str, name: str) -> str:
    """The decision of another user, with nothing but the standard library: state, or what was said."""
    program = (
        "import json, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); b = json.dumps({'verdict': sys.argv[2]}).encode()\n"
        "s.sendall(b'POST /approval/decision?name=%s HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n'"
        " % (sys.argv[3].encode(), len(b)) + b)\n"
        "d = b''\n"
        "while p := s.recv(65536): d += p\n"
        "f = json.loads(d.partition(b'\\r\\n\\r\\n')[2]); print(f.get('state') or f['message'])\n"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program, str(socket), verdict, name], capture_output=True, text=True, user=user
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_metrics_count_questions(gateway: Gateway) -> None:
    text = gateway.admin("/metrics")[1]
    assert 'ostiary_approvals_total{connection="default/app",state="Asked"}' in text
    assert "ostiary_approvals_pending" in text
    assert "ostiary_approval_waits_total" in text


def test_neither_sql_nor_reasons_are_logged(gateway: Gateway) -> None:
    log = gateway.log_text()
    assert "approval granted" in log
    assert "not before the backup" not in log
    assert "update orders" not in log
