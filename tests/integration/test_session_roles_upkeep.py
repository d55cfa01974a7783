"""The upkeep of session roles, without a gateway around it: owners that live and die, time to live, retries."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from support import roles
from support.servers import Server

from ostiary_api.connection import PostgresRoleCredentials
from ostiary_gateway.counters import Counters
from ostiary_gateway.ids import new_id
from ostiary_gateway.loop import new_event_loop
from ostiary_gateway.protocols.postgres import session_roles
from ostiary_gateway.protocols.postgres.auth import KeyCache
from ostiary_gateway.protocols.postgres.session_roles import SessionRoles
from ostiary_gateway.protocols.postgres.upstream import ServerSession, Target, UpstreamError, connect, enter, show

CONNECTION = "default/app"


@pytest.fixture(scope="module", params=["pg15", "pg18"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    found: Server = request.getfixturevalue(request.param)
    roles.prepare(found)
    yield found
    roles.clean(found)


def new(server: Server, *, ttl: float = 900.0, password: str = roles.ADMIN_PASSWORD) -> SessionRoles:
    tls = ssl.create_default_context(cafile=str(server.ca)) if server.ca is not None else None
    target = Target(server.host, server.port, roles.ADMIN, password, tls, server.host)
    spec = PostgresRoleCredentials.model_construct(admin_secret_ref=None, member_of=("app_rw", "app_ro"), ttl=ttl)
    return SessionRoles(CONNECTION, target, spec, server.database, KeyCache(), Counters())


@asynccontextmanager
async def running(made: SessionRoles) -> AsyncIterator[SessionRoles]:
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def session(made: SessionRoles, server: Server) -> tuple[ServerSession, Target]:
    settings = {"database": server.database}
    return await enter(made, settings, KeyCache(), session=new_id(), agent="system:serviceaccount:agents:planner")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.05)


def there(server: Server, role: str) -> bool:
    return role in roles.session_roles(server)


async def test_a_role_that_was_made_and_not_used_yet_is_safe_from_other_owners(server: Server) -> None:
    async with running(new(server)) as one:
        waiting = await one.take(new_id(), "planner")
        async with running(new(server)) as other:
            await until(lambda: other._counters.roles_stuck == {CONNECTION: 0})  # it has swept
            assert there(server, waiting.user)
        one.give_back(waiting)
        await until(lambda: not there(server, waiting.user))


async def test_roles_of_an_owner_that_died_are_swept_and_those_in_use_are_not(server: Server) -> None:
    dead = new(server)
    unused = await dead.take(new_id(), "planner")
    used, target = await session(dead, server)
    await dead._admin.close()  # as when its process is killed; only the one session lingers
    await until(lambda: dead.owner not in server.sql("select application_name from pg_stat_activity"))
    async with running(new(server)) as heir:
        await until(lambda: not there(server, unused.user))
        assert there(server, target.user)
        used.leg.close()
        await used.leg.lost
        await until(lambda: target.user not in server.sql("select usename from pg_stat_activity"))
        await heir._sweep()
        heir._wake.set()
        await until(lambda: not there(server, target.user))
        assert heir._counters.roles[CONNECTION, "swept"] == 2


async def test_a_session_goes_on_after_its_ttl_and_nobody_logs_in_any_more(server: Server) -> None:
    async with running(new(server, ttl=4.0)) as made:
        opened, target = await session(made, server)
        server.sql(f'alter role "{target.user}" connection limit -1')
        await asyncio.sleep(4.5)
        assert await show(opened, ("role",)) == ("app_rw",)
        with pytest.raises(UpstreamError, match="password authentication failed"):
            await connect(target, {"database": server.database}, KeyCache())
        opened.leg.close()
        await until(lambda: not there(server, target.user))


async def test_one_login_for_one_connection(server: Server) -> None:
    async with running(new(server)) as made:
        opened, target = await session(made, server)
        with pytest.raises(UpstreamError, match="is not permitted to log in"):
            await connect(target, {"database": server.database}, KeyCache())
        opened.leg.close()


async def test_what_could_not_be_dropped_is_tried_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_roles, "SWEEP", 0.3)
    server.sql("create table granted (a int)")
    async with running(new(server)) as made:
        opened, target = await session(made, server)
        server.sql(f'grant select on granted to "{target.user}"')
        opened.leg.close()
        await until(lambda: made._counters.roles_stuck.get(CONNECTION) == 1)
        with pytest.raises(UpstreamError, match="password authentication failed"):
            await connect(target, {"database": server.database}, KeyCache())
        server.sql(f'revoke select on granted from "{target.user}"')
        await until(lambda: not there(server, target.user))
        await until(lambda: made._counters.roles_stuck.get(CONNECTION) == 0)
    server.sql("drop table granted")


async def test_an_open_transaction_that_names_the_role_holds_nothing_else_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_roles, "SWEEP", 0.3)
    server.sql("create table granted (a int)")
    async with running(new(server)) as made:
        (first, named), (second, other) = await session(made, server), await session(made, server)
        with psycopg.connect(server.dsn()) as open_transaction:
            open_transaction.execute(f'grant select on granted to "{named.user}"'.encode())
            first.leg.close()
            second.leg.close()
            await until(lambda: not there(server, other.user))
            await until(lambda: made._counters.roles_stuck.get(CONNECTION) == 1)
            open_transaction.rollback()
        await until(lambda: not there(server, named.user))
    server.sql("drop table granted")


async def test_a_wrong_way_in_leaves_no_role(server: Server) -> None:
    async with running(new(server)) as made:
        with pytest.raises(UpstreamError, match='database "no_such" does not exist'):
            await enter(made, {"database": "no_such"}, KeyCache(), session=new_id(), agent="planner")
        await until(lambda: not roles.session_roles(server))


def test_a_login_that_is_given_up_in_the_middle_leaves_no_role(server: Server) -> None:
    async def given_up() -> None:
        async with running(new(server)) as made:
            for delay in (0.0, 0.001, 0.003, 0.006, 0.01, 0.02):
                task = asyncio.create_task(session(made, server))
                await asyncio.sleep(delay)
                task.cancel()
                await asyncio.wait((task,))
                if not task.cancelled():
                    task.result()[0].leg.close()
            await until(lambda: not made._leaving and not made._live)
            await made._sweep()
            made._wake.set()
            await until(lambda: not roles.session_roles(server))

    # The gateway's own loop: that of asyncio may lose a socket when a connect is cancelled.
    with asyncio.Runner(loop_factory=new_event_loop) as loop:
        loop.run(given_up())


async def test_a_server_that_is_away_is_tried_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_roles, "RETRY", 0.2)
    async with running(new(server)) as made:
        opened, target = await session(made, server)
        server.sql(f"alter role {roles.ADMIN} nologin")
        try:
            server.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{roles.ADMIN}'")
            opened.leg.close()
            await asyncio.sleep(1)
            assert there(server, target.user)
        finally:
            server.sql(f"alter role {roles.ADMIN} login")
        await until(lambda: not there(server, target.user))
