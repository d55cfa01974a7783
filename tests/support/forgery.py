"""Edits a record the way somebody would who knows its format, and takes the index along."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from ostiary_gateway.audit import chain, layout, unpacking
from ostiary_gateway.audit.blocks import FIRST, Block, Log


@dataclass
class Forged:
    """One block: what its header says, its body as stored and decompressed, and its link as stored."""

    block: Block
    stored: bytes
    raw: bytes
    link: bytes

    def write(self, raw: bytes) -> None:
        """Another body; not compressed."""
        self.raw = self.stored = raw
        self.block = self.block._replace(codec=layout.RAW, size=len(raw))


@dataclass(frozen=True)
class Piece:
    """One event: its kind and its bytes behind the kind."""

    kind: int
    data: bytes
    crc: int

    @classmethod
    def made(cls, kind: int, data: bytes) -> Piece:
        return cls(kind, data, crc32(bytes((kind,)) + data))


class Forgery:
    """All blocks of the record beside the index `path`. `save` writes them back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        log = Log.open(path.with_suffix(".log"))
        self.header = log.header
        self.blocks = [self._load(log, block) for block in log.walk(FIRST, log.size)]
        log.close()
        connection = sqlite3.connect(path)
        self.sids = dict(connection.execute("select id, sid from session"))
        connection.close()

    @staticmethod
    def _load(log: Log, block: Block) -> Forged:
        stored = log.body(block)
        raw = log.decompress(block, stored) if block.kind == layout.EVENTS else stored
        return Forged(block, stored, raw, log.link(block))

    def event(self, session: str, seq: int) -> tuple[Forged, int]:
        """The block that holds it, and its place among the session's events there."""
        for forged in self.blocks:
            if forged.block.kind == layout.EVENTS:
                for section in unpacking.sections(forged.raw):
                    if section.sid == self.sids[session] and section.seq <= seq < section.seq + section.events:
                        return forged, seq - section.seq
        raise LookupError(seq)

    def change(self, session: str, seq: int, old: bytes, new: bytes, *, crc: bool = False) -> None:
        """Another content. crc: its checksum is made anew too."""
        forged, at = self.event(session, seq)

        def edit(pieces: list[Piece]) -> list[Piece]:
            data = pieces[at].data.replace(old, new)
            assert data != pieces[at].data
            made = Piece.made(pieces[at].kind, data)
            pieces[at] = made if crc else replace(made, crc=pieces[at].crc)
            return pieces

        self.rewrite(forged, session, edit)

    def remove(self, session: str, seq: int) -> None:
        """The event is gone, and the numbers of those after it in its block are as they were."""
        forged, at = self.event(session, seq)
        self.rewrite(forged, session, lambda pieces: pieces[:at] + pieces[at + 1 :])

    def swap(self, session: str, seq: int) -> None:
        """The event and the next one of its block change places."""
        forged, at = self.event(session, seq)
        self.rewrite(forged, session, lambda pieces: [*pieces[:at], pieces[at + 1], pieces[at], *pieces[at + 2 :]])

    def drop(self, session: str) -> None:
        """Nothing of the session is left."""
        for forged in self.blocks:
            if forged.block.kind == layout.EVENTS:
                self.rewrite(forged, session, lambda pieces: [])
        self.blocks = [
            each
            for each in self.blocks
            if each.block.kind != layout.PART or unpacking.part(each.stored).sid != self.sids[session]
        ]

    def rewrite(self, forged: Forged, session: str, edit) -> None:  # type: ignore[no-untyped-def]
        """Put other events into a session's section; without any, the section goes."""
        heads, bodies = [], []
        for section in unpacking.sections(forged.raw):
            data = forged.raw[section.start : section.start + section.size]
            fields = list(section[:14])
            if section.sid == self.sids[session]:
                pieces = []
                position = section.start
                for found in unpacking.events(forged.raw, section):
                    _, crc = layout.EVENT.unpack_from(forged.raw, position)
                    pieces.append(Piece(found.kind, forged.raw[found.start + 1 : found.stop], crc))
                    position = found.stop
                pieces = edit(pieces)
                if not pieces:
                    continue
                data = b"".join(
                    layout.EVENT.pack(len(each.data) + 1, each.crc) + bytes((each.kind,)) + each.data for each in pieces
                )
                fields[2], fields[3] = len(pieces), len(data)
            heads.append(layout.SECTION.pack(*fields))
            bodies.append(data)
        if bodies == [forged.raw[s.start : s.start + s.size] for s in unpacking.sections(forged.raw)]:
            return
        forged.write(layout.COUNT.pack(len(heads)) + b"".join((*heads, *bodies)))

    def save(self, *, relink: bool = False) -> None:
        """relink: all numbers and links are computed anew, as far as that goes without the key."""
        out = bytearray(self.header)
        places = {FIRST: FIRST}
        previous = chain.genesis(self.header)
        for number, forged in enumerate(self.blocks):
            block, start = forged.block, len(out)
            header = layout.BLOCK.pack(
                layout.BLOCK_MAGIC, block.kind, block.codec, 0, block.size, len(forged.stored),
                number if relink else block.number, block.at, previous if relink else block.previous,
            )  # fmt: skip
            previous = chain.link(header, forged.stored) if relink else forged.link
            out += header + forged.stored + previous
            places[block.position], places[block.end] = start, len(out)
        self.path.with_suffix(".log").write_bytes(out)
        connection = sqlite3.connect(self.path, isolation_level=None)
        spans = connection.execute("select sid, start, stop, low, high from span").fetchall()
        connection.execute("delete from span")
        for sid, start, stop, low, high in spans:
            connection.execute(
                "insert into span values (?, ?, ?, ?, ?)",
                (sid, places.get(start, start), places.get(stop, len(out)), low, high),
            )
        connection.execute("update indexed set position = ?", (len(out),))
        connection.close()
