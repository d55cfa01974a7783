"""What would be allowed: the same request is decided again with one fact changed, and with each statement by itself.

Nothing is guessed from the text of a rule: a change is named only if the policies, asked, would let it pass. It says
what to aim at; what the agent then sends is decided like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from ostiary_policy import whatif_kubernetes, whatif_ssh
from ostiary_policy.answer import Change
from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.policy_set import PolicySet

MAX_TRIES = 32
"""Decisions that are made to answer one request."""
MAX_CHANGES = 6
MAX_STATEMENTS = 8
"""Statements of a text that are tried."""
MAX_ELEMENTS = 6
"""Relations, or functions, of one statement that are tried."""

_NUMBER = re.compile(r"(?<![\w.'\"])\d{1,15}(?![\w.'\"])")
_READ_ONLY = {"readOnly": True, "writes": False, "opaque": False, "opaqueReason": ""}
_KNOWN = {"opaque": False, "opaqueReason": ""}
_RANK = {Action.DENY: 0, Action.REQUIRE_APPROVAL: 1, Action.ALLOW: 2}

Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Try:
    """A change, and the facts of `sql` with it."""

    change: Change
    sql: Mapping[str, Any]


def what_if(
    policies: PolicySet,
    facts: Mapping[str, object],
    now: float,
    decided: Action,
    grounds: Mapping[str, object],
) -> tuple[tuple[Change, ...], tuple[int, ...]]:
    """The changes that are enough, and the statements (from 1) that pass by themselves.

    `grounds`: the facts that the deciding rule holds by, by their paths.
    """
    if decided is Action.ALLOW:
        return (), ()
    k8s = facts.get("k8s")
    if isinstance(k8s, Mapping):
        return _of_tries(policies, facts, now, decided, "k8s", whatif_kubernetes.tries(policies, k8s, grounds)), ()
    ssh = facts.get("ssh")
    if isinstance(ssh, Mapping):
        return _of_tries(policies, facts, now, decided, "ssh", whatif_ssh.tries(policies, ssh)), ()
    sql = facts.get("sql")
    if not isinstance(sql, Mapping):
        return (), ()
    tries = 0

    def then(changed: Mapping[str, Any]) -> Literal["Allow", "RequireApproval", "Estimate"] | None:
        nonlocal tries
        tries += 1
        outcome = policies.decide({**facts, "sql": changed}, now)
        if isinstance(outcome, Needs):
            return "Estimate"
        assert isinstance(outcome, Decision)
        if _RANK[outcome.action] <= _RANK[decided]:
            return None
        return "Allow" if outcome.action is Action.ALLOW else "RequireApproval"

    statements: list[Statement] = list(sql.get("statements", ()))
    alone: list[int] = []
    if len(statements) > 1:
        for number, statement in enumerate(statements[:MAX_STATEMENTS], 1):
            if then({**_unestimated(sql), "statements": [statement]}) == "Allow":
                alone.append(number)
    changes: list[Change] = []
    seen: set[str] = set()
    for each in _tries(policies, sql, statements):
        if tries >= MAX_TRIES or len(changes) == MAX_CHANGES:
            break
        if each.change.fact in seen and each.change.at_most is not None:
            continue
        outcome = then(each.sql)
        if outcome == "Estimate" and decided is Action.REQUIRE_APPROVAL:
            continue  # it is the estimate that asks for approval, and that was known
        if outcome is not None:
            seen.add(each.change.fact)
            changes.append(each.change.model_copy(update={"then": outcome}))
    return tuple(changes), tuple(alone)


def _of_tries(
    policies: PolicySet,
    facts: Mapping[str, object],
    now: float,
    decided: Action,
    variable: str,
    tries: Iterator[tuple[Change, Mapping[str, Any]]],
) -> tuple[Change, ...]:
    found: dict[str, Change] = {}
    for change, changed in islice(tries, MAX_TRIES):
        if change.fact in found or len(found) == MAX_CHANGES:
            continue
        outcome = policies.decide({**facts, variable: changed}, now)
        if isinstance(outcome, Decision) and _RANK[outcome.action] > _RANK[decided]:
            then: Literal["Allow", "RequireApproval"] = "Allow" if outcome.action is Action.ALLOW else "RequireApproval"
            found[change.fact] = change.model_copy(update={"then": then})
    return tuple(found.values())


def _unestimated(sql: Mapping[str, Any]) -> dict[str, Any]:
    """Without the estimate: it was of another statement."""
    return {name: value for name, value in sql.items() if name != "estimatedRows"}


def _tries(policies: PolicySet, sql: Mapping[str, Any], statements: list[Statement]) -> Iterator[_Try]:
    """Every change that rules of the set could tell apart, the smaller ones first."""
    reads = policies.reads
    if "sql.estimatedRows" in reads and isinstance(sql.get("estimatedRows"), int):
        yield from _estimates(policies, sql)
    if "sql.inTransaction" in reads:
        inside = bool(sql.get("inTransaction"))
        change = Change(fact="sql.inTransaction", value=inside, equals=not inside, then="Allow")
        yield _Try(change, {**sql, "inTransaction": not inside})
    makers: tuple[Callable[[frozenset[str], Statement], Iterator[tuple[dict[str, Any], dict[str, Any]]]], ...]
    makers = (_flags, _elements)
    for make in makers:
        for index, statement in enumerate(statements[:MAX_STATEMENTS]):
            for told, changed in make(reads, statement):
                fact = f"sql.statements[{index}].{told.pop('fact')}"
                others = [*statements[:index], {**statement, **changed}, *statements[index + 1 :]]
                # Another WHERE means another number of rows, so the estimate does not stand for it.
                base = sql if "relations" not in changed and "hasWhere" not in changed else _unestimated(sql)
                yield _Try(Change(fact=fact, then="Allow", **told), {**base, "statements": others})


def _flags(reads: frozenset[str], statement: Statement) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for name in ("hasWhere", "hasLimit"):
        if f"sql.statements.{name}" in reads and not statement[name]:
            yield {"fact": name, "value": False, "equals": True}, {name: True}
    if "sql.statements.opaque" in reads and statement["opaque"]:
        yield {"fact": "opaque", "value": True, "equals": False}, dict(_KNOWN)
    if {"sql.statements.readOnly", "sql.statements.writes"} & reads and not statement["readOnly"]:
        read = [{**relation, "access": "read"} for relation in statement["relations"]]
        yield {"fact": "readOnly", "value": False, "equals": True}, {**_READ_ONLY, "relations": read}


def _elements(reads: frozenset[str], statement: Statement) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Without one relation, function or setting."""
    for name in ("settings", "functions"):
        if f"sql.statements.{name}" in reads:
            for element in statement[name][:MAX_ELEMENTS]:
                yield {"fact": name, "without": element}, {name: [item for item in statement[name] if item != element]}
    if any(fact.startswith("sql.statements.relations") for fact in reads):
        named = dict.fromkeys((relation["schema"], relation["name"]) for relation in statement["relations"])
        for schema, relation in list(named)[:MAX_ELEMENTS]:
            rest = [item for item in statement["relations"] if (item["schema"], item["name"]) != (schema, relation)]
            yield {"fact": "relations", "without": f"{schema}.{relation}"}, {"relations": rest}


def _estimates(policies: PolicySet, sql: Mapping[str, Any]) -> Iterator[_Try]:
    """The numbers that stand in the rules are where an estimate begins to matter."""
    rows = sql["estimatedRows"]
    numbers: set[int] = set()
    for policy in policies.policies:
        texts = [rule.expression.text for rule in policy.rules if rule.expression is not None]
        texts += [variable.expression.text for variable in policy.variables]
        for text in texts:
            numbers.update(int(number) for number in _NUMBER.findall(text)[:16])
    limits = sorted({limit for number in numbers for limit in (number, number - 1) if 0 <= limit < rows}, reverse=True)
    for limit in limits[:12]:
        change = Change(fact="sql.estimatedRows", value=rows, at_most=limit, then="Allow")
        yield _Try(change, {**sql, "estimatedRows": limit})
