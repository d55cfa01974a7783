"""ApprovalRequest: one question to a person, made by gateways only: may this subject do exactly this?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from ostiary_api.cases import ObjectJson
from ostiary_api.meta import (
    LIST_SET,
    Conditions,
    DnsLabel,
    DnsName,
    GroupName,
    Model,
    Resource,
    StatusModel,
    Username,
    Validation,
    list_map,
)
from ostiary_api.units import Timestamp, duration

Verdict = Literal["Approve", "Deny"]
State = Literal["Pending", "Approved", "Denied", "Expired", "Consumed"]
"""Of one request. Approved: there is a grant, to be used once."""
Hash = Annotated[str, StringConstraints(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$")]
Reason = Annotated[str, StringConstraints(max_length=1024)]
ShortText = Annotated[str, StringConstraints(max_length=512)]

ToldStep = Literal["Asked", "Approved", "Denied", "Expired", "Consumed"]
"""What becomes of a question once at most. Answers are counted."""

TERMINAL = ("Approved", "Denied", "Expired", "Consumed")
"""Conditions that, once True, stay so."""


class Evidence(Model):
    """What the request would do, as the target itself says, or as it can be read from a command."""

    type: Literal["Explain", "Diff", "Command"] = Field(
        description="Explain: the plan of PostgreSQL. Diff: what a dry run of the API server would change. Command: "
        "what a request over SSH would run or do, and where."
    )
    text: Annotated[str, StringConstraints(max_length=65536)] = Field(
        description="The plan, the diff, or the parts of the request, as text."
    )


class RequestedAction(Model):
    """What is asked for."""

    hash: Hash = Field(description="Canonical hash of the request; a grant is for this hash only.")
    summary: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="What is to be done, for people: the SQL, the API call, the command."
    )
    title: Annotated[str, StringConstraints(max_length=80)] = Field(
        default="", description="The beginning of the summary on one line, for lists. Decide by the summary."
    )
    facts: ObjectJson = Field(default={}, description="Facts that the policy decided on.")
    evidence: Evidence | None = Field(default=None, description="What it would do, as the target itself says.")
    truncated: StrictBool = Field(default=False, description="Something of it was too long and is cut.")
    redacted: StrictBool = Field(default=False, description="Something of it is secret and was left out.")


class ConnectionRef(Model):
    """The Connection that it goes through, in the same namespace."""

    name: DnsName = Field(description="Name of the Connection.")
    uid: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="", description="Uid of the Connection; another one of the same name is not meant."
    )


class Requester(Model):
    """Who asks."""

    username: Username = Field(description="User name of the agent, as it was proven at login.")
    uid: ShortText = Field(default="", description="Unique id of the agent, if its credential has one.")
    groups: tuple[GroupName, ...] = Field(
        default=(),
        max_length=256,
        description="Groups of the agent, as its credential has them.",
        json_schema_extra=LIST_SET,
    )
    on_behalf_of: ShortText = Field(default="", description="The person that the agent acts for.")
    session: ShortText = Field(default="", description="Session that asks: `ostiary session` shows what it did.")


class ApprovalTerms(Model):
    """Who may answer, and how long things hold."""

    groups: tuple[GroupName, ...] = Field(
        min_length=1, max_length=32, description="Groups whose members may approve.", json_schema_extra=LIST_SET
    )
    min_approvals: Annotated[StrictInt, Field(ge=1, le=16)] = Field(
        default=1, description="How many different people must approve."
    )
    scope: Literal["ExactRequest"] = Field(
        default="ExactRequest", description="What a grant covers. ExactRequest: this request of this subject, once."
    )
    pending_ttl: Annotated[float, *duration("10s", "168h")] = Field(
        default=900.0, description="How long the question stays open."
    )
    grant_ttl: Annotated[float, *duration("10s", "168h")] = Field(
        default=600.0, description="How long an approval may be used, once."
    )


class PolicyRule(Model):
    """A rule that asks."""

    namespace: DnsLabel = Field(description="Namespace of the policy.")
    name: DnsName = Field(description="Name of the policy.")
    rule: DnsLabel = Field(description="Name of the rule.")
    revision: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="Revision of the policy that asks (sha256 of its spec)."
    )


class ApproverDecision(Model):
    """One person's answer."""

    approver: Username = Field(description="User name of who answers; the API server sees to it that it is true.")
    verdict: Verdict = Field(description="Approve: let it through. Deny: do not; one is enough.")
    reason: Reason = Field(default="", description="Why, for the agent and the record.")


class ApprovalRequestSpec(Model):
    """The question, and the answers to it. Only decisions may be added; everything else stays as it was made."""

    request: RequestedAction = Field(
        description="What is asked for: read its summary and its evidence before you decide."
    )
    connection_ref: ConnectionRef = Field(description="The Connection that it goes through.")
    requester: Requester = Field(description="Who asks, as the gateway has proven it.")
    approval: ApprovalTerms = Field(description="Who may answer, and how long things hold.")
    policies: tuple[PolicyRule, ...] = Field(
        min_length=1,
        max_length=64,
        description="The rules of policies that ask for an approval.",
        json_schema_extra=list_map("namespace", "name", "rule"),
    )
    decisions: tuple[ApproverDecision, ...] = Field(
        default=(),
        max_length=32,
        description="The answers. Approvers append theirs; none is ever changed or removed.",
        json_schema_extra=list_map("approver") | {"x-default": True},
    )

    validations = (
        Validation("self.request == oldSelf.request", "request cannot be changed", None),
        Validation("self.connectionRef == oldSelf.connectionRef", "connectionRef cannot be changed", None),
        Validation("self.requester == oldSelf.requester", "requester cannot be changed", None),
        Validation("self.approval == oldSelf.approval", "approval cannot be changed", None),
        Validation("self.policies == oldSelf.policies", "policies cannot be changed", None),
        Validation(
            "oldSelf.decisions.all(d, d in self.decisions)", "decisions can be added, not changed or removed", None
        ),
    )


class CountedApproval(StatusModel):
    """An answer that the operator has counted."""

    approver: Username = Field(description="User name of who answered.")
    verdict: Verdict = Field(description="Approve or Deny, as it was answered.")
    reason: Reason = Field(default="", description="The reason that was given.")
    at: Timestamp = Field(description="When the operator counted it.")


class ToldReceiver(StatusModel):
    """What one receiver of notifications was told, or will not be told any more."""

    receiver: DnsLabel = Field(description="Name of the receiver, as the settings have it.")
    steps: tuple[ToldStep, ...] = Field(
        default=(),
        max_length=8,
        description="What became of the question, as far as it was told.",
        json_schema_extra=LIST_SET,
    )
    answers: Annotated[StrictInt, Field(ge=0, le=32)] = Field(
        default=0, description="How many of the counted answers were told, from the first on."
    )


class ApprovalRequestStatus(StatusModel):
    """How it stands. The operator writes it."""

    observed_generation: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="The generation of the spec that this was worked out from."
    )
    conditions: Conditions = Field(
        default=(),
        max_length=16,
        description="Approved: there is a grant. Denied: somebody said no. Expired: nobody decided in "
        "time, or the grant was not used. Consumed: the request went through. Once True, each "
        "stays so.",
        json_schema_extra=list_map("type"),
    )
    approvals: tuple[CountedApproval, ...] = Field(
        default=(),
        max_length=32,
        description="The answers that were counted, in their order.",
        json_schema_extra=list_map("approver"),
    )
    state: State | None = Field(
        default=None, description="The conditions in one word, for people. Programs read the conditions."
    )
    expires_at: Timestamp | None = Field(
        default=None, description="When the question closes, if nobody has decided it by then."
    )
    grant_expires_at: Timestamp | None = Field(default=None, description="When the grant can no longer be used.")
    consumed_at: Timestamp | None = Field(
        default=None, description="When the grant was used by the request that it is for."
    )
    told: tuple[ToldReceiver, ...] = Field(
        default=(),
        max_length=16,
        description="What receivers of notifications were told, so that a new leader does not tell it again.",
        json_schema_extra=list_map("receiver"),
    )

    validations = (
        Validation(
            f"!has(oldSelf.conditions) || "
            f"oldSelf.conditions.filter(c, c.status == 'True' && c.type in {list(TERMINAL)})"
            ".all(c, has(self.conditions) && self.conditions.exists(n, n.type == c.type && n.status == 'True'))",
            "a terminal condition that is True stays so",
            None,
        ),
        Validation(
            "!has(oldSelf.consumedAt) || has(self.consumedAt) && self.consumedAt == oldSelf.consumedAt",
            "a grant is consumed once",
            None,
        ),
    )

    def is_true(self, condition: str) -> bool:
        """Whether the condition of this type is True."""
        return any(item.type == condition and item.status == "True" for item in self.conditions)


class ApprovalRequest(Resource):
    """One question to a person: may this subject do exactly this? Gateways make it, people answer in spec.decisions."""

    plural: ClassVar[str] = "approvalrequests"
    short_names: ClassVar[tuple[str, ...]] = ("apr",)
    printer_columns = (
        {"name": "Requester", "type": "string", "jsonPath": ".spec.requester.username"},
        {"name": "Connection", "type": "string", "jsonPath": ".spec.connectionRef.name"},
        {"name": "State", "type": "string", "jsonPath": ".status.state"},
        {"name": "Request", "type": "string", "jsonPath": ".spec.request.title"},
        {
            "name": "Expires",
            "type": "string",
            "jsonPath": ".status.expiresAt",
            "priority": 1,
        },
        {"name": "Hash", "type": "string", "jsonPath": ".spec.request.hash", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    )

    kind: Literal["ApprovalRequest"] = Field(default="ApprovalRequest", description="ApprovalRequest.")
    spec: ApprovalRequestSpec = Field(description="The question as the gateway asked it, and the answers to it.")
    status: ApprovalRequestStatus | None = Field(default=None, description="How it stands. The operator writes it.")
