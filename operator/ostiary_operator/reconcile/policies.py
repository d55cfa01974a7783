"""The status of a GatewayPolicy: whether it is accepted and what is wrong with it, and where it is in force."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ostiary_api.units import format_timestamp
from ostiary_operator.observed import Manifest, Observed, SeenPolicy
from ostiary_operator.reconcile import pods, reasons
from ostiary_operator.reconcile.acceptance import Standing, Standings
from ostiary_operator.reconcile.conditions import Finding, Written, conditions, listed, sentence, shorten
from ostiary_operator.reconcile.gateways import GatewayPlan
from ostiary_policy.policy import Problem

MAX_EXPRESSIONS = 256
"""Items of status.expressions."""


def status(
    observed: Observed, standings: Standings, plans: Mapping[str, GatewayPlan], key: str, now: datetime
) -> Written:
    """The status of the GatewayPolicy `key` (`namespace/name`)."""
    seen = observed.policies[key]
    standing = standings.get(key)
    if standing is None:
        return Written(dict(seen.status))
    reached = {each.key: each for each in plans.values() if key in each.reached}
    made: Manifest = {
        "observedGeneration": seen.generation,
        "conditions": conditions(
            seen.status,
            [_accepted(seen, standing), _programmed(observed, standing, reached, key, now)],
            seen.generation,
            now,
        ),
        "connections": sum(plan.reached[key] for plan in reached.values()),
        "revision": standing.revision,
    }
    if standing.problems:
        made["expressions"] = [
            {"field": shorten(problem.field, 512), "message": shorten(_text(problem), 4096)}
            for problem in standing.problems[:MAX_EXPRESSIONS]
        ]
    not_after = standing.bundled.spec.not_after
    return Written(made, not_after if not_after is not None and not_after > now else None)


def _accepted(seen: SeenPolicy, standing: Standing) -> Finding:
    if standing.accepted:
        message = f"Revision {standing.revision[:12]} compiles"
        tests = len(standing.bundled.spec.tests)
        if standing.not_run:
            message += f". Tests were not run: {listed(standing.not_run)}"
        elif tests:
            message += ", and its test passes" if tests == 1 else f", and its {tests} tests pass"
        return Finding("Accepted", "True", reasons.ACCEPTED, message + ".")
    first = standing.problems[0]
    more = len(standing.problems) - 1
    also = f" ({more} more in status.expressions.)" if more else ""
    text = f"{first.field}: {_text(first)}".removeprefix(": ")
    then = (
        f"Revision {standing.revision[:12]}, the last that was accepted, stays in force."
        if standing.refused is None
        else "It never was accepted: gateways deny whatever it matches."
    )
    return Finding("Accepted", "False", _why(seen, first), f"{sentence(text)}{also} {then}")


def _why(seen: SeenPolicy, problem: Problem) -> str:
    path = problem.field
    if seen.model is None:
        return reasons.INVALID
    if path in ("spec.priority", "spec.match.namespaceSelector", "spec.notAfter"):
        return reasons.NOT_ALLOWED_HERE
    if path.startswith("spec.tests"):
        return reasons.TEST_FAILED
    if path.endswith("keyRef"):
        return reasons.SECRET_NOT_FOUND
    if ".masking[" in path:
        return reasons.MASK_NOT_POSSIBLE
    return reasons.EXPRESSION_NOT_VALID


def _text(problem: Problem) -> str:
    where = f"line {problem.line}, column {problem.column}: " if problem.line else ""
    hint = f" {problem.hint}" if problem.hint else ""
    return f"{where}{sentence(problem.message) if hint else problem.message}{hint}"


def _programmed(
    observed: Observed, standing: Standing, reached: Mapping[str, GatewayPlan], key: str, now: datetime
) -> Finding:
    def finding(reason: str, message: str) -> Finding:
        return Finding("Programmed", "True" if reason == reasons.PROGRAMMED else "False", reason, message)

    if standing.refused is not None:
        return finding(reasons.NOT_ACCEPTED, "It never was accepted: gateways deny whatever it matches.")
    not_after = standing.bundled.spec.not_after
    if not_after is not None and not_after <= now:
        return finding(
            reasons.EXPIRED, f"spec.notAfter was {format_timestamp(not_after)}: the policy is not in force any more."
        )
    if not standing.accepted:
        text = f"Revision {standing.revision[:12]} is in force, not the newest: that is not accepted."
        return finding(reasons.LAST_ACCEPTED, text)
    if not reached:
        return finding(
            reasons.NO_CONNECTIONS,
            "It is for no Connection that is served. Compare spec.match with the Connections' labels and protocols.",
        )
    behind = []
    for name, plan in sorted(reached.items()):
        for pod, state in pods.states(observed, name):
            for problem in pods.problems_of(state, "GatewayPolicy", key):
                text = f"{problem.field}: {problem.message}".removeprefix(": ")
                return finding(reasons.REFUSED_BY_GATEWAY, f"{pod.name} of gateway {name} says: {text}")
            for secret in sorted(standing.secrets):
                for problem in pods.problems_of(state, "Secret", secret):
                    text = f"Secret {secret}: {problem.message}"
                    return finding(reasons.REFUSED_BY_GATEWAY, f"{pod.name} of gateway {name} says: {text}")
        progress = pods.progress(observed, plan)
        if plan.revisions.get(key) != standing.bundled.revision:
            behind.append(f"gateway {name}: its bundle is being written")
        elif progress.reason:
            behind.append(f"gateway {name}: {progress.message.rstrip('.')}")
    count = sum(plan.reached[key] for plan in reached.values())
    where = f"{count} Connection{'s' * (count != 1)} of {len(reached)} gateway{'s' * (len(reached) != 1)}"
    if behind:
        done = len(reached) - len(behind)
        text = f"In force at {done} of {len(reached)} gateways; {listed(behind)}."
        return finding(reasons.LOADING, text)
    until = f" It expires at {format_timestamp(not_after)}." if not_after is not None else ""
    return finding(reasons.PROGRAMMED, f"In force on {where}.{until}")
