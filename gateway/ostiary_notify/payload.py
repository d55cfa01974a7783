"""The JSON of a webhook. Its schema is stable: fields are added without a new version, none changes its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ostiary_api.approval import ApprovalRequest
from ostiary_api.counting import state_of
from ostiary_api.units import format_timestamp
from ostiary_notify.happened import Happening

VERSION: Final = 1
"""Of the schema."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a question is answered."""

    console_url: str | None = None
    cluster: bool = True
    """False: at a gateway of its own (`ostiary serve`)."""

    def link(self, request: ApprovalRequest) -> str | None:
        """The page of the console. Names are DNS names, so nothing needs quoting."""
        if self.console_url is None:
            return None
        return f"{self.console_url.rstrip('/')}/approvals/{request.key}"

    def command(self, request: ApprovalRequest) -> str:
        """What shows it in a terminal."""
        name = request.metadata.name
        return (
            f"kubectl ostiary show {name} -n {request.metadata.namespace}"
            if self.cluster
            else f"ostiary approval {name}"
        )

    def answer(self, request: ApprovalRequest) -> str:
        """What approves it in a terminal; `deny` instead of `approve` denies."""
        name = request.metadata.name
        return (
            f"kubectl ostiary approve {name} -n {request.metadata.namespace}"
            if self.cluster
            else f"ostiary approve {name}"
        )


def expires(request: ApprovalRequest) -> str | None:
    """When the question closes."""
    if request.status is not None and request.status.expires_at is not None:
        return format_timestamp(request.status.expires_at)
    made = request.metadata.creation_timestamp
    return None if made is None else format_timestamp(made + timedelta(seconds=request.spec.approval.pending_ttl))


def webhook(request: ApprovalRequest, happening: Happening, place: Place, *, evidence: bool) -> dict[str, object]:
    """`type`, `timestamp` and `data`, as Standard Webhooks has it. docs/notifications.md describes every field."""
    spec, status = request.spec, request.status
    asked: dict[str, object] = {"hash": spec.request.hash}
    if evidence:
        asked |= {"summary": spec.request.summary, "title": spec.request.title}
        found = spec.request.evidence
        asked["evidence"] = None if found is None else {"type": found.type, "text": found.text}
    asked |= {"truncated": spec.request.truncated, "redacted": spec.request.redacted}
    grant = status.grant_expires_at if status is not None else None
    metadata = request.metadata
    data: dict[str, object] = {
        "v": VERSION,
        "approval": {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid},
        "step": happening.step,
        "at": format_timestamp(happening.at),
        "by": happening.by,
        "state": state_of(status),
        "connection": f"{request.metadata.namespace}/{spec.connection_ref.name}",
        "requester": {
            "username": spec.requester.username, "onBehalfOf": spec.requester.on_behalf_of,
            "session": spec.requester.session,
        },
        "request": asked,
        "approvers": {"groups": list(spec.approval.groups), "minApprovals": spec.approval.min_approvals},
        "answers": [
            {"approver": each.approver, "verdict": each.verdict, "reason": each.reason, "at": format_timestamp(each.at)}
            for each in (status.approvals if status is not None else ())
        ],
        "rules": [{"namespace": each.namespace, "policy": each.name, "rule": each.rule} for each in spec.policies],
        "expiresAt": expires(request),
        "grantExpiresAt": None if grant is None else format_timestamp(grant),
        "link": place.link(request),
        "command": place.command(request),
    }  # fmt: skip
    if happening.verdict is not None:
        data |= {"verdict": happening.verdict, "reason": happening.reason}
    return {"type": f"approval.{happening.step.lower()}", "timestamp": format_timestamp(happening.at), "data": data}
