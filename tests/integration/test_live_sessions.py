"""What runs on PostgreSQL can be looked at and ended by who owns the gateway; the server stops working on it."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.errors import AdminShutdown
from support.gateway import ALLOW_ALL, Gateway, StartGateway
from support.servers import Server
from support.waiting import until


@pytest.fixture(scope="module")
def gateway(pg18: Server, start_gateway: StartGateway) -> Gateway:
    return start_gateway(pg18, ALLOW_ALL)


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        yield session


def live(gateway: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gateway.run("sessions", "--live", "--json").splitlines()]


def test_a_statement_that_is_ended_ends_at_the_server_too(
    pg18: Server, gateway: Gateway, agent: psycopg.Connection[Any]
) -> None:
    def running() -> str:
        found = [run for each in live(gateway) for run in each["running"] if "pg_sleep(61)" in run["text"]]
        return str(found[0]["request"]) if found else ""

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(agent.execute, "select pg_sleep(61)")
        request = until(running, "the statement runs", 20)
        assert gateway.run("kill", request, "--reason", "it holds a lock") == f"Ended {request}.\n"
        with pytest.raises(AdminShutdown, match=f"Ended by {getpass.getuser()}: it holds a lock."):
            asked.result(30)

    def gone() -> bool:
        query = "select count(*) from pg_stat_activity where query like '%pg_sleep(61)%' and pid <> pg_backend_pid()"
        return "0" in str(pg18.sql(query))

    until(gone, "the server has stopped it", 20)
    assert f"Ended by {getpass.getuser()}: it holds a lock." in gateway.run("export")


def test_an_idle_session_is_seen_and_ended(gateway: Gateway, agent: psycopg.Connection[Any]) -> None:
    agent.execute("select 1")
    (session,) = live(gateway)
    assert (session["username"], session["protocol"], session["running"]) == ("planner", "Postgres", [])
    assert "nothing" in gateway.run("sessions", "--live")
    gateway.run("kill", session["session"])
    with pytest.raises(AdminShutdown, match=f"Ended by {getpass.getuser()}."):
        agent.execute("select 1")


def test_whatever_an_agent_sends_nothing_runs_when_it_has_its_answers(
    gateway: Gateway, agent: psycopg.Connection[Any]
) -> None:
    def refused(statement: str) -> None:
        with pytest.raises(psycopg.Error):
            agent.execute(statement)  # type: ignore[arg-type]

    for statement in ("selct", "select 1/0", "select * from nowhere", "copy nowhere to stdout", "set role nobody"):
        refused(statement)
    agent.execute("begin; select 1; select 2; commit")
    refused("begin; select 1/0; select 2")
    agent.execute("rollback")
    for number in range(8):  # prepared from the fifth time on
        agent.execute("select %s::int", (number,))
    with agent.pipeline(), agent.cursor() as cursor:
        for number in range(5):
            cursor.execute("select %s::int", (number,))
    with pytest.raises(psycopg.Error), agent.pipeline():
        agent.execute("select 1")
        agent.execute("select 1/0")
        agent.execute("select 2")
    agent.rollback()
    with agent.cursor() as cursor, cursor.copy("copy (select generate_series(1, 10)) to stdout") as copy:
        assert len(list(copy)) == 10
    with agent.cursor() as cursor:
        cursor.execute("create temporary table live (x int)")
        with cursor.copy("copy live from stdin") as copy:
            copy.write_row((1,))
        with pytest.raises(psycopg.Error), cursor.copy("copy live from stdin") as copy:
            copy.write("no number\n")
    with agent.transaction(), agent.cursor("named") as named:
        named.execute("select generate_series(1, 100)")
        assert len(named.fetchmany(10)) == 10
    agent.execute("select 1")
    (session,) = live(gateway)
    assert session["running"] == []
