"""Why a decision came out: every condition, variable and rule with its value, and that of every sub-expression."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ostiary_policy.decision import Decision, Needs
from ostiary_policy.environment import FRAME, RUNTIME, Frame
from ostiary_policy.expression import EvaluationError, Expression
from ostiary_policy.guard import RefusedFacts, check_facts
from ostiary_policy.policy import CompiledPolicy
from ostiary_policy.policy_set import PolicySet, present
from ostiary_policy.schema import COSTLY, FACTS
from ostiary_policy.second_opinion import Context, Opinion, Part, plain_time, same

State = Literal["in force", "expired", "not in force", "condition errs", "never accepted"]
Agreement = Literal["agrees", "differs", "no opinion"]

_SHOWN = 120
"""Characters of a value that the readable form shows."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One expression. `value` and `error` are the deciding engine's; `second` is what the other one makes of it.

    `kind`: condition, variable, or the rule's action. `text` is None for a rule without an expression: it always holds.
    """

    kind: str
    name: str
    field: str
    enforced: bool
    text: str | None
    value: object
    error: str
    agreement: Agreement
    second: Opinion
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ExplainedPolicy:
    """One policy of the set. `problems` only for one that was never accepted."""

    name: str
    revision: str
    priority: int
    enforcement: str
    state: State
    expressions: tuple[Explained, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and how it came about. `needed`: costly facts that the decision was made without."""

    decision: Decision
    needed: frozenset[str]
    policies: tuple[ExplainedPolicy, ...]

    @property
    def differences(self) -> tuple[str, ...]:
        """Expressions on which the two engines differ."""
        return tuple(
            f"{policy.name} {explained.field}"
            for policy in self.policies
            for explained in policy.expressions
            if explained.agreement == "differs"
        )

    def to_json(self) -> dict[str, object]:
        """The compact form: plain values only."""
        decision = self.decision
        return {
            "decision": str(decision.action),
            "rule": str(decision.rule) if decision.rule is not None else None,
            "message": decision.message,
            "hint": decision.hint,
            "revision": decision.revision,
            "matched": [
                {"rule": str(matched.rule), "action": matched.action, "enforced": matched.enforced}
                for matched in decision.matched
            ],
            "errors": [
                {"policy": f"{error.namespace}/{error.policy}", "field": error.field, "message": error.message}
                for error in decision.errors
            ],
            "needed": sorted(self.needed),
            "differences": list(self.differences),
            "policies": [_policy_json(policy) for policy in self.policies],
        }

    def render(self, *, colour: bool = False) -> str:
        """The readable form: a tree, one line for each value."""
        return "\n".join(_render(self, _Paint(colour)))


def explain(policies: PolicySet, facts: Mapping[str, object], now: float) -> Explanation:
    """Decide, and say how each expression was evaluated. Slow: for people, not for the data path."""
    outcome = policies.decide(facts, now)
    needed: frozenset[str] = frozenset()
    if isinstance(outcome, Needs):
        needed = outcome.facts
        outcome = policies.decide(facts, now, final=True)
        assert not isinstance(outcome, Needs)
    given = {name: facts[name] for name in FACTS if name in facts}
    try:
        check_facts(given)
    except RefusedFacts:
        return Explanation(outcome, needed, ())
    context = Context(given)
    explained = tuple(_explain_policy(policy, given, context, now) for policy in policies.policies)
    return Explanation(outcome, needed, explained)


def _explain_policy(
    policy: CompiledPolicy, facts: Mapping[str, object], context: Context, now: float
) -> ExplainedPolicy:
    spec = policy.model.spec
    begun = ExplainedPolicy(policy.name, policy.revision, policy.priority, spec.enforcement, "in force", ())
    if policy.problems:
        return replace(begun, state="never accepted", problems=tuple(str(problem) for problem in policy.problems))
    if policy.not_after is not None and now >= policy.not_after:
        return replace(begun, state="expired")
    context = context.with_variables({v.name: v.expression.text for v in policy.variables})
    variables = {v.index: v.expression for v in policy.variables}
    with Frame(lambda index: variables[index].evaluate_for_variable(activation)) as frame:
        activation = RUNTIME.Activation({**facts, FRAME: frame.id})

        def explained(kind: str, name: str, field: str, enforced: bool, expression: Expression | None) -> Explained:
            if expression is None:
                return Explained(kind, name, field, enforced, None, True, "", "agrees", Opinion(True), ())
            value, error = None, ""
            try:
                value = plain_time(expression.evaluate(activation))
            except EvaluationError as failed:
                costly = sorted(path for path in expression.reads.facts & COSTLY if not present(facts, path))
                error = f"{' and '.join(costly)} was not worked out" if costly else str(failed)
            whole = context.take_apart(expression.text)
            agreement = _agreement(value, error, whole.opinion)
            return Explained(
                kind, name, field, enforced, expression.text, value, error, agreement, whole.opinion, whole.parts
            )

        conditions = [explained("condition", c.name, c.field, policy.enforced, c.expression) for c in policy.conditions]
        named = [explained("variable", v.name, v.field, policy.enforced, v.expression) for v in policy.variables]
        rules = [explained(r.action, r.name, r.field, r.enforced, r.expression) for r in policy.rules]
    state: State = "in force"
    if any(condition.value is False for condition in conditions):
        state = "not in force"
    elif any(condition.value is not True for condition in conditions):
        state = "condition errs"
    shown = (*conditions, *named, *rules) if state == "in force" else tuple(conditions)
    return replace(begun, state=state, expressions=shown)


def _agreement(value: object, error: str, second: Opinion) -> Agreement:
    if not second.able:
        return "no opinion"
    if bool(error) != bool(second.error):
        return "differs"
    return "agrees" if error or same(value, second.value) else "differs"


# The compact form


def _policy_json(policy: ExplainedPolicy) -> dict[str, object]:
    described: dict[str, object] = {
        "policy": policy.name,
        "revision": policy.revision,
        "priority": policy.priority,
        "enforcement": policy.enforcement,
        "state": policy.state,
        "expressions": [_explained_json(explained) for explained in policy.expressions],
    }
    if policy.problems:
        described["problems"] = list(policy.problems)
    return described


def _explained_json(explained: Explained) -> dict[str, object]:
    described: dict[str, object] = {"kind": explained.kind, "name": explained.name, "field": explained.field}
    if explained.text is not None:
        described["expression"] = explained.text
    described |= {"error": explained.error} if explained.error else {"value": _json_value(explained.value)}
    if not explained.enforced:
        described["enforced"] = False
    if explained.agreement == "differs":
        described["second"] = _opinion_json(explained.second)
    if explained.parts:
        described["parts"] = [_part_json(part) for part in explained.parts]
    return described


def _part_json(part: Part) -> dict[str, object]:
    described: dict[str, object] = {"text": part.text, "span": [part.start, part.end], **_opinion_json(part.opinion)}
    if part.element:
        described["for"] = part.element
    if part.parts:
        described["parts"] = [_part_json(below) for below in part.parts]
    return described


def _opinion_json(opinion: Opinion) -> dict[str, object]:
    return {"error": opinion.error} if opinion.error else {"value": _json_value(opinion.value)}


def _json_value(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return str(value)


# The readable form


class _Paint:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, style: str, text: str) -> str:
        return f"\033[{_STYLES[style]}m{text}\033[0m" if self._colour else text


_STYLES = {"good": "32", "bad": "31", "ask": "33", "dim": "2", "strong": "1"}
_ACTION_STYLE = {"Allow": "good", "Deny": "bad", "RequireApproval": "ask"}


def _render(explanation: Explanation, paint: _Paint) -> Iterator[str]:
    decision = explanation.decision
    yield f"{paint(_ACTION_STYLE[decision.action], decision.action.upper())}  {clean(decision.message)}"
    if decision.hint:
        yield f"  hint: {clean(decision.hint)}"
    for fact in sorted(explanation.needed):
        yield f"  {paint('ask', 'not given')}: {fact}, which a rule reads"
    for policy in explanation.policies:
        yield ""
        state = paint("dim" if policy.state in ("expired", "not in force") else "strong", policy.state)
        audit = ", enforcement Audit" if policy.enforcement == "Audit" else ""
        yield f"{paint('strong', policy.name)}  priority {policy.priority}{audit}  {state}"
        for problem in policy.problems:
            yield f"  {paint('bad', 'problem')} {clean(problem)}"
        for explained in policy.expressions:
            yield from _render_explained(explained, paint)
    for difference in explanation.differences:
        yield ""
        yield paint(
            "bad", f"The two CEL engines differ on {difference}; the first one decides. Write it in another way."
        )


def _render_explained(explained: Explained, paint: _Paint) -> Iterator[str]:
    noted = "" if explained.enforced else paint("dim", " (recorded only)")
    value = _result(Opinion(explained.value, explained.error), paint)
    yield f"  {explained.kind} {paint('strong', explained.name)}{noted}: {value}"
    if explained.text is None:
        yield f"    {paint('dim', 'no expression: always')}"
        return
    yield f"    {_one_line(explained.text)}"
    if explained.agreement == "differs":
        yield f"    {paint('bad', 'the second engine differs')}: {_result(explained.second, paint)}"
    for part in explained.parts:
        yield from _render_part(part, 6, paint)


def _render_part(part: Part, indent: int, paint: _Paint) -> Iterator[str]:
    element = f"{paint('dim', clean(part.element))}: " if part.element else ""
    yield f"{' ' * indent}{element}{_one_line(part.text)} = {_result(part.opinion, paint)}"
    for below in part.parts:
        yield from _render_part(below, indent + 2, paint)


def _result(opinion: Opinion, paint: _Paint) -> str:
    if opinion.error:
        return paint("bad", f"error: {clean(opinion.error)}") if opinion.able else paint("dim", "not known here")
    text = _summary(opinion.value)
    if opinion.value is True:
        return paint("good", text)
    return paint("dim", text) if opinion.value is False else text


def _summary(value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return f"[{len(value)} object{'s' if len(value) > 1 else ''}]"
    return _one_line(json.dumps(_json_value(value), ensure_ascii=False))


def _one_line(text: str) -> str:
    text = clean(" ".join(text.split()))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def clean(text: str) -> str:
    """Text of a request without what could steer a terminal: control and format characters, direction marks."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
