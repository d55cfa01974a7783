# cython: annotation_typing=False
"""What was found out about a text, kept for the next request with the same text, or with other literals in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import settings_sum

if TYPE_CHECKING:
    from ostiary_policy.decision import Decision
    from ostiary_policy.masking import MaskPlan
    from ostiary_policy.policy_set import PolicySet

    from .facts import Analysis, Scope
    from .masks import RowMasks, Targets, Withhold


class Found:
    """An allowed text's analysis and decision. It holds while `policies`, `scope` and `generation` are what they were,
    and until the decision's `valid_until`. Nothing that differs from one such request to the next was read for it."""

    __slots__ = (
        "analysis", "any_literals", "bearing", "by_origin", "decision", "generation", "needs_description", "plain",
        "plan", "policies", "row_masks", "scope", "targets", "withhold",
    )  # fmt: skip

    def __init__(
        self, policies: PolicySet, scope: Scope, generation: int, analysis: Analysis, decision: Decision, *,
        any_literals: bool, plain: bool, needs_description: bool, plan: MaskPlan | None, targets: Targets,
        withhold: Withhold | None, row_masks: RowMasks | None,
    ) -> None:  # fmt: skip
        self.policies = policies
        self.scope = scope
        self.generation = generation
        """Of the catalog."""
        self.analysis = analysis
        self.decision = decision
        self.any_literals = any_literals
        """True if it holds for every text that differs only in its literals."""
        self.plain = plain
        """True if the request changes nothing that the next message depends on."""
        self.needs_description = needs_description
        self.bearing = settings_sum.bearing(analysis)
        """How it bears on the session's settings."""
        self.plan = plan
        """The masks of the response; None if there are none."""
        self.targets = targets
        self.withhold = withhold
        self.row_masks = row_masks
        self.by_origin = bool(decision.masks.columns)
