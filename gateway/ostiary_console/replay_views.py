"""What the page of a replay shows, as plain data. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from ostiary_store.model import RuleHits


@dataclass(frozen=True, slots=True)
class ChangeExample:
    """A recorded request that a candidate decides otherwise."""

    request: str
    href: str
    at: float
    connection: str
    username: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """Requests that candidate policies decide otherwise, in the same way."""

    was: str
    """Action."""
    becomes: str
    policy: str
    """Of the rule that decides now: namespace/name."""
    rule: str
    count: int
    examples: tuple[ChangeExample, ...] = ()
    message: str = ""
    was_rule: str = ""
    """namespace/name#rule"""
    unmasked: tuple[str, ...] = ()
    """Masks that are gone."""
    masked: tuple[str, ...] = ()
    opens: bool = False
    """It lets through, or shows, what it did not."""
    who: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    """Facts that the record does not have, and that a rule reads."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Requests of which cannot be told how they would be decided."""

    why: str
    count: int
    examples: tuple[ChangeExample, ...] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """A rule in `enforcement: Audit`: for how many requests it held when they came, and holds in the replay."""

    rule: str
    action: str
    then: int
    now: int


@dataclass(frozen=True, slots=True)
class ReplayResult:
    decided: int
    changed: int
    undecidable: int
    """Requests whose facts the record does not hold whole."""
    changes: tuple[Change, ...]
    seconds: float
    complete: bool = True
    reached: float | None = None
    """Not complete: how far it came."""
    same: int = 0
    outside: int = 0
    """Refused by the gateway itself, under any policy."""
    drifted: int = 0
    """Decided otherwise by the policies in force than was recorded: something has changed since."""
    elsewhere: tuple[tuple[str, int], ...] = ()
    """Requests of Connections that there are no more."""
    undecided: tuple[Undecided, ...] = ()
    audited: tuple[Audited, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """replay.html. The form POSTs `policies` (YAML, pasted) or `files` (uploaded), `since`, `connection` and `csrf`."""

    since: str
    connection: str
    policies: str
    result: ReplayResult | None = None
    problems: tuple[str, ...] = ()
    """What is wrong with the candidates."""
    would_have: tuple[RuleHits, ...] = ()
    """What rules in `enforcement: Audit` would have done in that time."""
    only: bool = False
    """Only these policies, and none that is in force."""
