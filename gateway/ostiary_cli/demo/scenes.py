"""What the agent tries, and what must come of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[str, str], str]
"""Of what the agent saw and what the database holds: what is not as it should be, empty if nothing."""

EMAIL = re.compile(r"[a-z0-9.]+@mail\.example")
CARD = re.compile(r"\b\d{15,16}\b")


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that the agent tries. `truth` is asked of the database itself, beside it."""

    title: str
    statement: str
    truth: str
    expect: str
    """`masked`, `allowed` or `denied`."""
    check: Check
    comment: str


def _masked(*patterns: re.Pattern[str]) -> Check:
    def check(seen: str, truth: str) -> str:
        for pattern in patterns:
            if not pattern.search(truth):
                return f"the database shows nothing like {pattern.pattern}"
            if found := pattern.search(seen):
                return f"the agent saw {found[0]}"
        return ""

    return check


def _denied(rule: str, still: str) -> Check:
    def check(seen: str, truth: str) -> str:
        if f"#{rule}" not in seen and f'"rule": "{rule}"' not in seen:
            return f"rule {rule} did not deny it"
        return "" if still in truth else f"the database does not show {still!r} any more"

    return check


def _same(part: str) -> Check:
    def check(seen: str, truth: str) -> str:
        return "" if part in seen and part in truth else f"{part!r} is missing"

    return check


SCENES = (
    Scene(
        "It looks around",
        "select id, name, email, city from customers order by id limit 4",
        "select id, name, email, city from customers order by id limit 4",
        "masked",
        _masked(EMAIL),
        "Emails are hidden in the answer. The query ran as it was written.",
    ),
    Scene(
        "It reads cards, under other names",
        "select brand, number as harmless, cvc, 'no. ' || number as text from cards order by id limit 3",
        "select brand, number as harmless, cvc, 'no. ' || number as text from cards order by id limit 3",
        "masked",
        _masked(CARD),
        "Columns are masked by where they come from, and numbers by what they look like: an alias does not help.",
    ),
    Scene(
        "It finds card numbers in free text",
        "select id, note from orders where note like 'Card%' order by id limit 3",
        "select id, note from orders where note like 'Card%' order by id limit 3",
        "masked",
        _masked(EMAIL, CARD),
        "Detectors look at every text value; card numbers must pass the Luhn check.",
    ),
    Scene(
        "It exports the table instead",
        "copy (select id, email from customers order by id limit 3) to stdout",
        "select id, email from customers order by id limit 3",
        "masked",
        _masked(EMAIL),
        "COPY is masked like any other answer.",
    ),
    Scene(
        "It does its work",
        "update orders set status = 'shipped' where id = 7 returning id, status",
        "select id, status from orders where id = 7",
        "allowed",
        _same("shipped"),
        "Orders are the agent's job, so a rule allows this.",
    ),
    Scene(
        "It forgets the WHERE",
        "delete from orders",
        "select count(*) from orders",
        "denied",
        _denied("bounded-changes", "6000"),
        "The error says what to do instead. The connection stays up.",
    ),
    Scene(
        "It tidies up too well",
        "select 1; /* cleaning up */ DROP TABLE customers CASCADE",
        "select count(*) from customers",
        "denied",
        _denied("no-drop", "2000"),
        "Parsed by PostgreSQL's own grammar: comments, case and company do not hide a statement.",
    ),
    Scene(
        "It wants a fresh start",
        "drop database shop",
        "select datname from pg_database where datname = 'shop'",
        "denied",
        _denied("no-drop", "shop"),
        "",
    ),
    Scene(
        "It writes code that writes SQL",
        "do $$ begin execute 'DR' || 'OP TABLE orders'; end $$",
        "select count(*) from orders",
        "denied",
        _denied("no-code", "6000"),
        "What code will do cannot always be known, and Ostiary never guesses.",
    ),
)

STORY = (
    "select count(*) as open_orders from orders where status = 'placed'",
    "select id, email from customers where id in (7, 8)",
    "update orders set status = 'paid'",
    "update orders set status = 'paid' where id = 8",
)
"""One more session, to be read in the record."""
