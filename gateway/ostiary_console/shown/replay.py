"""The page of a replay: verdicts that change, what opens first, and what Audit mode did meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ostiary_console.views import Audited, Change, ChangeExample, ReplayPage, ReplayResult, Undecided
from ostiary_store.model import RuleHits
from ostiary_store.replay.report import Example, Report, Verdict

_ORDER: Final = {"Allow": 0, "RequireApproval": 1, "Deny": 2}


def replay_page(
    *,
    since: str,
    connection: str,
    policies: str,
    report: Report | None,
    seconds: float,
    complete: bool,
    problems: tuple[str, ...],
    would_have: Sequence[RuleHits],
    only: bool = False,
) -> ReplayPage:
    """`report`: None where nothing was replayed."""
    return ReplayPage(
        since=since,
        connection=connection,
        policies=policies,
        result=_result(report, seconds, complete) if report is not None else None,
        problems=problems,
        would_have=tuple(sorted(would_have, key=lambda each: -each.requests)),
        only=only,
    )


def _result(report: Report, seconds: float, complete: bool) -> ReplayResult:
    return ReplayResult(
        decided=report.requests,
        changed=report.changes,
        undecidable=sum(group.requests for group in report.undecided.values()),
        changes=tuple(_changes(report)),
        seconds=seconds,
        complete=complete,
        reached=report.until if not complete and report.until else None,
        same=report.same,
        outside=report.outside,
        drifted=report.drifted,
        elsewhere=tuple(sorted(report.elsewhere.items())),
        undecided=tuple(
            Undecided(why, group.requests, tuple(_examples(group.examples)))
            for why, group in sorted(report.undecided.items(), key=lambda pair: -pair[1].requests)
        ),
        audited=tuple(
            Audited(rule, action, report.would_then.get((rule, action), 0), group.requests)
            for (rule, action), group in report.audited()
        ),
    )


def _changes(report: Report) -> Iterator[Change]:
    for change, group in report.by_size():
        before, after = change.before, change.after
        policy, _, rule = after.rule.partition("#")
        # What is not shown at all needs no mask.
        bare = set(before.masks) - set(after.masks) if after.action != "Deny" else set()
        yield Change(
            was=before.action,
            becomes=after.action,
            policy=policy,
            rule=rule,
            count=group.requests,
            examples=tuple(_examples(group.examples)),
            message="" if after.action == "Allow" else next((each.message for each in group.examples), ""),
            was_rule=before.rule,
            unmasked=tuple(sorted(bare)),
            masked=tuple(sorted(set(after.masks) - set(before.masks))),
            opens=_weight(after) < _weight(before) or bool(bare),
            who=tuple(name for name, _ in group.usernames.most_common(4)),
            assumed=tuple(sorted(group.assumed)),
        )


def _weight(verdict: Verdict) -> int:
    return _ORDER.get(verdict.action, 2)


def _examples(examples: Sequence[Example]) -> Iterator[ChangeExample]:
    for each in examples:
        session, _, number = each.request.rpartition("-")
        href = f"/sessions/{session}/requests/{number}" if session else ""
        yield ChangeExample(each.request, href, each.at, each.connection, each.username, each.text)
