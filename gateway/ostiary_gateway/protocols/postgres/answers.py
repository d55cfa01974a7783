"""The DETAIL of every refusal: one line of JSON that an agent can act on (ostiary_policy/answer.py). No I/O."""

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
from ostiary_policy.answer import VERSION, Answer, Approval, Do, Next, Reason
from ostiary_policy.answer_size import line
from ostiary_policy.decision import Action

log = structlog.get_logger(__name__)

BURST: Final = 20
"""Refusals of one session that are looked into at once."""
EACH_SECOND: Final = 5.0
"""Refusals of one session that are looked into, over time. The others are told the essence: it costs milliseconds."""

_UNAVAILABLE: Final = "This gateway keeps no approvals, so it is denied."
_SMALLER: Final = "Ask for a smaller change that needs no approval, or for a policy that allows this one."

_REFUSALS: Final[Mapping[str, tuple[Reason, Do]]] = {
    "0A000": (Reason.PROTOCOL, "Change"),
    "22021": (Reason.ENCODING, "Change"),
    "42501": (Reason.PINNED, "Change"),
    "53400": (Reason.LIMIT, "RetryLater"),
    "54000": (Reason.LIMIT, "Change"),
    "55000": (Reason.CURSOR, "Change"),
    "58000": (Reason.NOT_KNOWN, "RetryLater"),
    "58030": (Reason.RECORD, "RetryLater"),
}
"""What is refused without asking a policy, by SQLSTATE. Anything else are the server's own words."""

_LOGINS: Final[Mapping[str, tuple[Reason, Do]]] = {
    "08001": (Reason.TARGET, "RetryLater"),
    "08P01": (Reason.PROTOCOL, "Reconnect"),
    "0A000": (Reason.PROTOCOL, "Reconnect"),
    "22023": (Reason.SETTING, "Reconnect"),
    "28000": (Reason.LOGIN, "Reconnect"),
    "28P01": (Reason.LOGIN, "AskAdministrator"),
    "3D000": (Reason.SETTING, "Reconnect"),
    "42501": (Reason.SETTING, "Reconnect"),
    "53300": (Reason.LIMIT, "RetryLater"),
    "57P01": (Reason.SESSION, "Reconnect"),
    "57P03": (Reason.LOGIN, "RetryLater"),
}
_ENDS: Final[Mapping[str, tuple[Reason, Do]]] = {
    "08006": (Reason.TARGET, "Reconnect"),
    "08P01": (Reason.PROTOCOL, "Reconnect"),
    "42501": (Reason.PINNED, "Reconnect"),
    "54000": (Reason.LIMIT, "Reconnect"),
}


@functools.cache
def prepare() -> None:
    """Begins to load what makes answers, beside the work: 0.2 s and 15 MB that are not spent before an agent comes."""

    def load() -> None:
        importlib.import_module("ostiary_policy.answering")
        second_parser.read("true")

    threading.Thread(target=load, name="answers", daemon=True).start()


class Answers:
    """Makes the answers of one session."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        prepare()
        self._left = float(BURST)
        self._at = time.monotonic()

    def denied(
        self,
        verdict: Verdict,
        facts: Mapping[str, object],
        *,
        unknown: str = "",
        in_transaction: bool = False,
    ) -> tuple[str, str, str]:
        """Message, detail and hint of what the policies refused. `facts` are the protocol's, as they decided by them.

        `unknown`: why it cannot be known what the request does. It says more than that no rule allows it.
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
            rollback=in_transaction, brief=not self._may_look(),
        )  # fmt: skip
        now, policies = time.time(), self._gate.policies
        given = {"request": self._gate.request_facts(now), **facts}
        try:
            reply = answer(decision, policies, given, now, told)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as problem:
            # The second engine is not made for all that may come. What is refused stays refused, and is told in brief.
            log.warning("a refusal could not be explained", request=verdict.request, problem=repr(problem)[:200])
            reply = answer(decision, policies, given, now, dataclasses.replace(told, brief=True))
        return message, line(reply), hint

    def _may_look(self) -> bool:
        """An agent that is refused all the time must not cost others theirs."""
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * EACH_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def refused(
    request: str, code: str, message: str, hint: str, *, reason: Reason | None = None, in_transaction: bool = False
) -> str:
    """The detail of what was refused without asking a policy. `request`: the id of its record, if there is one."""
    found, do = _REFUSALS.get(code, (Reason.STATEMENT, "Change"))
    return _plain(reason or found, do, request, message, hint, rollback=in_transaction)


def login(code: str, message: str, hint: str, record: str) -> str:
    """The detail for a client that is not let in."""
    return _plain(*_LOGINS.get(code, (Reason.LOGIN, "Reconnect")), record, message, hint)


def ended(code: str, message: str, hint: str, session: str) -> str:
    """The detail of a FATAL error that ends a session."""
    return _plain(*_ENDS.get(code, (Reason.SESSION, "Reconnect")), session, message, hint)


def _plain(reason: Reason, do: Do, request: str, message: str, hint: str, *, rollback: bool = False) -> str:
    following = Next(do=do, hint=hint, rollback=rollback)
    return line(
        Answer(version=VERSION, decision="Deny", reason=reason, request=request, message=message, next=following)
    )
