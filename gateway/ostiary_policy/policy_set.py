"""The policies that are in force for one subject at one Connection, and how they decide a request."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cel_expr_python import cel

from ostiary_policy.decision import Action, Decision, Matched, Needs, RuleError, RuleRef
from ostiary_policy.environment import FRAME, RUNTIME, Frame
from ostiary_policy.expression import ENGINE_RAISES, EvaluationError, Expression
from ostiary_policy.facts import ConnectionFacts
from ostiary_policy.guard import RefusedFacts, check_facts
from ostiary_policy.masking import NOTHING, MaskPlan, combine
from ostiary_policy.policy import CompiledPolicy, CompiledRule, is_together
from ostiary_policy.schema import BY_PATH, COSTLY, FACTS, OPTIONAL

STRICTNESS: dict[str, int] = {"Deny": 3, "RequireApproval": 2, "Allow": 1}
"""Of the rules that hold in one priority, the strictest decides."""

NONE: frozenset[str] = frozenset()
_MAX_PLANS = 1024

Varying = Literal["text", "request"]


@dataclass(slots=True)
class Tally:
    """What came out of the rules of one request."""

    matched: list[Matched] = field(default_factory=list)
    errors: list[RuleError] = field(default_factory=list)
    denying_errors: list[RuleError] = field(default_factory=list)
    broken: list[CompiledPolicy] = field(default_factory=list)
    masks: list[tuple[CompiledRule, bool]] = field(default_factory=list)
    in_force: list[CompiledPolicy] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    missing_priority: float = -math.inf
    deciding: CompiledRule | None = None

    def decide(self, rule: CompiledRule) -> None:
        """A Deny, RequireApproval or Allow rule holds."""
        best = self.deciding
        if best is None or (rule.matched.priority, STRICTNESS[rule.action]) > (
            best.matched.priority,
            STRICTNESS[best.action],
        ):
            self.deciding = rule

    def miss(self, facts: Iterable[str], priority: int) -> None:
        """A rule cannot be evaluated before these facts are there."""
        self.missing.update(facts)
        self.missing_priority = max(self.missing_priority, priority)


class _Step:
    """A policy as `decide` goes through it: its rules, and where the value of each is in what `evaluate` gives."""

    __slots__ = ("_run", "policy", "rules")

    def __init__(self, policy: CompiledPolicy) -> None:
        self.policy = policy
        self._run = policy.together.run if policy.together is not None else None
        positions = itertools.count()
        self.rules = tuple(
            (rule, next(positions) if policy.together is not None and is_together(rule) else None)
            for rule in policy.rules
        )

    def evaluate(self, activation: cel.Activation) -> list[object] | None:
        """The values of the rules that are evaluated together; None if there are none, or one of them errs."""
        if self._run is None:
            return None
        try:
            values: object = self._run(activation).plain_value()
        except ENGINE_RAISES:
            return None
        # The value of an ERROR is a string.
        return values if type(values) is list else None


class PolicySet:
    """The policies for one subject at one Connection. Immutable; may be shared by sessions."""

    def __init__(self, policies: Iterable[CompiledPolicy], connection: ConnectionFacts, revision: str) -> None:
        home = connection["namespace"]
        # In one priority those of the system namespace come first: of two masks that are as strong the first holds, and
        # who knows the key of a pseudonym can find out what it stands for.
        self.policies: tuple[CompiledPolicy, ...] = tuple(
            sorted(policies, key=lambda p: (-p.priority, p.key[0] == home, p.name))
        )
        self.connection = connection
        self.revision = revision
        self._steps = tuple(_Step(policy) for policy in self.policies)
        self._variables = {v.index: v.expression for p in self.policies for v in p.variables}
        expressions = [
            *(c.expression for p in self.policies for c in p.conditions),
            *(r.expression for p in self.policies for r in p.rules if r.expression is not None),
            *(r.message_expression for p in self.policies for r in p.rules if r.message_expression is not None),
        ]
        self.reads: frozenset[str] = frozenset().union(*(e.reads.facts for e in expressions))
        """Dotted facts that any condition, rule, messageExpression, or variable read by them, reads."""
        self.reads_params: bool = "sql.params" in self.reads
        masking = [(p, r) for p in self.policies for r in p.rules if r.action == "Mask" and r.enforced]
        self.may_mask: bool = bool(masking)
        """Whether a decision may come with masks."""
        self.all_masks: MaskPlan = combine(r.masks for _, r in masking) if masking else NOTHING
        """Every mask that any decision may come with: for what belongs to no request (notices, notifications)."""
        self.mask_rules_static: bool = all(r.expression is None and not p.conditions for p, r in masking)
        """Whether the masks are the same in every decision (until a policy expires)."""
        expiries = [p.not_after for p in self.policies if p.not_after is not None]
        self.valid_until: float = min(expiries, default=math.inf)
        """When the first policy of the set expires; a decision's own `valid_until` passes over expired ones."""
        self._expiries = sorted(expiries)
        self._uses_frame = any(e.uses_frame for e in expressions)
        self._optional = sorted(self.reads & OPTIONAL)
        self._plans: dict[tuple[object, ...], MaskPlan] = {}

    def reusable(self, varying: Varying, *, fixed: frozenset[str] = NONE) -> bool:
        """Whether a decision for this session stands for another request in which only such facts may differ.

        "request": the same text again. "text": the same normalised text with other literals, at another time.
        `fixed`: paths of facts that are the same in all these requests, though not in every one (of what only reads,
        `k8s.object` is always empty). A decision with errors stands as well: the same facts err again. Its
        `valid_until` ends it in any case.
        """
        refused = ("request",) if varying == "request" else ("request", "text")
        read = (BY_PATH[path] for path in self.reads - fixed if path in BY_PATH)
        return not any(fact.doc.varies in refused for fact in read)

    def decide(self, facts: Mapping[str, object], now: float, *, final: bool = False) -> Decision | Needs:
        """Decide a request. `facts`: `request` and the variable of the protocol; `now`: seconds since the epoch.

        Needs says which costly facts must be supplied first. With `final` nothing more can be supplied: a rule that
        reads what is not there errs, and denies.
        """
        try:
            given = {name: facts[name] for name in FACTS if name in facts}
            check_facts(given)
        except RefusedFacts as refused:
            return self._refuse(str(refused), now)
        absent = frozenset(path for path in self._optional if not present(given, path)) if self._optional else NONE
        if not self._uses_frame:
            return self._decide(RUNTIME.Activation(given), absent, now, final)
        with Frame(lambda index: self._variables[index].evaluate_for_variable(activation)) as frame:
            given[FRAME] = frame.id
            activation = RUNTIME.Activation(given)
            return self._decide(activation, absent, now, final)

    def _decide(self, activation: cel.Activation, absent: frozenset[str], now: float, final: bool) -> Decision | Needs:
        tally = Tally()
        for step in self._steps:
            policy = step.policy
            if policy.not_after is not None and now >= policy.not_after:
                continue
            if policy.problems:
                self._count_broken(policy, tally)
            elif self._in_force(policy, activation, absent, final, tally):
                tally.in_force.append(policy)
                values = step.evaluate(activation)
                for rule, position in step.rules:
                    # What is plainly true or false is settled; anything else is looked at by itself, with care.
                    value = values[position] if position is not None and values is not None else None
                    if value is False:
                        continue
                    if value is True:
                        self._hold(rule, tally)
                    else:
                        self._count(policy, rule, activation, absent, final, tally)
        decided = tally.deciding
        if tally.missing and not tally.denying_errors:
            settled = (
                decided is not None and decided.action == "Deny" and decided.matched.priority >= tally.missing_priority
            )
            if not settled:
                return Needs(frozenset(tally.missing))
        return self._conclude(tally, activation, now)

    def _in_force(
        self, policy: CompiledPolicy, activation: cel.Activation, absent: frozenset[str], final: bool, tally: Tally
    ) -> bool:
        """Whether all conditions hold. As in `&&`, one that is false outweighs one that errs."""
        erring: list[RuleError] = []
        missing: set[str] = set()
        if not policy.conditions:
            return True
        for condition in policy.conditions:
            wanted = _wanted_first(condition.expression, absent, final)
            if wanted:
                missing |= wanted
                continue
            try:
                value = condition.expression.evaluate(activation)
            except EvaluationError as error:
                wanted = condition.expression.reads.facts & absent
                if wanted and not final:
                    missing |= wanted
                else:
                    message = _error_text(str(error), wanted)
                    erring.append(RuleError(*policy.key, condition.field, message))
                continue
            if value is False:
                return False
            if value is not True:
                erring.append(RuleError(*policy.key, condition.field, _no_bool(value)))
        if missing:
            # Once it is known it may be false, and then the errors do not matter.
            tally.miss(missing, policy.priority)
        elif erring:
            tally.errors.extend(erring)
            if policy.enforced:
                tally.denying_errors.extend(erring)
        return not erring and not missing

    def _count(
        self,
        policy: CompiledPolicy,
        rule: CompiledRule,
        activation: cel.Activation,
        absent: frozenset[str],
        final: bool,
        tally: Tally,
    ) -> None:
        expression = rule.expression
        if expression is not None:
            if absent:
                wanted = _wanted_first(expression, absent, final)
                if wanted:
                    tally.miss(wanted, policy.priority)
                    return
            try:
                value = expression.evaluate(activation)
            except EvaluationError as error:
                wanted = expression.reads.facts & absent
                if wanted and not final:
                    tally.miss(wanted, policy.priority)
                else:
                    self._err(policy, rule, _error_text(str(error), wanted), tally)
                return
            if value is False:
                return
            if value is not True:
                self._err(policy, rule, _no_bool(value), tally)
                return
        self._hold(rule, tally)

    def _hold(self, rule: CompiledRule, tally: Tally) -> None:
        tally.matched.append(rule.matched)
        if rule.enforced:
            if rule.action in STRICTNESS:
                tally.decide(rule)
            elif rule.action == "Mask":
                tally.masks.append((rule, False))

    def _err(self, policy: CompiledPolicy, rule: CompiledRule, message: str, tally: Tally) -> None:
        error = RuleError(*policy.key, rule.field, f"rule {rule.name}: {message}")
        tally.errors.append(error)
        if rule.enforced:
            if rule.action == "Mask":
                tally.masks.append((rule, True))
            else:
                tally.denying_errors.append(error)

    def _count_broken(self, policy: CompiledPolicy, tally: Tally) -> None:
        errors = [RuleError(p.namespace, p.policy, p.field, p.message) for p in policy.problems]
        tally.errors.extend(errors)
        if policy.enforced:
            tally.denying_errors.extend(errors)
            tally.broken.append(policy)

    def _conclude(self, tally: Tally, activation: cel.Activation, now: float) -> Decision:
        rule = tally.deciding
        approval = None
        ref: RuleRef | None = None
        if rule is not None and (rule.action == "Deny" or not tally.denying_errors):
            action, ref, approval = Action(rule.action), rule.ref, rule.approval
            message, hint = self._message(rule, activation), rule.hint
        elif tally.denying_errors:
            action = Action.DENY
            message, hint = _explain_errors(tally)
        else:
            action = Action.DENY
            message, hint = self._explain_nothing(tally)
        return Decision(
            action=action,
            rule=ref,
            message=message,
            hint=hint,
            approval=approval,
            masks=self._plan(tally.masks) if tally.masks else NOTHING,
            matched=tuple(tally.matched),
            errors=tuple(tally.errors),
            revision=self.revision,
            valid_until=self._valid_until(now),
        )

    def _message(self, rule: CompiledRule, activation: cel.Activation) -> str:
        if rule.action == "Allow" and rule.message_expression is None and not rule.message:
            return f"Allowed by rule {rule.ref}."
        text = rule.message
        if rule.message_expression is not None:
            try:
                given = rule.message_expression.evaluate(activation)
            except EvaluationError:
                given = None
            if isinstance(given, str) and given.strip():
                text = given
        if not text:
            text = "This is not allowed." if rule.action == "Deny" else "This needs approval."
            if rule.approval is not None:
                approval = rule.approval
                people = "a member" if approval.min_approvals == 1 else f"{approval.min_approvals} members"
                text = f"This needs approval by {people} of {' or '.join(approval.groups)}."
        return f"{text} (rule {rule.ref})"

    def _explain_nothing(self, tally: Tally) -> tuple[str, str]:
        name = f"{self.connection['namespace']}/{self.connection['name']}"
        if not self.policies:
            return (
                f"No policy is for you at Connection {name}, and what no policy allows is denied.",
                "Ask an administrator for a GatewayPolicy that matches this Connection and you, with an Allow rule.",
            )
        hint = "`ostiary explain` shows what each rule made of a request. Ask an administrator for an Allow rule."
        if not tally.in_force:
            known = _listed(policy.name for policy in self.policies)
            return (
                f"No policy is in force for this request (conditions or expiry left out {known}), so it is denied.",
                hint,
            )
        in_force = _listed(policy.name for policy in tally.in_force)
        noted = sum(not matched.enforced and matched.action == "Allow" for matched in tally.matched)
        audit = " A rule with enforcement Audit would; it is recorded only." if noted else ""
        return f"No rule allows this. Policies in force: {in_force}.{audit}", hint

    def _plan(self, masks: list[tuple[CompiledRule, bool]]) -> MaskPlan:
        key = tuple((rule.ref, erring) for rule, erring in masks)
        plan = self._plans.get(key)
        if plan is None:
            plan = combine(rule.masks_if_erring if erring else rule.masks for rule, erring in masks)
            if len(self._plans) < _MAX_PLANS:
                self._plans[key] = plan
        return plan

    def _valid_until(self, now: float) -> float:
        return next((expiry for expiry in self._expiries if expiry > now), math.inf)

    def _refuse(self, reason: str, now: float) -> Decision:
        error = RuleError("", "", "", reason)
        return Decision(
            action=Action.DENY,
            rule=None,
            message=f"This request cannot be decided: {reason}.",
            hint="Leave the value out, or send it in another form.",
            masks=self._everything(),
            errors=(error,),
            revision=self.revision,
            valid_until=self._valid_until(now),
        )

    def _everything(self) -> MaskPlan:
        masks = [(r, True) for p in self.policies for r in p.rules if r.action == "Mask" and r.enforced]
        return self._plan(masks) if masks else NOTHING


def present(facts: Mapping[str, object], path: str) -> bool:
    """Whether a fact is there."""
    value: object = facts
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return False
        value = value[step]
    return True


def _wanted_first(expression: Expression, absent: frozenset[str], final: bool) -> frozenset[str]:
    """Facts without which the expression would give another value instead of an error."""
    return frozenset() if final else expression.reads.presence & absent


def _error_text(error: str, absent: frozenset[str]) -> str:
    if absent:
        what = " and ".join(sorted(absent))
        how = "could not be worked out" if absent & COSTLY else "is not known here"
        return f"{what} {how} ({error})"
    return error


def _no_bool(value: object) -> str:
    return f"gave {type(value).__name__.replace('NoneType', 'null')}, not true or false"


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    shown = ", ".join(all_names[:8])
    return f"{shown} and {len(all_names) - 8} more" if len(all_names) > 8 else shown


def _explain_errors(tally: Tally) -> tuple[str, str]:
    first = tally.denying_errors[0]
    more = len(tally.denying_errors) - 1
    also = f" ({more} more)" if more else ""
    where = f"{first.namespace}/{first.policy}"
    if any(policy.name == where for policy in tally.broken):
        return (
            f"Policy {where} was never accepted, and denies whatever it matches: {first.field}: {first.message}.{also}",
            "Its author must correct it; `ostiary lint` says what is wrong.",
        )
    return (
        f"Policy {where} could not be evaluated, so the request is denied: {first.field}: {first.message}.{also}",
        "Its author must correct it; `ostiary explain` shows how the rule was evaluated.",
    )
