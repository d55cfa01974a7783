"""An answer as one line of JSON that fits: what is of least use to the agent is left out first."""

from __future__ import annotations

import json
from collections.abc import Callable

from pydantic import JsonValue

from ostiary_policy.answer import MAX_BYTES, Allowed, AllowingRule, Answer, Condition

MAX_TEXT = 400
"""Characters of an expression or a fact's text."""
MAX_LIST = 8
"""Elements of a fact that is a list."""


def line(answer: Answer, limit: int = MAX_BYTES) -> str:
    """One line of JSON, at most `limit` bytes (not less than the default). `truncated` says if parts are missing."""
    text = _json(answer)
    for step in _STEPS:
        if len(text.encode("utf-8", "replace")) <= limit:
            return text
        answer = step(answer).model_copy(update={"truncated": True})
        text = _json(answer)
    return text


def cut(text: str, length: int = MAX_TEXT) -> str:
    """The beginning of a text, with an ellipsis where something is missing."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def short(value: object, length: int = 100) -> JsonValue:
    """A fact's value as JSON, cut where it is long. An object is shown as its text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, list):
        kept = [short(item, length) for item in value[:MAX_LIST]]
        return kept if len(value) <= MAX_LIST else [*kept, "…"]
    return cut(str(value), length)


def _json(answer: Answer) -> str:
    text = json.dumps(answer.values(), ensure_ascii=False, separators=(", ", ": "))
    # A lone surrogate has no form in UTF-8, and a line separator would break the line for some readers.
    return text.encode("utf-8", "replace").decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _bare(condition: Condition) -> Condition:
    return condition.model_copy(update={"facts": {}, "expression": cut(condition.expression, 120)})


def _fewer_rules(answer: Answer) -> Answer:
    def fewer(rule: AllowingRule) -> AllowingRule:
        unmet, expression = tuple(map(_bare, rule.unmet[:2])), cut(rule.expression, 200)
        return rule.model_copy(update={"unmet": unmet, "description": "", "expression": expression})

    rules = tuple(map(fewer, answer.allowed.rules[:4]))
    return answer.model_copy(update={"allowed": answer.allowed.model_copy(update={"rules": rules})})


def _named_rules(answer: Answer) -> Answer:
    rules = tuple(
        AllowingRule(policy=rule.policy, rule=rule.rule, action=rule.action) for rule in answer.allowed.rules[:3]
    )
    changes, statements = answer.allowed.changes[:4], answer.allowed.statements[:20]
    return answer.model_copy(update={"allowed": Allowed(changes=changes, statements=statements, rules=rules)})


def _fewer_grounds(answer: Answer) -> Answer:
    return answer.model_copy(update={"because": tuple(map(_bare, answer.because[:3])), "errors": answer.errors[:1]})


def _shorter_texts(answer: Answer) -> Answer:
    changed: dict[str, object] = {"message": cut(answer.message), "opaque": cut(answer.opaque, 200)}
    changed["next"] = answer.next.model_copy(update={"hint": cut(answer.next.hint)})
    changed["errors"] = tuple(
        error.model_copy(update={"message": cut(error.message, 200), "field": cut(error.field, 100)})
        for error in answer.errors
    )
    if answer.approval is not None:
        approval = {"groups": answer.approval.groups[:5], "message": cut(answer.approval.message, 100)}
        changed["approval"] = answer.approval.model_copy(update=approval)
    return answer.model_copy(update=changed)


def _essence(answer: Answer) -> Answer:
    changed: dict[str, object] = {"because": (), "errors": (), "allowed": Allowed(), "opaque": cut(answer.opaque, 60)}
    changed["message"] = cut(answer.message, 100)
    changed["next"] = answer.next.model_copy(update={"hint": cut(answer.next.hint, 100)})
    if answer.approval is not None:
        groups = tuple(cut(group, 60) for group in answer.approval.groups[:2])
        changed["approval"] = answer.approval.model_copy(update={"groups": groups, "message": ""})
    return answer.model_copy(update=changed)


_STEPS: tuple[Callable[[Answer], Answer], ...] = (
    _fewer_rules,
    _fewer_grounds,
    _shorter_texts,
    _named_rules,
    _essence,
)
