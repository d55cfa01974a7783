"""What is gone from a store: whether a signed statement says so, and whether its time was over when it was made."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from ostiary_store.model import Expiry
from ostiary_store.sealed import ExpiryDigest
from ostiary_store.verify_ledger import Ledger, SealedHead
from ostiary_store.verify_report import StoreReport
from ostiary_store.verify_seals import SealChain

NAMED: Final = 10
"""Sessions that a finding about many of them names."""


@dataclass(slots=True)
class _Statement:
    seal: int
    expiry: Expiry
    digest: ExpiryDigest = field(default_factory=ExpiryDigest)
    gone: int = 0
    here: int = 0
    names: list[str] = field(default_factory=list)
    """The first of those that are gone."""


class Expired:
    """Told what has no body any more while the store is read; it judges when all seals are known."""

    def __init__(self, report: StoreReport, ledger: Ledger) -> None:
        self._report = report
        self._ledger = ledger
        self._bodiless: dict[int, dict[str, list[int]]] = defaultdict(dict)
        self._hours: list[tuple[int, float]] = []

    def bodiless(self, day: int, session: str, requests: list[int]) -> None:
        """Parts of the responses of these requests have lost their bodies."""
        self._bodiless[day][session] = requests

    def covers(self, hour: int) -> bool:
        """Whether requests of this hour may be gone by retention, so that its tallies say more than can be seen."""
        return any(first - 3600 < hour <= last for first, last in self._hours)

    def judge(self, days: list[int], seals: SealChain) -> None:
        """All days, by all statements."""
        record: dict[int, list[_Statement]] = defaultdict(list)
        responses: dict[int, list[_Statement]] = defaultdict(list)
        for number, expiry in seals.expired:
            statements = record if expiry.kind == "record" else responses
            statements[expiry.day].append(_Statement(number, expiry))
            if expiry.kind == "record":
                self._hours.append((expiry.day, expiry.closed))
        if seals.before:
            self._hours.append((0, float(seals.before)))
        for day in sorted(set(days) | record.keys()):
            self._day(day, record[day], judged=day >= seals.before)
            self._responses(day, responses[day])

    def _day(self, day: int, statements: list[_Statement], *, judged: bool) -> None:
        report = self._report
        for head, here, _ in self._ledger.last_heads(day):
            of = next((each for each in statements if _due(head, each.seal, each.expiry)), None)
            if of is not None:
                of.digest.add(head.session, head.link)
            if here:
                if of is not None:
                    of.here += 1
            elif of is not None:
                of.gone += 1
                if len(of.names) < NAMED:
                    of.names.append(head.session)
            else:
                report.add(head.session, None, f"the session was removed: {_why(head, statements)}")
        for each in statements:
            self._statement(day, each, judged=judged)

    def _statement(self, day: int, statement: _Statement, *, judged: bool) -> None:
        report, expiry = self._report, statement.expiry
        if not statement.gone:
            if not judged and not statement.here:
                report.expired += expiry.sessions
            return
        report.expired += statement.gone
        names = ", ".join(statement.names) + (" …" if statement.gone > len(statement.names) else "")
        of = f"of {_day(day)}: seal {statement.seal}"
        if statement.here:
            report.add(
                "", None, f"some sessions {of} says that they expire together, and these alone are gone: {names}"
            )
        elif judged and statement.digest.digest() != expiry.digest:
            report.add(
                "", None, f"sessions were removed {of} says that {expiry.sessions} expired, which are not the "
                f"{statement.gone} that are gone: {names}",
            )  # fmt: skip

    def _responses(self, day: int, statements: list[_Statement]) -> None:
        for session, requests in self._bodiless[day].items():
            head = self._ledger.last_sealed(day, session)
            if head is not None and any(_due_responses(head, each.seal, each.expiry) for each in statements):
                continue
            numbers = ", ".join(map(str, sorted(set(requests))[:NAMED]))
            self._report.add(
                session, None, f"the response of request {numbers} was removed, and no signed statement says so"
            )


def _due(head: SealedHead, seal: int, expiry: Expiry) -> bool:
    if head.closed is None or head.seal >= seal:
        return False
    return head.closed + (expiry.record if head.keep is None else head.keep) <= expiry.at


def _due_responses(head: SealedHead, seal: int, expiry: Expiry) -> bool:
    if head.closed is None or head.seal >= seal:
        return False
    return head.closed + (expiry.responses if head.keep_responses is None else head.keep_responses) <= expiry.at


def _why(head: SealedHead, statements: list[_Statement]) -> str:
    if head.closed is None:
        return f"it was open when seal {head.seal} was made"
    if not statements:
        return "no signed statement says so"
    last = max(each.expiry.at for each in statements)
    keep = max((each.expiry.record for each in statements), default=math.inf) if head.keep is None else head.keep
    if math.isfinite(keep) and head.closed + keep > last:
        return f"its time was not over before {_day(head.closed + keep)}"
    return "the signed statements are not about it"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
