"""Decisions on the real path: what rules read is what is so at that moment, however the client says it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from support import gateway as gateways
from support.gateway import Gateway, StartGateway, policy
from support.servers import Server

DENIED = psycopg.errors.InsufficientPrivilege

RULES = [
    {
        "name": "big-writes",
        "action": "Deny",
        "expression": "sql.statements.exists(s, s.verb in ['UPDATE', 'DELETE', 'TRUNCATE']) && sql.estimatedRows > 100",
        "messageExpression": "'This would change about ' + string(sql.estimatedRows) + ' rows.'",
    },
    {"name": "not-thirteen", "action": "Deny", "expression": "sql.params.exists(p, p == '13')"},
    {
        "name": "hidden-schema",
        "action": "Deny",
        "expression": "sql.statements.exists(s, s.relations.exists(r, r.schema == 'hidden'))",
    },
    {"name": "as-owner", "action": "Deny", "expression": "sql.user == 'nobody_special'"},
    {
        "name": "ask-first",
        "action": "RequireApproval",
        "expression": "sql.statements.exists(s, s.kind == 'INDEX')",
        "approval": {"groups": ["dba"], "wait": "0s"},
    },
    {"name": "rest", "action": "Allow", "expression": "true"},
]


@pytest.fixture(scope="module")
def gateway(pg18: Server, start_gateway: StartGateway) -> Gateway:
    pg18.recreate(pg18.database)
    pg18.sql(
        """
        create table things (id int primary key, name text);
        insert into things select n, 'thing ' || n from generate_series(1, 5000) n;
        create schema hidden; create table hidden.things (id int, name text);
        drop role if exists nobody_special; create role nobody_special;
        analyze things
        """,
        pg18.database,
    )
    return start_gateway(pg18, policy("guard", RULES))


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[psycopg.Connection]:
    connection = psycopg.connect(gateway.dsn(), autocommit=True)
    yield connection
    connection.close()  # as it is: a COMMIT could be denied


def test_a_large_update_is_denied_by_the_planners_estimate_and_a_small_one_runs(agent: psycopg.Connection) -> None:
    with pytest.raises(DENIED, match=r"about 5000 rows"):
        agent.execute("update things set name = name")
    assert agent.execute("update things set name = name where id = 7").rowcount == 1


def test_the_estimate_knows_the_parameters(agent: psycopg.Connection) -> None:
    with pytest.raises(DENIED, match=r"about \d{4} rows"):
        agent.execute("delete from things where id > %s", (10,))
    assert agent.execute("delete from things where id > %s", (4999,)).rowcount == 1
    agent.execute("insert into things values (5000, 'again')")


def test_a_modifying_cte_is_estimated_by_what_it_changes(agent: psycopg.Connection) -> None:
    with pytest.raises(DENIED, match="rows"):
        agent.execute("with gone as (delete from things returning id) update things set id = 1 where id = 1")


def test_truncate_is_estimated_by_the_tables_size(agent: psycopg.Connection) -> None:
    with pytest.raises(DENIED, match="about 5000 rows"):
        agent.execute("truncate things")


def test_what_cannot_be_estimated_is_told_as_the_server_would(agent: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn, match="nope"):
        agent.execute("update things set nope = 1")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_parameters_are_seen_in_text_and_binary(agent: psycopg.Connection, binary: bool, prepare: bool) -> None:
    placeholder = "%b" if binary else "%t"
    query = f"select id from things where id = {placeholder}::int"
    for _ in range(2):
        assert agent.execute(query, (12,), prepare=prepare).fetchone() == (12,)
        with pytest.raises(DENIED, match="not-thirteen"):
            agent.execute(query, (13,), prepare=prepare)


def test_a_parameter_that_cannot_be_read_is_denied_where_a_rule_reads_it(agent: psycopg.Connection) -> None:
    agent.execute("create type pair as (a int, b int)")
    with pytest.raises(DENIED, match=r"sql\.params"):
        result = agent.pgconn.exec_params(b"select $1::pair", [b"\0\0\0\0"], param_formats=[1])
        raise_for(result)
    agent.execute("drop type pair")


def raise_for(result: psycopg.pq.PGresult) -> None:
    if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)


def test_search_path_is_followed_through_set_rollback_and_savepoints(agent: psycopg.Connection) -> None:
    agent.execute("select * from things where id = 1")
    agent.execute("set search_path = hidden")
    with pytest.raises(DENIED, match="hidden-schema"):
        agent.execute("select * from things")
    agent.execute("reset search_path")
    agent.execute("select * from things where id = 1")
    with agent.transaction():
        agent.execute("savepoint s")
        agent.execute("select set_config('search_path', 'hidden', true)")
        with pytest.raises(DENIED, match="hidden-schema"):
            agent.execute("select * from things")
        agent.execute("rollback to s")
        assert agent.execute("select count(*) from things").fetchone() == (5000,)


def test_search_path_is_followed_inside_a_pipeline(agent: psycopg.Connection) -> None:
    with pytest.raises(DENIED, match="hidden-schema"), agent.pipeline():
        agent.execute("set search_path = hidden")
        agent.execute("select * from things")
    assert agent.execute("show search_path").fetchone() == ('"$user", public',)


def test_one_query_that_changes_what_its_names_mean_is_not_guessed(agent: psycopg.Connection) -> None:
    with pytest.raises(DENIED, match="hidden-schema"):
        agent.execute("set search_path = hidden; select * from things")
    agent.execute("reset search_path")


def test_the_role_is_followed(agent: psycopg.Connection) -> None:
    agent.execute("set role nobody_special")
    with pytest.raises(DENIED, match="as-owner"):
        agent.execute("select 1")
    # A rule that locks everything locks RESET ROLE too: a new session has the login's role again.


def test_a_prepared_statement_is_decided_by_the_role_that_runs_it(agent: psycopg.Connection) -> None:
    agent.execute("prepare mine as select 1")
    assert agent.execute("execute mine").fetchone() == (1,)
    agent.execute("begin")
    agent.execute("set local role nobody_special")
    with pytest.raises(DENIED, match="as-owner"):
        agent.execute("execute mine")


def test_what_needs_approval_says_who_could_give_it(agent: psycopg.Connection) -> None:
    with pytest.raises(DENIED) as refused:
        agent.execute("create index on things (name)")
    detail = json.loads(refused.value.diag.message_detail or "")
    assert detail["decision"] == "RequireApproval"
    assert detail["approval"]["groups"] == ["dba"]
    assert detail["approval"]["name"] in (refused.value.diag.message_primary or "")
    assert detail["request"]


def test_a_denial_leads_to_its_record(agent: psycopg.Connection, gateway: Gateway) -> None:
    with pytest.raises(DENIED) as refused:
        agent.execute("select * from hidden.things")
    request = json.loads(refused.value.diag.message_detail or "")["request"]
    agent.close()
    lines = [json.loads(line) for line in gateway.run("export").splitlines()]
    assert any(line.get("request") == request for line in lines)


def test_what_cannot_be_known_says_why(pg18: Server, start_gateway: StartGateway) -> None:
    reads = {"name": "reads", "action": "Allow", "expression": "sql.statements.all(s, s.readOnly)"}
    gateway = start_gateway(pg18, policy("readers", [reads]))
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent, pytest.raises(DENIED) as refused:
        agent.execute("selec 1")
    assert 'syntax error at or near "selec"' in (refused.value.diag.message_primary or "")
    assert "syntax error" in json.loads(refused.value.diag.message_detail or "")["opaque"]


def settle(gateway: Gateway) -> None:
    """Until a change of the manifests is in force."""
    time.sleep(2.5)
    assert gateway.alive


def test_a_new_bundle_decides_the_next_request_of_open_sessions_and_prepared_statements(
    pg18: Server, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(pg18)
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        assert agent.execute("select 'before'", prepare=True).fetchone() == ("before",)
        stricter = policy("allow-all", [{"name": "nothing-from-before", "action": "Deny",
                                         "expression": "sql.text.contains('before')"},
                                        {"name": "rest", "action": "Allow", "expression": "true"}])  # fmt: skip
        gateway.write(*gateway.connection_manifests, stricter)
        settle(gateway)
        with pytest.raises(DENIED, match="nothing-from-before"):
            agent.execute("select 'before'", prepare=True)
        assert agent.execute("select 'after'").fetchone() == ("after",)


def test_a_revoked_token_ends_its_sessions(pg18: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(pg18)
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute("select 1")
        others = [item for item in gateway.connection_manifests if item["metadata"] != {"name": "planner-token"}]
        gateway.write(*others, gateways.agent_token("other", "another-token-altogether", "other"), gateways.ALLOW_ALL)
        settle(gateway)
        with pytest.raises(psycopg.OperationalError, match="revoked"):
            agent.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="no token that is known"):
        psycopg.connect(gateway.dsn())


def test_sessions_are_limited_and_idle_ones_are_closed(pg18: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(pg18, limits={"maxSessions": 2, "idleTimeout": "1s"})
    with psycopg.connect(gateway.dsn(), autocommit=True) as first, psycopg.connect(gateway.dsn()) as second:
        with pytest.raises(psycopg.OperationalError, match="2 sessions already"):
            psycopg.connect(gateway.dsn())
        second.close()
        assert first.execute("select pg_sleep(7)").fetchone() == ("",), "a statement that runs is not idle"
        time.sleep(7)
        with pytest.raises(psycopg.OperationalError, match="idle for more than 1 s"):
            first.execute("select 1")


def test_cancel_reaches_the_statement_and_nothing_else(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as one, psycopg.connect(gateway.dsn(), autocommit=True) as two:
        threading.Timer(0.5, one.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            one.execute("select pg_sleep(20)")
        assert one.execute("select 1").fetchone() == (1,)
        assert two.execute("select 2").fetchone() == (2,)
