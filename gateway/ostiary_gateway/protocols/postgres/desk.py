# cython: annotation_typing=False
"""Where one PostgreSQL session's questions are answered: facts, decision, record and masks of each request."""

from __future__ import annotations

import dataclasses
import marshal
import math
import time
from collections.abc import Awaitable, Generator, Mapping
from typing import Final, cast

from ostiary_gateway.approvals import words
from ostiary_gateway.approvals.request import Standing
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.checkpoint import Gate, Verdict
from ostiary_gateway.refusals import Refusals
from ostiary_policy.answer import Reason
from ostiary_policy.bundle import Bundle
from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.masking import MaskPlan
from ostiary_policy.policy_set import PolicySet

from . import answers, denials, params, request_detail, settings_sum, wire
from .asking import Asking, Case, Next, Settled
from .consequences import is_plain
from .facts import Analysis, Effects, Parsed, Scope, Statement
from .folding import fold
from .found import Found
from .masks import NoticeMask, ResponseMask, RowMasks, Targets, Withhold
from .origins import Origins
from .questions import SHOWN, Admission, Ask, Stage
from .reference import Reference, Unresolvable, estimate
from .rows import Field
from .startup import is_utf8, split_search_path
from .state import Denial, Portal, Prepared, Running, SessionState
from .upstream import QuestionFailed, UpstreamError
from .wire import FatalError
from .withholding import Withholding

_ALLOWED: Final = Decision(Action.ALLOW, None, "")
_NO_ANALYSIS: Final = Analysis(())
_LATER: Final = Admission(Verdict(_ALLOWED), _NO_ANALYSIS, None)
"""Decided elsewhere: at Bind or Execute where rules read parameters, or at Parse for the same statement."""
_OUTSIDE: Final = Admission(Verdict(_ALLOWED), _NO_ANALYSIS, Denial("42501", "This needs approval."))
_OUTSIDE.ask_outside = True
_COSTLY: Final = "sql.estimatedRows"
_FINGERPRINT: Final = "sql.statements.fingerprint"
_PARSE, _BIND, _RUN = Stage.PARSE, Stage.BIND, Stage.RUN
_FOREVER: Final = math.inf
_now, _monotonic = time.time, time.monotonic
_NO_COPIES: Final[Mapping[int, tuple[Field, ...]]] = {}
MAX_FOUND: Final = 1024
"""Texts of which one session keeps what was found out."""
_TALLIES: Final = tuple(f"request.session.{name}" for name in ("rowsRead", "bytesRead", "rowsWritten"))

Work = Generator[Awaitable[object], object, Admission]
"""Yields what must be waited for; returns the admission."""


class Desk:
    """Answers the frontend's questions: at once where everything is known, else when what it waits for has come."""

    def __init__(self, gate: Gate, reference: Reference, state: SessionState, *, database: str) -> None:
        self.gate = gate
        self.reference = reference
        self.asking = Asking(gate, reference)
        self._checkpoint = gate.checkpoint
        self._full: bool = gate.full
        self._bundle: Bundle | None = None
        """What `_policies` were taken from."""
        self._revision = ""
        self.notices: NoticeMask | None = None
        self._state = state
        self._database = database
        self._search_path = ""
        self._role = ""
        self._scope = Scope((), "", database)
        self._policies: PolicySet | None = None
        self._row_masks = RowMasks()
        self._found: dict[bytes, Found] = {}
        """By the key of their text (`fold`), or by the text itself where its literals matter."""
        self._path = ("", "")
        """search_path and role."""
        self._deferred = False
        """True if nothing can be decided before parameters are bound."""
        self._has_temp = self._uncommitted_ddl = self._rebound = self._touched = False
        """As `_scope` has them."""
        self._shaped: tuple[Analysis, bytes] | None = None
        """The shape of the analysis that was looked at last."""
        self._work: Work | None = None
        self._admission: Admission | None = None
        """What is admitted as soon as its record is durable."""
        self._ask: Ask
        self._answers = Refusals(gate)
        self.waiting: Awaitable[object]
        self._take_policies()

    # -- what the server tells of the session

    def settings(self, values: tuple[str, ...]) -> None:
        """The settings that names are resolved by, in the order of SHOWN. Raises FatalError if a pinned one moved."""
        told = dict(zip(SHOWN, values, strict=True))
        for name, value in told.items():
            self.parameter(name, value)
        self._role = told["role"] if told["role"] != "none" else told["session_authorization"]
        self._search_path = told["search_path"]
        path = self._search_path, self._role
        if path != self._path:
            self._path = path
        self._rescope()

    def parameter(self, name: str, value: str) -> None:
        """A setting as the server reports it. Raises FatalError if a pinned one moved."""
        if name == "standard_conforming_strings" and value != "on":
            raise FatalError("42501", "standard_conforming_strings is off now: it could be misread.", denials.PINNED)
        if name == "client_encoding" and not is_utf8(value):
            raise FatalError("42501", "client_encoding was changed: statements could be misread.", denials.PINNED)

    def _rescope(self) -> None:
        state = self._state
        scope = Scope(
            split_search_path(self._search_path, self._role), self._role, self._database,
            has_temp=state.has_temp, uncommitted_ddl=state.uncommitted_ddl, rebound=state.rebound,
            touched=state.touched_session,
        )  # fmt: skip
        if scope != self._scope:
            self._scope = scope
        self._has_temp, self._uncommitted_ddl = state.has_temp, state.uncommitted_ddl
        self._rebound, self._touched = state.rebound, state.touched_session

    def _current_scope(self) -> Scope:
        state = self._state
        if (
            self._has_temp != state.has_temp or self._uncommitted_ddl != state.uncommitted_ddl
            or self._rebound != state.rebound or self._touched != state.touched_session
        ):  # fmt: skip
            self._rescope()
        return self._scope

    def _prepared(self, name: str) -> Parsed | None:
        statement = self._state.statements.get(name.encode())
        return None if statement is None else self.reference.parsed(statement.text)

    def _cursor(self, name: str) -> Parsed | None:
        portal = self._state.portals.get(name.encode())
        return None if portal is None else self.reference.parsed(portal.statement.text)

    def _take_policies(self) -> PolicySet:
        self._bundle = self._checkpoint.bundle
        policies = self.gate.policies
        self._revision = self.gate.revision
        if policies is not self._policies:
            self._policies = policies
            self.notices = NoticeMask(policies.all_masks) if policies.may_mask else None
            self._deferred = policies.reads_params or _COSTLY in policies.reads
            self._found.clear()
            if _FINGERPRINT in policies.reads:
                self.reference.need_fingerprints()
        return policies

    # -- decisions

    def admit(self, ask: Ask) -> Admission | None:
        """The answer, if it needs no waiting; otherwise None, `waiting` is what to wait for, and `resume` goes on."""
        return self._answer(ask)

    def _answer(self, ask: Ask) -> Admission | None:
        if self._checkpoint.bundle is not self._bundle:
            self._take_policies()
        stage = ask.stage
        if stage is _BIND:
            portal = ask.portal
            assert portal is not None
            portal.path, portal.changes = self._path, self.reference.changes
        if stage is not _RUN and self._decided_elsewhere(ask):
            return _LATER
        found = self._recall(ask)
        if found is not None:
            return self._admit_again(ask, found)
        self._ask, self._work = ask, self._admit(ask, self._take_policies())
        return self.resume(None, None)

    def _recall(self, ask: Ask) -> Found | None:
        """What was found out about this text before, if it holds for this request too."""
        statement = ask.statement
        found = None if statement is None else statement.found
        if found is None:
            found = self._found.get(fold(ask.raw))
            if found is None or not found.any_literals:
                found = self._found.get(ask.raw)
                if found is None:
                    return None
            if statement is not None:
                statement.found = found
        valid_until = found.decision.valid_until
        if (
            found.policies is not self._policies
            or found.scope is not self._current_scope()
            or found.generation != self._generation()
            or (valid_until < _FOREVER and valid_until <= _now())
        ):
            if statement is not None:
                statement.found = None
            return None
        portal = ask.portal
        if portal is not None and (
            portal.path is not self._path or (found.targets and portal.changes != self.reference.changes)
        ):
            return None
        return found

    def _generation(self) -> int:
        reference = self.reference
        return reference.generation() if _monotonic() > reference.stale_at else reference.catalog.generation

    def _admit_again(self, ask: Ask, found: Found) -> Admission | None:
        """Lets a request go on as one before it did."""
        if ask.stage is not _RUN:
            if ask.statement is not None:
                ask.statement.decided = self._revision
            return _LATER
        if found.bearing:
            self._note_settings(ask, found.bearing)
        mask: ResponseMask | None = None
        if found.plan is not None and found.withhold is not None:
            mask = ResponseMask(found.plan, found.analysis, found.targets, found.withhold, _NO_COPIES, found.row_masks)
        try:
            verdict = self.gate.admit(ask.text, request_detail.encoded(ask, self._full), found.decision)
        except RecordError as problem:
            return self._failed(ask, problem)
        admission = Admission(verdict, found.analysis, None, mask)
        admission.needs_description, admission.by_origin = found.needs_description, found.by_origin
        admission.plain = found.plain
        waiter = self.gate.waiter
        if waiter is None:
            return admission
        self.gate.waiter = None
        self._ask, self._admission, self.waiting = ask, admission, waiter
        return None

    def resume(self, value: object, error: Exception | None) -> Admission | None:
        """What was waited for has come, or failed. The answer, or None if there is more to wait for.

        What goes wrong on the way is a refusal that says so.
        """
        if self._admission is not None:
            admission, self._admission = self._admission, None
            if error is None:
                return admission
            if isinstance(error, RecordError):
                return self._failed(self._ask, error)
            raise error
        assert self._work is not None
        try:
            self.waiting = self._work.send(value) if error is None else self._work.throw(error)
        except StopIteration as done:
            self._work = None
            return cast(Admission, done.value)
        except (UpstreamError, QuestionFailed, Unresolvable, RecordError, TimeoutError) as problem:
            self._work = None
            return self._failed(self._ask, problem)
        return None

    def _admit(self, ask: Ask, policies: PolicySet) -> Work:
        path = self._path
        if ask.outside and ask.portal is not None:
            ask.portal.path, ask.portal.changes = path, self.reference.changes  # it will be bound again
        scope, generation = self._current_scope(), self.reference.generation()  # as it is before anything is waited for
        analysis = self.reference.analysis(ask.text, scope, self._prepared, self._cursor)
        if analysis is None:
            work = self.reference.analyse(ask.text, scope, self._prepared, self._cursor)
            analysis = cast(Analysis, (yield work))
        if pinned := next((s.effects.pinned for s in analysis.statements if s.effects.pinned), ""):
            return self._refused(ask, Denial("42501", pinned, hint=denials.PINNED))
        fetched = self._fetched(ask, analysis)
        if any(portal.path != path for portal in fetched):
            return self._refused(ask, denials.MOVED)
        facts = self._facts(ask, analysis, policies)
        lasting = self.reference.lasting(ask.text, analysis)
        shape = None if policies.reads_params or not lasting else self._shape(analysis)
        decision = self.gate.decide({"sql": facts}, shape=shape, text=ask.text)
        if isinstance(decision, Needs):
            shape = None  # what is costly differs from one request to the next
            if _COSTLY in decision.facts:
                rows = cast("int | None", (yield self._estimate(ask, analysis)))
                if rows is not None:
                    facts["estimatedRows"] = rows
            decision = self.gate.decide({"sql": facts}, final=True)
            assert isinstance(decision, Decision)
        needs_approval = decision.action is Action.REQUIRE_APPROVAL
        if decision.action is not Action.ALLOW and not needs_approval:
            return self._denied(ask, decision, analysis, facts)
        if ask.stage is not Stage.RUN:
            if needs_approval:
                return _LATER  # nobody is asked before it is to run
            if ask.statement is not None:
                ask.statement.decided = self.gate.revision
            return Admission(Verdict(decision), analysis, None)
        mask: ResponseMask | None = None
        targets: Targets = {}
        withhold: Withhold | None = None
        named = any(s.effects.executes is not None or s.effects.fetches is not None for s in analysis.statements)
        selects: dict[int, str] = {}
        kept: RowMasks | None = None
        if plan := decision.masks:
            origins: Origins | None = None
            copies: dict[int, tuple[Field, ...]] = {}
            if plan.columns or self.reference.marks.of(plan):
                origins = self.reference.origins(plan)
                if origins is None:
                    origins = cast(Origins, (yield self.reference.find_origins(plan)))
                followed = self._withholding(plan, origins, analysis, scope)
                if origins.targets and any(followed.copies(origins, s) for s in analysis.statements):
                    return self._refused(ask, denials.COPIES, Reason.MASKING)
                if origins.targets and any(portal.changes != self.reference.changes for portal in fetched):
                    return self._refused(ask, denials.CHANGED)
                selects = _copied(analysis)
                unsure = scope.uncommitted_ddl or scope.has_temp or scope.rebound
                if selects and unsure and plan.columns:
                    return self._refused(ask, denials.COPY_UNSURE, Reason.MASKING)
                if not unsure:
                    for index, select in selects.items():
                        fields = yield self.reference.describe(select, self._search_path, self._role)
                        copies[index] = cast("tuple[Field, ...]", fields)
            self._row_masks = self._row_masks.such_for(plan, origins, scope)
            kept = self._row_masks if lasting and not named else None
            targets = {} if origins is None else origins.targets
            withhold = self._withholding(plan, origins, analysis, scope)
            mask = ResponseMask(plan, analysis, targets, withhold, copies, kept)
        needs_description = mask is not None or self.gate.full
        decides_next = _decides_next(policies, analysis)
        plain = not decides_next and is_plain(analysis)
        grant: Standing | None = None
        if needs_approval:
            names = self._prepared, self._cursor
            settings = self._state.settings.value
            case = Case(decision, analysis, facts, scope, path, self._database, settings, policies.all_masks, *names)
            settled = yield from self.asking.settle(ask, case)
            if settled.next is Next.OUTSIDE:
                return _OUTSIDE
            if settled.next is Next.AGAIN:
                return (yield from self._admit(ask, self._take_policies()))
            if settled.next is Next.REFUSED:
                return self._denied(ask, decision, analysis, facts, settled)
            grant = settled.standing
        elif shape is not None and self.gate.reuse is not None and not named and not selects:
            self._keep(
                ask.raw,
                Found(
                    policies, scope, generation, analysis, decision, any_literals=False, plain=plain,
                    needs_description=needs_description, plan=plan or None, targets=targets, withhold=withhold,
                    row_masks=kept,
                ),
            )  # fmt: skip
        if (bearing := settings_sum.bearing(analysis)) != settings_sum.NOTHING:
            self._note_settings(ask, bearing)
        verdict, waiter = self.gate.begin(ask.text, self._detail(ask, facts), decision, grant)
        if waiter is not None:
            yield waiter
        return Admission(
            verdict, analysis, None, mask, needs_description=needs_description, by_origin=bool(decision.masks.columns),
            decides_next=decides_next, plain=plain,
        )  # fmt: skip

    def _detail(self, ask: Ask, facts: Mapping[str, object]) -> Mapping[str, object]:
        """What the record keeps of it. The planner's estimate, where a rule read it, is known to nobody later."""
        detail = request_detail.of_request(ask, self._full)
        rows = facts.get("estimatedRows")
        return detail if rows is None else {**detail, "estimatedRows": rows}

    def _keep(self, raw: bytes, found: Found) -> None:
        """For the same text again; for all with its key once a second one has shown that literals do not matter."""
        if len(self._found) >= MAX_FOUND:
            self._found.clear()
        key = fold(raw)
        if self.gate.reuse == "text" and key is not raw:
            found.any_literals = self.reference.literals_are_values(key, raw, found.analysis)
        if found.any_literals:
            self._found[key] = found
        else:
            self._found[raw] = found

    def _note_settings(self, ask: Ask, bearing: int) -> None:
        self._state.settings.note(bearing, ask.text, b"" if ask.portal is None else ask.portal.bind)

    def _fetched(self, ask: Ask, analysis: Analysis) -> list[Portal]:
        """The portals whose rows come: planned when they were made, whatever names mean now."""
        if ask.stage is not Stage.RUN:
            return []
        names = [each.effects.fetches.encode() for each in analysis.statements if each.effects.fetches is not None]
        found = [self._state.portals[name] for name in names if name in self._state.portals]
        return found if ask.portal is None else [ask.portal, *found]

    def _decided_elsewhere(self, ask: Ask) -> bool:
        if ask.stage is _PARSE:
            return self._deferred
        return not self._deferred and ask.statement is not None and ask.statement.decided == self._revision

    def _facts(self, ask: Ask, analysis: Analysis, policies: PolicySet) -> dict[str, object]:
        facts: dict[str, object] = {
            "text": ask.text,
            "database": self._database,
            "user": self._scope.role,
            "inTransaction": self._state.status != b"I",
            "statements": [statement.facts for statement in analysis.statements],
        }
        if policies.reads_params:
            if ask.portal is None or not ask.portal.bind:
                facts["params"] = []
                return facts
            try:
                facts["params"] = params.in_text(wire.parse_bind(ask.portal.bind), ask.portal.statement.parameter_types)
            except params.UnknownParameter:
                pass  # absent: a rule that reads them errs, and so denies
        return facts

    def _shape(self, analysis: Analysis) -> bytes:
        """All facts but the texts. Version 2 of marshal: equal values give equal bytes."""
        if self._shaped is not None and self._shaped[0] is analysis:
            return self._shaped[1]
        facts = [[value for name, value in s.facts.items() if name != "text"] for s in analysis.statements]
        shape = marshal.dumps((self._scope.role, facts), 2)
        self._shaped = (analysis, shape)
        return shape

    async def _estimate(self, ask: Ask, analysis: Analysis) -> int | None:
        """Rows by the planner, over all statements; None if it cannot be told of one of them."""
        total = 0
        for statement in analysis.statements:
            effects = statement.effects
            if effects.row_free:
                continue
            if effects.truncates:
                size = await self.reference.size(effects.truncates)
                if size is None:
                    return None
                total += size
            elif effects.estimable and effects.executes is None:  # what was prepared is not known aside
                total += await self._explain(ask, effects.explain_text)
            else:
                return None
        return total

    async def _explain(self, ask: Ask, text: str) -> int:
        bind: wire.Bind | None = None
        types: tuple[int, ...] = ()
        if ask.portal is not None and ask.portal.bind:
            bind, types = wire.parse_bind(ask.portal.bind), ask.portal.statement.declared_types
        explained = await self.reference.planner.explain(
            text, self._search_path, self._role, types=types,
            formats=bind.formats if bind is not None else (), values=bind.values if bind is not None else (),
        )  # fmt: skip
        return estimate(explained)

    # -- answers

    def _denied(
        self, ask: Ask, decision: Decision, analysis: Analysis, facts: Mapping[str, object],
        settled: Settled | None = None,
    ) -> Admission:  # fmt: skip
        standing = settled.standing if settled is not None else None
        verdict, _ = self.gate.begin(ask.text, self._detail(ask, facts), decision, standing)
        if settled is not None and settled.denial is not None:
            return Admission(verdict, _NO_ANALYSIS, self._answered(verdict.request, settled.denial, None))
        unknown = next((s.facts["opaqueReason"] for s in analysis.statements if s.facts["opaque"]), "")
        message, detail, hint = self._answers.denied(
            verdict, {"sql": facts}, unknown=unknown, in_transaction=self._in_transaction
        )
        if settled is not None and settled.cancelled:
            return Admission(verdict, _NO_ANALYSIS, Denial("57014", words.CANCELLED, detail, hint))
        return Admission(verdict, _NO_ANALYSIS, Denial("42501", message, detail, hint))

    @property
    def _in_transaction(self) -> bool:
        return self._state.status != b"I"

    def _refused(self, ask: Ask, denial: Denial, reason: Reason | None = None) -> Admission:
        verdict = self.gate.refuse(ask.text, denial.code, denial.message)
        return Admission(verdict, _NO_ANALYSIS, self._answered(verdict.request, denial, reason))

    def refuse(self, text: str, denial: Denial) -> Denial:
        """Records a refusal that no policy was asked about."""
        return self._answered(self.gate.refuse(text, denial.code, denial.message).request, denial)

    def _answered(self, request: str, denial: Denial, reason: Reason | None = None) -> Denial:
        detail = answers.refused(
            request, denial.code, denial.message, denial.hint, reason=reason, in_transaction=self._in_transaction
        )
        return dataclasses.replace(denial, detail=detail)

    def _failed(self, ask: Ask, problem: Exception) -> Admission:
        """Fail closed: the request is refused, with what went wrong."""
        if isinstance(problem, RecordError):
            denial = Denial(
                "58030", f"Nothing may run now: {problem}.",
                hint="Try again later, and tell the gateway's operator.",
            )  # fmt: skip
            return Admission(Verdict(_ALLOWED), _NO_ANALYSIS, self._answered("", denial))
        if isinstance(problem, QuestionFailed) and problem.code.startswith("42"):
            denial = Denial(problem.code, problem.message, hint="Found before the statement was run, by EXPLAIN.")
        else:
            denial = Denial(
                "58000",
                "What this statement does could not be found out, so it was not run: "
                f"{str(problem) or 'no answer in time'}",
                hint="Try again; if it stays so, tell the gateway's operator.",
            )
        return self._refused(ask, denial)

    # -- what has ended

    def ended(self, running: Running, outcome: str) -> None:
        """Takes over what a request's completed statements have done to names, and records its end."""
        if not running.plain:
            self._take_over(running)
        detail = request_detail.of_end(running.tags, running.error)
        self.gate.end(running.verdict.number, outcome, detail, running.rows, running.bytes)

    def _take_over(self, running: Running) -> None:
        statements = running.analysis.statements
        moved = any(each.effects.may_change_session for each in statements) or (
            self._state.touched_session and any(each.effects.transaction for each in statements)
        )
        path = None if moved else self._path
        for statement in statements[: running.completed]:
            self._settle_names(statement.facts["text"], statement.effects, path)

    def _settle_names(self, text: str, effects: Effects, path: tuple[str, str] | None) -> None:
        state = self._state
        if effects.prepares is not None:
            name, parsed = effects.prepares
            state.statements[name.encode()] = Prepared(name.encode(), parsed.text)
        if effects.deallocates == "*":
            state.statements.clear()
        elif effects.deallocates is not None:
            state.statements.pop(effects.deallocates.encode(), None)
        if effects.declares_cursor is not None:
            cursor = effects.declares_cursor.encode()
            state.portals[cursor] = Portal(cursor, Prepared(b"", text), path=path, changes=self.reference.changes)
        if effects.closes_cursor == "*":
            state.portals = {name: portal for name, portal in state.portals.items() if portal.bind}
        elif effects.closes_cursor is not None:
            state.portals.pop(effects.closes_cursor.encode(), None)
        if effects.ddl:
            self.reference.forget()

    # -- masks

    def _text_of(self, statement: Statement) -> str | None:
        """The text that it runs; None if it is not known what EXECUTE or FETCH give."""
        effects = statement.effects
        if effects.executes is None and effects.fetches is None:
            return statement.facts["text"]
        executes = effects.executes
        known = self._prepared(executes) if executes is not None else self._cursor(effects.fetches or "")
        return None if known is None else known.text

    def _withholding(
        self, plan: MaskPlan, origins: Origins | None, analysis: Analysis, scope: Scope
    ) -> Withholding:
        """Which columns of a result may carry masked values though they are none of the masked columns."""
        reference = self.reference
        return Withholding(
            origins, analysis.statements, scope, self._text_of,
            lambda table_oid, attnum: reference.mark(plan, (table_oid, attnum)),
        )  # fmt: skip


def _decides_next(policies: PolicySet, analysis: Analysis) -> bool:
    if any(path in policies.reads for path in _TALLIES):
        return True
    return "sql.inTransaction" in policies.reads and any(each.effects.transaction for each in analysis.statements)


def _copied(analysis: Analysis) -> dict[int, str]:
    """For each COPY to the client, by index of the statement: a SELECT of the same columns."""
    return {
        index: statement.effects.copy.select_text
        for index, statement in enumerate(analysis.statements)
        if statement.effects.copy is not None and statement.effects.copy.direction == "out"
    }
