# cython: annotation_typing=False
"""Where one session's requests are decided: what each is, what the policies say, its record, and what goes upstream."""

from __future__ import annotations

import marshal
import math
import time
from typing import Final

from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.checkpoint import Gate, Verdict
from ostiary_gateway.refusals import Refusals
from ostiary_policy.answer import Reason
from ostiary_policy.bundle import Bundle
from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.facts import ClientFacts
from ostiary_policy.policy_set import PolicySet

from . import answers, request_detail
from .bodies import media_type
from .facts import kubernetes_facts
from .forwarding import request_start
from .masks import MaskedValueReturned
from .questions import Admission, Ask, Reply, Shaper
from .request_info import request_info
from .shaping import recorded_body, recorder_for, shaped
from .upstream import Upstream
from .wire import Headers, Request, WireError

_ALLOWED: Final = Decision(Action.ALLOW, None, "")
_FOREVER: Final = math.inf
_VARYING: Final = frozenset(("name", "path", "labelSelector", "fieldSelector", "exec"))
"""Facts that a reused decision's text stands for, rather than its shape."""
MAX_FOUND: Final = 128
"""Requests that one session's decisions are kept of."""
MAX_TARGET: Final = 2048
"""Bytes of a target that is kept."""
_now = time.time


class _Found:
    """What was found out about a request without a body that may come again."""

    __slots__ = (
        "ask", "decision", "detail", "headers", "recorder", "shapers", "start", "upstream", "valid_until",
    )  # fmt: skip

    def __init__(
        self, ask: Ask, headers: Headers, decision: Decision, detail: bytes, upstream: Upstream, start: bytes,
        shapers: tuple[Shaper, ...],
    ) -> None:  # fmt: skip
        self.ask = ask
        self.headers = headers
        self.decision = decision
        self.valid_until = decision.valid_until
        self.detail = detail
        self.upstream = upstream
        self.start = start
        self.shapers = shapers
        self.recorder = recorder_for(ask.info)


class Desk:
    """Says of each request whether it goes on, and how: at once where everything is known, else when it was found out.

    `upstream` is where requests go from now on; who has the desk replaces it.
    """

    def __init__(self, gate: Gate, upstream: Upstream, client: ClientFacts) -> None:
        self.gate = gate
        self.upstream = upstream
        self._checkpoint = gate.checkpoint
        self._client = client
        """Of the session; `application` changes with the requests."""
        self._bundle: Bundle | None = None
        self._policies: PolicySet
        self.asked: Ask
        """What `admit` could not decide at once."""
        self._found: dict[tuple[str, bytes], _Found] = {}
        self._refusals = Refusals(gate)
        self._take_policies()

    def _take_policies(self) -> PolicySet:
        self._bundle = self._checkpoint.bundle
        self._policies = self.gate.policies
        self._found.clear()
        return self._policies

    def admit(self, request: Request) -> Admission | None:
        """The answer, if it needs no waiting; otherwise None, and `consider` goes on with the Ask in `asked`."""
        if self._checkpoint.bundle is not self._bundle:
            self._take_policies()
        head = request.head
        found = self._found.get((head.method, head.target))
        if (
            found is not None
            and not request.body
            and (found.headers is head.headers or found.headers == head.headers)
            and found.upstream is self.upstream
            and (found.valid_until == _FOREVER or found.valid_until > _now())
        ):
            return self._admit_again(request, found)
        try:
            ask = self._ask(request)
        except WireError as problem:
            return self.refuse(request, problem.status, problem.reason, problem.message)
        if reply := self._forbidden(ask):
            return reply
        decision = self._decide(ask)
        if isinstance(decision, Needs) or decision.action is Action.REQUIRE_APPROVAL:
            self.asked = ask
            return None
        return self._conclude(ask, decision)

    async def consider(self, ask: Ask) -> Admission:
        """Decides what was not decided at once. May be cancelled."""
        decision = self._decide(ask)
        if isinstance(decision, Needs):
            final = self.gate.decide({"k8s": ask.facts}, final=True)
            assert isinstance(final, Decision)
            decision = final
        return self._conclude(ask, decision)

    def still(self, ask: Ask, admission: Admission) -> str:
        """Why a stream that was let through must end now that other policies are in force; empty if it may go on."""
        self._take_policies()
        decision = self.gate.decide({"k8s": ask.facts}, final=True)
        if not isinstance(decision, Decision) or decision.action is not admission.verdict.decision.action:
            return "The policies that are in force now do not let it through."
        if decision.masks != admission.verdict.decision.masks:
            return "The policies that are in force now mask other parts of it."
        return ""

    # -- what it is

    def _ask(self, request: Request) -> Ask:
        """Raises WireError."""
        head = request.head
        info = request_info(head.method, head.target)
        facts: dict[str, object] = dict(kubernetes_facts(info, dry_run=info.dry_run))
        verb = str(facts["verb"])
        if request.body and verb != "connect":
            media_type(head.get(b"content-type"))
        detail = request_detail.of_request(request, info, verb)
        if request.body and self.gate.full and len(request.body) <= request_detail.MAX_BODY:
            body = request_detail.body_of(recorded_body(info, request))
            if body is not None:
                detail["body"] = body
        return Ask(request, info, verb, request_detail.text_of(request), facts, detail)

    def _forbidden(self, ask: Ask) -> Admission | None:
        """What is refused under any policy."""
        head = ask.request.head
        if head.impersonates:
            return self._refused(
                ask, 403, "Forbidden", "Impersonation headers are not taken from agents.",
                "Leave --as and --as-group out: requests are made as the agent that the token stands for.",
            )  # fmt: skip
        return None

    def _decide(self, ask: Ask) -> Decision | Needs:
        application = ask.detail.get("userAgent", "")
        self._client["application"] = str(application)
        facts = ask.facts
        shape = marshal.dumps([value for name, value in facts.items() if name not in _VARYING], 2)
        head = ask.request.head
        return self.gate.decide({"k8s": facts}, shape=shape, text=f"{head.method} {head.target.decode('ascii')}")

    # -- what becomes of it

    def _admit_again(self, request: Request, found: _Found) -> Admission:
        gate = self.gate
        ask = found.ask
        try:
            verdict = gate.admit(ask.text, found.detail, found.decision)
        except RecordError as problem:
            return self._unrecorded(ask, problem)
        waiter = gate.waiter
        if waiter is not None:
            gate.waiter = None
        return Admission(
            verdict, request, shapers=found.shapers, recorder=found.recorder, waiter=waiter, ask=ask, start=found.start
        )

    def _conclude(self, ask: Ask, decision: Decision) -> Admission:
        if decision.action is not Action.ALLOW:
            return self._denied(ask, decision)
        try:
            request, shapers = shaped(ask, ask.request, decision.masks, self._policies.all_masks, self.gate)
        except MaskedValueReturned as problem:
            # Not Invalid: of such a Status kubectl prints the causes, and not the message.
            return self._refused(ask, 422, "BadRequest", problem.message, problem.hint, means=Reason.MASKING)
        if not request.body and self.gate.reuse is not None and len(request.head.target) <= MAX_TARGET:
            return self._keep(ask, request, decision, shapers)
        try:
            verdict, waiter = self.gate.begin(ask.text, ask.detail, decision)
        except RecordError as problem:
            return self._unrecorded(ask, problem)
        return Admission(
            verdict, request, shapers=shapers, recorder=recorder_for(ask.info), waiter=waiter, ask=ask
        )

    def _keep(self, ask: Ask, request: Request, decision: Decision, shapers: tuple[Shaper, ...]) -> Admission:
        """Lets it go on, and the same again. `request`: as it goes upstream."""
        head = request.head
        start = request_start(head.method, head.target, head.headers, self.upstream.host)
        if len(self._found) >= MAX_FOUND:
            self._found.clear()
        detail = request_detail.encoded(ask.detail)
        found = _Found(ask, ask.request.head.headers, decision, detail, self.upstream, start, shapers)
        self._found[head.method, head.target] = found
        return self._admit_again(ask.request, found)

    def _denied(self, ask: Ask, decision: Decision) -> Admission:
        verdict, _ = self.gate.begin(ask.text, ask.detail, decision)
        message, line, hint = self._refusals.denied(verdict, {"k8s": ask.facts})
        rule = str(decision.rule) if decision.rule is not None else ""
        reply = answers.denied(message, line, hint, rule=rule, record=verdict.request)
        return Admission(verdict, None, reply, ask=ask)

    def refuse(self, request: Request, status: int, reason: str, message: str, hint: str = "") -> Admission:
        """Records a refusal that no policy was asked about."""
        verdict = self.gate.refuse(request_detail.text_of(request), str(status), message)
        return Admission(verdict, None, answers.refused(status, reason, message, hint, record=verdict.request))

    def _refused(
        self, ask: Ask, status: int, reason: str, message: str, hint: str = "", *, means: Reason | None = None
    ) -> Admission:
        verdict = self.gate.refuse(ask.text, str(status), message)
        reply = answers.refused(status, reason, message, hint, record=verdict.request, means=means)
        return Admission(verdict, None, reply, ask=ask)

    def _unrecorded(self, ask: Ask, problem: RecordError) -> Admission:
        return Admission(Verdict(_ALLOWED), None, unrecorded(problem), ask=ask)


def unrecorded(problem: Exception) -> Reply:
    """Nothing runs that cannot be recorded."""
    return answers.refused(
        503, "ServiceUnavailable", f"Nothing may run now: {problem}.",
        "Try again later, and tell the gateway's operator.", means=Reason.RECORD, retry_after=answers.RETRY_AFTER,
    )  # fmt: skip


