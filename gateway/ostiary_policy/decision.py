"""A decision: what happens to a request, which rules led to it, and what to tell the agent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from ostiary_policy.masking import NOTHING, MaskPlan


class Action(StrEnum):
    """What happens to a request."""

    ALLOW = "Allow"
    DENY = "Deny"
    REQUIRE_APPROVAL = "RequireApproval"


@dataclass(frozen=True, slots=True)
class RuleRef:
    """One rule of one revision of a policy."""

    namespace: str
    policy: str
    rule: str
    revision: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.policy}#{self.rule}"


@dataclass(frozen=True, slots=True)
class Matched:
    """A rule that held. `action` as written (Mask and Audit too); `enforced` False if its enforcement is Audit."""

    rule: RuleRef
    action: str
    enforced: bool
    priority: int


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule, condition or variable that could not be evaluated. `field` is its path in the policy."""

    namespace: str
    policy: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Approval:
    """Who must agree, and for how long. Durations are in seconds."""

    groups: tuple[str, ...]
    min_approvals: int
    pending_ttl: float
    grant_ttl: float
    scope: str
    wait: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome. `rule` is None where nothing held (default deny) or an error decided; `errors` then says which."""

    action: Action
    rule: RuleRef | None
    message: str
    hint: str = ""
    approval: Approval | None = None
    masks: MaskPlan = NOTHING
    matched: tuple[Matched, ...] = ()
    errors: tuple[RuleError, ...] = ()
    revision: str = ""
    """Revision of the bundle."""
    valid_until: float = math.inf
    """Seconds since the epoch: from then on another decision may come out, since a policy in the set expires."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Not decided: a rule in force reads these costly facts (`sql.estimatedRows`). Supply them and decide again.

    What cannot be supplied is left out on the second call with `final=True`: the rule then errs, and denies.
    """

    facts: frozenset[str]
