"""Everything that the store on SQLite holds, piece by piece in a fixed order, for whoever verifies it. Synchronous.

Rows whose session was taken away come behind the others of their day, under a name that no session has.
"""

from __future__ import annotations

from typing import Final

from ostiary_store.model import ChunkRow, Expiry, PartRow, RequestRow, SealRow, SessionRow, Tally
from ostiary_store.sqlite import expiring
from ostiary_store.sqlite.asking import REQUEST, SESSION
from ostiary_store.sqlite.slices import CHUNK, PART, Slices

ROWS: Final = 500
BODIES: Final = 16
"""Rows that are read at once; with their bodies."""

ORPHAN: Final = "~session "
"""Stands behind every id of a session as bytes compare."""

# The sessions that rows name and that are not there. It leaps from one session to the next.
_ORPHANS: Final = """with recursive of(session) as (
    select min(session) from {0} union all
    select (select min(session) from {0} where session > of.session) from of where of.session is not null
) select session from of where session is not null and session not in (select id from session)"""

Key = tuple[str, int]
"""Session, and seq or number: what was read last."""


class Scanning(Slices):
    """What else a connection can be asked for."""

    def days(self) -> list[int]:
        with self._snapshot():
            found = {day for (day,) in self.connection.execute("select distinct day from session")}
            for kind in ("chunk", "part"):
                for (session,) in self.connection.execute(_ORPHANS.format(kind)).fetchall():
                    found |= {
                        day
                        for (day,) in self.connection.execute(
                            f"select distinct day from {kind} where session = ?", (session,)
                        )
                    }
            for (session,) in self.connection.execute(_ORPHANS.format("request")).fetchall():
                found |= {
                    day
                    for (day,) in self.connection.execute(
                        "select distinct cast(begun / 86400 as integer) * 86400 from request where session = ?",
                        (session,),
                    )
                }
            return sorted(found)

    def some_sessions(self, day: int, session: str, after: str) -> list[SessionRow]:
        with self._snapshot():
            condition, values = ("and name = ? ", [session]) if session else ("", [])
            rows = self.connection.execute(
                f"{SESSION}where day = ? {condition}and name > ? order by name limit ?", (day, *values, after, ROWS)
            )
            return [self._session_row(row) for row in rows.fetchall()]

    def some_chunks(self, day: int, session: str, after: Key, bodies: bool) -> list[ChunkRow]:
        columns = ", ".join(f"c.{name}" for name in CHUNK.split(", ") if bodies or name != "body")
        found = self._some("chunk", columns, day, session, after, BODIES if bodies else ROWS)
        rows = []
        for name, opened, seq, events, first_at, last_at, low, high, size, *more in found:
            body, digest, link = more if bodies else (b"", *more)
            rows.append(
                ChunkRow(name, opened, seq, events, first_at, last_at, low, high, size, body, digest, link)  # type: ignore[arg-type]
            )
        return rows

    def some_parts(self, day: int, session: str, after: Key, bodies: bool) -> list[PartRow]:
        columns = ", ".join(f"c.{name}" for name in PART.split(", ")) + (", c.body" if bodies else ", null")
        found = self._some("part", columns, day, session, after, BODIES if bodies else ROWS)
        return [
            PartRow(name, opened, seq, number, start, size, body, key, digest, link)  # type: ignore[arg-type]
            for name, opened, seq, number, start, size, key, digest, link, body in found
        ]

    def some_requests(self, day: int, session: str, after: Key) -> list[RequestRow]:
        rows = self._some("request", REQUEST.replace("r.", "c."), day, session, after, ROWS)
        return [self._request_row(fields, str(name)) for name, _, *fields in rows]

    def _some(
        self, kind: str, columns: str, day: int, session: str, after: Key, limit: int
    ) -> list[tuple[object, ...]]:  # fmt: skip
        """The next rows behind `after`, each with its session's id and opening before it."""
        order = "number" if kind == "request" else "seq"
        ask = self.connection.execute
        with self._snapshot():
            last, at = after
            found: list[tuple[object, ...]] = []
            if last and not last.startswith(ORPHAN):
                found += ask(
                    f"select s.name, s.opened, {columns} from session s join {kind} c on c.session = s.id "
                    f"where s.name = ? and c.{order} > ? order by c.{order} limit ?",
                    (last, at, limit),
                )
            if not last.startswith(ORPHAN) and len(found) < limit:
                condition, values = ("and s.name = ? ", [session]) if session else ("", [])
                found += ask(
                    f"select s.name, s.opened, {columns} from session s join {kind} c on c.session = s.id "
                    f"where s.day = ? {condition}and s.name > ? order by s.name, c.{order} limit ?",
                    (day, *values, last, limit - len(found)),
                )
            if not session and len(found) < limit:
                found += self._orphans(kind, columns, day, order, after, limit - len(found))
        return found

    def _orphans(
        self, kind: str, columns: str, day: int, order: str, after: Key, limit: int
    ) -> list[tuple[object, ...]]:  # fmt: skip
        of_day = "cast(c.begun / 86400 as integer) * 86400" if kind == "request" else "c.day"
        found: list[tuple[object, ...]] = []
        names = {f"{ORPHAN}{session:020}": session for (session,) in self.connection.execute(_ORPHANS.format(kind))}
        for name, session in names.items():
            if name < after[0] or len(found) >= limit:
                continue
            found += self.connection.execute(
                f"select ?, ?, {columns} from {kind} c where c.session = ? and {of_day} = ? and c.{order} > ? "
                f"order by c.{order} limit ?",
                (name, float(day), session, day, after[1] if name == after[0] else -1, limit - len(found)),
            )
        return found

    def some_decisions(self, after: bytes) -> list[tuple[bytes, bytes]]:
        return self.connection.execute(
            "select id, body from decision where id > ? order by id limit ?", (after, ROWS)
        ).fetchall()

    def all_tallies(self) -> list[Tally]:
        word = self._word
        with self._snapshot():
            rows = self.connection.execute(
                "select hour, connection, username, action, policy, rule, enforced, requests from tally"
            )
            return [
                Tally(hour, word(connection), word(username), word(action), word(policy), word(rule), bool(enforced), n)
                for hour, connection, username, action, policy, rule, enforced, n in rows.fetchall()
            ]

    # Seals

    def unsealed(self, limit: int, live_before: float) -> list[SessionRow]:
        with self._snapshot():
            rows = self.connection.execute(
                f"{SESSION}where waiting is not null and (state <> 'open' or sealed is null or sealed < ?) "
                "order by waiting, id limit ?",
                (live_before, limit),
            )
            return [self._session_row(row) for row in rows.fetchall()]

    def seals(self, first: int, limit: int) -> list[SealRow]:
        rows = self.connection.execute("select * from seal where number >= ? order by number limit ?", (first, limit))
        return [SealRow(*row) for row in rows]

    def last_seal(self) -> SealRow | None:
        row = self.connection.execute("select * from seal order by number desc limit 1").fetchone()
        return None if row is None else SealRow(*row)

    def expiring(self, at: float, record: float, responses: float, limit: int) -> list[Expiry]:
        with self._snapshot():
            return expiring.plan(self.connection, at, record, responses, limit)
