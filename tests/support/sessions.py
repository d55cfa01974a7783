"""A session of the gateway without sockets, between a client's bytes and a model of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from support.model import ModelServer, statements

from ostiary_gateway.checkpoint import Verdict
from ostiary_gateway.protocols.postgres.backend import Backend, Listener
from ostiary_gateway.protocols.postgres.catalog import Catalog
from ostiary_gateway.protocols.postgres.facts import Analysis, Effects, Scope, parse, resolve
from ostiary_gateway.protocols.postgres.frontend import Frontend
from ostiary_gateway.protocols.postgres.masks import NoticeMask, ResponseMask
from ostiary_gateway.protocols.postgres.questions import SHOWN, Admission, Ask, Outcome, Refused, Settings, Stage, Wait
from ostiary_gateway.protocols.postgres.rows import Field
from ostiary_gateway.protocols.postgres.state import Denial, Portal, Prepared, Running, SessionState
from ostiary_policy.decision import Action, Decision
from ostiary_policy.masking import MaskPlan, Strategy

CATALOG = Catalog.offline()
LIMIT = 4096
_ANALYSES: dict[str, Analysis] = {}


def analysis_of(text: str) -> Analysis:
    """By the text alone; kept, because the same few statements come again and again."""
    plain = ";".join(statements(text))
    if plain not in _ANALYSES:
        found = resolve(parse(plain), CATALOG, Scope(("public",), "agent", "app"))
        assert isinstance(found, Analysis)
        _ANALYSES[plain] = found
    return _ANALYSES[plain]


class _NothingWithheld:
    """No lineage: only detectors mask here."""

    def __call__(self, _index: int, _fields: tuple[Field, ...]) -> Mapping[int, Strategy]:
        return {}

    def found(self, table_oid: int, attnum: int) -> None:
        """A detector has hit in this column."""


@dataclass(slots=True)
class Session(Listener):
    """`denied`: statements that are refused, at Parse and at Query. `plan`: what is masked in every answer."""

    denied: frozenset[str] = frozenset()
    plan: MaskPlan = field(default_factory=MaskPlan)
    describe: bool = True
    asked: list[tuple[Stage, str, str]] = field(default_factory=list)
    """Stage, text, and the search_path that the gateway took for the session's own."""
    ended_as: dict[str, str] = field(default_factory=dict)
    """Request: its outcome."""
    meant: dict[str, str | None] = field(default_factory=dict)
    """Text with EXECUTE or FETCH: the statement that the gateway took its name for."""
    recorded: dict[str, int] = field(default_factory=dict)
    closed: bool = False
    waiting: Wait | None = None
    path: str = "public"
    state: SessionState = field(default_factory=SessionState)
    frontend: Frontend = field(init=False)
    backend: Backend = field(init=False)
    most_held: int = 0

    def __post_init__(self) -> None:
        self.frontend = Frontend(self.state, max_request=LIMIT, admit=self._admit)
        self.backend = Backend(self.state, self, record=True)
        self.backend.notices = NoticeMask(self.plan) if self.plan else None
        self._pump(None)

    def _admit(self, ask: Ask) -> Admission:
        self.asked.append((ask.stage, ask.text, self.path))
        if ask.stage is Stage.BIND:
            return Admission(Verdict(_ALLOWED), _NOTHING, None)
        analysis = analysis_of(ask.text)
        if self.denied & set(statements(ask.text)):
            return Admission(Verdict(Decision(Action.DENY, None, ""), len(self.asked), "r"), analysis, _NO)
        if ask.stage is Stage.PARSE:
            return Admission(Verdict(_ALLOWED), analysis, None)
        for effects in (each.effects for each in analysis.statements):
            known: Prepared | None = None
            if effects.executes is not None:
                known = self.state.statements.get(effects.executes.encode())
            elif effects.fetches is not None and (portal := self.state.portals.get(effects.fetches.encode())):
                known = portal.statement
            self.meant[ask.text] = None if known is None else known.text
        mask = ResponseMask(self.plan, analysis, {}, _NothingWithheld(), {}) if self.plan else None
        verdict = Verdict(_ALLOWED, len(self.asked), "r")
        self.ended_as[verdict.request] = ""
        return Admission(verdict, analysis, None, mask, needs_description=self.describe or mask is not None)

    def _pump(self, outcome: Outcome) -> None:
        self.waiting = None
        while True:
            effect = self.frontend.advance(outcome)
            if effect is None:
                self.closed = True
                return
            outcome = None
            if isinstance(effect, Refused):
                outcome = effect.denial
            elif isinstance(effect, Settings):
                self.path = dict(zip(SHOWN, effect.values, strict=True))["search_path"]
            elif isinstance(effect, Wait):
                if self.frontend.may_go_on(effect) or effect is Wait.TURN:
                    continue
                self.waiting = effect
                for running in self.state.skipped:
                    self.ended(running, "skipped")
                self.state.skipped.clear()
                return
            else:
                raise AssertionError(f"not foreseen here: {effect}")

    def client(self, data: bytes) -> bytes:
        """The client sends this; what goes to the server."""
        self.frontend.inbox.feed(data)
        if self.waiting is Wait.READ:
            self._pump(None)
        self.most_held = max(self.most_held, len(self.state.awaited))
        return self._to_server()

    def server(self, data: bytes) -> tuple[bytes, bytes]:
        """The server sends this; what the client sees, and what then goes to the server."""
        self.backend.feed(data)
        seen = b"".join(self.backend.to_client)
        self.backend.to_client.clear()
        if self.waiting is not None and self.waiting is not Wait.READ and self.frontend.may_go_on(self.waiting):
            self._pump(None)
        return seen, self._to_server()

    def _to_server(self) -> bytes:
        sent = b"".join(self.frontend.to_server)
        self.frontend.to_server.clear()
        return sent

    # What the backend tells (Listener)

    def response(self, running: Running, data: bytes | memoryview) -> None:
        request = running.verdict.request
        self.recorded[request] = self.recorded.get(request, 0) + len(data)

    def ended(self, running: Running, outcome: str) -> None:
        assert self.ended_as[running.verdict.request] == "", f"{running.verdict.request} ended twice"
        self.ended_as[running.verdict.request] = outcome
        for statement in running.analysis.statements[: running.completed]:
            self._settle(statement.facts["text"], statement.effects)

    def _settle(self, text: str, effects: Effects) -> None:
        """As the desk does."""
        state = self.state
        if effects.prepares is not None:
            name = effects.prepares[0].encode()
            state.statements[name] = Prepared(name, effects.prepares[1].text)
        if effects.deallocates == "*":
            state.statements.clear()
        elif effects.deallocates is not None:
            state.statements.pop(effects.deallocates.encode(), None)
        if effects.declares_cursor is not None:
            name = effects.declares_cursor.encode()
            state.portals[name] = Portal(name, Prepared(b"", text))
        if effects.closes_cursor is not None:
            state.portals.pop(effects.closes_cursor.encode(), None)

    def parameter(self, name: str, value: str) -> None:
        pass

    def defined(self) -> None:
        pass


def through(session: Session, server: ModelServer, script: bytes, cuts: list[int], back: list[int]) -> bytes:
    """What the client sees of `script`, sent in pieces of `cuts` bytes; the answers come in pieces of `back` bytes,
    0 meaning that they are still on their way. Ends when nothing moves any more.
    """
    seen = bytearray()
    pending = bytearray()
    position = turn = 0
    while True:
        turn += 1
        step = cuts[turn % len(cuts)]
        moved = position < len(script)
        if moved:
            server.feed(session.client(script[position : position + step]))
            position += step
        pending += server.take()
        size = back[turn % len(back)] if moved else max(back[turn % len(back)], 1)
        if pending and size:
            shown, sent = session.server(bytes(pending[:size]))
            del pending[:size]
            seen += shown
            server.feed(sent)
            moved = True
        pending += server.take()
        if not moved and not pending:
            return bytes(seen)


_ALLOWED = Decision(Action.ALLOW, None, "")
_NOTHING = Analysis(())
_NO = Denial("42501", "denied")
