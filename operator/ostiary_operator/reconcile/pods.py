"""What the pods of a gateway say: who has loaded the bundle, who lags and why."""

from __future__ import annotations

from dataclasses import dataclass

from ostiary_api.gateway_state import ConnectionState, GatewayState, StateProblem
from ostiary_operator.observed import Observed, SeenPod
from ostiary_operator.reconcile import reasons
from ostiary_operator.reconcile.conditions import listed
from ostiary_operator.reconcile.gateways import GatewayPlan


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a gateway is. `reason` is empty when every ready pod serves the plan's bundle."""

    reason: str
    message: str


def progress(observed: Observed, plan: GatewayPlan) -> Progress:
    """Whether a gateway serves its bundle, and if not, what is in the way."""
    if plan.problem:
        return Progress(reasons.BUNDLE_TOO_LARGE, f"{plan.problem}. The last bundle goes on being served.")
    if plan.foreign:
        names = listed([str(key) for key in plan.foreign])
        text = f"{names} is there already, and Ostiary did not make it. Delete or rename it, or rename the Connection."
        return Progress(reasons.NAME_TAKEN, text)
    failed = [key for key in plan.keys if key in observed.failed] if observed.failed else []
    if failed:
        return Progress(reasons.REFUSED_BY_API, f"The API server refused {failed[0]}: {observed.failed[failed[0]]}")
    ready = ready_pods(observed, plan.key)
    if not ready:
        return Progress(reasons.PODS_NOT_READY, _no_pods(observed, plan))
    lagging = [text for pod in ready if (text := _lag(observed, plan, pod))]
    if lagging:
        return Progress(
            reasons.LOADING,
            f"{len(ready) - len(lagging)} of {len(ready)} ready pods have loaded bundle {plan.revision[:12]}: "
            f"{listed(lagging)}.",
        )
    count = "1 ready pod has" if len(ready) == 1 else f"{len(ready)} ready pods have"
    return Progress("", f"{count} loaded bundle {plan.revision[:12]}.")


def ready_pods(observed: Observed, gateway_key: str) -> list[SeenPod]:
    """The pods that agents are sent to."""
    return [pod for pod in observed.pods_of.get(gateway_key, ()) if pod.ready and not pod.deleting]


def states(observed: Observed, gateway_key: str) -> list[tuple[SeenPod, GatewayState]]:
    """What ready pods told, as far as they did."""
    found = []
    for pod in ready_pods(observed, gateway_key):
        state = observed.states.get(pod.uid)
        if isinstance(state, GatewayState):
            found.append((pod, state))
    return found


def connection_state(state: GatewayState, namespace: str, name: str) -> ConnectionState | None:
    """What a pod says of one Connection."""
    return next((item for item in state.connections if (item.namespace, item.name) == (namespace, name)), None)


def problems_of(state: GatewayState, kind: str, key: str) -> list[StateProblem]:
    """What a pod cannot do with one object."""
    return [item for item in state.problems if item.object == f"{kind} {key}"]


def _no_pods(observed: Observed, plan: GatewayPlan) -> str:
    pods = [pod for pod in observed.pods_of.get(plan.key, ()) if not pod.deleting]
    if not pods:
        return f"Gateway {plan.gateway} has no pod yet. {_rollout(observed, plan)}".rstrip()
    waiting = [f"{pod.name}: {pod.waiting}" for pod in pods if pod.waiting]
    if waiting:
        return f"No pod of gateway {plan.gateway} is ready. {listed(waiting)}"
    told = [text for pod in pods if (text := _told(observed, pod))]
    more = f": {listed(told)}" if told else ", still starting"
    return f"No pod of gateway {plan.gateway} is ready ({listed([pod.name for pod in pods])}{more})."


def _rollout(observed: Observed, plan: GatewayPlan) -> str:
    """Why a Deployment makes no pods, in its own words."""
    deployment = next((key for key in plan.keys if key.kind == "Deployment"), None)
    there = observed.children.get(deployment) if deployment is not None else None
    for condition in ((there or {}).get("status") or {}).get("conditions") or ():
        failed = condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
        stuck = condition.get("type") == "Progressing" and condition.get("status") == "False"
        if failed or stuck:
            return str(condition.get("message", ""))
    return ""


def _told(observed: Observed, pod: SeenPod) -> str:
    state = observed.states.get(pod.uid)
    if isinstance(state, GatewayState) and state.problems:
        return f"{pod.name} says: {state.problems[0].message}"
    return ""


def _lag(observed: Observed, plan: GatewayPlan, pod: SeenPod) -> str:
    """Why a pod does not count as programmed; empty if it does."""
    state = observed.states.get(pod.uid)
    if state is None:
        return f"{pod.name} was not asked yet"
    if isinstance(state, str):
        return f"{pod.name} cannot be asked ({state})"
    if state.revision == plan.revision:
        return ""
    has = f"has {state.revision[:12]}" if state.revision else "has none"
    whole = [problem.message for problem in state.problems if not problem.object]
    return f"{pod.name} {has}" + (f" and says: {whole[0].rstrip('.')}" if whole else "")
