"""What the next start does with a record whose gateway was killed: open sessions are lost, and that is signed."""

from __future__ import annotations

import sqlite3

import orjson

from ostiary_gateway.audit import chain, encoding
from ostiary_gateway.audit.batch import insert_events
from ostiary_gateway.audit.keys import Signer
from ostiary_gateway.audit.writer import index_events, last_seal

REASON = "the gateway stopped without closing this session"


def recover(connection: sqlite3.Connection, signer: Signer, now: float) -> int:
    """Mark sessions left open as lost, in one durable transaction. The number for the next session."""
    connection.execute("pragma synchronous = full")
    connection.execute("begin immediate")
    index_events(connection)
    heads: list[chain.Head] = []
    rows: list[object] = []
    for sid, session in connection.execute("select sid, id from session where state = 'open'").fetchall():
        last = connection.execute(
            "select event.seq, event.hash from place join event on event.id = place.event "
            "where place.sid = ? order by place.seq desc limit 1",
            (sid,),
        ).fetchone()
        seq, previous = (-1, chain.genesis(session)) if last is None else last
        body = encoding.session_lost(now, REASON)
        head = chain.link(previous, body)
        rows += (sid, seq + 1, "lost", body, head, None, None, None, None)
        heads.append(chain.Head(sid, session, seq + 1, head, "lost"))
        connection.execute(
            "update session set state = 'lost', closed = ?, requests = ?, denied = ?, asked = ?, errors = ?, rows = ?, "
            "bytes = ? where sid = ?",
            (now, *_recount(connection, sid), sid),
        )
    insert_events(connection, rows)
    if heads:
        number, previous = last_seal(connection)
        seal = chain.seal(number + 1, now, previous, signer.id, heads)
        connection.execute("insert into seal values (?, ?, ?)", (seal.number, seal.body, signer.sign(seal.hash)))
    index_events(connection)
    (newest,) = connection.execute("select coalesce(max(sid), 0) from session").fetchone()
    connection.execute("commit")
    return int(newest) + 1


def _recount(connection: sqlite3.Connection, sid: int) -> tuple[int, int, int, int, int, int]:
    """The counts of a session from its events; those in its row may be a second old."""
    requests = denied = asked = errors = rows = size = 0
    actions: dict[str, str] = {}
    for kind, body in connection.execute(
        "select event.kind, event.body from place join event on event.id = place.event where place.sid = ?", (sid,)
    ):
        if kind == "begin":
            requests += 1
            name = orjson.loads(body)["decision"]
            if name not in actions:
                found = connection.execute("select body from decision where id = ?", (name,)).fetchone()
                actions[name] = "" if found is None else orjson.loads(found[0])["action"]
            denied += actions[name] == "Deny"
            asked += actions[name] == "RequireApproval"
        elif kind == "refused":
            denied += 1
        elif kind == "end":
            event = orjson.loads(body)
            errors += event["outcome"] == "error"
            rows += event["rows"]
            size += event["bytes"]
    return requests, denied, asked, errors, rows, size
