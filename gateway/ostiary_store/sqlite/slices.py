"""The events of sessions as they lie in the store on SQLite: slices, bodies of parts, and the feed. Synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ostiary_store.model import ChunkRow, PartRow, SessionRow, Slice
from ostiary_store.sqlite.asking import Asking

CHUNK: Final = "seq, events, first_at, last_at, low, high, size, body, digest, link"
PART: Final = "seq, number, start, size, key, digest, link"


class Slices(Asking):
    """What else a connection can be asked for."""

    def slice(self, session: SessionRow, seq: int, number: int | None, limit: int) -> Slice:
        with self._snapshot():
            found = self._id(session.id)
            # The last chunk that begins at or before `seq` may hold it; which one is found without the bodies.
            row = self.connection.execute(
                "select seq, events from chunk where session = ? and seq <= ? order by seq desc limit 1", (found, seq)
            ).fetchone()
            start = row[0] if row is not None and row[0] + row[1] > seq else seq
            condition, values = "", []
            if number is not None:
                condition, values = "and low <= ? and high >= ? ", [number, number]
            rows = self.connection.execute(
                f"select {CHUNK} from chunk where session = ? and seq >= ? {condition}order by seq limit ?",
                (found, start, *values, limit + 1),
            ).fetchall()
            # Parts up to the next chunk that is not told any more.
            stop = rows[limit][0] if len(rows) > limit else 1 << 62
            condition, values = ("and number = ? ", [number]) if number is not None else ("", [])
            parts = self.connection.execute(
                f"select {PART} from part where session = ? and seq >= ? and seq < ? {condition}order by seq",
                (found, seq, stop, *values),
            ).fetchall()
        return Slice(session, _chunks(session, rows[:limit]), _parts(session, parts))

    def part(self, session: str, seq: int) -> tuple[int, bytes | None, str]:
        """Its size, its body as stored, and its key in the bucket. LookupError."""
        row = self.connection.execute(
            "select size, body, key from part where session = ? and seq = ?", (self._id(session), seq)
        ).fetchone()
        if row is None:
            raise LookupError(f"session {session} has no part {seq} in this store.")
        if row[1] is None and not row[2]:
            raise LookupError("the response is not kept any more: its retention is over.")
        return int(row[0]), row[1], str(row[2])

    def batch_after(self, uuid: str, batch: int) -> tuple[int, list[Slice]] | None:
        """The next batch of a record that has events left, and what each of its sessions had in it."""
        with self._snapshot():
            row = self.connection.execute("select id from record where uuid = ?", (_uuid(uuid),)).fetchone()
            if row is None:
                return None
            record = row[0]
            numbers = [
                number
                for kind in ("chunk", "part")
                for (number,) in self.connection.execute(
                    f"select min(batch) from {kind} where record = ? and batch > ?", (record, batch)
                )
                if number is not None
            ]
            if not numbers:
                return None
            number = min(numbers)
            chunks: dict[int, list[tuple[object, ...]]] = {}
            parts: dict[int, list[tuple[object, ...]]] = {}
            for found, columns, kind in ((chunks, CHUNK, "chunk"), (parts, PART, "part")):
                for session, *fields in self.connection.execute(
                    f"select session, {columns} from {kind} where record = ? and batch = ? order by session, seq",
                    (record, number),
                ):
                    found.setdefault(session, []).append(tuple(fields))
            slices = []
            for session in sorted({*chunks, *parts}):
                of = self.session_by_id(session)
                slices.append(Slice(of, _chunks(of, chunks.get(session, [])), _parts(of, parts.get(session, []))))
            return number, slices

    def uuids(self) -> list[str]:
        return [uuid.hex() for (uuid,) in self.connection.execute("select uuid from record order by id")]

    def _id(self, name: str) -> int:
        row = self.connection.execute("select id from session where name = ?", (name,)).fetchone()
        if row is None:
            raise LookupError(f"session {name} is not in this store any more.")
        return int(row[0])


def _chunks(session: SessionRow, rows: Sequence[tuple[object, ...]]) -> list[ChunkRow]:
    return [ChunkRow(session.id, session.opened, *row) for row in rows]  # type: ignore[arg-type]


def _parts(session: SessionRow, rows: Sequence[tuple[object, ...]]) -> list[PartRow]:
    return [
        PartRow(session.id, session.opened, seq, number, start, size, None, key, digest, link)  # type: ignore[arg-type]
        for seq, number, start, size, key, digest, link in rows
    ]


def _uuid(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
