"""What an agent is told of a request that the policies do not let through, in every protocol (see answer.py)."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import threading
import time
from collections.abc import Mapping
from typing import Final

import structlog

from ostiary_gateway.approvals import words
from ostiary_gateway.checkpoint import Gate, Verdict
from ostiary_policy import second_parser
from ostiary_policy.answer import Approval
from ostiary_policy.answer_size import line
from ostiary_policy.decision import Action

log = structlog.get_logger(__name__)

BURST: Final = 20
"""Refusals of one session that are looked into at once."""
EACH_SECOND: Final = 5.0
"""Refusals of one session that are looked into, over time. The others are told the essence: it costs milliseconds."""
SECONDS: Final = 0.5
"""What looking into refusals of one session may cost at once; under policies with long rules each is dear."""
SHARE: Final = 0.05
"""Of the time, over time."""

_UNAVAILABLE: Final = "This gateway keeps no approvals, so it is denied."
_SMALLER: Final = "Ask for a smaller change that needs no approval, or for a policy that allows this one."


@functools.cache
def prepare() -> None:
    """Begins to load what makes answers, beside the work: 0.2 s and 15 MB that are not spent before an agent comes."""

    def load() -> None:
        importlib.import_module("ostiary_policy.answering")
        second_parser.read("true")

    threading.Thread(target=load, name="answers", daemon=True).start()


class Refusals:
    """Makes those of one session."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        prepare()
        self._left = float(BURST)
        self._seconds = SECONDS
        self._at = time.monotonic()

    def denied(
        self,
        verdict: Verdict,
        facts: Mapping[str, object],
        *,
        unknown: str = "",
        in_transaction: bool = False,
        brief: bool = False,
    ) -> tuple[str, str, str]:
        """Message, detail and hint of what the policies refused. `facts` are the protocol's, as they decided by them.

        `unknown`: why it cannot be known what the request does. It says more than that no rule allows it. `brief`: it
        is too large to be looked into.
        """
        from ostiary_policy.answering import Told, answer

        decision = verdict.decision
        message, hint = decision.message, decision.hint
        if unknown and decision.rule is None:
            message = f"{message} What it does cannot be known: {unknown}."
        approval: Approval | None = None
        if decision.action is Action.REQUIRE_APPROVAL:
            if (standing := verdict.standing) is None:
                message, hint = f"{message} {_UNAVAILABLE}", hint or _SMALLER
            else:
                approval = words.for_agent(standing)
                why, todo = words.refusal(standing)
                message, hint = f"{message} {why}", f"{hint} {todo}".strip()
        told = Told(
            request=verdict.request, message=message, hint=hint, opaque=unknown, approval=approval,
            rollback=in_transaction, brief=brief or not self._may_look(),
        )  # fmt: skip
        begun = time.thread_time()
        now, policies = time.time(), self._gate.policies
        given = {"request": self._gate.request_facts(now), **facts}
        try:
            reply = answer(decision, policies, given, now, told)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as problem:
            # The second engine is not made for all that may come. What is refused stays refused, and is told in brief.
            log.warning("a refusal could not be explained", request=verdict.request, problem=repr(problem)[:200])
            reply = answer(decision, policies, given, now, dataclasses.replace(told, brief=True))
        self._seconds -= time.thread_time() - begun
        return message, line(reply), hint

    def _may_look(self) -> bool:
        """An agent that is refused all the time must not cost others theirs."""
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * EACH_SECOND)
        self._seconds = min(SECONDS, self._seconds + (now - self._at) * SHARE)
        self._at = now
        if self._left < 1 or self._seconds <= 0:
            return False
        self._left -= 1
        return True
