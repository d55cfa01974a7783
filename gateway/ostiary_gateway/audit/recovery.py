"""What a start does with a record: the index catches up, and sessions whose gateway was killed are lost, signed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from zlib import crc32

import structlog

from ostiary_gateway.audit import chain, encoding, index, layout
from ostiary_gateway.audit.blocks import FIRST, Block, Log
from ostiary_gateway.audit.keys import Signer
from ostiary_gateway.audit.logfile import LogFile
from ostiary_gateway.audit.tail import absorb

REASON = "the gateway stopped without closing this session"

log = structlog.get_logger(__name__)


def recover(file: LogFile, path: Path, connection: sqlite3.Connection, signer: Signer, now: float) -> tuple[int, int]:
    """Let the index catch up with the record in `path`, cut off what was not written whole, and mark sessions left open
    as lost. The number for the next session, and that of the last seal.

    ValueError if the record is damaged in a way that no crash leaves behind; OSError or sqlite3.Error from the disk.
    """
    reading = Log.open(path)
    try:
        place = _catch_up(file, reading, connection)
    finally:
        reading.close()
    seal = _mark_lost(file, connection, signer, now, place.seal)
    return index.highest(connection) + 1, seal


def _catch_up(file: LogFile, reading: Log, connection: sqlite3.Connection) -> index.Place:
    place = index.indexed(connection)
    first = reading.first()
    if place.position > reading.size or (place.link and reading.link_before(place.position) != place.link):
        log.warning("the index does not fit the record and is made anew", record=str(reading.path))
        place = index.START
    delta = index.Delta()
    connection.execute("begin immediate")
    try:
        if place.position == FIRST or place.position < first:
            index.clear(connection)
            place = _beginning(reading, first)
        while (block := reading.block(place.position)) is not None:
            if block.number != place.number or block.previous != place.link or not reading.whole(block):
                break
            absorb(reading, (block,), delta)
            seal = _seal(reading, block)
            last = place.seal if seal is None else seal.number
            if seal is not None and seal.handed is not None:
                delta.highest = max(delta.highest, seal.handed.session)
            place = index.Place(block.end, place.number + 1, reading.link(block), last)
        _keep_the_rest(reading, place.position)
        file.go_on(place.position, place.number, place.link, first)
        index.write(connection, delta, place)
        if first > FIRST:
            index.forget(connection, first)
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    return place


def _beginning(reading: Log, first: int) -> index.Place:
    block = reading.block(first) if first > FIRST else None
    if block is None:
        return index.START._replace(link=reading.link_before(FIRST))
    return index.Place(first, block.number, block.previous, 0)


def _seal(reading: Log, block: Block) -> chain.Seal | None:
    return chain.parse_seal(reading.body(block)[chain.SIGNATURE :]) if block.kind == layout.SEAL else None


def _keep_the_rest(reading: Log, position: int) -> None:
    """What a crash tore may be cut off. Whole blocks behind it are kept aside, for whoever looks into it."""
    if reading.next_whole(position) is None:
        return
    aside = reading.path.with_suffix(f".cut-{position}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        at = position
        while piece := reading.read(at):
            out.write(piece)
            at += len(piece)
        out.flush()
        os.fsync(out.fileno())
    log.error("audit record is damaged; what stands behind the damage was moved aside", file=str(aside), at=position)


def _mark_lost(file: LogFile, connection: sqlite3.Connection, signer: Signer, now: float, last_seal: int) -> int:
    """One block that says so of every open session, and a seal over it. The number of the last seal."""
    open_ = connection.execute(
        "select sid, events, requests, denied, asked, errors, rows, bytes from session where state = 'open'"
    ).fetchall()
    if not open_:
        return last_seal
    body = bytes((layout.LOST,)) + encoding.session_lost(now, REASON)
    event = layout.EVENT.pack(len(body), crc32(body)) + body
    table = layout.COUNT.pack(len(open_)) + b"".join(
        layout.SECTION.pack(sid, seq, 1, len(event), layout.RARE, 0, 0, 0, *counts) for sid, seq, *counts in open_
    )
    raw = table + event * len(open_)
    file.begin()
    start, end = file.block(layout.EVENTS, layout.RAW, len(raw), now, raw)
    seal = chain.seal(last_seal + 1, now, file.next_number, file.next_link, signer.id)
    signed = signer.sign(seal.hash) + seal.body
    file.block(layout.SEAL, layout.RAW, len(signed), now, signed)
    file.write(durable=True)
    delta = index.Delta()
    delta.add([(start, end, layout.EVENTS, table)])
    delta.ended = {row[0]: ("lost", now) for row in open_}
    connection.execute("begin immediate")
    index.write(connection, delta, index.Place(file.position, file.number, file.link, seal.number))
    connection.execute("commit")
    return seal.number
