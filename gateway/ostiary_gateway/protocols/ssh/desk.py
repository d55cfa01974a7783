"""Where one session's requests are decided: what the policies say, the record, and what the client hears."""

from __future__ import annotations

import asyncio
import functools
import marshal
from collections.abc import Awaitable, Mapping
from typing import Final

import orjson

from ostiary_gateway.approvals.request import Standing
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.checkpoint import Gate, Verdict
from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.refusals import Refusals
from ostiary_policy.answer import VERSION, Answer, Do, Reason
from ostiary_policy.answer import Next as Todo
from ostiary_policy.answer_size import line as in_one_line
from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.masking import DetectorMask

from . import request_detail
from .asking import Held, Next, Problem
from .facts import NOT_FOUND, whole
from .questions import Admission, Decided, Question, told

_TEXT: Final = (
    "command", "commands", "opaqueReason", "env", "name", "value", "path", "target", "size", "destination",
)  # fmt: skip
"""Facts that a reused decision's text stands for, rather than its shape (Doc.varies)."""
MAX_KEPT: Final = 4096
"""Characters of what a decision was about that is kept for the same again."""
_PERMITS: Final = {
    "forward": "permit-port-forwarding", "agent": "permit-agent-forwarding", "x11": "permit-X11-forwarding",
}  # fmt: skip
"""What sshd wants in a certificate, by what is asked for. It tells a client so late, and not why."""
MAX_WORDS: Final = 40
"""Words in commands whose refusal is looked into."""
_ALWAYS_RECORDED: Final = "Interactive sessions are always recorded, and this Connection keeps no recordings."


class Desk:
    """Says of each question whether it may be, and what the client hears. `user`: the login at the target."""

    def __init__(self, gate: Gate, user: str) -> None:
        self.gate = gate
        self.user = user
        self._refusals = Refusals(gate)

    def decide(self, question: Question) -> Decided:
        """The answer, or what gives it after some waiting, which may be cancelled at any time: then the client is
        gone, and that is recorded."""
        facts = whole(question, self.user)
        outcome = self._ask(facts)
        if isinstance(outcome, Needs):
            if question.find is None:
                return self._after(question, self._found(facts, NOT_FOUND))
            found: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
            question.find(functools.partial(_give, found))
            if not found.done():
                return self._find_out(question, facts, found)
            facts = self._found(facts, dict(zip(NOT_FOUND, found.result(), strict=True)))
            return self._after(question, facts)
        return self._conclude(question, facts, outcome)

    def still(self, question: Question, admission: Admission) -> str:
        """Why what was let through must end now that other policies are in force; empty if it may go on."""
        if admission.verdict is None:
            return ""
        decision = self._final(whole(question, self.user))
        before = admission.verdict.decision
        if decision.action is not before.action:
            return f"The policies that are in force now do not let it through: {told(decision.message)}"
        if decision.masks.detectors != before.masks.detectors:
            return "The policies that are in force now mask other parts of it."
        return ""

    # -- what the policies say

    def _ask(self, facts: Mapping[str, object]) -> Decision | Needs:
        shape: bytes | None = marshal.dumps([value for name, value in facts.items() if name not in _TEXT], 2)
        try:
            text = orjson.dumps([facts[name] for name in _TEXT]).decode()
        except TypeError:
            shape, text = None, ""  # no policy takes it either: a number of more than 64 bits, half a character
        if len(text) > MAX_KEPT:
            shape = None
        return self.gate.decide({"ssh": facts}, shape=shape, text=text, reads=facts.get("realPath") == "")

    def _final(self, facts: Mapping[str, object]) -> Decision:
        decision = self.gate.decide({"ssh": facts}, final=True)
        assert isinstance(decision, Decision)
        return decision

    def _found(self, facts: Mapping[str, object], found: Mapping[str, str]) -> dict[str, object]:
        """With what is known of where its paths lead. What the target does not say is no fact: a rule that reads it
        errs, and denies."""
        known = {name: value for name, value in found.items() if value}
        if not facts["path"]:
            known.setdefault("realPath", "")
        if not facts["target"] or facts["operation"] == "symlink":
            known.setdefault("realTarget", "")
        return {**facts, **known}

    async def _find_out(
        self, question: Question, facts: Mapping[str, object], found: asyncio.Future[tuple[str, str]]
    ) -> Admission:
        paths = dict(zip(NOT_FOUND, await found, strict=True))
        decided = self._after(question, self._found(facts, paths))
        return decided if isinstance(decided, Admission) else await decided

    def _after(self, question: Question, facts: dict[str, object]) -> Decided:
        """All is known that can be known."""
        return self._conclude(question, facts, self._final(facts))

    def _conclude(self, question: Question, facts: dict[str, object], decision: Decision) -> Decided:
        if decision.action is not Action.DENY and (lacking := self._not_permitted(question)):
            return self._refused(
                question, facts, "certificate", Reason.TARGET,
                "The target would not let it through: the gateway's certificate does not permit it there.",
                f"Ask for {lacking} in the Connection's credentials.sshCertificate.extensions.",
            )  # fmt: skip
        if decision.action is Action.ALLOW:
            return self._let_go(question, facts, decision)
        if decision.action is Action.REQUIRE_APPROVAL and question.kind != "env" and self.gate.approvals is not None:
            return self._settle(question, facts, decision)
        return self._denied(question, facts, decision)

    def _not_permitted(self, question: Question) -> str:
        """What the certificate lacks that the target asks for; empty if it permits this, or is none."""
        signed = self.gate.connection.spec.credentials.ssh_certificate
        needed = _PERMITS.get(question.kind, "")
        return needed if signed is not None and needed and needed not in signed.extensions else ""

    # -- people

    async def _settle(self, question: Question, facts: dict[str, object], decision: Decision) -> Admission:
        held = Held(self.gate, question)
        try:
            while decision.action is Action.REQUIRE_APPROVAL:
                settled = await held.settle(decision, facts)
                if settled.next is Next.AGAIN:
                    decision = self._final(facts)
                    continue
                if settled.problem is not None:
                    return self._problem(question, facts, settled.problem)
                if settled.next is Next.GRANTED:
                    decided = self._let_go(question, facts, decision, settled.standing)
                    return decided if isinstance(decided, Admission) else await decided
                return self._denied(question, facts, decision, settled.standing)
        except asyncio.CancelledError:
            self._left(question, facts, held.standing)
            raise
        decided = self._conclude(question, facts, decision)
        return decided if isinstance(decided, Admission) else await decided

    def _left(self, question: Question, facts: Mapping[str, object], standing: Standing | None) -> None:
        """The client went while a person was asked: the question stays open."""
        if standing is not None:
            decision = Decision(Action.DENY, None, "the client stopped waiting", revision=self.gate.revision)
            self._begin(question, facts, decision, standing)

    # -- what becomes of it

    def _begin(
        self, question: Question, facts: Mapping[str, object], decision: Decision, standing: Standing | None = None
    ) -> tuple[Verdict, Awaitable[None] | None]:
        detail = request_detail.of_question(question, facts)
        return self.gate.begin(question.text, detail, decision, standing)

    def _let_go(
        self, question: Question, facts: Mapping[str, object], decision: Decision, standing: Standing | None = None
    ) -> Decided:
        if _is_interactive(question, facts) and not self.gate.full:
            return self._refused(
                question, facts, "recording", Reason.RECORD, _ALWAYS_RECORDED,
                "Send the command itself, without a terminal; or ask for `recording: Full` on the Connection.",
            )  # fmt: skip
        lines: tuple[str, ...] = ()
        if standing is not None:
            lines = (told(f"Approved by {' and '.join(standing.approvers)} ({standing.name})."),)
        detectors = _detectors(decision.masks.detectors) if decision.masks.detectors else None
        if question.kind == "env" or (question.quiet and standing is None):
            return Admission(True, Verdict(decision), (), detectors, self.gate, False)
        try:
            verdict, waiter = self._begin(question, facts, decision, standing)
        except RecordError as problem:
            return self._unrecorded(problem)
        whole = _is_interactive(question, facts)
        admission = Admission(True, verdict, lines, detectors, self.gate, self.gate.full, whole)
        return admission if waiter is None else self._durable(admission, waiter)

    async def _durable(self, admission: Admission, waiter: Awaitable[None]) -> Admission:
        # Requests that began at the same time wait for the same: who leaves must not take that from the others.
        writing = asyncio.ensure_future(_ended(waiter))
        try:
            await asyncio.shield(writing)
        except RecordError as problem:
            admission.end("skipped", {}, 0)
            return self._unrecorded(problem)
        except asyncio.CancelledError:
            writing.add_done_callback(_taken)
            admission.end("skipped", {}, 0)
            raise
        return admission

    def _denied(
        self, question: Question, facts: Mapping[str, object], decision: Decision, standing: Standing | None = None
    ) -> Admission:
        if question.kind == "env":
            return Admission(False, Verdict(decision), (told(decision.message),), gate=self.gate)
        verdict, _ = self._begin(question, facts, decision, standing)
        unknown = str(facts["opaqueReason"]) if facts["opaque"] else ""
        message, line, hint = self._refusals.denied(verdict, {"ssh": facts}, unknown=unknown, brief=_is_long(facts))
        rule = str(decision.rule) if decision.rule is not None else ""
        named = f" (rule {rule})" if rule and rule not in message else ""
        lines = [f"{told(message)}{named} [{verdict.request}]", told(hint), line]
        return Admission(False, verdict, tuple(each for each in lines if each), gate=self.gate)

    def _problem(self, question: Question, facts: Mapping[str, object], problem: Problem) -> Admission:
        return self._refused(question, facts, problem.code, problem.reason, problem.message, problem.hint)

    def refuse(self, question: Question, code: str, reason: Reason, message: str, hint: str = "") -> Admission:
        """Records a refusal that no policy was asked about: a limit, a request that is not kept to the protocol."""
        return self._refused(question, whole(question, self.user), code, reason, message, hint)

    def _refused(
        self, question: Question, facts: Mapping[str, object], code: str, reason: Reason, message: str, hint: str
    ) -> Admission:
        decision = Decision(Action.DENY, None, message, hint, revision=self.gate.revision)
        detail = {**request_detail.of_question(question, facts), "refused": code}
        verdict, _ = self.gate.begin(question.text, detail, decision)
        return Admission(False, verdict, _refusal(reason, message, hint, verdict.request), gate=self.gate)

    def _unrecorded(self, problem: Exception) -> Admission:
        """Nothing runs that cannot be recorded."""
        message = f"Nothing may run now: {problem}."
        hint = "Try again later, and tell the gateway's operator."
        return Admission(False, None, _refusal(Reason.RECORD, message, hint, "", "RetryLater"))


def _refusal(reason: Reason, message: str, hint: str, record: str, do: Do = "Change") -> tuple[str, ...]:
    answer = Answer(
        version=VERSION, decision="Deny", reason=reason, request=record, message=message,
        next=Todo(do=do, hint=hint),
    )  # fmt: skip
    first = f"{told(message)} [{record}]" if record else told(message)
    return tuple(filter(None, (first, told(hint), in_one_line(answer))))


def _is_long(facts: Mapping[str, object]) -> bool:
    """Whether looking into it would cost others their time: it is tried out by the second engine, word by word."""
    commands = facts["commands"]
    assert isinstance(commands, list)
    return sum(len(each["argv"]) for each in commands) > MAX_WORDS


def _is_interactive(question: Question, facts: Mapping[str, object]) -> bool:
    """What people or agents type into: what runs there is known from the recording only."""
    return question.kind == "shell" or bool(question.kind == "exec" and facts["pty"] and facts["opaque"])


@functools.lru_cache(256)
def _detectors(masks: tuple[DetectorMask, ...]) -> Detectors:
    return Detectors(masks)


def _give(found: asyncio.Future[tuple[str, str]], path: str, target: str = "") -> None:
    if not found.done():
        found.set_result((path, target))


async def _ended(waiter: Awaitable[None]) -> None:
    await waiter


def _taken(writing: asyncio.Future[None]) -> None:
    """Looks at how it went, since nobody else does."""
    if not writing.cancelled():
        writing.exception()


