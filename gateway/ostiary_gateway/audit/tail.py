"""What the record says behind its index: for the start after a crash, and for readers of a live record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from ostiary_gateway.audit import layout, unpacking
from ostiary_gateway.audit.blocks import Block, Log
from ostiary_gateway.audit.index import Delta


def absorb(log: Log, blocks: Iterable[Block], delta: Delta) -> Block | None:
    """Add the blocks to `delta`; the last of them. ValueError if one is damaged."""
    last = None
    for last in blocks:
        if last.kind == layout.PART:
            delta.add([(last.position, last.end, last.kind, log.body(last, layout.PART_HEAD.size))])
        elif last.kind == layout.EVENTS:
            raw = log.decompress(last, log.body(last))
            delta.add([(last.position, last.end, last.kind, raw[: unpacking.table_size(raw)])])
            for section in unpacking.sections(raw):
                if section.flags & layout.RARE:
                    _rare(raw, section, delta)
    return last


def _rare(raw: bytes, section: unpacking.Section, delta: Delta) -> None:
    for found in unpacking.events(raw, section):
        if found.kind == layout.DECISION:
            start = found.start + 1
            delta.decisions[raw[start : start + 16]] = raw[start + 16 : found.stop]
        elif found.kind == layout.OPEN:
            fields = unpacking.read(raw, found, "")[0].fields
            subject = fields.get("subject")
            username = subject.get("username", "") if isinstance(subject, dict) else ""
            delta.opened[section.sid] = (
                str(fields.get("session", "")), cast("float", fields.get("at", 0.0)), str(fields.get("connection", "")),
                str(fields.get("protocol", "")), str(username), str(fields.get("recording", "")),
            )  # fmt: skip
        elif found.kind in (layout.CLOSE, layout.LOST):
            fields = unpacking.read(raw, found, "")[0].fields
            state = "closed" if found.kind == layout.CLOSE else "lost"
            delta.ended[section.sid] = state, cast("float", fields.get("at", 0.0))
