"""Questions as objects of a cluster: names, labels and owner, how large they may be, what is read of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import orjson
from pydantic import ValidationError

from ostiary_api.approval import ApprovalRequest, ApprovalRequestStatus, Evidence, RequestedAction
from ostiary_api.connection import Connection
from ostiary_api.counting import is_own
from ostiary_api.names import child_name
from ostiary_gateway.approvals.request import MAX_EVIDENCE, MAX_SUMMARY, shortened
from ostiary_gateway.visible import visible

Manifest = dict[str, Any]

ASKED_BY_LABEL: Final = "ostiary.dev/asked-by"
"""child_name of the gateway: what it watches."""
HASH_LABEL: Final = "ostiary.dev/request-hash"
CONNECTION_LABEL: Final = "ostiary.dev/connection"
MAX_BYTES: Final = 512 * 1024
"""Of a question as JSON. An object may have 1.5 MB; answers, their count and who set what need room too."""
MIN_EVIDENCE: Final = 4096
"""Characters of the evidence that are always there."""
_FOLD: Final = "\n        | "
"""A line of a text after the first. `kubectl describe` prints texts as they are: none shall pass for its own lines."""
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LABEL: Final = 63


def selector(gateway: str) -> str:
    """The label selector of all questions of a gateway, whichever replica asked."""
    return f"{ASKED_BY_LABEL}={child_name(gateway)}"


def name(hash: str, number: int) -> str:
    """Of the question number 1, 2, … of one request: the same at every replica, and short enough to type."""
    bits = int(hash[:10], 16)
    text = "".join(_ALPHABET[bits >> shift & 31] for shift in range(35, -5, -5))
    return f"apr-{text}" if number == 1 else f"apr-{text}-{number}"


def number_of(name: str) -> int:
    """The number that a name says; 0 if it is no such name."""
    parts = name.split("-")
    if len(parts) == 2:
        return 1
    return int(parts[2]) if len(parts) == 3 and parts[2].isdecimal() and len(parts[2]) < 9 else 0


def manifest(draft: ApprovalRequest, gateway: str, number: int) -> Manifest:
    """What is sent to the API server. Its Connection owns it, so that it goes with it."""
    spec = draft.spec
    connection = spec.connection_ref
    labels = {ASKED_BY_LABEL: child_name(gateway), HASH_LABEL: spec.request.hash[:_LABEL]}
    if len(connection.name) <= _LABEL:
        labels[CONNECTION_LABEL] = connection.name
    metadata: Manifest = {
        "name": name(spec.request.hash, number), "namespace": draft.metadata.namespace, "labels": labels,
    }  # fmt: skip
    if connection.uid:
        metadata["ownerReferences"] = [
            {"apiVersion": draft.api_version, "kind": "Connection", "name": connection.name, "uid": connection.uid}
        ]
    return {**fitted(draft).to_manifest(), "metadata": metadata}


def fitted(draft: ApprovalRequest) -> ApprovalRequest:
    """The draft as people read it with kubectl, in MAX_BYTES: facts go first, then the evidence is shortened. It says
    that something is missing. Raises ValueError if it cannot be done."""
    request = draft.spec.request
    summary, cut = _readable(request.summary, MAX_SUMMARY)
    evidence = request.evidence
    if evidence is not None:
        text, shorter = _readable(evidence.text, MAX_EVIDENCE)
        evidence, cut = Evidence(type=evidence.type, text=text), cut or shorter
    facts = _worth_reading(request.facts, request.summary.strip())
    changes = {"summary": summary, "evidence": evidence, "facts": facts, "truncated": request.truncated or cut}
    draft = _with(draft, request.model_copy(update=changes))
    if _size(draft) <= MAX_BYTES:
        return draft
    draft = _with(draft, draft.spec.request.model_copy(update={"facts": {}, "truncated": True}))
    limit = MAX_EVIDENCE
    while request.evidence is not None and limit > MIN_EVIDENCE and _size(draft) > MAX_BYTES:
        limit //= 2
        evidence = Evidence(type=request.evidence.type, text=_readable(request.evidence.text, limit)[0])
        draft = _with(draft, draft.spec.request.model_copy(update={"evidence": evidence}))
    if _size(draft) > MAX_BYTES:
        raise ValueError("what has to be shown to people is too large for an object of the cluster")
    return draft


def folded(text: str) -> str:
    """A text whose lines after the first cannot pass for fields of `kubectl describe`."""
    return text.replace("\n", _FOLD)


def unfolded(value: object) -> object:
    """What was folded as it was, in all strings of a JSON value."""
    if isinstance(value, str):
        return value.replace(_FOLD, "\n")
    if isinstance(value, Mapping):
        return {key: unfolded(item) for key, item in value.items()}
    return [unfolded(item) for item in value] if isinstance(value, list) else value


def _readable(text: str, limit: int) -> tuple[str, bool]:
    """In so many characters, with nothing that steers a terminal; whether something is missing."""
    shown, room = visible(text, lines=True), limit
    while len(made := folded(shortened(shown, room))) > limit:
        room = min(room * limit // len(made), room - 1)
    return made, room < len(shown)


def _worth_reading(value: Any, summary: str) -> Any:
    """Facts without what is empty, and without the text that the summary is."""
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if not _same_text(key, item, summary)}
        read = {key: _worth_reading(item, summary) for key, item in kept.items()}
        return {key: item for key, item in read.items() if item not in ("", [], {})}
    if isinstance(value, list):
        return [_worth_reading(item, summary) for item in value]
    return folded(visible(value, lines=True)) if isinstance(value, str) else value


def _same_text(key: object, item: object, summary: str) -> bool:
    return key == "text" and isinstance(item, str) and item.strip() == summary


def parsed(item: Manifest) -> ApprovalRequest | None:
    """An object as the API server has it; None if it is none that this gateway understands."""
    try:
        found = ApprovalRequest.model_validate({key: item[key] for key in item if key != "status"} | _status(item))
    except ValidationError:
        return None
    if found.status is None:
        # Until the operator has seen it for the first time.
        asked = found.metadata.creation_timestamp
        closes = asked + timedelta(seconds=found.spec.approval.pending_ttl) if asked is not None else None
        found = found.model_copy(update={"status": ApprovalRequestStatus(state="Pending", expires_at=closes)})
    return found


def light(item: Manifest) -> None:
    """Takes from an object what only people read: a gateway keeps those of a week in memory."""
    item.get("metadata", {}).pop("managedFields", None)
    request = item.get("spec", {}).get("request", {})
    request.pop("facts", None)
    request.pop("evidence", None)


def asks(request: ApprovalRequest, connection: Connection, hash: str) -> bool:
    """Whether it is the question of this request at this Connection. Its hash alone says nothing: whoever may ask at
    another Connection of the namespace writes there what they like."""
    ref = request.spec.connection_ref
    return (
        request.spec.request.hash == hash
        and ref.name == connection.metadata.name
        and ref.uid == connection.metadata.uid
    )


def unproven(request: ApprovalRequest) -> str:
    """Why an approval in the status is not to be believed; empty if the answers bear it out."""
    answers = request.status.approvals if request.status is not None else ()
    given = {(each.approver, each.verdict) for each in request.spec.decisions}
    if any((each.approver, each.verdict) not in given for each in answers):
        return "its status counts an answer that is not in its spec"
    if any(each.verdict == "Deny" for each in request.spec.decisions):
        return "somebody has denied it"
    approvers = {each.approver for each in answers if not is_own(request, each.approver)}
    if len(approvers) < request.spec.approval.min_approvals:
        return f"{len(approvers)} of {request.spec.approval.min_approvals} people have approved it"
    return ""


def version(request: ApprovalRequest) -> int:
    """The resourceVersion, for telling the newer of two."""
    text = request.metadata.resource_version
    return int(text) if text.isdecimal() else 0


def _status(item: Manifest) -> Manifest:
    return {"status": item["status"]} if item.get("status") else {}


def _size(draft: ApprovalRequest) -> int:
    return len(orjson.dumps(draft.to_manifest()))


def _with(draft: ApprovalRequest, request: RequestedAction) -> ApprovalRequest:
    return draft.model_copy(update={"spec": draft.spec.model_copy(update={"request": request})})
