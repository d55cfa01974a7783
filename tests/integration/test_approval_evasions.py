"""One grant, one run, of what was approved: what an agent may try to get more out of it, on the raw wire."""

from __future__ import annotations

import psycopg
import pytest
from support import wire as raw
from support.gateway import Gateway, StartGateway, policy
from support.servers import Server
from support.waiting import until

from ostiary_cli.admin_socket import AdminSocket

ASKS = "sql.statements.exists(s, (s.writes || s.opaque) && s.verb != 'CREATE')"


@pytest.fixture(scope="module")
def server(pg18: Server) -> Server:
    pg18.recreate("evaded")
    pg18.sql(
        "create table runs (what text, who text default current_setting('app.who', true));"
        "create table small (id int); insert into small values (1);"
        "create table big (id int); insert into big select generate_series(1, 50)",
        "evaded",
    )
    return pg18


@pytest.fixture(scope="module")
def gateway(server: Server, start_gateway: StartGateway) -> Gateway:
    terms = {"groups": ["dba"], "wait": "5s"}
    rules: list[dict[str, object]] = [
        {"name": "writes", "action": "RequireApproval", "expression": ASKS, "approval": terms},
        {"name": "rest", "action": "Allow", "expression": f"!({ASKS})"},
    ]
    made = start_gateway(server, policy("ask", rules), database="evaded")
    made.database = "evaded"
    return made


def asked(gateway: Gateway, text: str) -> str:
    def one() -> str:
        for item in AdminSocket(gateway.data).approvals():
            spec = item["approval"]["spec"]
            if item["state"] == "Pending" and text in spec["request"]["summary"]:
                return str(item["approval"]["metadata"]["name"])
        return ""

    return str(until(one, f"a question about {text}"))


def approve(gateway: Gateway, text: str) -> None:
    AdminSocket(gateway.data).decide(asked(gateway, text), "Approve", "")


def kinds(messages: list[raw.Message]) -> str:
    return "".join(message.type for message in messages if message.type != "N")


def test_what_runs_is_what_was_bound_though_the_statement_has_another_text_by_now(
    gateway: Gateway, server: Server
) -> None:
    """The portal is bound again after the wait: by then its statement's name stands for something worse."""
    session = gateway.login()
    good, bad = "delete from small where id = -1", "delete from big"
    session.send(raw.parse(good) + raw.bind("p") + raw.parse(bad) + raw.bind("q") + raw.execute("p") + raw.SYNC)
    approve(gateway, good)
    assert kinds(session.until()) == "1212EZ"  # it is not held, so it did not run; the question stays
    session.close()
    assert server.sql("select count(*) from big", "evaded") == "50"


def test_a_portal_of_an_earlier_cycle_does_not_come_back_with_its_grant(gateway: Gateway, server: Server) -> None:
    once, other = "insert into runs select 'once' from pg_sleep(1)", "insert into runs values ('other')"
    session, first = gateway.login(), gateway.login()
    # Asked in a transaction, where nobody waits; approved before it is sent again.
    first.simple("begin")
    first.simple(once)
    approve(gateway, once)
    session.send(raw.parse(once) + raw.bind("p") + raw.execute("p") + raw.SYNC)
    session.send(raw.parse(other, "s") + raw.bind("q", "s") + raw.execute("q") + raw.execute("p") + raw.SYNC)
    approve(gateway, other)
    assert kinds(session.until("Z", 2)) == "12CZ12CEZ"
    assert server.sql("select count(*) from runs where what = 'once'", "evaded") == "1"
    session.close()
    first.close()


def test_a_grant_is_for_the_settings_under_which_it_was_asked(gateway: Gateway, server: Server) -> None:
    text = "insert into runs (what) values ('settings')"
    with psycopg.connect(gateway.dsn(), autocommit=True) as one, psycopg.connect(gateway.dsn(), autocommit=True) as two:
        one.execute("set app.who = 'me'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), one.transaction():
            one.execute(text)
        approve(gateway, "'settings'")
        two.execute("set app.who = 'somebody else'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), two.transaction():
            two.execute(text)
        one.execute(text)
    assert server.sql("select who from runs where what = 'settings'", "evaded") == "me"


def test_a_grant_is_for_the_function_as_it_was(gateway: Gateway, server: Server) -> None:
    create = "create or replace function f() returns text language plpgsql as $$begin return {}; end$$"
    text = "insert into runs (what) values (f())"
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute(create.format("'harmless'"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege), agent.transaction():
            agent.execute(text)
        approve(gateway, text)
        agent.execute(create.format("'terrible'"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege), agent.transaction():
            agent.execute(text)
