"""What is said of an approval to the agent: as JSON that it can act on, and in words."""

from __future__ import annotations

import datetime
import json

from ostiary_api.units import format_timestamp
from ostiary_gateway.approvals.request import Standing
from ostiary_policy import answer

CANCELLED = "canceling statement due to user request"
"""PostgreSQL's own words, for the SQLSTATE 57014."""


def for_agent(standing: Standing) -> answer.Approval:
    """`approval` in the answer to an agent."""
    message = ": ".join(filter(None, standing.denied_by or (standing.note,)))
    until = standing.expires_at if standing.state in ("Pending", "Approved") else 0.0
    return answer.Approval(
        name=standing.name,
        # One that was used by another session of the same subject is over for this one.
        state="Expired" if standing.state == "Consumed" else standing.state,
        groups=standing.groups,
        min_approvals=standing.min_approvals,
        expires_at=_time(until) if until else "",
        message=message,
    )


def waiting(standing: Standing, until: float) -> str:
    """DETAIL of the notice that a client is held, JSON: `approval` as in an answer, and until when it is held."""
    approval = for_agent(standing).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps({"approval": {**approval, "waitsUntil": _time(until)}}, ensure_ascii=False)


def people(standing: Standing) -> str:
    """`a member of dba`, `2 members of dba or oncall`."""
    count = "a member" if standing.min_approvals == 1 else f"{standing.min_approvals} members"
    return f"{count} of {' or '.join(standing.groups)}"


def refusal(standing: Standing) -> tuple[str, str]:
    """Why it does not run now, and what to do: one sentence or two each."""
    name = standing.name
    if (denied := standing.denied_by) is not None:
        who, reason = denied
        said = f": {reason}" if reason else "."
        return f"{who} denied it{said} ({name})", "Do something else, or talk to who denied it."
    if standing.state == "Expired":
        return f"Nobody decided on {name} in time.", "Send it again: it asks anew."
    given = f" ({len(standing.approvers)} of {standing.min_approvals} so far)" if standing.approvers else ""
    note = standing.note or f"Nobody has decided in {standing.waited:.0f} s" if not given else "Not all have approved"
    until = f", open until {_time(standing.expires_at)}" if standing.expires_at else ""
    return (
        f"{note}: approval {name}{given}{until}.",
        f"Decided with `{standing.decide}` (or deny). Then send the same again: it runs once.",
    )


def notice(standing: Standing, seconds: float) -> tuple[str, str]:
    """What the client is told at once while it is held: message and hint."""
    message = f"Waiting up to {seconds:.0f} s for approval {standing.name} by {people(standing)}."
    decided = f"Decided with `{standing.decide}` (or deny)."
    return message, f"{decided} It runs as soon as it is approved; cancel it to stop waiting."


def for_record(standing: Standing) -> dict[str, object]:
    """What the record of a request says of its approval."""
    found: dict[str, object] = {"name": standing.name, "namespace": standing.namespace, "state": standing.state}
    if standing.verdicts:
        found["answers"] = [
            {"approver": who, "verdict": verdict, **({"reason": reason} if reason else {})}
            for who, verdict, reason in standing.verdicts
        ]
    if standing.waited:
        found["waited"] = round(standing.waited, 3)
    return found


def _time(at: float) -> str:
    return format_timestamp(datetime.datetime.fromtimestamp(int(at), datetime.UTC))
