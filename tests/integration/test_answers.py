"""Every refusal of a real gateway carries an answer that a program can act on, and an agent that reads it recovers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import pq
from support.gateway import Gateway, StartGateway, policy
from support.servers import Server
from support.wire import Closed, Message, Refused, Wire, frame

from ostiary_policy.answer import MAX_BYTES, Answer, Reason

RULES = [
    {
        "name": "bounded",
        "action": "Deny",
        "expression": "sql.statements.exists(s, s.verb in ['UPDATE', 'DELETE'] && !s.hasWhere)",
        "message": "Every row would change.",
        "hint": "Say which rows.",
    },
    {
        "name": "few-rows",
        "action": "Deny",
        "expression": "sql.statements.exists(s, s.verb in ['UPDATE', 'DELETE']) && sql.estimatedRows > 100",
    },
    {
        "name": "odd",
        "action": "Deny",
        "expression": "sql.statements.exists(s, s.verb == 'LISTEN') && sql.params[7] == 'x'",
    },
    {
        "name": "ask",
        "action": "RequireApproval",
        "expression": "sql.statements.exists(s, s.kind == 'INDEX')",
        "approval": {"groups": ["dba"], "wait": "0s"},
    },
    {
        "name": "work",
        "action": "Allow",
        "expression": "sql.statements.all(s, s.readOnly || !s.opaque && s.verb in ['UPDATE', 'DELETE', 'CREATE'])",
    },
    {"name": "hide", "action": "Mask", "masking": [{"column": "public.things.secret"}]},
]
SECRET = "do-not-tell"


@pytest.fixture(scope="module")
def gateway(pg18: Server, start_gateway: StartGateway) -> Gateway:
    pg18.recreate("answers")
    pg18.sql(
        f"""
        create table things (id int primary key, name text, secret text);
        insert into things select n, 'thing ' || n, '{SECRET}' from generate_series(1, 500) n;
        analyze things
        """,
        "answers",
    )
    return start_gateway(pg18, policy("guard", RULES), database="answers", limits={"maxRequestBytes": 65536})


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[psycopg.Connection]:
    connection = psycopg.connect(gateway.dsn(dbname="answers"), autocommit=True)
    yield connection
    connection.close()


def answer_of(problem: psycopg.Error) -> Answer:
    detail = problem.diag.message_detail or ""
    assert len(detail.encode()) <= MAX_BYTES
    assert "\n" not in detail
    assert SECRET not in detail
    return Answer.model_validate_json(detail)


def refused(agent: psycopg.Connection, sql: str) -> Answer:
    with pytest.raises(psycopg.Error) as problem:
        agent.execute(sql)
    return answer_of(problem.value)


def test_a_rule_says_what_made_it_hold_and_what_would_be_enough(agent: psycopg.Connection) -> None:
    reply = refused(agent, "delete from things")
    assert (reply.decision, reply.reason, reply.policy, reply.rule) == ("Deny", Reason.RULE, "default/guard", "bounded")
    assert reply.because[-1].facts == {"sql.statements[0].hasWhere": False}
    assert ("sql.statements[0].hasWhere", True) in [(change.fact, change.equals) for change in reply.allowed.changes]
    assert (reply.next.do, reply.next.hint, reply.next.rollback) == ("Change", "Say which rows.", False)


def test_an_estimate_says_how_many_rows_would_pass(agent: psycopg.Connection) -> None:
    reply = refused(agent, "update things set name = name where id > 0")
    (change,) = [change for change in reply.allowed.changes if change.at_most is not None]
    assert (change.fact, change.value, change.at_most, change.then) == ("sql.estimatedRows", 500, 100, "Allow")


def test_no_rule_says_which_there_are_and_what_they_miss(agent: psycopg.Connection) -> None:
    reply = refused(agent, "grant select on things to public")
    assert (reply.reason, reply.rule) == (Reason.NO_RULE, "")
    (work,) = [rule for rule in reply.allowed.rules if rule.rule == "work"]
    assert {"sql.statements[0].readOnly": False} in [condition.facts for condition in work.unmet]


def test_an_erring_rule_and_an_opaque_statement_are_told(agent: psycopg.Connection) -> None:
    erring = refused(agent, "listen mail")
    assert (erring.reason, erring.errors[0].policy) == (Reason.ERROR, "default/guard")
    opaque = refused(agent, "select nobody_knows()")
    assert opaque.opaque
    assert opaque.reason is Reason.NO_RULE


def test_inside_a_transaction_it_says_rollback(agent: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as problem, agent.transaction():
        agent.execute("select 1")
        agent.execute("delete from things")
    assert answer_of(problem.value).next.rollback


def test_what_no_policy_was_asked_about_has_the_same_shape(agent: psycopg.Connection) -> None:
    pinned = refused(agent, "set standard_conforming_strings = off")
    assert (pinned.reason, pinned.next.do) == (Reason.PINNED, "Change")
    large = refused(agent, f"select '{'x' * 70000}'")
    assert large.reason is Reason.LIMIT
    masked = refused(agent, "create table copied as select secret from things")
    assert masked.reason is Reason.MASKING
    wrong = refused(agent, "update things set nope = 1 where id = 1")
    assert wrong.reason is Reason.STATEMENT
    result = agent.pgconn.exec_(b"select '\xff'")
    assert result.status == pq.ExecStatus.FATAL_ERROR
    detail = result.error_field(pq.DiagnosticField.MESSAGE_DETAIL) or b""
    assert Answer.model_validate_json(detail).reason is Reason.ENCODING


def test_the_function_call_protocol_is_answered_too(gateway: Gateway) -> None:
    session = login(gateway)
    session.send(frame("F", b"\0\0\0\1\0\0\0\0\0\0"))
    assert detail_of(session.until("Z")).reason is Reason.PROTOCOL


def test_many_refusals_are_told_the_essence(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn(dbname="answers"), autocommit=True) as agent:
        replies = [refused(agent, "delete from things") for _ in range(60)]
    assert not replies[0].truncated
    assert replies[-1].truncated
    assert {reply.rule for reply in replies} == {"bounded"}


def test_a_request_leads_to_its_record(agent: psycopg.Connection, gateway: Gateway) -> None:
    request = refused(agent, "delete from things").request
    agent.close()
    assert "delete from things" in gateway.run("session", request.rpartition("-")[0], "--no-pager")


@pytest.mark.parametrize(
    ("settings", "code", "reason"),
    [
        ({"password": "no-token"}, "28P01", Reason.LOGIN),
        ({"database": "elsewhere"}, "3D000", Reason.SETTING),
        ({"options": "-c work_mem=1GB"}, "42501", Reason.SETTING),
        ({"client_encoding": "latin1"}, "22023", Reason.SETTING),
        ({"replication": "database"}, "0A000", Reason.PROTOCOL),
    ],
)
def test_a_login_that_is_refused_is_answered_and_recorded(
    gateway: Gateway, settings: dict[str, str], code: str, reason: Reason
) -> None:
    with pytest.raises(Refused) as problem:
        login(gateway, **settings)
    fields = problem.value.message.fields
    found = Answer.model_validate_json(fields["D"])
    assert (fields["C"], found.reason, found.decision) == (code, reason, "Deny")
    assert found.message == fields["M"]
    assert found.request in gateway.run("export")


def test_a_session_that_is_ended_says_why(gateway: Gateway) -> None:
    session = login(gateway)
    session.send(frame("y", b""))
    with pytest.raises(Closed) as end:
        session.until("Z")
    found = detail_of(end.value.messages)
    assert (found.reason, found.next.do) == (Reason.PROTOCOL, "Reconnect")


def test_a_catalog_that_cannot_be_asked_is_told_as_such(pg18: Server, start_gateway: StartGateway) -> None:
    pg18.sql("drop role if exists lonely; create role lonely login password 'lonely' connection limit 1", "answers")
    lonely = dataclasses.replace(pg18, user="lonely", password="lonely")
    gateway = start_gateway(lonely, policy("guard", RULES), database="answers")
    with psycopg.connect(gateway.dsn(dbname="answers"), autocommit=True) as agent:
        reply = refused(agent, "select * from things")
    assert (reply.reason, reply.next.do) == (Reason.NOT_KNOWN, "RetryLater")
    assert reply.request


@dataclass
class Recovering:
    """An agent that knows nothing of Ostiary but SQLSTATE 42501 and DETAIL's schema. `means`: the rows it is after."""

    connection: psycopg.Connection
    means: str
    tries: list[str] = field(default_factory=list)

    def pursue(self, sql: str) -> int:
        """Rows that were changed or read, in the end."""
        for _ in range(8):
            self.tries.append(sql)
            try:
                return self.connection.execute(sql).rowcount
            except psycopg.errors.InsufficientPrivilege as problem:
                reply = Answer.model_validate_json(problem.diag.message_detail or "")
            if reply.next.rollback:
                self.connection.execute("rollback")
            assert reply.next.do == "Change"
            changed = self.changed(sql, reply)
            if isinstance(changed, int):
                return changed
            sql = changed
        raise AssertionError(self.tries)

    def changed(self, sql: str, reply: Answer) -> str | int:
        if reply.allowed.statements:
            parts = [part.strip() for part in sql.split(";")]
            return ";".join(parts[number - 1] for number in reply.allowed.statements)
        for change in reply.allowed.changes:
            if change.fact.endswith(".hasWhere") and change.equals:
                return f"{sql} where {self.means}"
            if change.at_most is not None:
                return self.in_portions(sql, change.at_most)
            if change.without is not None and change.fact.endswith(".functions"):
                name = change.without.rpartition(".")[2]
                return re.sub(rf",?\s*{name}\([^)]*\)", "", sql)
        raise AssertionError(reply)

    def in_portions(self, sql: str, size: int) -> int:
        table = sql.split()[1]
        found = self.connection.execute(f"select id from {table} where {self.means} order by id").fetchall()
        ids = [row[0] for row in found]
        done = 0
        for start in range(0, len(ids), size):
            part = ", ".join(map(str, ids[start : start + size]))
            done += self.pursue(f"{sql.split(' where ', maxsplit=1)[0]} where id in ({part})")
        return done


def test_an_agent_adds_the_where_that_it_forgot(agent: psycopg.Connection) -> None:
    acting = Recovering(agent, "id = 7")
    assert acting.pursue("update things set name = 'seven'") == 1
    assert acting.tries == ["update things set name = 'seven'", "update things set name = 'seven' where id = 7"]
    assert agent.execute("select count(*) from things where name = 'seven'").fetchone() == (1,)


def test_an_agent_changes_many_rows_in_portions_that_pass(agent: psycopg.Connection) -> None:
    acting = Recovering(agent, "id <= 250")
    assert acting.pursue("update things set name = 'many' where id <= 250") == 250
    assert len(acting.tries) == 4
    assert agent.execute("select count(*) from things where name = 'many'").fetchone() == (250,)


def test_an_agent_sends_the_statements_that_pass_alone(agent: psycopg.Connection) -> None:
    acting = Recovering(agent, "")
    assert acting.pursue("select 1; grant select on things to public; select 2") == 1
    assert acting.tries[-1] == "select 1;select 2"


def test_an_agent_rolls_back_before_it_asks_again(agent: psycopg.Connection) -> None:
    agent.execute("begin")
    acting = Recovering(agent, "id = 8")
    assert acting.pursue("update things set name = 'eight'") == 1
    assert agent.info.transaction_status == pq.TransactionStatus.IDLE


def test_an_agent_that_needs_approval_learns_its_name_waits_and_asks_the_same_again(
    agent: psycopg.Connection, gateway: Gateway
) -> None:
    asked = "create index asked_for on things (name)"
    reply = refused(agent, asked)
    assert (reply.decision, reply.next.do) == ("RequireApproval", "AwaitApproval")
    assert reply.approval is not None
    assert (reply.approval.state, reply.approval.groups) == ("Pending", ("dba",))
    gateway.run("approve", reply.approval.name)
    agent.execute(asked)
    assert agent.execute("select count(*) from pg_indexes where indexname = 'asked_for'").fetchone() == (1,)
    again = refused(agent, asked)
    assert again.approval is not None
    assert again.approval.name != reply.approval.name


def login(gateway: Gateway, **settings: str) -> Wire:
    named = {"user": gateway.user, "password": gateway.password, "database": "answers", **settings}
    return Wire.login(gateway.host, gateway.port, **named)  # type: ignore[arg-type]


def detail_of(messages: list[Message]) -> Answer:
    (error,) = [message for message in messages if message.type == "E"]
    return Answer.model_validate_json(error.fields["D"])
