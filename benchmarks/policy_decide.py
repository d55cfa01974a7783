"""How long a decision takes: 12 SQL rules on one request, against cel-python's two runners, in one run.

    python benchmarks/policy_decide.py [--rounds N]

Prints microseconds a request, the best of the rounds; the rounds of all contestants are interleaved, so that what
else the machine does falls on each alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("crds", "gateway", "tests")]

import celpy  # noqa: E402
from support.policies import NOON, facts, policy, policy_set, rule, statement  # noqa: E402

from ostiary_policy.decision import Decision  # noqa: E402
from ostiary_policy.guard import check_facts  # noqa: E402
from ostiary_policy.second_opinion import Context  # noqa: E402

EXPRESSIONS = [
    "sql.statements.exists(s, s.verb == 'DROP' && s.kind in ['DATABASE', 'SCHEMA'])",
    "sql.statements.exists(s, s.verb in ['DELETE', 'UPDATE'] && !s.hasWhere)",
    "sql.statements.exists(s, s.verb == 'TRUNCATE')",
    "sql.statements.exists(s, s.opaque)",
    "sql.statements.exists(s, s.functions.exists(f, f == 'pg_catalog.pg_read_file'))",
    "sql.statements.exists(s, s.relations.exists(r, r.schema == 'audit' && r.access != 'read'))",
    "sql.statements.exists(s, s.verb == 'COPY' && s.writes)",
    "sql.statements.exists(s, size(s.settings) > 0)",
    "sql.statements.exists(s, s.writes) && !('writers' in request.subject.groups)",
    "sql.user == 'postgres'",
    "size(sql.statements) > 10",
    "sql.statements.all(s, s.readOnly)",
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    given = facts(statement("SELECT", hasLimit=True))
    rules = [rule(f"r{i}", "Allow" if i == 11 else "Deny", text) for i, text in enumerate(EXPRESSIONS)]
    policies = policy_set(policy("bench", *rules))
    masked = policy_set(
        policy("bench", *rules, rule("cards", "Mask", None, masking=[{"detector": "CreditCard"}])),
        policy("more", rule("by-variable", "Deny", "variables.writes && sql.inTransaction"),
               variables=[{"name": "writes", "expression": "sql.statements.exists(s, s.writes)"}]),
    )  # fmt: skip
    outcome = policies.decide(given, NOON)
    assert isinstance(outcome, Decision)
    assert outcome.action == "Allow"

    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "decide, 12 rules": (lambda: policies.decide(given, NOON), 400),
        "decide, 12 rules, a mask and a rule with a variable": (lambda: masked.decide(given, NOON), 400),
        "of that: guarding the facts": (lambda: check_facts(given), 2000),
        "cel-python, interpreted": (_second(given, celpy.InterpretedRunner), 2),
        "cel-python, compiled": (_second(given, celpy.CompiledRunner), 5),
    }
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, (run, times) in contestants.items():
            begun = time.perf_counter()
            for _ in range(times):
                run()
            best[name] = min(best[name], (time.perf_counter() - begun) / times)
    for name, seconds in best.items():
        print(f"{name:55} {seconds * 1e6:10.1f} µs")


def _second(given: dict[str, object], runner: type[celpy.Runner]) -> Callable[[], object]:
    """The same 12 expressions and the conversion of the facts by cel-python, with nothing else around them."""
    # Its parser is made once for a process, for one kind of runner.
    celpy.CELParser.CEL_PARSER = None
    environment = celpy.Environment(runner_class=runner)
    programs = [environment.program(environment.compile(text)) for text in EXPRESSIONS]

    def run() -> object:
        values = Context(given)._values
        return [program.evaluate(values) for program in programs]

    celpy.CELParser.CEL_PARSER = None
    return run


if __name__ == "__main__":
    main()
