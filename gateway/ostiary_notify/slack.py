"""A message for Slack's incoming webhooks (Block Kit), and for what takes the same. It has no button that decides.

What an agent wrote stands in plain text and preformatted rich text only, which Slack shows as it is: no markup,
mention, link or emoji in it means anything.
"""

from __future__ import annotations

from typing import Final

from ostiary_api.approval import ApprovalRequest
from ostiary_api.counting import state_of
from ostiary_notify.happened import Happening
from ostiary_notify.payload import Place, expires
from ostiary_notify.settings import Step
from ostiary_notify.text import cut, harmless, one_line, visible

MAX_HEADER: Final = 150
MAX_FIELD: Final = 300
"""Slack's own bound is 2000; a person reads less."""
MAX_SUMMARY: Final = 2_000
MAX_EVIDENCE: Final = 2_900
"""One text may have 3000 characters, all blocks of a message about 13,000."""

Block = dict[str, object]

_HEADLINES: Final[dict[Step, str]] = {
    "Asked": "Approval asked for",
    "Answered": "Approval answered",
    "Approved": "Approved",
    "Denied": "Denied",
    "Expired": "Approval expired",
    "Consumed": "Approval used",
}
_EVIDENCE: Final = {
    "Explain": "What the database would do (EXPLAIN)",
    "Diff": "What would change (dry run)",
    "Command": "What would run",
}


def slack(request: ApprovalRequest, happening: Happening, place: Place, *, evidence: bool) -> dict[str, object]:
    """The body of the POST."""
    spec = request.spec
    connection = f"{request.metadata.namespace}/{spec.connection_ref.name}"
    headline = f"{_HEADLINES[happening.step]}: {connection}"
    blocks: list[Block] = [{"type": "header", "text": _plain(cut(headline, MAX_HEADER))}]
    if sentence := _sentence(request, happening):
        blocks.append({"type": "section", "text": _plain(sentence)})
    blocks.append({"type": "section", "fields": [_plain(f"{name}\n{value}") for name, value in _fields(request)]})
    if evidence:
        blocks.append(_preformatted(cut(visible(spec.request.summary), MAX_SUMMARY)))
        if happening.step == "Asked" and spec.request.evidence is not None:
            blocks.append({"type": "context", "elements": [_plain(_EVIDENCE[spec.request.evidence.type])]})
            blocks.append(_preformatted(cut(visible(spec.request.evidence.text), MAX_EVIDENCE)))
    blocks.append(
        {"type": "section", "text": {"type": "mrkdwn", "text": _where(request, happening, place), "verbatim": True}}
    )
    blocks.append({"type": "context", "elements": [_plain(_small_print(request))]})
    title = one_line(spec.request.title or spec.request.summary, 120) if evidence else ""
    # For notifications, and for what takes these messages and knows no blocks.
    said = harmless(": ".join(filter(None, (headline, title))))
    text = "\n".join(filter(None, (said, place.link(request), place.command(request))))
    return {"text": text, "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _fields(request: ApprovalRequest) -> list[tuple[str, str]]:
    spec = request.spec
    rule = spec.policies[0]
    count = "a member" if spec.approval.min_approvals == 1 else f"{spec.approval.min_approvals} members"
    found = [
        ("Who", spec.requester.username),
        ("On behalf of", spec.requester.on_behalf_of),
        ("Rule", f"{rule.namespace}/{rule.name}: {rule.rule}"),
        ("Answered by", f"{count} of {' or '.join(spec.approval.groups)}"),
        ("Open until", (expires(request) or "") if state_of(request.status) == "Pending" else ""),
        ("State", state_of(request.status)),
    ]
    return [(name, one_line(value, MAX_FIELD)) for name, value in found if value]


def _sentence(request: ApprovalRequest, happening: Happening) -> str:
    by, reason = one_line(happening.by, MAX_FIELD), one_line(happening.reason, 1_000)
    match happening.step:
        case "Asked":
            now = state_of(request.status)
            return "" if now == "Pending" else f"It is closed by now: {now}."
        case "Answered":
            said = "approves" if happening.verdict == "Approve" else "denies"
        case "Approved":
            return f"By {by}. It may run once."
        case "Denied":
            said = "denied it"
        case "Expired":
            return "Nobody decided in time, or the grant was not used in time."
        case "Consumed":
            return "The request was let through; the grant is used up."
    return f"{by} {said}: {reason}" if reason else f"{by} {said}."


def _where(request: ApprovalRequest, happening: Happening, place: Place) -> str:
    """Only what Ostiary itself wrote: an address from its settings, and names of objects."""
    link = place.link(request)
    lines = [f"<{link.replace('&', '&amp;')}|Open it in the console>"] if link else []
    lines.append(f"`{place.command(request)}`")
    if happening.step == "Asked" and state_of(request.status) == "Pending":
        lines.append(f"`{place.answer(request)}` (or `deny`). This message decides nothing.")
    return "\n".join(lines)


def _small_print(request: ApprovalRequest) -> str:
    spec = request.spec.request
    found = [request.key, f"sha256 {spec.hash}"]
    if spec.truncated:
        found.append("something of it was too long and is cut")
    if spec.redacted:
        found.append("something of it is secret and was left out")
    return " · ".join(found)


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": False}


def _preformatted(text: str) -> Block:
    words = {"type": "text", "text": text or " "}
    return {"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "border": 0, "elements": [words]}]}
