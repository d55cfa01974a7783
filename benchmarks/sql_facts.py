"""How long it takes to read a statement that was never seen, and to resolve it once its names are known.

    python benchmarks/sql_facts.py [--rounds 5] [--count 2000]

Every statement differs from the one before in a literal, so nothing is cached. µs a statement, the best round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from ostiary_gateway.protocols.postgres.catalog import Catalog, Row, Wanted
from ostiary_gateway.protocols.postgres.facts import Scope, parse, resolve

STATEMENTS = {
    "point SELECT": "SELECT abalance FROM accounts WHERE aid = {0}",
    "UPDATE": "UPDATE accounts SET abalance = abalance + {0} WHERE aid = {0}",
    "INSERT": "INSERT INTO accounts (aid, abalance) VALUES ({0}, 1)",
    "BEGIN": "BEGIN; -- {0}",
    "join, 250 chars": (
        "SELECT c.name, count(*), sum(a.abalance) FROM accounts a JOIN customers c ON c.id = a.cid WHERE c.name LIKE "
        "'A%' AND a.abalance BETWEEN {0} AND 1000 AND c.active GROUP BY c.name "
        "HAVING count(*) > 1 ORDER BY 3 DESC LIMIT 10"
    ),
    "CTE + UPDATE, 230 chars": (
        "WITH x AS (SELECT aid, name FROM accounts WHERE abalance > {0} ORDER BY aid LIMIT 10) UPDATE customers SET "
        "name = upper(x.name) FROM x WHERE customers.id = x.aid "
        "AND lower(customers.name) <> x.name RETURNING customers.id"
    ),
    "DO with a loop": (
        "DO $$DECLARE r record; BEGIN FOR r IN SELECT aid FROM accounts WHERE aid > {0} LOOP UPDATE accounts SET "
        "abalance = 0 WHERE aid = r.aid; END LOOP; END$$"
    ),
}


def table(oid: int, name: str, *columns: str) -> Row:
    return (str(oid), "public", name, "r", "1", json.dumps(dict(enumerate(columns, 1))), *([None] * 8))


def best(work: Callable[[int], object], rounds: int, count: int) -> float:
    shortest = float("inf")
    for number in range(rounds):
        start = time.perf_counter()
        for item in range(number * count, (number + 1) * count):
            work(item)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    offline = Catalog.offline()
    catalog = Catalog(180000)
    catalog.builtins, catalog.types, catalog.ambient = offline.builtins, offline.types, offline.ambient
    wanted = Wanted(
        relations=frozenset(("accounts", "customers")), functions=frozenset(("count", "sum", "upper", "lower"))
    )
    rows = [
        table(20001, "accounts", "aid", "cid", "abalance", "name"),
        table(20002, "customers", "id", "name", "active"),
    ]
    for query in catalog.queries(wanted):
        catalog.load(query, rows if query.kind == "relations" else [])
    scope = Scope(("public",), "agent", "app")
    shown = Table("statement", "parse µs", "resolve µs", "sum", title="SQL facts, never seen before")
    for name, text in STATEMENTS.items():
        assert not isinstance(resolve(parse(text.format(1)), catalog, scope), Wanted), name
        read = best(lambda item, text=text: parse(text.format(item)), options.rounds, options.count)  # type: ignore[misc]
        parsed = parse(text.format(1))
        told = best(lambda _, parsed=parsed: resolve(parsed, catalog, scope), options.rounds, options.count)  # type: ignore[misc]
        shown.add_row(name, f"{read:.0f}", f"{told:.0f}", f"{read + told:.0f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
