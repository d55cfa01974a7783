"""What looking into refusals may cost: no agent that is refused takes the gateway's time from others."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.policies import CLIENT, bound, bundle, connection, subject

import ostiary_policy.answering as answering
from ostiary_gateway.checkpoint import Verdict
from ostiary_gateway.refusals import Refusals
from ostiary_policy.answer import Answer
from ostiary_policy.decision import Action, Decision


class _Gate:
    policies = bound(bundle(connections=[connection("db", "default")]), "db", "default").for_subject(
        subject("planner", "agents"), CLIENT
    )

    def request_facts(self, now: float) -> dict[str, object]:
        return {}


def refusals() -> Any:
    gate: Any = _Gate()
    return Refusals(gate)


VERDICT = Verdict(Decision(Action.DENY, None, "No.", revision="r"))


def looked_into(made: Any, **more: Any) -> bool:
    _, line, _ = made.denied(VERDICT, {}, **more)
    return not Answer.model_validate_json(line).truncated


def test_what_is_too_large_is_told_in_brief() -> None:
    made = refusals()
    assert looked_into(made)
    assert not looked_into(made, brief=True)


def test_dear_refusals_are_looked_into_only_for_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, spent = [1000.0], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "thread_time", lambda: spent[0])
    cheap = answering.answer

    def dear(decision: Any, policies: Any, facts: Any, now: float, told: Any) -> Answer:
        spent[0] += 0.0 if told.brief else 0.2
        return cheap(decision, policies, facts, now, told)

    monkeypatch.setattr(answering, "answer", dear)
    made = refusals()
    assert [looked_into(made) for _ in range(6)] == [True, True, True, False, False, False]
    clock[0] += 10
    assert [looked_into(made) for _ in range(4)].count(True) == 3 - 1
    clock[0] += 3600
    assert [looked_into(made) for _ in range(6)].count(True) == 3
