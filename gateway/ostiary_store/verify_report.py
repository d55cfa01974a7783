"""What a verification of a store found, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ostiary_gateway.audit.verify import Report


@dataclass(slots=True)
class StoreReport(Report):
    """As that of a gateway's own record, and what only a store has."""

    requests: int = 0
    expired: int = 0
    """Sessions that are gone, with a signed statement that their time was over."""
    waiting: int = 0
    """Sessions whose newest events are not in a seal yet."""
    quick: bool = False
    notes: list[str] = field(default_factory=list)
    """What a reader should know and what is no finding."""

    def note(self, what: str) -> None:
        if len(self.notes) < self.limit:
            self.notes.append(what)

    def fields(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "ok": self.ok, "quick": self.quick, "sessions": self.sessions, "events": self.events,
            "requests": self.requests, "seals": self.seals, "responseBytes": self.response_bytes,
            "expired": self.expired, "waiting": self.waiting, "lastSeal": self.last_seal, "found": self.found,
            "findings": [str(finding) for finding in self.findings], "notes": self.notes,
        }  # fmt: skip


def told(report: StoreReport) -> Iterator[str]:
    """The report in lines, for a person; the last one is the verdict."""
    counted = [_many(report.sessions, "session"), _many(report.events, "event")]
    if not report.quick:
        counted += [_many(report.requests, "request"), f"{report.response_bytes} bytes of responses"]
    counted.append(_many(report.seals, "seal"))
    yield f"{', '.join(counted)}; {_many(report.expired, 'session')} expired, {report.waiting} waiting for a seal"
    for finding in report.findings:
        yield str(finding)
    if report.found > len(report.findings):
        yield f"… and {report.found - len(report.findings)} more"
    for note in report.notes:
        yield f"note: {note}"
    if report.last_seal:
        yield f"last seal {report.last_seal}"
    if not report.ok:
        yield f"{_many(report.found, 'finding')}: the store is not as it was written."
    elif report.quick:
        yield "Links and seals are whole. What they are links of was not looked at: leave out --quick for that."
    else:
        yield "The store is whole."


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
