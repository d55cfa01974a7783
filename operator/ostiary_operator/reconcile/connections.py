"""The status of a Connection: whether it is served and by what, which policies hold, whether the target answers."""

from __future__ import annotations

from datetime import datetime

from ostiary_api.names import service_host
from ostiary_api.secret_uses import SecretUse, secrets_of_connection
from ostiary_operator.observed import Manifest, Observed, SeenConnection
from ostiary_operator.reconcile import pods, reasons
from ostiary_operator.reconcile.acceptance import Standing
from ostiary_operator.reconcile.conditions import Finding, Written, conditions, listed, sentence
from ostiary_operator.reconcile.gateways import GatewayPlan
from ostiary_operator.reconcile.serving import missing_secrets

MAX_POLICIES = 1024
"""Items of status.policies."""


def status(observed: Observed, plan: GatewayPlan | None, key: str, now: datetime) -> Written:
    """The status of the Connection `key` (`namespace/name`). `plan` is that of its gateway."""
    seen = observed.connections[key]
    if seen.deleting or plan is None or plan.made_from.get(seen.name) != (seen.uid, seen.generation):
        # Nothing is known of it any more, or not yet of its newest generation: what is stored stays.
        return Written(dict(seen.status))
    refusal = plan.refused.get(seen.name)
    if refusal is not None:
        accepted = Finding("Accepted", "False", refusal.reason, refusal.message)
        why = "It is not accepted; see condition Accepted."
        others = [
            Finding("ResolvedRefs", "Unknown", reasons.NOT_ACCEPTED, why),
            Finding("Programmed", "False", reasons.NOT_ACCEPTED, why),
            Finding("UpstreamReachable", "Unknown", reasons.NOT_TRIED, why),
        ]
        if observed.settings.gateway.store is not None:
            others.append(Finding("Recorded", "Unknown", reasons.NOT_TRIED, why))
        return Written(_status(seen, [accepted, *others], now))
    policies = plan.policies.get(seen.name, ())
    found = [
        _accepted(seen, plan, policies),
        _resolved(observed, seen, plan),
        _programmed(observed, seen, plan),
        _reachable(observed, seen, plan),
    ]
    if observed.settings.gateway.store is not None:
        found.append(_recorded(observed, plan))
    made = _status(seen, found, now)
    assert seen.model is not None
    made["endpoint"] = {"host": service_host(seen.name, seen.namespace), "port": seen.model.spec.listener.port}
    if plan.problem:
        # There is no new bundle; the last one's policies are in force.
        made |= {name: seen.status[name] for name in ("policies", "policyCount") if name in seen.status}
    else:
        made |= _policies(policies)
    in_force = {state.revision for _, state in pods.states(observed, plan.key)}
    made["revision"] = in_force.pop() if len(in_force) == 1 else str(seen.status.get("revision") or "")
    return Written(made)


def _status(seen: SeenConnection, found: list[Finding], now: datetime) -> Manifest:
    return {
        "observedGeneration": seen.generation,
        "conditions": conditions(seen.status, found, seen.generation, now),
    }


def _policies(policies: tuple[Standing, ...]) -> Manifest:
    made: Manifest = {"policyCount": len(policies)}
    if policies:
        made["policies"] = [
            {
                "namespace": standing.bundled.metadata.namespace,
                "name": standing.bundled.metadata.name,
                "revision": standing.revision,
            }
            for standing in policies[:MAX_POLICIES]
        ]
    return made


def _accepted(seen: SeenConnection, plan: GatewayPlan, policies: tuple[Standing, ...]) -> Finding:
    with_others = [name for name in plan.served if name != seen.name]
    shared = f", which it shares with {listed(with_others)}" if with_others else ""
    count = "1 policy is for it" if len(policies) == 1 else f"{len(policies)} policies are for it"
    message = f"Served by gateway {plan.gateway}{shared}. {count}."
    if plan.problem:
        message = f"Served by gateway {plan.gateway}{shared}."
    elif not policies:
        message = (
            f"Served by gateway {plan.gateway}{shared}. No policy is for it, so every request is denied: create a "
            "GatewayPolicy whose match.connectionSelector selects its labels."
        )
    assert seen.model is not None
    if seen.model.spec.protocol == "SSH" and seen.model.spec.listener.host_key_ref is None:
        message += (
            " Each of its pods makes a host key of its own, which agents cannot pin: name a Secret with privateKey in "
            "spec.listener.hostKeyRef."
        )
    if refused := [standing.bundled.key for standing in policies if standing.refused is not None]:
        what = (
            "was never accepted and denies whatever it matches"
            if len(refused) == 1
            else ("were never accepted and deny whatever they match")
        )
        message += f" {listed(refused)} {what}: see status.expressions there."
    return Finding("Accepted", "True", reasons.ACCEPTED, message)


def _resolved(observed: Observed, seen: SeenConnection, plan: GatewayPlan) -> Finding:
    assert seen.model is not None
    missing = missing_secrets(observed, seen.model)
    if missing:
        text = "; ".join(
            f"{use.field}: there is no Secret {use.name} in namespace {seen.namespace} (it needs {_needs(use)})"
            for use in missing
        )
        return Finding("ResolvedRefs", "False", reasons.SECRET_NOT_FOUND, text)
    for _, state in pods.states(observed, plan.key):
        for problem in pods.problems_of(state, "Connection", seen.key):
            if "Ref" in problem.field or problem.field.startswith("spec.authentication"):
                text = f"{problem.field}: {problem.message}"
                return Finding("ResolvedRefs", "False", reasons.SECRET_NOT_USABLE, text)
        for use in secrets_of_connection(seen.model):
            for problem in pods.problems_of(state, "Secret", f"{seen.namespace}/{use.name}"):
                text = f"{use.field}: Secret {use.name}: {problem.message}"
                return Finding("ResolvedRefs", "False", reasons.SECRET_NOT_USABLE, text)
    return Finding("ResolvedRefs", "True", reasons.RESOLVED, "All Secrets that it names are there.")


def _needs(use: SecretUse) -> str:
    """The keys that a Secret must have."""
    return listed(use.keys) + (f", or {listed(use.otherwise)}" if use.otherwise else "")


def _programmed(observed: Observed, seen: SeenConnection, plan: GatewayPlan) -> Finding:
    progress = pods.progress(observed, plan)
    if progress.reason:
        return Finding("Programmed", "False", progress.reason, progress.message)
    but = ""
    for pod, state in pods.states(observed, plan.key):
        told = pods.connection_state(state, seen.namespace, seen.name)
        if told is not None and told.listening and told.message:
            but = f" {pod.name} says: {sentence(told.message)}"
        elif told is None or not told.listening:
            said = told.message if told is not None and told.message else "it does not say why"
            text = f"Agents cannot connect to {pod.name}: {said.rstrip('.')}."
            return Finding("Programmed", "False", reasons.NOT_LISTENING, text)
    return Finding("Programmed", "True", reasons.PROGRAMMED, progress.message + but)


def _reachable(observed: Observed, seen: SeenConnection, plan: GatewayPlan) -> Finding:
    told = [
        (pod, told.upstream)
        for pod, state in pods.states(observed, plan.key)
        if (told := pods.connection_state(state, seen.namespace, seen.name)) is not None
    ]
    for pod, upstream in told:
        if upstream.state == "Unreachable":
            text = f"{pod.name} says: {upstream.message.rstrip('.') or 'the target does not answer'}."
            return Finding("UpstreamReachable", "False", reasons.UNREACHABLE, text)
    if any(upstream.state == "Reachable" for _, upstream in told):
        return Finding("UpstreamReachable", "True", reasons.REACHABLE, "The target answers.")
    text = "No ready pod has tried the target yet." if told else "No ready pod can say whether the target answers."
    return Finding("UpstreamReachable", "Unknown", reasons.NOT_TRIED, text)


def _recorded(observed: Observed, plan: GatewayPlan) -> Finding:
    told = [(pod, state.shipping) for pod, state in pods.states(observed, plan.key) if state.shipping.state != "Off"]
    for pod, shipping in told:
        if shipping.state == "Failing":
            why = shipping.message.rstrip(".") or "the store does not answer"
            text = f"{pod.name} says: {why}. Its record waits in the pod; with no room left, requests are refused."
            return Finding("Recorded", "False", reasons.STORE_NOT_REACHED, text)
    behind = [pod.name for pod, shipping in told if shipping.state == "Behind"]
    if told:
        but = f" {listed(behind)} {'is' if len(behind) == 1 else 'are'} behind." if behind else ""
        return Finding("Recorded", "True", reasons.RECORDED, "The record reaches the store." + but)
    return Finding("Recorded", "Unknown", reasons.NOT_TRIED, "No ready pod has told of the store yet.")
