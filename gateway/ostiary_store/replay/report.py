"""What a replay has found: verdicts that change, by the rules that decide, with counts and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_EXAMPLES: Final = 5
MAX_TEXT: Final = 2000
"""Characters of an example's text."""
MAX_GROUPS: Final = 1000
MAX_NAMES: Final = 1000


class Verdict(NamedTuple):
    """What became of a request, or would. `rule` is `namespace/policy#rule`; empty: no rule, so it is denied."""

    action: str
    rule: str
    masks: tuple[str, ...] = ()
    """What is masked, in words: `column public.customers.card: Partial`."""


class Change(NamedTuple):
    """From one verdict to another."""

    before: Verdict
    after: Verdict


@dataclass(frozen=True, slots=True)
class Example:
    """One request of many. `message` is what the agent would be told."""

    request: str
    at: float
    connection: str
    username: str
    text: str
    message: str


@dataclass(slots=True)
class Group:
    """Requests for which the same is true."""

    requests: int = 0
    first: float = 0.0
    last: float = 0.0
    usernames: Counter[str] = field(default_factory=Counter)
    connections: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    """Facts that a deciding policy reads and that the record does not have, and for how many requests."""
    examples: list[Example] = field(default_factory=list)

    def add(self, example: Example, assumed: frozenset[str] = frozenset()) -> None:
        at = example.at
        self.first = at if not self.requests else min(self.first, at)
        self.last = max(self.last, at)
        self.requests += 1
        _count(self.usernames, example.username)
        _count(self.connections, example.connection)
        self.assumed.update(assumed)
        if len(self.examples) < MAX_EXAMPLES and all(example.text[:MAX_TEXT] != each.text for each in self.examples):
            text = example.text if len(example.text) <= MAX_TEXT else f"{example.text[:MAX_TEXT]}…"
            self.examples.append(
                Example(example.request, at, example.connection, example.username, text, example.message)
            )


def _count(counter: Counter[str], name: str) -> None:
    if name in counter or len(counter) < MAX_NAMES:
        counter[name] += 1
    else:
        counter["…"] += 1


@dataclass(slots=True)
class Report:
    """The whole. Groups are bounded: what comes beyond them is counted under the last one's kind, without examples."""

    requests: int = 0
    """Looked at."""
    same: int = 0
    changed: dict[Change, Group] = field(default_factory=dict)
    undecided: dict[str, Group] = field(default_factory=dict)
    """By why it cannot be told from the record."""
    outside: int = 0
    """Refused by the gateway itself, under any policy."""
    elsewhere: dict[str, int] = field(default_factory=dict)
    """Connections that the manifests do not have, and their requests."""
    would: dict[tuple[str, str], Group] = field(default_factory=dict)
    """(rule, action) of rules in enforcement Audit: what they would have done under the candidate policies."""
    would_then: dict[tuple[str, str], int] = field(default_factory=dict)
    """The same as it was recorded then."""
    drifted: int = 0
    """With a base: requests that the base decides otherwise than was recorded: policies or what is known of the target
    have changed since."""
    sessions: int = 0
    since: float = 0.0
    until: float = 0.0
    complete: bool = True
    """False: it was ended before all was looked at."""

    @property
    def changes(self) -> int:
        """Requests whose verdict changes."""
        return sum(group.requests for group in self.changed.values())

    def by_size(self) -> Sequence[tuple[Change, Group]]:
        """Those that open a door first, then by how many there are."""
        return sorted(self.changed.items(), key=lambda pair: (_weight(pair[0]), -pair[1].requests, pair[0]))

    def to_json(self) -> dict[str, object]:
        """For programs; fields are added, none changes its meaning."""
        return {
            "v": 1,
            "requests": self.requests, "sessions": self.sessions, "same": self.same, "changed": self.changes,
            "complete": self.complete, "outside": self.outside, "elsewhere": self.elsewhere, "drifted": self.drifted,
            "changes": [
                {"before": _verdict(change.before), "after": _verdict(change.after), **_group(group)}
                for change, group in self.by_size()
            ],
            "undecided": [{"why": why, **_group(group)} for why, group in sorted(self.undecided.items())],
            "audit": [
                {"rule": rule, "action": action, "then": self.would_then.get((rule, action), 0), **_group(group)}
                for (rule, action), group in self.audited()
            ],
        }  # fmt: skip

    def audited(self) -> Sequence[tuple[tuple[str, str], Group]]:
        """Audit rules, of the candidate and of then."""
        keys = sorted({*self.would, *self.would_then})
        return [(key, self.would.get(key, Group())) for key in keys]


def _weight(change: Change) -> int:
    """What was not let through and would be is what a reviewer must see first."""
    order = {"Allow": 0, "RequireApproval": 1, "Deny": 2}
    before, after = order.get(change.before.action, 2), order.get(change.after.action, 2)
    if after < before:
        return 0
    if before == after and len(change.after.masks) < len(change.before.masks):
        return 1
    return 2 if after > before else 3


def _verdict(verdict: Verdict) -> dict[str, object]:
    return {"action": verdict.action, "rule": verdict.rule or None, "masks": list(verdict.masks)}


def _group(group: Group) -> dict[str, object]:
    return {
        "requests": group.requests, "first": group.first, "last": group.last,
        "usernames": dict(group.usernames.most_common(20)), "connections": dict(group.connections.most_common(20)),
        "assumed": dict(group.assumed),
        "examples": [
            {
                "request": each.request, "at": each.at, "connection": each.connection, "username": each.username,
                "text": each.text, "message": each.message,
            }
            for each in group.examples
        ],
    }  # fmt: skip
