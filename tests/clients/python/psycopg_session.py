"""A session of psycopg 3, sync and async, as an agent would have it. The server comes from the PG… variables."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import threading
import time
import uuid

import psycopg
from psycopg import pq, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from report import Report


def error(failure: psycopg.Error) -> dict[str, object]:
    diagnostic = failure.diag
    return {
        "class": type(failure).__name__,
        "sqlstate": failure.sqlstate,
        "message": diagnostic.message_primary,
        "detail": diagnostic.message_detail,
        "hint": diagnostic.message_hint,
        "position": diagnostic.statement_position,
        "constraint": diagnostic.constraint_name,
        "table": diagnostic.table_name,
        "column": diagnostic.column_name,
        "context": diagnostic.context,
        "source": diagnostic.source_function,
    }


def failing(connection: psycopg.Connection[tuple[object, ...]], text: str, values: tuple[object, ...] = ()) -> object:
    try:
        connection.execute(text, values)
    except psycopg.Error as failure:
        return [error(failure), connection.info.transaction_status.name]
    return "no error"


def queries(report: Report) -> None:
    with psycopg.connect(autocommit=True) as connection:
        report.saw("server", connection.info.parameter_status("server_version"))
        report.saw("encoding", connection.info.encoding)
        connection.execute("create table customers (id int primary key, name text not null, email text, paid numeric)")
        connection.execute("insert into customers values (1, 'Ada', 'ada@example.com', 12.50), (2, 'Émile', null, 0)")
        with connection.cursor(row_factory=dict_row) as cursor:
            report.saw("rows", cursor.execute("select * from customers order by id").fetchall())
            report.saw("tag", [cursor.statusmessage, cursor.rowcount])
            report.saw("columns", [(c.name, c.type_code, c.internal_size) for c in cursor.description or ()])
        values = (
            7,
            2**40,
            1.5,
            decimal.Decimal("3.14159265358979"),
            "text with ' and \\ and é",
            b"\x00\xff\x01",
            True,
            None,
            datetime.date(2024, 2, 29),
            datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC),
            datetime.timedelta(days=2, seconds=5),
            uuid.UUID(int=5),
            [1, 2, 3],
            ["a", None],
            Jsonb({"k": [1, None]}),
        )
        places = ", ".join(["%s"] * len(values))
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            report.saw(f"values, binary={binary}", cursor.execute(f"select {places}", values).fetchone())
            cursor.execute("select * from customers where id = any(%b)", ([1, 2],))
            report.saw(f"array parameter, binary={binary}", cursor.fetchall())
        report.saw("several statements", _sets(connection.execute("select 1; update customers set paid = 1; select 2")))
        report.saw("empty", connection.execute("").statusmessage)
        report.saw("executemany", _executemany(connection))
        report.saw(
            "identifiers",
            connection.execute(
                sql.SQL("select {} from {} order by 1").format(
                    sql.Identifier("name"), sql.Identifier("public", "customers")
                )
            ).fetchall(),
        )
        large = "x" * 400_000
        report.saw("large parameter", connection.execute("select length(%s)", (large,)).fetchone())
        (value,) = connection.execute("select repeat('ab', 3000000)").fetchone() or ("",)
        report.saw("large value", [len(value), value[:4]])
        report.saw(
            "many rows",
            connection.execute("select sum(n), count(*) from (select generate_series(1, 100000) n) s").fetchone(),
        )
        rows = connection.execute("select n, 'row ' || n from generate_series(1, 50000) n").fetchall()
        report.saw("all rows", [len(rows), rows[0], rows[-1]])


def _sets(cursor: psycopg.Cursor[tuple[object, ...]]) -> object:
    seen: list[object] = []
    more: bool | None = True
    while more:
        seen.append([cursor.statusmessage, cursor.fetchall() if cursor.description else None])
        more = cursor.nextset()
    return seen


def _executemany(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into customers values (%s, %s) returning id", [(n, f"c{n}") for n in range(10, 15)], returning=True
        )
        return [result.fetchall() for result in cursor.results()]


def failures(report: Report) -> None:
    with psycopg.connect() as connection:
        for text, values in (
            ("select 1/0", ()),
            ("selec 1", ()),
            ("select nothing from customers", ()),
            ("select * from customers where id = %s and", (1,)),
            ("insert into customers values (1, 'twice')", ()),
            ("insert into customers values (99, null)", ()),
            ("select %s::int", ("not a number",)),
            ("do $$ begin raise exception 'mine' using detail = 'd', hint = 'h', errcode = 'XX123'; end $$", ()),
        ):
            report.saw(f"error: {text}", failing(connection, text, values))
            report.saw("in failed transaction", failing(connection, "select 1"))
            connection.rollback()
        try:
            connection.cursor().execute("select 1; select 1/0; select 3")
        except psycopg.Error as failure:
            report.saw("error in several statements", error(failure))
        connection.rollback()


def prepared(report: Report) -> None:
    with psycopg.connect(prepare_threshold=0) as connection:
        seen = [connection.execute("select %s::int + 1", (n,)).fetchone() for n in range(5)]
        report.saw("prepared", seen)
        report.saw(
            "pg_prepared_statements",
            connection.execute("select count(*) > 0, bool_and(not from_sql) from pg_prepared_statements").fetchone(),
        )
        connection.execute("prepare mine (int) as select $1 * 2", prepare=False)
        report.saw("EXECUTE", connection.execute("execute mine (21)", prepare=False).fetchone())
        connection.execute("deallocate all", prepare=False)
        report.saw(
            "after DEALLOCATE",
            connection.execute("select count(*) from pg_prepared_statements", prepare=False).fetchone(),
        )


def transactions(report: Report) -> None:
    with psycopg.connect() as connection:
        with connection.transaction():
            connection.execute("insert into customers values (50, 'outer')")
            try:
                with connection.transaction("inner"):
                    connection.execute("insert into customers values (51, 'inner')")
                    connection.execute("select 1/0")
            except psycopg.errors.DivisionByZero as failure:
                report.saw("savepoint", error(failure))
        report.saw("after savepoint", connection.execute("select id from customers where id >= 50").fetchall())
        report.saw("status", connection.info.transaction_status.name)
        connection.rollback()
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        report.saw("read only", failing(connection, "delete from customers"))
        connection.rollback()
        report.saw("isolation", connection.execute("show transaction_isolation").fetchone())


def cursors(report: Report) -> None:
    with psycopg.connect() as connection:
        with connection.cursor("named", scrollable=True) as cursor:
            cursor.execute("select n from generate_series(1, 1000) n")
            report.saw("server-side cursor", [cursor.fetchone(), cursor.fetchmany(3)])
            cursor.scroll(990, mode="absolute")
            report.saw("scrolled", cursor.fetchall())
        with connection.cursor("iterated", withhold=True) as cursor:
            cursor.itersize = 100
            cursor.execute("select n from generate_series(1, 1000) n")
            connection.commit()
            report.saw("iterated", sum(row[0] for row in cursor))
        connection.execute("declare plain cursor for select n from generate_series(1, 10) n")
        report.saw("FETCH", connection.execute("fetch 3 from plain").fetchall())
        report.saw("MOVE", connection.execute("move 2 in plain").statusmessage)
        with connection.cursor() as cursor:
            streamed = list(cursor.stream("select n from generate_series(1, 500) n"))
        report.saw("single row mode", [len(streamed), streamed[-1]])


def copies(report: Report) -> None:
    with psycopg.connect() as connection:
        connection.execute("create table copied (id int, body text, at timestamptz, raw bytea)")
        with connection.cursor() as cursor:
            with cursor.copy("copy copied from stdin") as copy:
                for n in range(5000):
                    copy.write_row((n, f"line\t{n}\\\n", datetime.datetime.fromtimestamp(n, datetime.UTC), b"\x00\xff"))
            report.saw("COPY FROM", [cursor.statusmessage, cursor.rowcount])
            with cursor.copy("copy copied from stdin (format binary)") as copy:
                copy.set_types(["int4", "text", "timestamptz", "bytea"])
                for n in range(500):
                    copy.write_row((n, "binary", datetime.datetime.fromtimestamp(n, datetime.UTC), b"\x01"))
            report.saw("COPY FROM binary", cursor.statusmessage)
            with cursor.copy("copy (select id, body from copied order by id, body limit 10) to stdout") as copy:
                report.saw("COPY TO rows", list(copy.rows()))
            with cursor.copy("copy copied to stdout (format csv, header)") as copy:
                report.saw("COPY TO csv", len(b"".join(bytes(block) for block in copy)))
            with cursor.copy("copy (select id from copied order by id) to stdout (format binary)") as copy:
                report.saw("COPY TO binary", len(b"".join(bytes(block) for block in copy)))
            connection.commit()
            try:
                with cursor.copy("copy copied (id) from stdin") as copy:
                    copy.write("1\nnot a number\n")
            except psycopg.Error as failure:
                report.saw("COPY error", error(failure))
            connection.rollback()
            try:
                with cursor.copy("copy copied (id) from stdin") as copy:
                    copy.write("1\n")
                    raise RuntimeError("given up")
            except RuntimeError:
                connection.rollback()
            report.saw("after COPY abort", connection.execute("select count(*) from copied").fetchone())


def pipelines(report: Report) -> None:
    with psycopg.connect(autocommit=True) as connection:
        with connection.pipeline() as pipeline:
            first = [connection.execute("select %s::int", (n,)) for n in range(200)]
            pipeline.sync()
            report.saw("pipeline", sum((c.fetchone() or (0,))[0] for c in first))
        outcome: list[object] = []
        try:
            with connection.pipeline() as pipeline:
                one = connection.execute("select 1")
                two = connection.execute("select 1/0")
                three = connection.execute("select 3")
                pipeline.sync()
                outcome += [one.fetchone(), two.fetchone(), three.fetchone()]
        except psycopg.Error as failure:
            outcome.append(error(failure))
        report.saw("error in a pipeline", outcome)
        report.saw("aborted", connection.execute("select 'alive'").fetchone())
        with connection.pipeline(), connection.transaction():
            connection.execute("insert into customers values (60, 'piped')")
        report.saw("transaction in a pipeline", connection.execute("select id from customers where id = 60").fetchall())


def cancels(report: Report) -> None:
    with psycopg.connect(autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel_safe)
        timer.start()
        begun = time.monotonic()
        report.saw("cancel", failing(connection, "select pg_sleep(30)"))
        report.saw("cancelled soon", time.monotonic() - begun < 10)
        timer.join()
        report.saw("after cancel", connection.execute("select 'alive'").fetchone())
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        report.saw("legacy cancel", failing(connection, "select pg_sleep(30)"))
        timer.join()
        connection.execute("set statement_timeout = '100ms'")
        report.saw("statement_timeout", failing(connection, "select pg_sleep(30)"))


def notifications(report: Report) -> None:
    with psycopg.connect(autocommit=True) as listener, psycopg.connect(autocommit=True) as sender:
        notices: list[object] = []
        listener.add_notice_handler(lambda d: notices.append([d.severity, d.sqlstate, d.message_primary]))
        listener.execute("listen news")
        sender.execute("select pg_notify('news', 'first')")
        sender.execute("notify news, 'second'")
        report.saw("notifications", [[n.channel, n.payload] for n in listener.notifies(timeout=10, stop_after=2)])
        listener.execute("unlisten *")
        listener.execute("do $$ begin raise notice 'a % notice', 'small'; raise warning 'and a warning'; end $$")
        listener.execute("drop table if exists not_there")
        report.saw("notices", notices)


def settings(report: Report) -> None:
    with psycopg.connect(application_name="psycopg test", options="-c statement_timeout=20s") as connection:
        report.saw("application_name", connection.execute("show application_name").fetchone())
        report.saw("options", connection.execute("show statement_timeout").fetchone())
        connection.execute("set timezone to 'Asia/Tokyo'")
        report.saw("timezone", connection.info.parameter_status("TimeZone"))
        report.saw("date", connection.execute("select timestamptz '2024-01-01 00:00+00'").fetchone())
        connection.execute("set datestyle to 'German'")
        report.saw("datestyle", connection.info.parameter_status("DateStyle"))
        report.saw("two-phase", failing(connection, "prepare transaction 'phase'"))


async def asynchronous(report: Report) -> None:
    async with await psycopg.AsyncConnection.connect(autocommit=True) as connection:
        report.saw("async", await (await connection.execute("select %s || 'b'", ("a",))).fetchone())
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", (n,)) for n in range(20)]
        report.saw("async pipeline", [await cursor.fetchone() for cursor in cursors])
        async with (
            connection.cursor() as cursor,
            cursor.copy("copy (select generate_series(1, 100)) to stdout") as copy,
        ):
            report.saw("async COPY", sum([int(row[0]) async for row in copy.rows()]))
        task = asyncio.create_task(connection.execute("select pg_sleep(30)"))
        await asyncio.sleep(0.3)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, psycopg.Error) as failure:
            report.saw("async cancel", type(failure).__name__)
        report.saw("async after cancel", await (await connection.execute("select 'alive'")).fetchone())


def main() -> None:
    report = Report("psycopg")
    report.saw("libpq", pq.version() >= 180000)
    queries(report)
    failures(report)
    prepared(report)
    transactions(report)
    cursors(report)
    copies(report)
    pipelines(report)
    cancels(report)
    notifications(report)
    settings(report)
    asyncio.run(asynchronous(report))
    report.print()


if __name__ == "__main__":
    main()
