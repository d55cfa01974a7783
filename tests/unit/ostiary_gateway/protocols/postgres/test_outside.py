"""Transcripts of statements that need approval: the server is left with nothing open while a person decides."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from test_session import BOUND, DENIED, NO, PARSED, READY, Play, bind, done, execute, parse, query, server_error

from ostiary_gateway.protocols.postgres import wire
from ostiary_gateway.protocols.postgres.questions import Admission, Ask, Outcome, Stage, Wait
from ostiary_gateway.protocols.postgres.wire import SYNC

BIG = "update everything"


class Asking(Play):
    """BIG needs approval, and is approved wherever the client may be held for it. `outside`: whether it might be."""

    outside: bool | None = None

    def _admit(self, ask: Ask) -> Admission | None:  # type: ignore[override]
        admission = super()._admit(ask)
        if ask.text == BIG and ask.stage is Stage.RUN:
            if ask.outside is None:
                admission.ask_outside, self.later = True, admission
                return None
            self.outside = ask.outside
            admission.denial = None if ask.outside else NO
        return admission

    def _pump(self, outcome: Outcome) -> None:
        self.waiting = None
        while True:
            effect = self.frontend.advance(outcome)
            outcome = self.later if isinstance(effect, Ask) else None
            if isinstance(effect, Wait) and not self.frontend.may_go_on(effect) and effect is not Wait.TURN:
                self.waiting = effect
                return


def test_a_query_is_asked_about_at_once_where_nothing_is_open() -> None:
    play = Asking()
    assert play.client(query(BIG)) == query(BIG)
    assert play.outside


def test_a_query_behind_another_waits_until_it_is_known_whether_a_transaction_is_open() -> None:
    play = Asking()
    assert play.client(query("begin"), query(BIG)) == query("begin")
    play.server(done("BEGIN"), wire.ready_for_query(b"T"))
    assert not play.outside
    assert b"ostiary_refused" in play.then
    assert play.server(server_error(), wire.ready_for_query(b"E")) == DENIED + wire.ready_for_query(b"E")


def test_a_hidden_sync_ends_the_pipelines_own_transaction_and_the_portal_is_bound_again() -> None:
    play = Asking()
    sent = play.client(parse(BIG), bind(), execute(), SYNC)
    assert sent == parse(BIG) + bind() + SYNC
    assert play.server(PARSED, BOUND, READY) == PARSED + BOUND
    assert play.outside
    assert play.then == bind() + execute() + SYNC
    assert play.server(BOUND, done("UPDATE 5"), READY) == done("UPDATE 5") + READY
    assert play.log == ["r4 ok"]


def test_after_something_ran_in_the_pipeline_nobody_is_held() -> None:
    play = Asking()
    sent = play.client(parse("select 1"), bind(), execute(), parse(BIG), bind(), execute(), SYNC)
    assert play.outside is False
    assert sent.count(SYNC) == 1
    assert b"ostiary_refused" in sent


def test_an_open_transaction_is_not_left() -> None:
    play = Asking()
    play.client(query("begin"))
    play.server(done("BEGIN"), wire.ready_for_query(b"T"))
    sent = play.client(parse(BIG), bind(), execute(), SYNC)
    assert play.outside is False
    assert sent.count(SYNC) == 1


def test_what_failed_before_is_told_and_nothing_is_asked() -> None:
    """The Parse is refused by the server: the Execute is skipped, as without a gateway, up to the client's Sync."""
    play = Asking()
    play.client(parse(BIG), bind(), execute(), parse("select 2"), SYNC)
    assert play.server(server_error("no such table"), READY) == server_error("no such table")
    assert play.outside is None
    assert play.then == SYNC
    assert play.server(READY) == READY
    assert play.client(query("select 3")) == query("select 3")


def test_a_portal_that_cannot_be_bound_again_fails_as_an_execute_does() -> None:
    play = Asking()
    play.client(parse(BIG), bind(), execute(), SYNC)
    play.server(PARSED, BOUND, READY)
    assert play.server(server_error("the table is gone"), READY) == server_error("the table is gone") + READY
    assert play.log == ["r4 skipped"]
