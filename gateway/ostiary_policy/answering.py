"""Makes the answer to a request that was decided: from the decision, the policies, and the facts that they saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ostiary_policy.answer import (
    VERSION,
    Allowed,
    AllowingRule,
    Answer,
    Approval,
    Condition,
    Do,
    Next,
    Reason,
    RuleError,
)
from ostiary_policy.answer_size import cut, short
from ostiary_policy.decision import Action, Decision
from ostiary_policy.environment import FRAME, RUNTIME, Frame
from ostiary_policy.expression import EvaluationError
from ostiary_policy.grounds import Ground, grounds
from ostiary_policy.guard import RefusedFacts, check_facts
from ostiary_policy.policy import CompiledPolicy, CompiledRule
from ostiary_policy.policy_set import PolicySet
from ostiary_policy.schema import FACTS
from ostiary_policy.second_opinion import Context
from ostiary_policy.whatif import what_if

MAX_RULES = 6
"""Rules that allow something and are named."""
MAX_VALUES = 3000
"""Values in the facts of a request that is still looked into; for a larger one only the essence is told."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known beside the decision. `hint` and `message` are given if they are not the decision's own."""

    request: str = ""
    message: str = ""
    hint: str = ""
    opaque: str = ""
    approval: Approval | None = None
    rollback: bool = False
    """The request came inside a transaction block, which its refusal has failed."""
    brief: bool = False
    """Only the essence is wanted: no conditions, nothing tried."""


def answer(
    decision: Decision, policies: PolicySet, facts: Mapping[str, object], now: float, told: Told | None = None
) -> Answer:
    """The answer to a request that policies were asked about. Milliseconds: only for what does not run."""
    told = told or Told()
    reason = _reason(decision, policies)
    allowed: Allowed = Allowed()
    because: tuple[Condition, ...] = ()
    given = {name: facts[name] for name in FACTS if name in facts}
    looked_into = not told.brief and _count(given, MAX_VALUES) <= MAX_VALUES and _sound(given)
    if decision.action is not Action.ALLOW and looked_into:
        view = _View(policies, given, now)
        because = view.because(decision)
        grounds = {path: value for condition in because for path, value in condition.facts.items()}
        changes, statements = what_if(policies, given, now, decision.action, grounds)
        allowed = Allowed(changes=changes, statements=statements, rules=tuple(view.allowing(decision)))
    return Answer(
        version=VERSION,
        decision=decision.action.value,
        reason=reason,
        request=told.request,
        message=told.message or decision.message,
        policy=f"{decision.rule.namespace}/{decision.rule.policy}" if decision.rule is not None else "",
        rule=decision.rule.rule if decision.rule is not None else "",
        because=because,
        opaque=told.opaque,
        errors=tuple(
            RuleError(
                policy=f"{error.namespace}/{error.policy}".strip("/"), field=error.field, message=cut(error.message)
            )
            for error in decision.errors[:3]
        )
        if decision.rule is None
        else (),
        allowed=allowed,
        approval=told.approval or _unasked(decision),
        next=Next(
            do=_next(decision, reason, told, allowed), hint=told.hint or decision.hint, rollback=told.rollback
        ),
        truncated=not looked_into,
    )


def _reason(decision: Decision, policies: PolicySet) -> Reason:
    if decision.action is Action.ALLOW:
        return Reason.ALLOWED
    if decision.rule is not None:
        return Reason.RULE if decision.action is Action.DENY else Reason.APPROVAL
    if decision.errors:
        broken = {policy.key for policy in policies.policies if policy.problems}
        known = any((error.namespace, error.policy) in broken for error in decision.errors)
        return Reason.NOT_ACCEPTED if known else Reason.ERROR
    return Reason.NO_RULE if policies.policies else Reason.NO_POLICY


def _unasked(decision: Decision) -> Approval | None:
    if decision.action is not Action.REQUIRE_APPROVAL or decision.approval is None:
        return None
    return Approval(
        state="Unavailable", groups=decision.approval.groups, min_approvals=decision.approval.min_approvals
    )


def _next(decision: Decision, reason: Reason, told: Told, allowed: Allowed) -> Do:
    if decision.action is Action.ALLOW:
        return "Run"
    if told.approval is not None and told.approval.state in ("NotAsked", "Pending", "Approved"):
        return "AwaitApproval"
    if allowed.changes or allowed.statements:
        return "Change"
    if reason in (Reason.ERROR, Reason.NOT_ACCEPTED, Reason.NO_POLICY):
        return "AskAdministrator"
    if reason is Reason.NO_RULE and allowed == Allowed() and not told.brief:
        return "AskAdministrator"
    return "Change"


def _count(value: object, limit: int) -> int:
    """Values inside a value, counted up to a little over the limit."""
    if not isinstance(value, (Mapping, list)):
        return 1
    found = 1
    for item in value.values() if isinstance(value, Mapping) else value:
        found += _count(item, limit - found)
        if found > limit:
            break
    return found


def _sound(facts: Mapping[str, object]) -> bool:
    try:
        check_facts(facts)
    except RefusedFacts:
        return False
    return True


class _View:
    """The policies that are in force for one request, and what their rules made of it."""

    def __init__(self, policies: PolicySet, facts: Mapping[str, object], now: float) -> None:
        self._facts = facts
        self._context = Context(facts)
        self._policies = [policy for policy in policies.policies if self._in_force(policy, now)]

    def _in_force(self, policy: CompiledPolicy, now: float) -> bool:
        if policy.problems or (policy.not_after is not None and now >= policy.not_after):
            return False
        return all(self._holds(policy, condition.expression.text) for condition in policy.conditions)

    def _holds(self, policy: CompiledPolicy, text: str) -> bool:
        """By the deciding engine."""
        expressions = {variable.index: variable.expression for variable in policy.variables}
        wanted = [c.expression for c in policy.conditions] + [r.expression for r in policy.rules if r.expression]
        expression = next(each for each in wanted if each.text == text)
        with Frame(lambda index: expressions[index].evaluate_for_variable(activation)) as frame:
            activation = RUNTIME.Activation({**self._facts, FRAME: frame.id})
            try:
                return expression.evaluate(activation) is True
            except EvaluationError:
                return False

    def _conditions(self, policy: CompiledPolicy, rule: CompiledRule) -> Iterator[Condition]:
        if rule.expression is None:
            return
        variables = {variable.name: variable.expression.text for variable in policy.variables}
        context = self._context.with_variables(variables)
        for ground in grounds(context, self._facts, rule.expression.text, variables):
            if ground.facts or ground.value is not True:
                yield _condition(ground)

    def because(self, decision: Decision) -> tuple[Condition, ...]:
        """The conditions that made the deciding rule hold."""
        for policy in self._policies:
            for rule in policy.rules:
                if rule.ref == decision.rule:
                    return tuple(self._conditions(policy, rule))
        return ()

    def allowing(self, decision: Decision) -> Iterator[AllowingRule]:
        """The enforced rules that allow something, and what is not met of them."""
        kinds = ("Allow",) if decision.action is Action.REQUIRE_APPROVAL else ("Allow", "RequireApproval")
        found = 0
        for policy in self._policies:
            for rule, spec in zip(policy.rules, policy.model.spec.rules, strict=True):
                if not rule.enforced or rule.action not in kinds or found == MAX_RULES:
                    continue
                found += 1
                holds = rule.expression is None or self._holds(policy, rule.expression.text)
                yield AllowingRule(
                    policy=policy.name,
                    rule=rule.name,
                    action="Allow" if rule.action == "Allow" else "RequireApproval",
                    description=cut(spec.description, 200),
                    expression=cut(rule.expression.text) if rule.expression is not None else "",
                    unmet=() if holds else tuple(self._conditions(policy, rule)),
                )


def _condition(ground: Ground) -> Condition:
    facts = {path: short(value) for path, value in ground.facts.items() if not _is_object(value)}
    return Condition(expression=cut(ground.text), value=ground.value, facts=facts)


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(item, Mapping) for item in value))
