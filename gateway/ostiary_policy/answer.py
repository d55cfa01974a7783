"""The answer to an agent whose request does not run: why, what would be allowed, what to wait for, how to ask again.

It is the DETAIL of a denial, and what `ostiary explain --json` begins with. Programs act on it, so its keys are stable:
a key may be added, but none changes its meaning while `version` stays. The JSON Schema in docs/ comes from here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ostiary_api.meta import to_alias

VERSION: Literal[1] = 1
MAX_BYTES = 4000
"""Bytes of UTF-8 that an answer has at most, as one line of JSON."""


class Reason(StrEnum):
    """Why a request does not run."""

    RULE = "Rule"
    APPROVAL = "Approval"
    NO_RULE = "NoRule"
    NO_POLICY = "NoPolicy"
    ERROR = "Error"
    NOT_ACCEPTED = "NotAccepted"
    PINNED = "Pinned"
    MASKING = "Masking"
    CURSOR = "Cursor"
    STATEMENT = "Statement"
    NOT_KNOWN = "NotKnown"
    RECORD = "Record"
    LIMIT = "Limit"
    ENCODING = "Encoding"
    PROTOCOL = "Protocol"
    LOGIN = "Login"
    SETTING = "Setting"
    TARGET = "Target"
    SESSION = "Session"
    ALLOWED = "Allowed"


REASONS: dict[Reason, str] = {
    Reason.RULE: "A Deny rule holds: `policy` and `rule` name it, `because` says by what.",
    Reason.APPROVAL: "A RequireApproval rule holds: `approval` says who may agree, and how it stands.",
    Reason.NO_RULE: "No rule allows it: `allowed.rules` says what those that allow something miss.",
    Reason.NO_POLICY: "No policy is in force for this subject, Connection and request.",
    Reason.ERROR: "A rule, condition or fact could not be evaluated, and that denies: `errors`.",
    Reason.NOT_ACCEPTED: "A policy that matches was never accepted, and denies whatever it matches: `errors`.",
    Reason.PINNED: "It would change how SQL is read. Refused under any policy.",
    Reason.MASKING: "What it does cannot be masked as the policies want.",
    Reason.CURSOR: "What a cursor or portal was made with has changed since.",
    Reason.STATEMENT: "The database itself does not take the statement; found before it was run.",
    Reason.NOT_KNOWN: "What it does could not be found out: the catalog or the planner did not answer.",
    Reason.RECORD: "The record cannot be written, and nothing runs without it.",
    Reason.LIMIT: "It is larger, or there are more of it, than the Connection takes.",
    Reason.ENCODING: "The text is not UTF-8.",
    Reason.PROTOCOL: "A part of the protocol that is not available, or was not kept to.",
    Reason.LOGIN: "The client did not show a credential that counts here, or not in the way that is asked for.",
    Reason.SETTING: "A database, setting or option that may not come with the connection.",
    Reason.TARGET: "The target cannot be reached, does not let the gateway in, or is gone.",
    Reason.SESSION: "The session was ended by the gateway.",
    Reason.ALLOWED: "It would run. Only `ostiary explain` answers so.",
}


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_alias, populate_by_name=True, extra="forbid", frozen=True)


class Condition(_Part):
    """A condition of a rule, as it came out."""

    expression: str = Field(description="Its text in the policy, CEL.")
    value: bool | None = Field(description="What it gave; null if it could not be evaluated.")
    facts: dict[str, JsonValue] = Field(
        default={}, description="The facts in it by their paths, like `sql.statements[0].hasWhere`. Long ones are cut."
    )


class RuleError(_Part):
    """What could not be evaluated."""

    policy: str = Field(description="`namespace/name`; empty if it was a fact itself.")
    field: str = Field(description="Path in the policy.")
    message: str = Field(description="What is wrong with it.")


Outcome = Literal["Allow", "RequireApproval", "Estimate"]


class Change(_Part):
    """One fact that, were it otherwise, would let the request pass. One of equals, atMost and without is set."""

    fact: str = Field(description="Path of the fact.")
    value: JsonValue = Field(default=None, description="What it is. Not for `without`.")
    equals: bool | None = Field(default=None, description="It would have to be this.")
    at_most: int | None = Field(default=None, description="It may not be more than this.")
    without: str | None = Field(default=None, description="This element of it would have to be absent.")
    then: Outcome = Field(
        description="What would become of the request. Estimate: it would depend on how many rows the planner expects."
    )


class AllowingRule(_Part):
    """A rule that allows something to this subject."""

    policy: str = Field(description="`namespace/name`.")
    rule: str = Field(description="Name of the rule.")
    action: Literal["Allow", "RequireApproval"] = Field(description="What it does if it holds.")
    description: str = Field(default="", description="Its description in the policy.")
    expression: str = Field(default="", description="What has to hold, CEL.")
    unmet: tuple[Condition, ...] = Field(
        default=(), description="What did not hold. Empty: the rule holds, and a stricter one decided."
    )


class Allowed(_Part):
    """What would be allowed."""

    changes: tuple[Change, ...] = Field(
        default=(), description="One change is enough. Tried on the policies: each was decided with the changed fact."
    )
    statements: tuple[int, ...] = Field(
        default=(), description="Of a text with several statements, those that would be allowed each by itself, from 1."
    )
    rules: tuple[AllowingRule, ...] = Field(default=(), description="Rules that allow something, in force here.")


ApprovalState = Literal["Pending", "Approved", "Denied", "Expired", "NotAsked", "Unavailable"]


class Approval(_Part):
    """Who may agree, and how it stands."""

    name: str = Field(default="", description="Name of the ApprovalRequest; empty if none was made.")
    state: ApprovalState = Field(
        description="Pending: nobody has decided. Approved: it may run once, ask again. Denied, Expired: it will not "
        "run. NotAsked: it would be asked for. Unavailable: it cannot be asked for here."
    )
    groups: tuple[str, ...] = Field(description="Members of these may decide.")
    min_approvals: int = Field(default=1, description="So many of them must agree.")
    expires_at: str = Field(default="", description="Until when it can be decided, or used once approved: RFC 3339.")
    message: str = Field(default="", description="What the one who decided said, or why it is unavailable.")


Do = Literal["Change", "AwaitApproval", "RetryLater", "Reconnect", "AskAdministrator", "Run"]

DO: dict[str, str] = {
    "Change": "Send something else: the same would be refused again. `allowed` and `hint` say what.",
    "AwaitApproval": "Wait until `approval.name` is approved, then send exactly the same again, outside a transaction.",
    "RetryLater": "Send the same again after a while.",
    "Reconnect": "Connect again, as `hint` says.",
    "AskAdministrator": "Nothing that you send helps; somebody has to change policies or the gateway.",
    "Run": "Nothing stands in the way. Only `ostiary explain` answers so.",
}


class Next(_Part):
    """How to go on."""

    do: Do = Field(description=" ".join(f"{name}: {text}" for name, text in DO.items()))
    hint: str = Field(default="", description="What to do, for people and language models.")
    rollback: bool = Field(default=False, description="True: the transaction block has failed; ROLLBACK comes first.")


class Answer(_Part):
    """Why a request does not run, and what the agent can do."""

    version: Literal[1] = Field(description="Version of this schema.")
    decision: Literal["Allow", "Deny", "RequireApproval"] = Field(
        description="What was decided. RequireApproval: it did not run, and may after approval."
    )
    reason: Reason = Field(description=" ".join(f"{reason}: {text}" for reason, text in REASONS.items()))
    policy: str = Field(default="", description="`namespace/name` of the policy whose rule decided.")
    rule: str = Field(default="", description="Name of the rule that decided; absent if none did.")
    request: str = Field(description="Leads to the record: `ostiary session` with it. Empty if there is no record.")
    next: Next = Field(description="How to go on.")
    because: tuple[Condition, ...] = Field(default=(), description="The conditions of that rule that made it hold.")
    opaque: str = Field(default="", description="Why it cannot be known what the request does. Absent if it can.")
    errors: tuple[RuleError, ...] = Field(default=(), description="What could not be evaluated.")
    allowed: Allowed = Field(default=Allowed(), description="What would be allowed.")
    approval: Approval | None = Field(default=None, description="Only where a rule asks for approval.")
    message: str = Field(description="For people: what was refused and why.")
    truncated: bool = Field(default=False, description="True if parts were left out to keep it short.")

    def values(self) -> dict[str, Any]:
        """Plain values, without what says nothing."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class ExplainAnswer(Answer):
    """What `ostiary explain --json` gives: the answer that the agent would get, and how the decision came about."""

    explanation: dict[str, JsonValue] = Field(
        description="`facts`; `masks` of the decision; every condition, variable and rule under `policies`, with its "
        "value and the values of its `parts`; which rules `matched`; costly facts that were `needed` and not given; "
        "`differences` of the two engines; the bundle's `revision`. For people: its shape may change."
    )
