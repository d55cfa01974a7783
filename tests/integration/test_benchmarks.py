"""What the benchmarks look into from inside still is as they take it to be. How fast it is, is not tested."""

from __future__ import annotations

import sys
from pathlib import Path

from support.servers import Server

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bulk
import decide
import targets


def test_statements_are_decided_by_the_objects_of_a_session(pg18: Server) -> None:
    pg18.sql(
        "create table if not exists pgbench_accounts (aid int, bid int, abalance int);"
        "create table if not exists pgbench_history (tid int, bid int, aid int, delta int)"
    )
    found = decide.measure(pg18, targets.manifests(pg18), rounds=1, count=8)
    assert {name: len(values) for name, values in found.items()} == {"never seen": 1, "new literals": 1}


def test_the_cards_in_the_tables_are_cards() -> None:
    for number in range(bulk.CARDS):
        digits = [int(digit) for digit in bulk.card(number) if digit.isdecimal()]
        odd, even = digits[-1::-2], digits[-2::-2]
        assert (sum(odd) + sum(2 * digit - 9 * (digit > 4) for digit in even)) % 10 == 0
        assert 15 <= len(digits) <= 16
