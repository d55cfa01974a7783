"""An agent that plays with its session's state runs nothing that is denied, and sees nothing that is masked.

Each play tries to make the gateway believe that a name means something else than the server takes it for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from support.gateway import ALLOW_ALL, TOKEN, Gateway, agent_token, policy
from support.servers import Server
from support.wire import (
    SYNC,
    Message,
    Refused,
    Wire,
    bind,
    close,
    close_all,
    errors,
    execute,
    frame,
    parse,
    query,
    startup,
)

DENIED, MASKED = "DENIED-ROW", "MASKED-VALUE"
WORLD = f"""
    CREATE SCHEMA secret; CREATE TABLE secret.t (x text); INSERT INTO secret.t VALUES ('{DENIED}');
    CREATE TABLE t (x text); CREATE TABLE loaded (a text);
    CREATE TABLE customers (id int, email text); INSERT INTO customers VALUES (1, '{MASKED}');
    CREATE SCHEMA other; CREATE TABLE other.customers (id int, email text);
    CREATE VIEW harmless AS SELECT 'x'::text AS u;
"""
MASK = {
    "name": "pii", "action": "Mask",
    "masking": [{"column": "public.customers.email", "strategy": {"type": "Redact"}}],
}  # fmt: skip
SEEN = "sql.statements.exists(s, s.opaque || s.relations.exists(r, r.schema == 'secret'))"
POLICIES = {
    "decided at Parse": SEEN,
    "decided at Execute": f"{SEEN} || sql.params.exists(p, p == 'evil')",
}
"""A rule that reads parameters puts the decision off until Bind and Execute."""

SELECT = "select * from t"
UPPER = "select upper(email) as x from customers"
TO_SECRET, TO_PUBLIC = "set search_path = secret", "set search_path = public"
LONG = "n" * 63
"""PostgreSQL reads no more of a name."""


def run(sql: str, *, statement: str = "", portal: str = "") -> bytes:
    return parse(sql, statement) + bind(portal, statement) + execute(portal)


def queries(agent: Wire, *texts: str) -> list[Message]:
    return [message for text in texts for message in agent.simple(text)]


def sent(agent: Wire, *messages: bytes, ready: int = 1) -> list[Message]:
    agent.send(b"".join(messages))
    return agent.until(count=ready)


def portal_bound_under_another_path(agent: Wire) -> list[Message]:
    sent(agent, parse(SELECT, "s"), SYNC)
    queries(agent, "begin", TO_SECRET)
    sent(agent, bind("p", "s"), SYNC)
    return [*agent.simple(TO_PUBLIC), *sent(agent, execute("p"), SYNC)]


def masked_portal_bound_under_another_path(agent: Wire) -> list[Message]:
    queries(agent, "begin")
    sent(agent, parse(UPPER, "s"), bind("p", "s"), SYNC)
    return [*agent.simple("set search_path = other"), *sent(agent, execute("p"), SYNC)]


def cursor_declared_under_another_path(agent: Wire) -> list[Message]:
    queries(agent, "begin", f"declare c cursor for {UPPER}")
    return queries(agent, "set local search_path = other, public", "fetch all from c")


def cursor_declared_behind_a_set(agent: Wire) -> list[Message]:
    queries(agent, "set search_path = other", "begin")
    queries(agent, f"set search_path = public; declare c cursor for {UPPER}; set search_path = other")
    return agent.simple("fetch all from c")


def cursor_whose_table_is_hidden_by_a_new_one(agent: Wire) -> list[Message]:
    queries(agent, "drop schema if exists first cascade", "create schema first", "set search_path = first, public")
    queries(agent, "begin", f"declare h cursor with hold for {UPPER}", "commit")
    return queries(agent, "create table first.customers (id int, email text)", "fetch all from h")


def table_dropped_in_this_transaction(agent: Wire) -> list[Message]:
    queries(agent, "drop schema if exists first cascade", "create schema first", "set search_path = first, public")
    queries(agent, "create table first.customers (id int, email text)", UPPER, "begin", "drop table first.customers")
    return queries(agent, UPPER, "rollback")


def block_that_copies(agent: Wire) -> list[Message]:
    queries(agent, "do $$begin insert into loaded select email from customers; end$$")
    return agent.simple("select * from loaded")


def block_that_keeps_it_in_a_setting(agent: Wire) -> list[Message]:
    block = "declare e text; begin select email into e from customers; perform set_config('a.b', e, false); end"
    return queries(agent, f"do $${block}$$", "show a.b")


def file_of_the_server(agent: Wire) -> list[Message]:
    queries(agent, "copy (select email from customers) to '/tmp/ostiary-masked'")
    return queries(agent, "copy loaded from '/tmp/ostiary-masked'", "select * from loaded")


def mask_behind_a_set(agent: Wire) -> list[Message]:
    return queries(agent, "set search_path = other", f"{TO_PUBLIC}; {UPPER}")


def mask_behind_a_rollback(agent: Wire) -> list[Message]:
    return queries(agent, TO_PUBLIC, f"set search_path = other; rollback; {UPPER}")


def view_replaced_in_this_transaction(agent: Wire) -> list[Message]:
    another = f"create or replace view harmless as select x as u from ({UPPER}) q"
    return queries(agent, "select u from harmless", "begin", another, "select u from harmless", "rollback")


def rollback_in_one_query(agent: Wire) -> list[Message]:
    return queries(agent, TO_SECRET, f"begin; {TO_PUBLIC}; rollback; {SELECT}")


def rollback_of_what_is_implicit(agent: Wire) -> list[Message]:
    return queries(agent, TO_SECRET, f"{TO_PUBLIC}; rollback; {SELECT}")


def rollback_of_a_failed_transaction(agent: Wire) -> list[Message]:
    return queries(agent, TO_SECRET, "begin", TO_PUBLIC, "select 1", "select 1/0", f"rollback; {SELECT}")


def rollback_to_a_savepoint(agent: Wire) -> list[Message]:
    return queries(agent, TO_SECRET, "begin", "savepoint a", TO_PUBLIC, "select 1", f"rollback to a; {SELECT}")


def commit_that_ends_set_local(agent: Wire) -> list[Message]:
    return queries(agent, TO_SECRET, "begin", "set local search_path = public", "select 1", f"commit; {SELECT}")


def pipelined_rollback_of_a_failed_transaction(agent: Wire) -> list[Message]:
    queries(agent, TO_SECRET, "begin", TO_PUBLIC, "select 1", "select 1/0")
    return sent(agent, run("rollback"), run(SELECT), SYNC)


def sync_that_ends_set_local(agent: Wire) -> list[Message]:
    queries(agent, TO_SECRET)
    return sent(agent, run("set local search_path = public"), run("select 1"), SYNC, query(SELECT), ready=2)


def error_that_undoes_a_set_in_its_pipeline(agent: Wire) -> list[Message]:
    queries(agent, TO_SECRET)
    late = "select 1 / (select count(*) - 1 from pg_sleep(0.2))"
    return sent(agent, run(TO_PUBLIC), run("select 1"), run(late), SYNC, query(SELECT), ready=2)


def query_behind_the_end_of_a_copy(agent: Wire) -> list[Message]:
    agent.send(query(f"{TO_SECRET}; copy public.loaded from stdin"))
    agent.until("G")
    return sent(agent, frame("c"), query(SELECT), ready=2)


def two_statements_of_one_long_name(agent: Wire) -> list[Message]:
    safe, other = LONG + "1", LONG + "2"
    begun = sent(agent, parse("select 'x' as x", safe), close("S", other), parse(UPPER, other), SYNC)
    return [*begun, *sent(agent, bind("", safe), execute(), SYNC)]


def denied_statement_of_a_long_name(agent: Wire) -> list[Message]:
    safe, other = LONG + "1", LONG + "2"
    begun = sent(agent, parse("select 'x' as x", safe), close("S", other), parse("select * from secret.t", other), SYNC)
    return [*begun, *sent(agent, bind("", safe), execute(), SYNC)]


def two_portals_of_one_long_name(agent: Wire) -> list[Message]:
    queries(agent, "begin")
    sent(agent, parse("select 'x' as x", "a"), parse(UPPER, "b"), SYNC)
    begun = sent(agent, bind(LONG + "1", "a"), close("P", LONG + "2"), bind(LONG + "2", "b"), SYNC)
    return [*begun, *sent(agent, execute(LONG + "1"), SYNC)]


PLAYS = [
    portal_bound_under_another_path, masked_portal_bound_under_another_path, cursor_declared_under_another_path,
    cursor_declared_behind_a_set, cursor_whose_table_is_hidden_by_a_new_one, table_dropped_in_this_transaction,
    block_that_copies, block_that_keeps_it_in_a_setting, file_of_the_server,
    mask_behind_a_set, mask_behind_a_rollback, view_replaced_in_this_transaction,
    rollback_in_one_query, rollback_of_what_is_implicit,
    rollback_of_a_failed_transaction, rollback_to_a_savepoint, commit_that_ends_set_local,
    pipelined_rollback_of_a_failed_transaction, sync_that_ends_set_local, error_that_undoes_a_set_in_its_pipeline,
    query_behind_the_end_of_a_copy, two_statements_of_one_long_name, denied_statement_of_a_long_name,
    two_portals_of_one_long_name,
]  # fmt: skip


@pytest.fixture(scope="module", params=POLICIES)
def gateway(request: pytest.FixtureRequest, pg18: Server, start_gateway: Callable[..., Gateway]) -> Gateway:
    pg18.recreate("plays")
    session = Wire.login(pg18.host, pg18.port, user=pg18.user, password=pg18.password, database="plays")
    assert not [m.fields for m in session.simple(WORLD) if m.type == "E"]
    session.close()
    rules = [
        {"name": "no-secret", "action": "Deny", "expression": POLICIES[request.param]},
        {"name": "all", "action": "Allow", "expression": "true"},
        MASK,
    ]
    return start_gateway(pg18, policy("plays", rules), database="plays")


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[Wire]:
    yield Wire.login(gateway.host, gateway.port, user=gateway.user, password=gateway.password, database="plays")
    close_all()


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__)
def test_it_gains_nothing(play: Callable[[Wire], list[Message]], agent: Wire, pg18: Server) -> None:
    told = b"\n".join(message.body for message in play(agent))
    assert DENIED.encode() not in told
    assert MASKED.encode() not in told


def test_a_text_may_copy_in_twice(agent: Wire) -> None:
    agent.send(query("copy loaded from stdin; copy loaded from stdin"))
    agent.until("G")
    agent.send(frame("d", b"one\n") + frame("c"))
    told = agent.until("G")
    agent.send(frame("d", b"two\n") + frame("c"))
    told += agent.until()
    assert [message.text for message in told if message.type == "C"] == ["COPY 1", "COPY 1"]


def test_names_are_as_long_as_the_server_takes_them(agent: Wire) -> None:
    told = sent(agent, parse("select 'here'", LONG + "1"), bind(LONG + "1", LONG + "2"), execute(LONG), SYNC)
    assert [message.cells for message in told if message.type == "D"] == [[b"here"]]


def test_a_token_that_was_revoked_during_the_login_opens_no_session(
    pg18: Server, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(pg18)
    slow = Wire.open(gateway.host, gateway.port)
    slow.send(startup(gateway.user, pg18.database))
    assert slow.receive().type == "R"
    kept = [item for item in gateway.connection_manifests if item["metadata"] != {"name": "planner-token"}]
    another = agent_token("planner-token", "another token of enough entropy 0123456789", "planner")
    gateway.write(*kept, ALLOW_ALL, another)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            gateway.login().close()
        except Refused:
            break
        time.sleep(0.1)
    slow.send(frame("p", TOKEN.encode() + b"\0"))
    assert [error["C"] for error in errors(slow.until("ZE"))] == ["57P01"]


def test_what_a_session_can_make_the_gateway_hold_has_an_end(gateway: Gateway, agent: Wire) -> None:
    """Parameters under names, parameters under way, and what is remembered of texts."""
    large, before = b"x" * 900_000, gateway.resident()
    agent.simple("begin")
    sent(agent, parse("select $1::text is null", "s"), SYNC)
    told = [message for number in range(200) for message in sent(agent, bind(f"p{number}", "s", [large]), SYNC)]
    assert "54000" in {error["C"] for error in errors(told)}
    agent.simple("rollback")
    agent.send(b"".join(bind("", "s", [large]) for _ in range(200)))
    sent(agent, SYNC)
    for number in range(20):
        agent.simple(f"select {number};" + "select 1;" * 3000)
    assert gateway.resident() - before < 160 << 20


def test_who_waits_for_an_estimate_keeps_nobody_waiting(pg18: Server, start_gateway: Callable[..., Gateway]) -> None:
    pg18.recreate("plays")
    big = {"name": "big", "action": "Deny", "expression": "sql.estimatedRows > 1000"}
    rules = [big, {"name": "all", "action": "Allow", "expression": "true"}]
    gateway = start_gateway(pg18, policy("estimates", rules), database="plays")
    gateway.database = "plays"
    first, second = gateway.login(), gateway.login()
    queries(first, "create table held (a int)", "analyze held", "begin", "alter table held add column b int")
    started = time.monotonic()
    first.send(query("delete from held where a = 1"))
    second.simple("select 1 from pg_class limit 1")
    assert [error["C"] for error in errors(first.until())] == ["58000"]
    assert time.monotonic() - started < 5


def test_an_error_of_many_quotes_takes_no_time(agent: Wire) -> None:
    pieces = '"'.join(f"k{number}" for number in range(60_000))
    started = time.monotonic()
    agent.simple(f"select '{'x' * 400_000}', ('{pieces}' || clock_timestamp()::text)::int")
    assert time.monotonic() - started < 5


def test_what_policies_read_of_the_session_is_known_before_the_next_request(
    pg18: Server, start_gateway: Callable[..., Gateway]
) -> None:
    pg18.recreate("plays")
    rules = [
        {"name": "budget", "action": "Deny", "expression": "request.session.rowsWritten >= 2"},
        {
            "name": "safely", "action": "Deny",
            "expression": "!sql.inTransaction && sql.statements.exists(s, s.verb == 'DELETE')",
        },
        {"name": "all", "action": "Allow", "expression": "true"},
    ]  # fmt: skip
    gateway = start_gateway(pg18, policy("budget", rules), database="plays", audit="Relaxed")
    gateway.database = "plays"
    agent = gateway.login()
    agent.simple("create table t (a int)")
    told = sent(agent, run("begin"), run("delete from t"), run("commit"), run("delete from t"), SYNC)
    assert [m.text for m in told if m.type == "C"] == ["BEGIN", "DELETE 0", "COMMIT"]
    assert [error["C"] for error in errors(told)] == ["42501"]
    told = sent(agent, *(query("insert into t values (1)") for _ in range(5)), ready=5)
    assert [m.text for m in told if m.type == "C"] == ["INSERT 0 1"] * 2
