"""Each policy pack as it is, served by a real gateway before PostgreSQL: what it stops does not happen."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from support.gateway import ALLOW_ALL, Gateway, StartGateway
from support.packs import ALLOWING, NAMES, labels, lets_through, pack
from support.servers import Server

from ostiary_policy.answer import Answer

CARD, EMAIL, PHONE, IBAN = "4111111111111111", "ada@example.com", "+43 660 1234567", "DE89370400440532013000"
SETUP = f"""
    create table orders (id int primary key, status text, note text, total numeric default 1);
    insert into orders select n, 'placed', 'note ' || n from generate_series(1, 3000) n;
    create table staged (id int primary key, status text);
    create table customers (id int primary key, full_name text, email text, phone text, birth_date date, note text);
    insert into customers values (1, 'Ada Lovelace', '{EMAIL}', '{PHONE}', '1815-12-10', 'pays from {IBAN}, writes from {EMAIL}');
    create table payments (id int primary key, card_number text, cvc text, note text, raw jsonb);
    insert into payments values (1, '{CARD}', '987', 'paid with 4111 1111 1111 1111', '{{"pan": "{CARD}"}}');
    create view buyers as select upper(full_name) as who, email as contact from customers;
    create function wipe() returns int language sql as 'delete from orders; select 1';
    create function drop_it() returns int language plpgsql as 'begin drop table orders; return 1; end';
    create sequence order_ids;
    do $$ begin create role reporting; exception when duplicate_object then null; end $$;
    analyze
"""  # noqa: E501
STATE = """
    select (select count(*) from orders), (select count(*) from orders where status <> 'placed'),
           (select string_agg(table_name, ',' order by table_name) from information_schema.tables
            where table_schema = 'public'),
           (select string_agg(column_name, ',' order by ordinal_position) from information_schema.columns
            where table_name = 'orders')
"""


@pytest.fixture(scope="module")
def serve(pg18: Server, start_gateway: StartGateway) -> Callable[..., Gateway]:
    """A gateway with these packs in force, before a database of its own."""

    def start(*names: str) -> Gateway:
        database = names[0].replace("-", "_") if len(names) == 1 else "packs"
        pg18.recreate(database)
        pg18.sql(SETUP, database)
        policies = [pack(name) for name in names]
        for policy in policies:
            for rule in policy["spec"]["rules"]:
                if "approval" in rule:
                    rule["approval"]["wait"] = "0s"  # nobody is there to decide
        if not set(names) & set(ALLOWING):
            policies.append(ALLOW_ALL)
        gateway = start_gateway(pg18, *policies, database=database, labels=labels(*names))
        gateway.database = database
        return gateway

    return start


def state(gateway: Gateway) -> object:
    """What the database holds, asked of itself."""
    with psycopg.connect(gateway.server.dsn(dbname=gateway.database)) as owner:
        return owner.execute(STATE).fetchone()


def refused(gateway: Gateway, sql: str, code: str = "42501") -> Answer:
    """A statement that is refused, and changes nothing."""
    before = state(gateway)
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent, pytest.raises(psycopg.Error) as problem:
        agent.execute(sql)
    assert problem.value.sqlstate == code, problem.value
    assert state(gateway) == before
    return Answer.model_validate_json(problem.value.diag.message_detail or "")


def runs(gateway: Gateway, sql: str) -> list[tuple[object, ...]]:
    """A statement that is run; its rows, if it has some."""
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        cursor = agent.execute(sql)
        return cursor.fetchall() if cursor.description else []


def psql(gateway: Gateway, *statements: str) -> str:
    """What psql shows; statements in one session."""
    program = shutil.which("psql") or "/usr/lib/postgresql/15/bin/psql"
    assert Path(program).exists()
    arguments = [part for statement in statements for part in ("-c", statement)]
    command = [program, "--no-psqlrc", "-At", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=gateway.environment(), timeout=60)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def readers(serve: Callable[..., Gateway]) -> Gateway:
    return serve("read-only-agents")


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("insert into orders values (9999)", "only-reads"),
        ("update orders set status = 'x' where id = 1", "only-reads"),
        ("with gone as (delete from orders returning 1) select count(*) from gone", "only-reads"),
        ("explain analyze delete from orders", "only-reads"),
        ("select * into copied from orders", "only-reads"),
        ("select 1; drop table orders", "only-reads"),
        ("select * from orders for update", "only-reads"),
        ("truncate orders", "only-reads"),
        ("select nextval('order_ids')", "only-reads"),
        ("set role reporting", "only-reads"),
        ("grant all on orders to public", "only-reads"),
        ("do $$ begin delete from orders; end $$", "only-reads"),
        ("prepare p as delete from orders", "only-reads"),
        ("select wipe()", "only-reads"),
        ("select drop_it()", "only-reads"),
        ("select query_to_xml('delete from orders', true, true, '')", "only-reads"),
        ("do $$ declare q text := 'drop table orders'; begin execute q; end $$", "nothing-opaque"),
        ("select nobody_knows()", "nothing-opaque"),
    ],
)
def test_readers_change_nothing(readers: Gateway, sql: str, rule: str) -> None:
    assert refused(readers, sql).rule == rule


def test_readers_read(readers: Gateway) -> None:
    assert runs(readers, "select count(*) from orders") == [(3000,)]
    assert runs(readers, "with few as (select * from orders where id < 3) select id from few") == [(1,), (2,)]
    assert runs(readers, "show search_path") == [('"$user", public',)]
    assert len(runs(readers, "explain analyze select * from orders")) > 1
    assert runs(readers, "explain delete from orders")
    with psycopg.connect(readers.dsn()) as agent:  # BEGIN … COMMIT
        agent.execute("set local statement_timeout = '5s'")
        agent.execute("declare c cursor for select id from orders order by id")
        assert agent.execute("fetch 2 from c").fetchall() == [(1,), (2,)]
        with agent.cursor().copy("copy (select id from orders where id = 7) to stdout") as copy:
            assert b"".join(copy) == b"7\n"
    prepare = "prepare p(int) as select status from orders where id = $1"
    output = psql(readers, "set application_name = 'x'", prepare, "execute p(7)")
    assert output.splitlines() == ["SET", "PREPARE", "placed"]


@pytest.fixture(scope="module")
def guarded(serve: Callable[..., Gateway]) -> Gateway:
    return serve("no-destructive-ddl")


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("drop table orders", "no-drop"),
        ("drop schema public cascade", "no-drop"),
        ("select 1; /* x */ dRoP table orders", "no-drop"),
        ("do $$ begin drop table orders; end $$", "no-drop"),
        ("do $$ begin execute 'DR' || 'OP TABLE orders'; end $$", "no-drop"),
        ("select drop_it()", "no-drop"),
        ("drop view buyers", "no-drop"),
        ("truncate orders", "no-truncate"),
        ("alter table orders drop column note", "no-loss-by-alter"),
        ("alter table orders alter note type varchar(2)", "no-loss-by-alter"),
        ("alter table orders rename to gone", "no-renames"),
        ("alter table orders rename note to notes", "no-renames"),
        ("delete from orders", "bounded-changes"),
        ("update orders set status = 'x' where true", "bounded-changes"),
        ("with gone as (delete from orders returning 1) select count(*) from gone", "bounded-changes"),
        ("select wipe()", "bounded-changes"),
        ("create rule r as on insert to orders do instead nothing", "no-rules"),
        ("do $$ declare t text := 'orders'; begin execute 'drop table ' || t; end $$", "nothing-opaque"),
    ],
)
def test_nothing_is_destroyed(guarded: Gateway, sql: str, rule: str) -> None:
    assert refused(guarded, sql).rule == rule


@pytest.mark.parametrize("sql", lets_through("no-destructive-ddl"))
def test_what_destroys_nothing_runs(guarded: Gateway, sql: str) -> None:
    really_runs(guarded, sql)


def really_runs(gateway: Gateway, sql: str) -> None:
    """Run and rolled back, with an empty COPY FROM STDIN if it asks for data."""
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute("begin")
        link = agent.pgconn
        link.send_query(re.sub(r"^begin; (.*); commit$", r"\1", sql).encode())
        while (result := link.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                link.put_copy_end()
            elif result.status == pq.ExecStatus.COPY_OUT:
                while link.get_copy_data(0)[0] > 0:
                    pass
            assert result.status != pq.ExecStatus.FATAL_ERROR, result.error_message.decode()
        agent.execute("rollback")


@pytest.fixture(scope="module")
def blocked(serve: Callable[..., Gateway]) -> Gateway:
    return serve("block-server-side-access")


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("copy orders to program 'touch {here}'", "no-files-and-programs"),
        ("copy orders to '{here}'", "no-files-and-programs"),
        ("copy orders (note) from '/etc/passwd'", "no-files-and-programs"),
        ("do $$ begin copy orders to '{here}'; end $$", "no-files-and-programs"),
        ("do $$ begin execute 'copy orders to program ''touch {here}'''; end $$", "no-files-and-programs"),
        ("select lo_export(lo_from_bytea(0, 'x'), '{here}')", "no-server-functions"),
        ("select pg_read_file('PG_VERSION')", "no-server-functions"),
        ("select * from orders where note = (select pg_read_file('PG_VERSION'))", "no-server-functions"),
        ("select * from pg_ls_dir('.')", "no-server-functions"),
        ("select pg_reload_conf()", "no-server-functions"),
        ("select pg_terminate_backend(pid) from pg_stat_activity", "no-server-functions"),
        ("select rolname, rolpassword from pg_authid", "no-server-views"),
        ("select passwd from pg_shadow", "no-server-views"),
        ("select * from pg_hba_file_rules", "no-server-views"),
        ("alter system set work_mem = '1GB'", "no-files-and-programs"),
        ("load 'plpgsql'", "no-files-and-programs"),
        ("create extension dblink", "no-files-and-programs"),
        ("set role reporting", "no-server-settings"),
        ("set session_replication_role = replica", "no-server-settings"),
        ("grant pg_execute_server_program to reporting", "no-roles"),
        ("create function f() returns int language c as 'evil.so', 'f'", "no-untrusted-code"),
    ],
)
def test_nothing_reaches_the_server(blocked: Gateway, tmp_path: Path, sql: str, rule: str) -> None:
    tmp_path.chmod(0o777)
    here = tmp_path / "made-by-the-server"
    assert refused(blocked, sql.format(here=here)).rule == rule
    assert not here.exists()


@pytest.mark.parametrize("sql", lets_through("block-server-side-access"))
def test_what_stays_in_the_database_runs(blocked: Gateway, sql: str) -> None:
    really_runs(blocked, sql)


PCI = [
    "select * from payments",
    "select card_number as x, cvc as y from payments",
    "select upper(card_number), card_number || cvc, left(card_number, 8) from payments",
    "select p from payments p",
    "select row_to_json(p), raw, raw->>'pan' from payments p",
    "with c as (select card_number as n from payments) select array_agg(n), string_agg(n, ',') from c",
    "update payments set note = note where id = 1 returning *",
    "copy payments to stdout",
    "copy (select note, card_number from payments) to stdout (format csv)",
    "select card_number::numeric from payments",
    "do $$ begin raise notice '%', (select card_number from payments); end $$",
]


@pytest.fixture(scope="module")
def pci(serve: Callable[..., Gateway]) -> Gateway:
    return serve("pci-masking")


@pytest.mark.parametrize("sql", PCI)
def test_no_card_number_is_shown(pci: Gateway, sql: str) -> None:
    seen = psql(pci, sql)
    assert not re.search(r"4111[ -]?1111[ -]?1111", seen)
    assert "987" not in seen


def test_what_is_shown_of_a_card(pci: Gateway) -> None:
    assert psql(pci, "select id, card_number, cvc is null, note from payments") == (
        "1|************1111|f|paid with **** **** **** 1111\n"
    )
    assert runs(pci, "select cvc from payments") == [(None,)]


@pytest.mark.parametrize(
    "sql",
    [
        "copy payments to '/tmp/x'",
        "alter table payments rename card_number to harmless",
        "create rule r as on insert to payments do also notify x",
        "create function f() returns text language sql as 'select card_number from payments'",
    ],
)
def test_there_is_no_way_around_the_mask(pci: Gateway, sql: str) -> None:
    assert refused(pci, sql).rule == "no-way-around"


PII = [
    "select * from customers",
    "select full_name as a, email as b, phone as c, note as d from customers",
    "select who, contact from buyers",
    "select lower(full_name), reverse(full_name), md5(email), split_part(email, '@', 1) from customers",
    "select c from customers c",
    "select to_jsonb(c) from customers c",
    "select json_agg(email), max(phone), min(full_name) from customers",
    "select note from customers",
    "update customers set note = note where id = 1 returning *",
    "copy customers to stdout",
    "copy (select * from buyers) to stdout",
    "insert into customers (id, full_name) select 1, full_name from customers",
]


@pytest.fixture(scope="module")
def pii(serve: Callable[..., Gateway]) -> Gateway:
    return serve("pii-masking")


@pytest.mark.parametrize("sql", PII)
def test_no_person_is_shown(pii: Gateway, sql: str) -> None:
    seen = psql(pii, sql).lower()
    for secret in ("ada", "lovelace", "ecalevol", "example.com", "660", "1234567", "1815", IBAN.lower()[:12]):
        assert secret not in seen


def test_what_is_shown_of_a_person(pii: Gateway) -> None:
    assert psql(pii, "select id, full_name, email, note from customers") == (
        "1|[name]|[email]|pays from ******************3000, writes from [email]\n"
    )
    assert runs(pii, "select birth_date from customers") == [(None,)]
    assert runs(pii, "select count(*) from customers where email like '%@example.com'") == [(1,)]


@pytest.fixture(scope="module")
def asking(serve: Callable[..., Gateway]) -> Gateway:
    return serve("approve-large-writes")


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("update orders set status = 'x'", "large-writes"),
        ("update orders set status = 'x' where id > 5", "large-writes"),
        ("delete from orders where id between 1 and 2500", "large-writes"),
        ("insert into staged select id, status from orders", "large-writes"),
        ("with gone as (delete from orders returning 1) select count(*) from gone", "large-writes"),
        ("explain analyze delete from orders", "large-writes"),
        ("merge into orders o using orders s on s.id = o.id when matched then delete", "large-writes"),
        ("do $$ begin update orders set status = 'x' where id = 7; end $$", "unmeasured-writes"),
    ],
)
def test_many_rows_want_approval(asking: Gateway, sql: str, rule: str) -> None:
    reply = refused(asking, sql)
    assert (reply.decision, reply.rule) == ("RequireApproval", rule)
    assert reply.approval is not None
    assert reply.approval.groups == ("dba",)
    if rule == "large-writes":
        assert ("sql.estimatedRows", 1000) in [(change.fact, change.at_most) for change in reply.allowed.changes]


@pytest.mark.parametrize(
    "sql",
    ["drop table orders", "truncate orders", "create table t (a int)", "set role reporting", "select nobody_knows()",
     "copy orders to '/tmp/x'"],
)  # fmt: skip
def test_what_is_no_change_of_rows_is_not_even_asked_about(asking: Gateway, sql: str) -> None:
    reply = refused(asking, sql)
    assert reply.decision == "Deny"


def test_few_rows_are_changed_at_once(asking: Gateway) -> None:
    runs(asking, "update orders set status = 'paid' where id <= 900")
    runs(asking, "delete from orders where id = 3000")
    runs(asking, "insert into orders values (3000, 'placed')")
    with psycopg.connect(asking.dsn()) as agent:
        agent.execute("update orders set status = 'sent' where id = %s", (7,))
    assert runs(asking, "select status, count(*) from orders group by 1 order by 1") == [
        ("paid", 899), ("placed", 2100), ("sent", 1),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def everything(serve: Callable[..., Gateway]) -> Gateway:
    return serve(*[name for name in NAMES if name != "read-only-agents"])


def test_together_they_guard_ask_and_mask(everything: Gateway) -> None:
    assert refused(everything, "update orders set status = 'x'").rule == "bounded-changes"
    assert refused(everything, "update orders set status = 'x' where id > 5").decision == "RequireApproval"
    assert refused(everything, "drop table orders").rule == "no-drop"
    assert refused(everything, "copy orders to program 'true'").decision == "Deny"
    assert refused(everything, "select pg_read_file('PG_VERSION')").rule == "no-server-functions"
    runs(everything, "update orders set status = 'paid' where id = 7")
    assert runs(everything, "select status from orders where id = 7") == [("paid",)]
    assert psql(everything, "select card_number, email, full_name from payments join customers using (id)") == (
        "************1111|[email]|[name]\n"
    )
