"""`python benchmarks/reconcile.py`: what the operator's pure part costs, with 100 Connections and 200 policies.

No API server is asked: this is the time between an event and the writes that follow from it.
"""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / part) for part in ("crds", "gateway", "operator", "tests")]

from support.world import EXTENSIONS, World  # noqa: E402

from ostiary_operator.reconcile import acceptance, connections, gateways, policies  # noqa: E402

CONNECTIONS, POLICIES, NAMESPACES = 100, 200, 10
NOW = datetime.now(UTC)


def rules(number: int) -> list[dict[str, object]]:
    """Five rules of the usual kind."""
    return [
        {"name": "reads", "action": "Allow", "expression": "sql.statements.all(s, s.readOnly)"},
        {"name": "no-drop", "action": "Deny", "expression": "sql.statements.exists(s, s.verb == 'DROP')"},
        {
            "name": "large",
            "action": "RequireApproval",
            "expression": f"sql.statements.exists(s, s.writes) && sql.estimatedRows > {number}",
            "approval": {"groups": ["dba"]},
        },
        {"name": "opaque", "action": "Deny", "expression": "sql.statements.exists(s, s.opaque)"},
        {"name": "mail", "action": "Mask", "masking": [{"detector": "Email"}]},
    ]


TESTS = [
    {"name": "reading", "sql": "select id from orders where id = 1", "expect": "Allow"},
    {"name": "dropping", "sql": "drop table orders", "expect": "Deny", "rule": "no-drop"},
]


def build() -> World:
    """The cluster: every policy is for all Connections of its namespace."""
    world = World()
    for number in range(CONNECTIONS):
        world.connection(f"db-{number}", f"team-{number % NAMESPACES}", labels={"env": "prod"})
    for number in range(POLICIES):
        world.policy(f"p-{number}", *rules(number), namespace=f"team-{number % NAMESPACES}", tests=TESTS)
    return world


def timed(what: Callable[[], object], times: int = 5) -> float:
    """Median milliseconds of the processor: what else runs on the machine does not count."""
    taken = []
    for _ in range(times):
        gc.collect()
        begun = time.process_time()
        what()
        taken.append((time.process_time() - begun) * 1000)
    return statistics.median(taken)


def main() -> None:
    """Print a table."""
    world = build()
    first = timed(world.settle, 1)
    observed = world.observed()

    def change() -> None:
        world.policy("p-0", *rules(int(time.time() * 1000) % 10**9), namespace="team-0", tests=TESTS)
        changed = world.observed()
        (key,) = acceptance.stale(changed, world.standings)
        world.standings[key] = acceptance.accept(changed, key, world.standings[key], world.recovered, EXTENSIONS)

    accepting = timed(change)
    looking = timed(lambda: acceptance.stale(world.observed(), world.standings))
    one = timed(lambda: gateways.plan(world.observed(), world.standings, "team-0/db-0"))

    def plan_all() -> None:
        fresh = world.observed()
        world.plans = {key: gateways.plan(fresh, world.standings, key) for key in fresh.gateway_keys}

    every = timed(plan_all)
    observed = world.observed()
    gateway_of = {key: seen.gateway_key for key, seen in world.connections.items()}
    of_connections = timed(
        lambda: [connections.status(observed, world.plans[its], key, NOW) for key, its in gateway_of.items()]
    )
    of_policies = timed(
        lambda: [policies.status(observed, world.standings, world.plans, key, NOW) for key in world.policies]
    )
    rows = [
        (f"begin: accept {POLICIES} policies with 2 tests each, plan {CONNECTIONS} gateways", first),
        ("one policy changes: find it, compile it, run its tests", accepting),
        ("nothing changes: find that out", looking),
        ("plan one gateway (its bundle has 20 policies)", one),
        (f"plan all {CONNECTIONS} gateways", every),
        (f"statuses of all {CONNECTIONS} Connections", of_connections),
        (f"statuses of all {POLICIES} policies", of_policies),
    ]
    for text, milliseconds in rows:
        print(f"{text:75} {milliseconds:8.1f} ms")
    print(f"{'largest memory of this process':75} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MB")


if __name__ == "__main__":
    main()
