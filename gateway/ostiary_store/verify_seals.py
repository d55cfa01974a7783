"""The chain of seals of a store: every signature, every link, every statement; and the anchors beside it."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ostiary_gateway.audit.keys import key_id, verifies
from ostiary_store.anchored import Anchored
from ostiary_store.model import Expiry, SealRow
from ostiary_store.sealed import (
    BEFORE_FIRST,
    FIRST,
    Head,
    RecordHead,
    Seal,
    heads_digest,
    parse_heads,
    raw_heads,
    seal_of,
)
from ostiary_store.verify_ledger import Ledger
from ostiary_store.verify_report import StoreReport

NAMED: Final = 100
"""Anchors that are missing, of which each is a finding of its own."""


class SealChain:
    """Feed it the seals in order; then it knows what they say."""

    def __init__(
        self,
        report: StoreReport,
        ledger: Ledger,
        keys: Mapping[str, Ed25519PublicKey] | None,
        anchors: Sequence[Anchored],
        wanted: Callable[[Head], bool],
    ) -> None:
        """keys: None: that of the first seal, which is only as good as the store. wanted: heads to keep in mind."""
        self._report = report
        self._ledger = ledger
        self._keys = keys
        self._wanted = wanted
        self._anchors: dict[int, list[Anchored]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.number, []).append(anchor)
        self.number = FIRST
        """Of the seal that comes next."""
        self._previous = BEFORE_FIRST
        self._empty: list[int] = []
        """Seals whose heads are gone."""
        self.dropped = 0
        self.before = 0
        """Sessions that were opened before this day may have lost their heads."""
        self.expired: list[tuple[int, Expiry]] = []
        """What was stated, with the number of the seal."""
        self.records: dict[str, tuple[int, RecordHead]] = {}
        """Of each record: the last that was sealed of it, and in which seal."""
        self._own_key = ""
        """The key that seals were checked with, where it is only known from the first of them."""
        self._agreed = 0
        """The newest seal that an anchor agrees with."""

    async def take(self, seals: AsyncIterator[SealRow]) -> None:
        """All of them, or what came after those that were taken."""
        async for row in seals:
            self._seal(row)

    def _seal(self, row: SealRow) -> None:
        report, name = self._report, f"seal {row.number}"
        report.seals += 1
        digest = row.hash.hex()
        if row.number != self.number:
            last = row.number - 1
            missing = f"seal {last}" if last == self.number else f"seals {self.number} to {last}"
            report.add("", None, f"{missing} before {name} removed" if last >= self.number else f"{name} was added")
        try:
            seal = seal_of(row)
        except ValueError as error:
            report.add("", None, f"{name} was changed: {error}")
            self.number, self._previous = row.number + 1, digest
            return
        if seal.previous != self._previous and row.number == self.number:
            report.add("", None, f"{name} does not follow the seal before it: one of the two was changed or replaced")
        signed = self._signed(row, seal, name)
        for anchor in self._anchors.pop(row.number, []):
            if anchor.hash == digest:
                self._agreed = row.number
            else:
                report.add(
                    "", None, f"{name} is not the one that was anchored ({anchor.source}): the seals were rewritten"
                )
        if signed:
            self._said(row, seal, name)
        self.number, self._previous = row.number + 1, digest
        report.last_seal = f"{row.number}:{digest}"

    def _signed(self, row: SealRow, seal: Seal, name: str) -> bool:
        if self._keys is None:
            self._keys = _own(seal)
            self._own_key = seal.key if self._keys else ""
        key = self._keys.get(seal.key)
        if key is None:
            what = f"{name} is signed with the key {seal.key}, which is not among the public keys that are known"
        elif row.key != seal.key or not verifies(key, row.signature, row.hash):
            what = f"{name} was changed: its signature is wrong"
        else:
            return True
        self._report.add("", None, what)
        return False

    def _said(self, row: SealRow, seal: Seal, name: str) -> None:
        report = self._report
        for session in seal.unproven:
            report.add(session, None, f"it was not written by the store service as it stood at {name}")
        for trouble in seal.troubles:
            report.add("", None, f"{name} says: {trouble}")
        if seal.adopted:
            report.note(f"{name} took over {seal.adopted} sessions as they stood: they had been there without a key")
        self.expired += [(row.number, expiry) for expiry in seal.expired]
        if seal.dropped > self.dropped:
            self.dropped, self.before = seal.dropped, max(self.before, seal.before)
        if not row.heads and seal.heads:
            self._empty.append(row.number)
            return
        try:
            raw = raw_heads(row.heads)
            if heads_digest(raw) != seal.digest:
                raise ValueError("they are not what it signed")
            heads = list(parse_heads(raw))
        except ValueError as error:
            report.add("", None, f"the heads of {name} were changed: {error}")
            return
        self._ledger.add_heads(row.number, (head for head in heads if isinstance(head, Head) and self._wanted(head)))
        for head in heads:
            if isinstance(head, RecordHead):
                self.records[head.record] = row.number, head

    def finish(self) -> None:
        """What can be said when all seals have passed by."""
        report = self._report
        for number in self._empty:
            if number > self.dropped:
                report.add("", None, f"the heads of seal {number} were removed, and no seal says that they would be")
        left = [anchor for number in sorted(self._anchors) for anchor in self._anchors[number]]
        last = self.number - 1
        if self._own_key and self._agreed < last:
            since = f"seals after {self._agreed}, the last one that an anchor agrees with," if self._agreed else "seals"
            report.note(
                f"{since} were checked with the key that the store itself names ({self._own_key}): give --keys with a "
                "copy from elsewhere. Whoever replaced all of these seals would have replaced that key"
            )
        for anchor in left[:NAMED]:
            when = f" of {_time(anchor.at)}" if anchor.at else ""
            what = f"the anchored seal {anchor.number}{when} ({anchor.source}) is not there: "
            if anchor.number > last:
                what += f"the store ends at seal {last}; it was cut off, or set back to an earlier state"
            else:
                what += "it was removed"
            report.add("", None, what)
        report.found += max(0, len(left) - NAMED)


def _own(seal: Seal) -> dict[str, Ed25519PublicKey]:
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(seal.public, validate=True))
    except ValueError:
        return {}
    return {key_id(key): key}


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
