"""A decision stands for other literals only while nothing that it rests on has changed."""

from __future__ import annotations

import time

import psycopg
import pytest
from postgast import fingerprint
from support.gateway import StartGateway, policy
from support.servers import Server

DENIED = psycopg.errors.InsufficientPrivilege
ALLOW = {"name": "rest", "action": "Allow", "expression": "true"}


def warm(agent: psycopg.Connection, text: str) -> None:
    """Often enough that what was found out is kept for all literals."""
    for number in range(4):
        agent.execute(text.format(number))


def test_fingerprints_are_there_for_a_policy_that_reads_them(pg18: Server, start_gateway: StartGateway) -> None:
    refused = fingerprint("select 1 + 1").hex
    rule = {
        "name": "no-sums", "action": "Deny", "expression": f"sql.statements.exists(s, s.fingerprint == '{refused}')",
    }  # fmt: skip
    gateway = start_gateway(pg18, policy("guard", [rule, ALLOW]))
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute("select 1")
        with pytest.raises(DENIED):
            agent.execute("select 5 + 7")


def test_a_rule_that_reads_the_text_sees_every_text(pg18: Server, start_gateway: StartGateway) -> None:
    rule = {"name": "not-thirteen", "action": "Deny", "expression": "sql.statements.exists(s, s.text.contains('13'))"}
    gateway = start_gateway(pg18, policy("guard", [rule, ALLOW]))
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        warm(agent, "select {}")
        with pytest.raises(DENIED):
            agent.execute("select 13")


def test_a_new_policy_holds_for_the_next_request(pg18: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(pg18, policy("guard", [ALLOW]))
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        warm(agent, "select {} as n")
        agent.execute("prepare p as select 5")
        deny = {"name": "no-more", "action": "Deny", "expression": "sql.statements.exists(s, s.verb == 'SELECT')"}
        gateway.write(*gateway.connection_manifests, policy("guard", [deny, ALLOW]))
        deadline = time.monotonic() + 10
        with pytest.raises(DENIED):
            while time.monotonic() < deadline:
                agent.execute("select 77 as n")
                time.sleep(0.05)


def test_a_path_that_was_moved_gives_names_another_meaning(pg18: Server, start_gateway: StartGateway) -> None:
    pg18.sql(
        "drop schema if exists secret cascade; create schema secret; create table if not exists public.plain (id int); "
        "create table secret.plain (id int)",
        pg18.database,
    )
    rule = {
        "name": "no-secrets", "action": "Deny",
        "expression": "sql.statements.exists(s, s.relations.exists(r, r.schema == 'secret'))",
    }  # fmt: skip
    gateway = start_gateway(pg18, policy("guard", [rule, ALLOW]))
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        warm(agent, "select id from plain where id = {}")
        agent.execute("set search_path = secret, public")
        with pytest.raises(DENIED):
            agent.execute("select id from plain where id = 9")
        agent.execute("set search_path = public")
        agent.execute("select id from plain where id = 10")
        agent.execute("create temp table plain (id int)")
        agent.execute("select id from plain where id = 11")
