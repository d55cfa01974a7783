"""Messages of the extended protocol, in one go and one by one: the same replies as directly, whenever they come."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.gateway import Gateway
from support.servers import Server
from support.wire import FLUSH, SYNC, Closed, Wire, bind, close, describe, execute, frame, parse, query

Script = list[bytes]

SCRIPTS: dict[str, Script] = {
    "plain": [parse("select 1"), describe("S"), bind(), describe("P"), execute(), SYNC],
    "error at Parse": [parse("selec 1"), describe("S"), bind(), describe("P"), execute(), SYNC],
    "unknown column at Parse": [parse("select nope"), bind(), describe("P"), execute(), SYNC, query("select 2")],
    "error at Bind": [parse("select $1::int"), bind(values=[b"x"]), describe("P"), execute(), SYNC],
    "error at Execute": [parse("select 1/0"), bind(), execute(), parse("select 2"), bind(), execute(), SYNC],
    "Query behind an error": [parse("select 1/0"), bind(), execute(), query("select 2"), SYNC, query("select 3")],
    "named behind an error": [
        parse("select 1/0", "bad"), bind(statement="bad"), execute(), parse("select 2", "never"), SYNC,
        bind(statement="never"), execute(), SYNC,
        bind(statement="bad"), SYNC,
        parse("select 4", "never"), bind(statement="never"), execute(), SYNC,
    ],
    "Close behind an error": [
        parse("select 1", "kept"), SYNC,
        parse("select 1/0"), bind(), execute(), close("S", "kept"), SYNC,
        bind(statement="kept"), execute(), SYNC,
    ],
    "Parse that replaces and fails": [
        parse("select 1", ""), SYNC, parse("selec", ""), SYNC, bind(), execute(), SYNC,
    ],
    "a name twice": [
        parse("select 1", "twice"), parse("select 2", "twice"), SYNC, bind(statement="twice"), execute(), SYNC,
    ],
    "two Syncs": [parse("select 1/0"), bind(), execute(), SYNC, SYNC, parse("select 2"), bind(), execute(), SYNC],
    "portals": [
        query("begin"), parse("select generate_series(1, 5)"), bind("p"), execute("p", 2), execute("p", 2), SYNC,
        execute("p"), execute("p"), close("P", "p"), execute("p"), SYNC, query("rollback"),
    ],
    "portal gone with its transaction": [parse("select 1"), bind("p"), SYNC, execute("p"), SYNC],
    "failed transaction": [
        query("begin"), query("select 1/0"), parse("select 1"), bind(), execute(), SYNC,
        parse("rollback"), bind(), execute(), SYNC, parse("select 2"), bind(), execute(), SYNC,
    ],
    "implicit transaction is rolled back": [
        query("create temp table piped (a int)"),
        parse("insert into piped values (1)"), bind(), execute(), parse("select 1/0"), bind(), execute(), SYNC,
        query("select * from piped"), query("drop table piped"),
    ],
    "settings in a pipeline": [
        parse("set search_path to pg_catalog"), bind(), execute(), parse("show search_path"), bind(), execute(), SYNC,
        query("select current_schemas(false)"), query("reset search_path"), query("show search_path"),
    ],
    "a setting that is rolled back": [
        query("begin"), query("set search_path to nowhere"), query("rollback"),
        parse("show search_path"), bind(), execute(), SYNC,
    ],
    "what may not run in a transaction": [
        query("set search_path to public"), parse("vacuum pg_attrdef"), bind(), execute(), SYNC,
        query("reset search_path"), parse("lock table pg_class"), bind(), execute(), SYNC,
    ],
    "DDL and its use": [
        parse("create temp table made (a int, b text)"), bind(), execute(), SYNC,
        parse("insert into made values ($1, $2)"), bind(values=[b"1", b"x"]), execute(),
        parse("select * from made"), describe("S"), bind(), describe("P"), execute(), SYNC,
        parse("select * from made", "by_name"), SYNC,
        query("alter table made add c int"), bind(statement="by_name"), execute(), SYNC,
        query("drop table made"), bind(statement="by_name"), execute(), SYNC,
    ],
    "SQL PREPARE shares the names": [
        query("prepare shared as select 7"), bind(statement="shared"), describe("P"), execute(), SYNC,
        parse("select 8", "mine"), SYNC, query("execute mine"), query("deallocate mine"), query("execute mine"),
        bind(statement="mine"), SYNC, query("deallocate all"), bind(statement="shared"), SYNC,
    ],
    "SQL cursors are portals": [
        query("begin; declare c cursor for select generate_series(1, 3)"), describe("P", "c"), execute("c", 2), SYNC,
        query("fetch all from c"), close("P", "c"), SYNC, query("fetch 1 from c"), query("rollback"),
    ],
    "COPY": [
        query("create temp table copied (a int)"),
        parse("copy copied from stdin"), bind(), execute(), frame("d", b"1\n2\n"), frame("c"), SYNC,
        parse("copy copied to stdout"), bind(), execute(), SYNC,
        parse("copy copied from stdin"), bind(), execute(), frame("d", b"x\n"), frame("c"), SYNC,
        parse("copy copied from stdin"), bind(), execute(), frame("f", b"no\0"), SYNC,
        query("copy copied from stdin"), frame("d", b"3\n"), frame("c"), query("select count(*) from copied"),
        query("drop table copied"),
    ],
    "binary": [
        parse("select 1, 'x', null::int, 2.5::float8"), bind(binary_results=True), describe("P"), execute(), SYNC,
    ],
    "empty": [parse(""), bind(), describe("P"), execute(), SYNC, query(""), query(";;")],
    "nothing but Sync": [SYNC, SYNC, FLUSH, SYNC],
    "names that are not there": [
        bind(statement="no"), SYNC, execute("no"), SYNC, describe("S", "no"), SYNC, describe("P", "no"), SYNC,
        close("S", "no"), close("P", "no"), SYNC,
    ],
}  # fmt: skip


@pytest.mark.parametrize("way", ["in one go", "one by one", "flushed", "in two"])
@pytest.mark.parametrize("what", SCRIPTS)
def test_the_same_replies_as_directly(pg18: Server, gateway18: Gateway, what: str, way: str) -> None:
    def directly() -> Wire:
        return Wire.login(pg18.host, pg18.port, user=pg18.user, password=pg18.password, database=pg18.database)

    expected, seen = (play(login, SCRIPTS[what], way) for login in (directly, gateway18.login))
    assert seen == expected


def play(login: Callable[[], Wire], script: Script, way: str) -> list[tuple[str, object]]:
    """Send the messages, then ask something simple; everything that came until that was answered."""
    wire = login()
    wire.socket.settimeout(5)
    seen: list[tuple[str, object]] = []
    end = frame("S") + query("select 'the end'")
    if way == "in one go":
        wire.send(b"".join(script) + end)
    elif way == "in two":
        half = len(script) // 2
        wire.send(b"".join(script[:half]))
        time.sleep(0.05)
        wire.send(b"".join(script[half:]) + end)
    else:
        for message in script:
            wire.send(message)
            if way == "flushed" and message[:1] in b"PBDEC":
                wire.send(FLUSH)
            time.sleep(0.02)
        wire.send(end)
    try:
        while seen[-2:-1] != [("C", b"SELECT 1\0")] or ("D", [b"the end"]) not in seen:
            message = wire.receive()
            if message.type == "T":
                seen.append(("T", [(name, kind, form) for name, _, _, kind, _, _, form in message.columns]))
            else:
                body: object = message.body
                if message.type == "D":
                    body = message.cells
                elif message.type in "EN":
                    # What the gateway knows by itself it answers in the server's words, but from no line of its source.
                    body = {key: value for key, value in message.fields.items() if key not in "FLR"}
                seen.append((message.type, body))
    except (Closed, TimeoutError) as failure:
        seen.append((type(failure).__name__, ""))
    wire.close()
    return seen
