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
