"""Questions to the store on SQLite. Synchronous; each connection is asked by one thread at a time."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import orjson

from ostiary_store.model import (
    Facets,
    RequestPage,
    RequestQuery,
    RequestRow,
    RuleHits,
    Scope,
    SessionPage,
    SessionQuery,
    SessionRow,
    StoreError,
    Tally,
)
from ostiary_store.sqlite.schema import TIES, moment
from ostiary_store.sqlite.text import indexed_suffices, wanted
from ostiary_store.words import Words, parse

COUNTED: Final = 10_000
"""Newest matches that facets of a search are counted among."""
LOOK: Final = 256
"""Rows after which a search looks at the clock."""

SESSION: Final = """select id, name, opened, closed, state, connection, protocol, username, recording, requests,
    denied, asked, errors, rows, bytes, events, head, record, sid, subject, client, detail, retention, proof
    from session """
REQUEST: Final = """r.id, r.session, r.number, r.begun, r.ended, r.connection, r.protocol, r.username, r.text,
    r.action, r.policy, r.rule, r.decision, r.would_deny, r.outcome, r.rows, r.bytes"""
_DECISIONS: Final = {"Allow": "requests > denied + asked", "Deny": "denied > 0", "RequireApproval": "asked > 0"}


class _Late(Exception):
    """The deadline has come."""


class Asking:
    """A connection that is asked, and what it knows by heart."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._words: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._records: dict[int, bytes] = {}
        self._looked = 0
        """Where the search has been."""
        self._left = LOOK
        self._until = 0.0
        self._search_words = Words()
        self._given = 0
        connection.create_function("passed", 1, self._passed)
        connection.create_function("given", 1, self._give)
        connection.create_function("fits", 1, self._fits)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self.connection.execute("begin")
        try:
            yield
        finally:
            self.connection.execute("rollback")

    # Sessions

    def sessions(self, query: SessionQuery, scope: Scope) -> SessionPage:
        with self._snapshot():
            where, values = self._where(
                scope,
                [("connection", query.connection), ("username", query.username), ("protocol", query.protocol)],
            )
            if query.decision is not None:
                if query.decision not in _DECISIONS:
                    raise ValueError(f"{query.decision!r} is no decision. Choose one of {', '.join(_DECISIONS)}.")
                where.append(_DECISIONS[query.decision])
            for condition, value in (
                ("opened >= ?", query.since), ("opened < ?", query.until), ("state = ?", query.state),
            ):  # fmt: skip
                if value is not None:
                    where.append(condition)
                    values.append(value)
            if not query.gateway:
                where.append("protocol <> ?")
                values.append(self._number("Gateway"))
            if query.after:
                opened, name = _session_cursor(query.after)
                where.append("(opened, name) < (?, ?)")
                values += [opened, name]
            condition = f"where {' and '.join(where)} " if where else ""
            rows = self.connection.execute(
                f"{SESSION}{condition}order by opened desc, name desc limit ?", (*values, query.limit + 1)
            ).fetchall()
            found = [self._session_row(row) for row in rows[: query.limit]]
        more = len(rows) > query.limit
        return SessionPage(found, f"{found[-1].opened!r} {found[-1].id}" if more and found else "")

    def session(self, name: str, scope: Scope) -> SessionRow:
        with self._snapshot():
            return self._session_row(self._find_session(name, scope))

    def _find_session(self, name: str, scope: Scope) -> tuple[object, ...]:
        name = _clean(name)
        where, values = self._where(scope, [])
        inside = "".join(f"and {condition} " for condition in where)
        found = self.connection.execute(f"{SESSION}where name = ? {inside}", (name, *values)).fetchall()
        if not found and name:
            found = self.connection.execute(
                f"{SESSION}where name >= ? and name < ? || char(1114111) {inside}limit 2", (name, name, *values)
            ).fetchall()
        if not found:
            raise LookupError(f"there is no session {name!r} in this store.")
        if len(found) > 1:
            raise LookupError(f"several sessions begin with {name!r}. Give more of the id.")
        return tuple(found[0])

    def session_by_id(self, session: int) -> SessionRow:
        return self._session_row(self.connection.execute(f"{SESSION}where id = ?", (session,)).fetchone())

    def open_sessions(self, uuid: bytes) -> list[SessionRow]:
        with self._snapshot():
            rows = self.connection.execute(
                f"{SESSION}where state = 'open' and record = (select id from record where uuid = ?) order by sid",
                (uuid,),
            )
            return [self._session_row(row) for row in rows.fetchall()]

    def session_of(self, uuid: bytes, sid: int) -> SessionRow | None:
        with self._snapshot():
            row = self.connection.execute(
                f"{SESSION}where record = (select id from record where uuid = ?) and sid = ?", (uuid, sid)
            ).fetchone()
            return None if row is None else self._session_row(row)

    def open_requests(self, uuid: bytes) -> list[tuple[str, int, float]]:
        return self.connection.execute(
            "select s.name, r.number, r.begun from session s join request r on r.session = s.id "
            "where s.state = 'open' and s.record = (select id from record where uuid = ?) and r.ended is null",
            (uuid,),
        ).fetchall()

    # Requests

    def requests(self, query: RequestQuery, scope: Scope) -> RequestPage:
        with self._snapshot():
            found: list[tuple[object, ...]] = []
            reached = None
            try:
                found.extend(self._search(query, scope, query.limit + 1))
            except _Late:
                reached = self._looked
            page = [self._request_row(row) for row in found[: query.limit]]
            by_number = query.session is not None and not wanted(parse(_clean(query.text)))
            if reached is not None and len(found) <= query.limit:
                # It was not looked at any more, so that the next page begins with it.
                return RequestPage(page, str(reached + 1), self._time_of(query, scope, reached, by_number))
            if len(found) <= query.limit:
                return RequestPage(page, "")
            return RequestPage(page, str(page[-1].number if by_number else found[query.limit - 1][0]))

    def _time_of(self, query: RequestQuery, scope: Scope, reached: int, by_number: bool) -> float:
        """When the request began that a search has come to."""
        if not by_number:
            return reached / TIES / 1e6
        assert query.session is not None
        row = self.connection.execute(
            "select begun from request where session = ? and number = ?",
            (self._find_session(query.session, scope)[0], reached),
        ).fetchone()
        return 0.0 if row is None else float(row[0])

    def _search(
        self, query: RequestQuery, scope: Scope, limit: int, columns: str = REQUEST
    ) -> Iterator[tuple[object, ...]]:
        """Rows, the newest first. _Late when the deadline has come; `_looked` is how far it got."""
        where, values = self._where(
            scope,
            [("r.connection", query.connection), ("r.username", query.username), ("r.protocol", query.protocol),
             ("r.action", query.action), ("r.policy", query.policy), ("r.rule", query.rule),
             ("r.outcome", query.outcome)],
            "r.",
        )  # fmt: skip
        if query.would_deny is not None:
            where.append("r.would_deny" if query.would_deny else "not r.would_deny")
        walk = "r.id"
        self._search_words = words = parse(_clean(query.text))
        terms = wanted(words)
        session: SessionRow | None = None
        if query.session is not None:
            try:
                found = self._find_session(query.session, scope)
            except LookupError:
                return
            session = self._session_row(found)
            where.append("r.session = ?")
            values.append(found[0])
            # Its requests lie in the order of their numbers, which is that of their begins too.
            walk = "r.number"
        if terms:
            walk = "w.rowid"
            if session is not None:
                where.append(f"w.rowid >= {moment(session.opened - 1)}")
                if session.closed is not None:
                    where.append(f"w.rowid < {moment(session.closed + 1)}")
        if query.since is not None:
            where.append("r.begun >= ?")
            values.append(query.since)
        if query.until is not None:
            where.append("r.begun < ?")
            values.append(query.until)
        if walk != "r.number":
            if query.since is not None:
                where.append(f"{walk} >= {moment(query.since)}")
            if query.until is not None:
                where.append(f"{walk} < {moment(query.until) + TIES}")
        if query.after:
            where.append(f"{walk} < {_request_cursor(query.after)}")
        if words and not indexed_suffices(words):
            where.append("fits(r.text)")
        if terms:
            values.insert(0, terms)
            # `passed` stands before what a row is asked for, so that it is told of each.
            sql = (
                f"select given(r.id), {columns} from words w cross join request r on r.id = w.rowid "
                f"where words match ? and {' and '.join(('passed(w.rowid)', *where))} order by w.rowid desc limit ?"
            )
        else:
            conditions = " and ".join((f"passed({walk})", *where))
            sql = f"select given(r.id), {columns} from request r where {conditions} order by {walk} desc limit ?"
        self._until, self._left, self._looked, self._given = time.monotonic() + query.deadline, LOOK, 1 << 62, 0
        last = 0
        try:
            for given, *row in self.connection.execute(sql, (*values, limit)):
                last = given
                yield tuple(row)
        except sqlite3.OperationalError as error:
            if self._left >= 0:
                raise StoreError(f"the search failed: {error}") from error
            if self._given != last:
                # The row that was read ahead is lost with the error.
                yield self.connection.execute(
                    f"select {columns} from request r where r.id = ?", (self._given,)
                ).fetchone()
            raise _Late from None

    def _give(self, at: int) -> int:
        self._given = at
        return at

    def _passed(self, at: int) -> int:
        self._looked = at
        self._left -= 1
        if not self._left:
            if time.monotonic() > self._until:
                self._left = -1
                raise _Late
            self._left = LOOK
        return 1

    def _fits(self, text: str) -> bool:
        return self._search_words.fits(text)

    def request(self, name: str, scope: Scope) -> RequestRow:
        session, _, number = name.rpartition("-")
        if not session or not (number.isascii() and number.isdecimal()) or len(number) > 18:
            raise LookupError(f"{name!r} is not the id of a request: a session's id, '-' and a number.")
        with self._snapshot():
            found = self._find_session(session, scope)
            row = self.connection.execute(
                f"select {REQUEST} from request r where session = ? and number = ?", (found[0], int(number))
            ).fetchone()
            if row is None:
                raise LookupError(f"session {found[1]} has no request {number} in this store.")
            return self._request_row(row)

    # Counts

    def facets(self, query: RequestQuery, scope: Scope) -> Facets:
        with self._snapshot():
            fields = (query.protocol, query.outcome, query.would_deny, query.session)
            if query.text.strip() or any(field is not None for field in fields):
                return self._counted(query, scope)
            where, values = self._where(
                scope,
                [("connection", query.connection), ("username", query.username), ("action", query.action),
                 ("policy", query.policy), ("rule", query.rule)],
            )  # fmt: skip
            # Masks and what was only noted are counted beside what was decided.
            where += ["enforced", f"action in ({','.join('?' * len(_DECISIONS))})"]
            values += [self._number(action) for action in _DECISIONS]
            if query.since is not None:
                where.append("hour >= ?")
                values.append(query.since // 3600 * 3600)
            if query.until is not None:
                where.append("hour < ?")
                values.append(query.until)
            rows = self.connection.execute(
                "select connection, username, action, policy, rule, sum(requests) from tally "
                f"where {' and '.join(where)} group by connection, username, action, policy, rule",
                values,
            )
            return self._facets(rows.fetchall(), True)

    def _counted(self, query: RequestQuery, scope: Scope) -> Facets:
        rows: list[tuple[object, ...]] = []
        complete = True
        try:
            columns = "r.connection, r.username, r.action, r.policy, r.rule, 1"
            rows.extend(self._search(query, scope, COUNTED + 1, columns))
        except _Late:
            complete = False
        return self._facets(rows[:COUNTED], complete and len(rows) <= COUNTED)

    def _facets(self, rows: Sequence[tuple[object, ...]], complete: bool) -> Facets:
        counters: tuple[Counter[str], ...] = (Counter(), Counter(), Counter(), Counter())
        counted = 0
        word = self._word
        for connection, username, action, policy, rule, count in rows:
            assert isinstance(count, int)
            counted += count
            counters[0][word(connection)] += count
            counters[1][word(username)] += count
            counters[2][word(action)] += count
            if word(rule):
                counters[3][f"{word(policy)}/{word(rule)}"] += count
        connections, usernames, actions, rules = (dict(each.most_common()) for each in counters)
        return Facets(connections, usernames, actions, rules, counted, complete)

    def tallies(self, since: float, until: float, scope: Scope) -> list[Tally]:
        with self._snapshot():
            where, values = self._where(scope, [])
            rows = self.connection.execute(
                "select hour, connection, action, policy, rule, enforced, sum(requests) from tally "
                f"where hour >= ? and hour < ? {''.join(f'and {each} ' for each in where)}"
                "group by hour, connection, action, policy, rule, enforced order by hour",
                (since // 3600 * 3600, until, *values),
            )
            word = self._word
            return [
                Tally(hour, word(connection), "", word(action), word(policy), word(rule), bool(enforced), count)
                for hour, connection, action, policy, rule, enforced, count in rows.fetchall()
            ]

    def rule_hits(self, since: float, scope: Scope) -> list[RuleHits]:
        with self._snapshot():
            where, values = self._where(scope, [])
            inside = "".join(f"and {each} " for each in where)
            rows = self.connection.execute(
                "select policy, rule, action, enforced, sum(requests), max(hour) from tally "
                f"where hour >= ? and rule <> ? {inside}group by policy, rule, action, enforced",
                (since // 3600 * 3600, self._number(""), *values),
            ).fetchall()
            hits = []
            for policy, rule, action, enforced, count, hour in rows:
                last = float(hour)
                if enforced:
                    (begun,) = self.connection.execute(
                        "select max(begun) from (select begun from request where rule = ? and policy = ? "
                        f"and +action = ? {inside}order by id desc limit 1)",
                        (rule, policy, action, *values),
                    ).fetchone()
                    last = begun if begun is not None else last
                hits.append(
                    RuleHits(self._word(policy), self._word(rule), self._word(action), bool(enforced), count, last)
                )
            return hits

    # Others

    def decisions(self, ids: Sequence[str]) -> dict[str, Mapping[str, object]]:
        found: dict[str, Mapping[str, object]] = {}
        for name in ids:
            try:
                packed = bytes.fromhex(name)
            except ValueError:
                continue
            row = self.connection.execute("select body from decision where id = ?", (packed,)).fetchone()
            if row is not None:
                with suppress(orjson.JSONDecodeError):
                    found[name] = orjson.loads(row[0])
        return found

    def records(self) -> list[Mapping[str, object]]:
        rows = self.connection.execute(
            "select uuid, gateway, instance, address, keys, position, number, link, seal, last, batches from record "
            "order by gateway, instance, id"
        )
        return [
            {"uuid": uuid.hex(), "gateway": gateway, "instance": instance, "address": address,
             "keys": orjson.loads(keys), "position": position, "number": number, "link": link.hex(), "seal": seal,
             "last": last, "batches": batches}
            for uuid, gateway, instance, address, keys, position, number, link, seal, last, batches in rows
        ]  # fmt: skip

    def cursor(self, name: str) -> dict[str, int]:
        row = self.connection.execute("select at from cursor where name = ?", (name,)).fetchone()
        return {} if row is None else dict(orjson.loads(row[0]))

    # Rows

    def _where(
        self, scope: Scope, filters: Sequence[tuple[str, str | None]], table: str = ""
    ) -> tuple[list[str], list[object]]:
        where: list[str] = []
        values: list[object] = []
        for column, value in filters:
            if value is not None:
                where.append(f"{column} = ?")
                values.append(self._number(value))
        if scope.connections is not None:
            allowed = self._allowed(scope.connections)
            # Not by the index of Connections where there are several: rows come by time.
            plus = "" if len(allowed) < 2 else "+"
            where.append(f"{plus}{table}connection in ({','.join('?' * len(allowed))})")
            values += allowed
        return where, values

    def _allowed(self, connections: frozenset[str]) -> list[int]:
        """What a scope's names stand for among those that there are."""
        whole = [name for name in connections if not name.endswith("/*")]
        spaces = tuple(name[:-1] for name in connections if name.endswith("/*"))
        allowed = {self._number(name) for name in whole}
        if spaces:
            for number, text in self.connection.execute(
                "select id, text from word where id in (select distinct connection from session)"
            ):
                if text.startswith(spaces):
                    allowed.add(number)
        return sorted(allowed)

    def _number(self, text: str) -> int:
        """-1 if no row has it."""
        row = self.connection.execute("select id from word where text = ?", (_clean(text),)).fetchone()
        return -1 if row is None else int(row[0])

    def _word(self, number: object) -> str:
        assert isinstance(number, int)
        found = self._words.get(number)
        if found is None:
            if len(self._words) >= 65_536:
                self._words.clear()
            row = self.connection.execute("select text from word where id = ?", (number,)).fetchone()
            if row is None:
                return ""
            found = self._words[number] = str(row[0])
        return found

    def _session_row(self, row: Sequence[object]) -> SessionRow:
        (_, name, opened, closed, state, connection, protocol, username, recording, requests, denied, asked, errors,
         rows, size, events, head, record, sid, subject, client, detail, retention, proof) = row  # fmt: skip
        told, by, more, kept = (orjson.loads(str(text)) for text in (subject, client, detail, retention))
        return SessionRow(
            name, opened, closed, state, self._word(connection), self._word(protocol), self._word(username),  # type: ignore[arg-type]
            recording, requests, denied, asked, errors, rows, size, events, head, self._uuid(record), sid, told, by,  # type: ignore[arg-type]
            more, kept, proof,  # type: ignore[arg-type]
        )  # fmt: skip

    def _uuid(self, record: object) -> bytes:
        assert isinstance(record, int)
        found = self._records.get(record)
        if found is None:
            (found,) = self.connection.execute("select uuid from record where id = ?", (record,)).fetchone()
            self._records[record] = found
        return bytes(found)

    def _name(self, session: int) -> str:
        found = self._names.get(session)
        if found is None:
            if len(self._names) >= 65_536:
                self._names.clear()
            row = self.connection.execute("select name from session where id = ?", (session,)).fetchone()
            found = self._names[session] = "" if row is None else str(row[0])
        return found

    def _request_row(self, row: Sequence[object], name: str = "") -> RequestRow:
        word = self._word
        (_, session, number, begun, ended, connection, protocol, username, text, action, policy, rule, decision,
         would_deny, outcome, rows, size) = row  # fmt: skip
        assert isinstance(session, int)
        assert isinstance(decision, bytes)
        return RequestRow(
            name or self._name(session), number, begun, ended, word(connection), word(protocol), word(username), text,  # type: ignore[arg-type]
            word(action), word(policy), word(rule), decision.hex(), bool(would_deny), word(outcome), rows, size,  # type: ignore[arg-type]
        )  # fmt: skip


def _session_cursor(after: str) -> tuple[float, str]:
    opened, _, name = _clean(after).partition(" ")
    try:
        return float(opened), name
    except ValueError:
        raise ValueError(f"{after!r} is no page of this store. Begin with the first one.") from None


def _request_cursor(after: str) -> int:
    if not (after.isascii() and after.isdecimal()) or len(after) > 19:
        raise ValueError(f"{after!r} is no page of this store. Begin with the first one.")
    return min(int(after), (1 << 63) - 1)


def _clean(text: str) -> str:
    """What may be looked for: no lone surrogates, which SQLite does not take."""
    return text.encode("utf-8", "replace").decode()
