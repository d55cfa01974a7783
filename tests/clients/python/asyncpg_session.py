"""A session of asyncpg, as an agent would have it. The server comes from the PG… variables."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import io
import json
import uuid

import asyncpg
from report import Report


def error(failure: asyncpg.PostgresError) -> dict[str, object]:
    return {
        "class": type(failure).__name__,
        "sqlstate": failure.sqlstate,
        "message": failure.message,
        "detail": failure.detail,
        "hint": failure.hint,
        "position": failure.position,
        "constraint": failure.constraint_name,
        "context": failure.context,
    }


async def failing(connection: asyncpg.Connection, text: str, *values: object) -> object:
    try:
        await connection.fetch(text, *values)
    except asyncpg.PostgresError as failure:
        return error(failure)
    return "no error"


async def queries(connection: asyncpg.Connection, report: Report) -> None:
    report.saw("version", list(connection.get_server_version()))
    report.saw(
        "settings",
        {
            name: getattr(connection.get_settings(), name)
            for name in ("client_encoding", "standard_conforming_strings", "server_encoding", "TimeZone")
        },
    )
    report.saw(
        "script",
        await connection.execute(
            "create table people (id serial primary key, name text, tags text[]);"
            " insert into people(name) values ('Ada')"
        ),
    )
    report.saw(
        "insert", await connection.execute("insert into people(name, tags) values ($1, $2)", "Émile", ["a", None])
    )
    report.saw("rows", [dict(row) for row in await connection.fetch("select * from people order by id")])
    values = (
        7,
        1.5,
        decimal.Decimal("3.14"),
        "é\n",
        b"\x00\xff",
        True,
        None,
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC),
        datetime.timedelta(hours=3),
        uuid.UUID(int=9),
        [[1, 2], [3, 4]],
    )
    row = await connection.fetchrow(
        "select $1::int, $2::float8, $3::numeric, $4::text, $5::bytea, $6::bool, $7::text, $8::date, $9::timestamptz,"
        " $10::interval, $11::uuid, $12::int[]",
        *values,
    )
    report.saw("values", list(row or ()))
    report.saw(
        "executemany",
        await connection.executemany("insert into people(name) values ($1)", [(f"p{n}",) for n in range(300)]),
    )
    report.saw("count", await connection.fetchval("select count(*) from people"))
    report.saw(
        "fetchmany",
        [
            list(r)
            for r in await connection.fetchmany("insert into people(name) values ($1) returning name", [("x",), ("y",)])
        ],
    )
    report.saw("large", len(await connection.fetchval("select repeat('x', 5000000)")))


async def types(connection: asyncpg.Connection, report: Report) -> None:
    await connection.execute(
        "create type mood as enum ('sad', 'ok'); create type pair as (a int, m mood);"
        "create domain positive as int check (value > 0);"
        " create table felt (p pair, ps pair[], r int4range, d positive)"
    )
    await connection.execute(
        "insert into felt values ($1, $2, $3, $4)", (1, "ok"), [(2, "sad"), (3, None)], asyncpg.Range(1, 5), 4
    )
    row = await connection.fetchrow("select * from felt")
    report.saw("introspected types", [repr(value) for value in row or ()])
    report.saw("enum array", await connection.fetchval("select array['ok', 'sad']::mood[]"))
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    report.saw("jsonb codec", await connection.fetchval("select $1::jsonb", {"a": [1, None, "é"]}))
    report.saw("domain error", await failing(connection, "insert into felt(d) values (-1)"))


async def statements(connection: asyncpg.Connection, report: Report) -> None:
    statement = await connection.prepare("select id, name from people where id < $1 order by id")
    report.saw("parameters", [t.name for t in statement.get_parameters()])
    report.saw("attributes", [(a.name, a.type.name) for a in statement.get_attributes()])
    report.saw("prepared", [[list(r) for r in await statement.fetch(n)] for n in (2, 4)])
    report.saw("status", statement.get_statusmsg())
    report.saw("explain", "Plan" in (await statement.explain(5))[0])
    async with connection.transaction():
        cursor = await connection.cursor("select n from generate_series(1, 500) n")
        report.saw(
            "cursor", [[r[0] for r in await cursor.fetch(5)], await cursor.forward(90), list(await cursor.fetchrow())]
        )
        report.saw(
            "iterated",
            sum([r[0] async for r in connection.cursor("select n from generate_series(1, 500) n", prefetch=7)]),
        )
    await connection.execute("alter table people add column extra int default 5")
    report.saw("after ALTER", [list(r) for r in await connection.fetch("select * from people where id = 1")])


async def failures(connection: asyncpg.Connection, report: Report) -> None:
    for text in (
        "select 1/0",
        "selec",
        "select nope from people",
        "insert into people(id) values (1)",
        "select * from not_there",
        "do $$ begin raise exception 'mine' using errcode = 'XX123'; end $$",
    ):
        report.saw(f"error: {text}", await failing(connection, text))
    try:
        async with connection.transaction():
            await connection.execute("insert into people(name) values ('lost')")
            report.saw("in transaction", connection.is_in_transaction())
            await connection.execute("select 1/0")
    except asyncpg.DivisionByZeroError as failure:
        report.saw("rolled back", error(failure))
    report.saw("nothing left", await connection.fetchval("select count(*) from people where name = 'lost'"))
    transaction = connection.transaction(isolation="serializable", readonly=True, deferrable=True)
    await transaction.start()
    report.saw("read only", await failing(connection, "delete from people"))
    report.saw("aborted", await failing(connection, "select 1"))
    await transaction.rollback()


async def copies(connection: asyncpg.Connection, report: Report) -> None:
    await connection.execute("create table copied (id int, body text)")
    report.saw("records", await connection.copy_records_to_table("copied", records=[(n, f"r{n}") for n in range(3000)]))
    report.saw("csv in", await connection.copy_to_table("copied", source=io.BytesIO(b"1,a\n2,b\n"), format="csv"))
    out = io.BytesIO()
    report.saw("out", await connection.copy_from_table("copied", output=out, format="csv"))
    report.saw("out size", len(out.getvalue()))
    out = io.BytesIO()
    await connection.copy_from_query("select * from copied where id < $1 order by id, body", 3, output=out)
    report.saw("from query", out.getvalue().decode())
    try:
        await connection.copy_to_table("copied", source=io.BytesIO(b"x,a\n"), format="csv")
    except asyncpg.PostgresError as failure:
        report.saw("COPY error", error(failure))
    report.saw("after COPY error", await connection.fetchval("select count(*) from copied"))


async def cancels(connection: asyncpg.Connection, report: Report) -> None:
    try:
        await connection.execute("select pg_sleep(30)", timeout=0.3)
    except TimeoutError as failure:
        report.saw("timeout", type(failure).__name__)
    report.saw("after timeout", await connection.fetchval("select 'alive'"))
    task = asyncio.create_task(connection.fetch("select pg_sleep(30)"))
    await asyncio.sleep(0.2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        report.saw("task", "cancelled")
    report.saw("after cancel", await connection.fetchval("select 'alive'"))
    report.saw("server is free", await _no_sleeper(connection))


async def _no_sleeper(connection: asyncpg.Connection) -> bool:
    for _ in range(50):
        if not await connection.fetchval(
            "select count(*) from pg_stat_activity where query = 'select pg_sleep(30)' and state = 'active'"
        ):
            return True
        await asyncio.sleep(0.1)
    return False


async def notifications(connection: asyncpg.Connection, report: Report) -> None:
    queue: asyncio.Queue[list[str]] = asyncio.Queue()
    await connection.add_listener("news", lambda c, pid, channel, payload: queue.put_nowait([channel, payload]))
    logged: list[str] = []
    connection.add_log_listener(lambda c, message: logged.append(f"{message.severity}: {message.message}"))
    other = await asyncpg.connect()
    await other.execute("select pg_notify('news', 'first')")
    await other.execute("notify news, 'second'")
    await other.close()
    report.saw("notified", [await asyncio.wait_for(queue.get(), 10) for _ in range(2)])
    await connection.execute("do $$ begin raise notice 'hello'; end $$")
    await asyncio.sleep(0)
    report.saw("notices", logged)
    await connection.reset()


async def pool(report: Report) -> None:
    async with asyncpg.create_pool(min_size=2, max_size=5) as connections:
        sums = await asyncio.gather(
            *[connections.fetchval("select sum(n) from generate_series(1, $1) n", k) for k in range(1, 30)]
        )
        report.saw("pool", sums)


async def main() -> None:
    report = Report("asyncpg")
    connection = await asyncpg.connect(server_settings={"application_name": "asyncpg test", "search_path": "public"})
    for part in (queries, types, statements, failures, copies, cancels, notifications):
        await part(connection, report)
    await connection.close()
    await pool(report)
    report.print()


if __name__ == "__main__":
    asyncio.run(main())
