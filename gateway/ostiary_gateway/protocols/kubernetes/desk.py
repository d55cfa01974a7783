# cython: annotation_typing=False
"""Where one session's requests are decided: what each is, what the policies say, its record, and what goes upstream."""

from __future__ import annotations

import asyncio
import functools
import marshal
import math
import time
from collections.abc import Mapping
from typing import Final

from ostiary_api.approval import ApprovalRequest
from ostiary_api.meta import GROUP
from ostiary_gateway.approvals.request import Standing
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.checkpoint import Gate, Verdict
from ostiary_gateway.refusals import Refusals
from ostiary_policy.answer import Reason
from ostiary_policy.bundle import Bundle
from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.facts import ClientFacts
from ostiary_policy.policy_set import PolicySet

from . import answers, dry_runs, evidence, request_detail
from .asking import Next
from .bodies import media_type
from .facts import kubernetes_facts
from .forwarding import request_start
from .masks import MaskedValueReturned, check_write
from .questions import Admission, Ask, QuestionFailed, Reply, Shaper, Unmaskable
from .request_info import request_info
from .resulting import NOTHING_CHANGES, READS, Refused, Resulting, drifted
from .shaping import recorded_body, recorder_for, shaped
from .upstream import Upstream
from .veil import Veil
from .weighing import Weighed, Weighing
from .wire import Headers, Request, WireError

_ALLOWED: Final = Decision(Action.ALLOW, None, "")
_APPROVALS: Final = (GROUP, ApprovalRequest.plural)
_FOREVER: Final = math.inf
_VARYING: Final = frozenset(("name", "path", "labelSelector", "fieldSelector", "exec"))
"""Facts that a reused decision's text stands for, rather than its shape."""
_FOUND_OUT: Final = ("object", "oldObject", "oldObjects", "affected")
"""Facts that the API server is asked for."""
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
        self._needed: Decision | Needs | None = None
        """What was said of it then."""
        self._found: dict[tuple[str, bytes], _Found] = {}
        self._refusals = Refusals(gate)
        self._weighing = Weighing(gate)
        self._take_policies()

    def _take_policies(self) -> PolicySet:
        self._bundle = self._checkpoint.bundle
        self._policies = self.gate.policies
        self._needed = None
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
            self.asked, self._needed = ask, decision
            return None
        return self._conclude(ask, decision)

    async def consider(self, ask: Ask) -> Admission:
        """Decides what was not decided at once. May be cancelled at any time: then nobody is there for the answer."""
        if self._checkpoint.bundle is not self._bundle:
            self._take_policies()
        first, self._needed = self._needed, None
        try:
            check_write(self._policies.all_masks, ask.info, ask.request)
            found = await self._weighing.weigh(ask, self.upstream, first)
        except MaskedValueReturned as problem:
            return self._masked_value(ask, problem)
        except Refused as problem:
            return self._refused_upstream(ask, problem)
        except WireError as problem:
            return self._refused(ask, problem.status, problem.reason, problem.message)
        except QuestionFailed as problem:
            return self._refused(
                ask, 503, "ServiceUnavailable", f"What this would do cannot be found out now: {problem}.",
                "Try again later.", means=Reason.NOT_KNOWN,
            )  # fmt: skip
        except asyncio.CancelledError:
            self._left(ask)
            raise
        if ask.verb == "connect":
            ask.facts = found.facts  # a stream may be decided anew while it lasts
        return self._conclude_weighed(ask, found)

    def _conclude_weighed(self, ask: Ask, found: Weighed) -> Admission:
        decision, made, settled = found.decision, found.resulting, found.settled
        if self.gate.full:
            self._note_facts(ask, found.facts)
        if settled is not None and settled.problem is not None:
            problem = settled.problem
            return self._refused(
                ask, problem.status, problem.reason, problem.message, problem.hint, means=Reason.APPROVAL
            )
        standing = settled.standing if settled is not None else None
        granted = settled is not None and settled.next is Next.GRANTED
        if decision.action is not Action.ALLOW and not granted:
            return self._denied(ask, decision, found.facts, standing, found.unknown)
        forward = made.forward if made is not None else ask.request
        if made is not None and self.gate.full:
            self._note_change(ask, made)
        admission = self._let_go(ask, decision, forward, standing, once=True)
        if settled is not None and settled.warning:
            admission.headers = (*admission.headers, (b"warning", _warning(settled.warning)))
        if made is not None and made.guarded:
            admission.settle = functools.partial(self._settle, ask, made)
        return admission

    def _note_facts(self, ask: Ask, facts: Mapping[str, object]) -> None:
        """What was found out for the decision goes into its record, as the agent may see it: nobody can find it out
        later, and a replay decides by it."""
        veil = Veil(self._policies.all_masks, ask.info)
        try:
            noted = {name: veil.fact(name, facts[name]) for name in _FOUND_OUT if name in facts}
            if noted and len(request_detail.encoded(noted)) <= request_detail.MAX_BODY:
                ask.detail["facts"] = noted
        except (Unmaskable, TypeError):
            pass  # what cannot be masked, or is no plain JSON, stays out; the body tells what was sent

    def _note_change(self, ask: Ask, made: Resulting) -> None:
        """What the write changes goes into its record."""
        try:
            if change := evidence.brief(ask, made, Veil(self._policies.all_masks, ask.info).document):
                ask.detail["diff"] = change
        except Unmaskable:
            pass  # then its body tells

    async def _settle(self, ask: Ask, made: Resulting, status: int, body: bytes) -> Admission | None:
        """A write was refused because its object is another by now: decided anew."""
        return await self.consider(ask) if drifted(made, status, body) else None

    def still(self, ask: Ask, admission: Admission) -> str:
        """Why a stream that was let through must end now that other policies are in force; empty if it may go on."""
        self._take_policies()
        decision = self.gate.decide({"k8s": ask.facts}, final=True)
        if not isinstance(decision, Decision) or decision.action is not admission.verdict.decision.action:
            said = decision.message if isinstance(decision, Decision) else ""
            why = "The policies that are in force now do not let it through"
            return f"{why}: {said}" if said else f"{why}."
        if decision.masks != admission.verdict.decision.masks:
            return "The policies that are in force now mask other parts of it."
        return ""

    # -- what it is

    def _ask(self, request: Request) -> Ask:
        """Raises WireError."""
        head = request.head
        info = request_info(head.method, head.target)
        facts: dict[str, object] = dict(kubernetes_facts(info, dry_run=dry_runs.asked(info, request)))
        verb = str(facts["verb"])
        if facts["readOnly"] or verb in READS or not info.is_resource:
            facts.update(NOTHING_CHANGES)
        if request.body and verb != "connect":
            media_type(head.get(b"content-type"))
        detail = request_detail.of_request(request, info, verb)
        if facts["dryRun"]:
            detail["dryRun"] = True
        if info.subresource in ("exec", "attach"):
            detail["exec"] = facts["exec"]
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
        if (ask.info.group, ask.info.resource) == _APPROVALS and not ask.facts["readOnly"]:
            # As whoever the gateway is to the API server, an agent could answer what it has asked for itself.
            return self._refused(
                ask, 403, "Forbidden", "Approvals are answered by people, and not through a gateway.",
                "Answer with a kubeconfig of your own, that leads to the API server.",
            )  # fmt: skip
        return None

    def _decide(self, ask: Ask) -> Decision | Needs:
        application = ask.detail.get("userAgent", "")
        self._client["application"] = str(application)
        facts = ask.facts
        shape = marshal.dumps([value for name, value in facts.items() if name not in _VARYING], 2)
        head = ask.request.head
        text = f"{head.method} {head.target.decode('ascii')}"
        return self.gate.decide({"k8s": facts}, shape=shape, text=text, reads=_only_reads(facts))

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
            return self._denied(ask, decision, ask.facts)
        return self._let_go(ask, decision, ask.request)

    def _let_go(
        self, ask: Ask, decision: Decision, request: Request, standing: Standing | None = None, *, once: bool = False
    ) -> Admission:
        """`request` goes upstream for the one that was asked for. `once`: no other is let go by the same decision."""
        try:
            request, shapers = shaped(ask, request, decision.masks, self._policies.all_masks, self.gate)
        except MaskedValueReturned as problem:
            return self._masked_value(ask, problem)
        reuse = self.gate.reuse_of_reads if _only_reads(ask.facts) else self.gate.reuse
        if not once and not request.body and reuse is not None and len(request.head.target) <= MAX_TARGET:
            return self._keep(ask, request, decision, shapers)
        try:
            verdict, waiter = self.gate.begin(ask.text, ask.detail, decision, standing)
        except RecordError as problem:
            return self._unrecorded(ask, problem)
        return Admission(verdict, request, shapers=shapers, recorder=recorder_for(ask.info), waiter=waiter, ask=ask)

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

    def _denied(
        self, ask: Ask, decision: Decision, facts: Mapping[str, object], standing: Standing | None = None,
        unknown: str = "",
    ) -> Admission:  # fmt: skip
        verdict, _ = self.gate.begin(ask.text, ask.detail, decision, standing)
        message, line, hint = self._refusals.denied(verdict, {"k8s": self._shown(ask, facts)}, unknown=unknown)
        rule = str(decision.rule) if decision.rule is not None else ""
        approval = standing.name if standing is not None else ""
        reply = answers.denied(message, line, hint, rule=rule, record=verdict.request, approval=approval)
        return Admission(verdict, None, reply, ask=ask)

    def _shown(self, ask: Ask, facts: Mapping[str, object]) -> Mapping[str, object]:
        """Facts as the agent may see them in an explanation."""
        if facts is ask.facts:
            return facts
        veil = Veil(self._policies.all_masks, ask.info)
        try:
            return {name: veil.fact(name, value) for name, value in facts.items()}
        except Unmaskable:
            return ask.facts

    def _refused_upstream(self, ask: Ask, problem: Refused) -> Admission:
        """What the API server would refuse is refused with its own words, as far as the agent may see them."""
        answer = problem.answer
        if answer is None:
            return self._refused(ask, problem.status, problem.reason, problem.message, problem.hint)
        verdict = self.gate.refuse(ask.text, str(answer.status), f"the API server refuses it: {problem.message}"[:2048])
        veil = Veil(self._policies.all_masks, ask.info)
        try:
            body = veil.response(answer)
        except Unmaskable as unmaskable:
            return Admission(
                verdict, None,
                answers.refused(
                    answer.status, problem.reason, f"The API server refuses this. {unmaskable}", record=verdict.request
                ),
                ask=ask,
            )  # fmt: skip
        kept = tuple(header for header in answer.headers if header[0] in (b"retry-after", b"warning"))
        return Admission(verdict, None, Reply(answer.status, body, kept, answer.content_type), ask=ask)

    def _masked_value(self, ask: Ask, problem: MaskedValueReturned) -> Admission:
        # Not Invalid: of such a Status kubectl prints the causes, and not the message.
        return self._refused(ask, 422, "BadRequest", problem.message, problem.hint, means=Reason.MASKING)

    def _left(self, ask: Ask) -> None:
        """The client went while a person was asked: the question stays open."""
        standing = self._weighing.asking.standing
        if standing is not None:
            decision = Decision(Action.DENY, None, "the client stopped waiting", revision=self.gate.revision)
            self.gate.begin(ask.text, ask.detail, decision, standing)

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


def _only_reads(facts: Mapping[str, object]) -> bool:
    """Whether all that is costly is known to be nothing, as in every request that changes nothing."""
    return facts.get("oldObjects") is NOTHING_CHANGES["oldObjects"]


def _warning(text: str) -> bytes:
    """A header that kubectl prints (RFC 7234, 5.5; k8s.io/apimachinery/pkg/util/net)."""
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 ostiary "{quoted}"'.encode()
