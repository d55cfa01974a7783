"""Transcripts of sessions: what the client sends, what the server gets; what the server sends, what the client sees."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ostiary_gateway.checkpoint import Verdict
from ostiary_gateway.protocols.postgres import frontend, wire
from ostiary_gateway.protocols.postgres.backend import Backend, Listener
from ostiary_gateway.protocols.postgres.facts_model import Analysis, CopyEffect, Effects, Statement
from ostiary_gateway.protocols.postgres.questions import SHOWN, Admission, Ask, Outcome, Refused, Settings, Stage, Wait
from ostiary_gateway.protocols.postgres.state import Awaited, Denial, Kind, Prepared, Running, SessionState
from ostiary_gateway.protocols.postgres.wire import FLUSH, SYNC, FatalError, ProtocolViolation, frame
from ostiary_policy.decision import Action, Decision
from ostiary_policy.facts import StatementFacts

READY = wire.ready_for_query(b"I")
PARSED, BOUND, CLOSED = frame(b"1"), frame(b"2"), frame(b"3")
ROW = frame(b"D", b"\x00\x01\x00\x00\x00\x011")
DESCRIPTION = frame(b"T", b"\x00\x01x\x00" + bytes(18))


def done(tag: str) -> bytes:
    return frame(b"C", tag.encode() + b"\0")


def server_error(message: str = "boom", code: str = "XX000", severity: str = "ERROR") -> bytes:
    return wire.error_response(code, message, severity=severity)


def statement(text: str, **effects: object) -> Statement:
    facts = StatementFacts(
        verb=text.split(maxsplit=1)[0], kind="", commands=[], readOnly=False, writes=False, opaque=False,
        opaqueReason="", relations=[], functions=[], hasWhere=False, hasLimit=False, settings=[],
        text=text, fingerprint="",
    )  # fmt: skip
    return Statement(facts, Effects(**effects))  # type: ignore[arg-type]


@dataclass
class Play(Listener):
    """A session without sockets: policy is `denied` (texts), effects by text."""

    denied: dict[str, Denial] = field(default_factory=dict)
    effects: dict[str, dict[str, object]] = field(default_factory=dict)
    limit: int = 1000
    describe: bool = False

    def __post_init__(self) -> None:
        self.state = SessionState()
        self.frontend = frontend.Frontend(self.state, max_request=self.limit, admit=self._admit)
        self.backend = Backend(self.state, self, record=True)
        self.asked: list[tuple[str, str]] = []
        self.log: list[str] = []
        self.recorded: dict[str, bytes] = {}
        self.shown: list[tuple[str, ...]] = []
        self.waiting: Wait | None = None
        self.closed = False
        self._pump(None)

    def _admit(self, ask: Ask) -> Admission:
        self.asked.append((ask.stage.value, ask.text))
        denial = self.denied.get(ask.text) if ask.stage is not Stage.BIND else None
        action = Action.DENY if denial else Action.ALLOW
        verdict = Verdict(Decision(action, None, ""), len(self.asked), "r")
        analysis = Analysis((statement(ask.text, **self.effects.get(ask.text, {})),) if ask.text.strip() else ())
        return Admission(verdict, analysis, denial, needs_description=self.describe)

    def _pump(self, outcome: Outcome) -> None:
        self.waiting = None
        while True:
            effect = self.frontend.advance(outcome)
            if effect is None:
                self.closed = True
                return
            outcome = None
            if isinstance(effect, Refused):
                self.log.append(f"refused {effect.denial.code}")
                outcome = effect.denial
            elif isinstance(effect, Settings):
                self.shown.append(effect.values)
            elif isinstance(effect, Wait) and self.frontend.may_go_on(effect):
                continue
            elif effect is not Wait.TURN:
                assert isinstance(effect, Wait)
                self.waiting = effect
                return

    def client(self, *messages: bytes) -> bytes:
        """Sends these; returns what the server gets."""
        self.frontend.inbox.feed(b"".join(messages))
        if self.waiting is Wait.READ:
            self._pump(None)
        return self._to_server()

    def _to_server(self) -> bytes:
        sent = b"".join(self.frontend.to_server)
        self.frontend.to_server.clear()
        return sent

    def server(self, *messages: bytes) -> bytes:
        """The server sends these; returns what the client sees. What the client's messages then become: `.then`."""
        self.backend.feed(b"".join(messages))
        seen = b"".join(self.backend.to_client)
        self.backend.to_client.clear()
        self.then = b""
        if self.waiting is not None and self.frontend.may_go_on(self.waiting):
            self._pump(None)
            self.then = self._to_server()
        return seen

    # Listener

    def response(self, running: Running, data: bytes | memoryview) -> None:
        request = f"r{running.verdict.number}"
        self.recorded[request] = self.recorded.get(request, b"") + bytes(data)

    def ended(self, running: Running, outcome: str) -> None:
        self.log.append(f"r{running.verdict.number} {outcome}")

    def parameter(self, name: str, value: str) -> None:
        self.log.append(f"{name}={value}")

    def defined(self) -> None:
        self.log.append("defined")


def query(text: str) -> bytes:
    return wire.query_message(text.encode())


def parse(text: str, name: bytes = b"") -> bytes:
    return wire.parse_message(name, text.encode())


def bind(statement: bytes = b"", portal: bytes = b"") -> bytes:
    return wire.bind_message(portal, statement)


def execute(portal: bytes = b"") -> bytes:
    return wire.execute_message(portal)


NO = Denial("42501", "not you", detail="{}", hint="ask")
DENIED = wire.error_response("42501", "not you", detail="{}", hint="ask")


def substituted(sent: bytes, kind: bytes) -> bool:
    return sent[:1] == kind and b"ostiary_refused_" in sent


def test_an_allowed_query_passes_unchanged_and_so_does_its_answer() -> None:
    play = Play()
    assert play.client(query("select 1")) == query("select 1")
    answer = DESCRIPTION + ROW + done("SELECT 1") + READY
    assert play.server(answer) == answer
    assert play.log == ["r1 ok"]
    assert play.recorded == {"r1": answer}


def test_a_denied_query_never_reaches_the_server_and_its_denial_stands_in_its_place() -> None:
    play = Play(denied={"drop": NO})
    sent = play.client(query("drop"), query("select 1"))
    refused, allowed = sent[: -len(query("select 1"))], sent[-len(query("select 1")) :]
    assert substituted(refused, b"Q")
    assert b"drop" not in sent
    assert allowed == query("select 1")
    seen = play.server(server_error("syntax error", "42601"), READY, done("SELECT 1"), READY)
    assert seen == DENIED + READY + done("SELECT 1") + READY


def test_a_denied_parse_leaves_the_skipping_until_sync_to_the_server() -> None:
    play = Play(denied={"drop": NO})
    sent = play.client(parse("drop"), bind(), execute(), SYNC, parse("select 1"), bind(), execute(), SYNC)
    assert b"drop" not in sent
    assert sent.endswith(SYNC + parse("select 1") + bind() + execute() + SYNC)
    answers = PARSED + BOUND + done("SELECT 1") + READY
    assert play.server(server_error(), READY, answers) == DENIED + READY + answers
    assert play.asked[-1] == ("run", "select 1")
    assert play.log[-1].endswith("ok")


def test_a_failed_parse_does_not_change_what_its_name_means() -> None:
    play = Play(effects={})
    play.client(parse("select 1", b"s"), SYNC)
    play.server(PARSED, READY)
    # The first Parse fails, so the server skips the second, and "s" is still what it was.
    play.client(parse("bad"), parse("delete", b"s"), SYNC)
    play.server(server_error(), READY)
    play.client(bind(b"s"), execute(), SYNC)
    assert play.asked[-1] == ("run", "select 1")


def test_a_parse_that_was_skipped_does_not_hide_the_older_unnamed_statement() -> None:
    play = Play()
    play.client(parse("delete from t"), SYNC)
    play.server(PARSED, READY)
    sent = play.client(execute(b"nowhere"), parse("select 1"), SYNC, bind(), execute(), SYNC)
    assert sent.endswith(SYNC)
    assert bind() not in sent, "Bind waits until it is known which statement it means"
    play.server(server_error(), READY)
    assert play.asked[-1] == ("run", "delete from t")


@pytest.mark.parametrize("late", [bind(b"s"), execute(b"p"), wire.describe_message(b"P", b"p")])
def test_a_name_in_doubt_inside_a_cycle_is_waited_for_with_a_flush(late: bytes) -> None:
    play = Play()
    play.client(parse("select 1", b"s"), bind(b"s", b"p"), SYNC)
    # The server would keep what answers the second cycle until its Sync, which stands behind what waits for it.
    assert play.client(parse("select 2"), late, SYNC) == parse("select 2") + FLUSH
    play.server(PARSED, BOUND, READY, PARSED)
    assert play.then.endswith(SYNC)


def test_a_text_that_executes_a_name_in_doubt_is_not_decided_before_the_name_is_known() -> None:
    play = Play()
    play.client(parse("delete from t", b"q"), SYNC)
    play.server(PARSED, READY)
    # The server skips Close and Parse behind the error, so "q" is still the DELETE.
    play.client(execute(b"nowhere"), wire.close_message(b"S", b"q"), parse("select 1", b"q"), SYNC)
    asked = len(play.asked)
    assert play.client(query("select 1"), query("EXECUTE q")) == query("select 1")
    assert play.asked[asked:] == [("run", "select 1")]
    play.server(server_error(), READY, done("SELECT 1"), READY)
    assert play.state.statements[b"q"].text == "delete from t"
    assert play.then == query("EXECUTE q")
    play.server(done("DELETE 1"), READY)
    play.client(execute(b"nowhere"), wire.close_message(b"S", b"q"), SYNC)
    assert b"execute" not in play.client(parse("explain analyze execute q"))


def test_an_unknown_statement_or_portal_is_answered_as_the_server_would() -> None:
    play = Play()
    assert substituted(play.client(bind(b"ghost"))[:1] + b"ostiary_refused_", b"B")
    assert b'prepared statement "ghost" does not exist' in play.server(server_error())
    play.client(SYNC)
    play.server(READY)
    play.client(execute(b"p"), SYNC)
    assert b'portal "p" does not exist' in play.server(server_error(), READY)


def test_closing_then_failing_brings_the_statement_back() -> None:
    play = Play()
    play.client(parse("select 1", b"s"), SYNC)
    play.server(PARSED, READY)
    play.client(execute(b"nowhere"), wire.close_message(b"S", b"s"), SYNC)
    play.server(server_error(), READY)
    play.client(bind(b"s"), execute(), SYNC)
    assert play.asked[-1] == ("run", "select 1")


def test_rows_of_an_execute_are_described_for_the_record_though_the_client_did_not_ask() -> None:
    play = Play(describe=True)
    sent = play.client(parse("select 1"), bind(), execute(), SYNC)
    assert sent == parse("select 1") + bind() + wire.describe_message(b"P", b"") + execute() + SYNC
    seen = play.server(PARSED, BOUND, DESCRIPTION, ROW, done("SELECT 1"), READY)
    assert seen == PARSED + BOUND + ROW + done("SELECT 1") + READY
    assert play.recorded == {"r3": DESCRIPTION + ROW + done("SELECT 1")}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_chunking_changes_nothing(size: int) -> None:
    play = Play(describe=True, denied={"drop": NO})
    stream = parse("select 1") + bind() + execute() + SYNC + query("drop") + query("x")
    sent = b"".join(play.client(stream[i : i + size]) for i in range(0, len(stream), size))
    assert sent.startswith(parse("select 1") + bind() + wire.describe_message(b"P", b"") + execute() + SYNC)
    answers = PARSED + BOUND + DESCRIPTION + ROW * 3 + done("SELECT 3") + READY
    answers += server_error() + READY + done("X") + READY
    seen = b"".join(play.server(answers[i : i + size]) for i in range(0, len(answers), size))
    assert seen == PARSED + BOUND + ROW * 3 + done("SELECT 3") + READY + DENIED + READY + done("X") + READY
    assert [line for line in play.log if line.endswith("ok")] == ["r3 ok", "r5 ok"]


def test_copy_in_waits_for_the_server_before_anything_else_is_understood() -> None:
    copy = {"copy": CopyEffect("in")}
    play = Play(effects={"copy t from stdin": copy})
    data = frame(b"d", b"1\n") * 3
    assert play.client(query("copy t from stdin"), data, frame(b"c"), query("select 1")) == query("copy t from stdin")
    assert play.waiting is Wait.DRAIN
    play.server(frame(b"G", b"\0\0\0"))
    assert play.then == data + frame(b"c")
    assert play.server(done("COPY 3"), READY) == done("COPY 3") + READY
    assert play.then == query("select 1")


def test_copy_data_for_a_copy_that_was_refused_goes_nowhere() -> None:
    play = Play(denied={"copy t from stdin": NO})
    sent = play.client(query("copy t from stdin"), frame(b"d", b"1\n"), frame(b"c"))
    assert substituted(sent, b"Q")
    assert b"1\n" not in sent
    assert not sent.endswith(frame(b"c"))


@pytest.mark.parametrize("cut", [5, 6, 12])
def test_copy_data_that_the_server_has_begun_to_read_goes_on_to_its_end_though_the_copy_has_failed(cut: int) -> None:
    play = Play(effects={"copy": {"copy": CopyEffect("in")}})
    play.client(query("copy"))
    play.server(frame(b"G", b"\0\0\0"))
    data, late = frame(b"d", b"not a number\n"), frame(b"d", b"1\n")
    assert play.client(data[:cut]) == data[:cut]
    play.server(server_error(), READY)
    # Else the server would take the next message for the rest of this one, and what is in it for messages.
    assert play.client(data[cut:], late[:6]) == data[cut:]
    assert play.client(late[6:], frame(b"c"), query("select 1")) == query("select 1")


def test_flush_and_sync_inside_copy_are_dropped_as_the_server_would() -> None:
    play = Play(effects={"copy": {"copy": CopyEffect("in")}})
    assert play.client(parse("copy"), bind(), execute(), SYNC) == parse("copy") + bind() + execute() + FLUSH
    play.server(PARSED, BOUND, frame(b"G", b"\0\0\0"))
    assert play.then == b""
    assert play.client(frame(b"d", b"x"), FLUSH, frame(b"c"), SYNC) == frame(b"d", b"x") + frame(b"c") + SYNC


def test_any_other_message_inside_copy_ends_the_session() -> None:
    play = Play(effects={"copy": {"copy": CopyEffect("in")}})
    play.client(query("copy"))
    play.server(frame(b"G", b"\0\0\0"))
    with pytest.raises(ProtocolViolation, match="in the middle of COPY"):
        play.client(query("drop table t"))


def test_a_copy_that_was_not_foreseen_ends_the_session() -> None:
    play = Play()
    play.client(query("select 1"), query("drop table t"))
    with pytest.raises(FatalError, match="not known to do so"):
        play.server(frame(b"G", b"\0\0\0"))


def test_settings_are_asked_for_before_the_next_name_is_resolved() -> None:
    play = Play(effects={"set search_path": {"may_change_session": True}})
    assert play.client(query("set search_path"), query("select 1")) == query("set search_path")
    play.server(done("SET"), READY)
    asked = play.then
    assert asked.count(b"SHOW ") == len(SHOWN)
    assert asked.endswith(SYNC)
    one = PARSED + BOUND + ROW + done("SHOW") + CLOSED + CLOSED
    assert play.server(one * len(SHOWN) + READY) == b"", "the client sees nothing of it"
    assert play.shown == [("1",) * len(SHOWN)]
    assert play.then == query("select 1")


def test_settings_are_asked_inside_the_clients_own_pipeline_without_ending_it() -> None:
    play = Play(effects={"set": {"may_change_session": True}})
    play.client(parse("set"), bind(), execute(), parse("select 1"), SYNC)
    assert play.waiting is Wait.DRAIN
    play.server(PARSED, BOUND, done("SET"))
    assert play.then.endswith(FLUSH)
    assert SYNC not in play.then
    play.server((PARSED + BOUND + ROW + done("SHOW") + CLOSED + CLOSED) * len(SHOWN))
    assert play.then == parse("select 1") + SYNC


def test_settings_told_inside_a_pipeline_are_asked_for_again_behind_its_sync() -> None:
    play = Play(effects={"set local": {"may_change_session": True}})
    play.client(parse("set local"), bind(), execute(), parse("a"), bind(), execute(), SYNC, query("b"))
    play.server(PARSED, BOUND, done("SET"))
    play.server((PARSED + BOUND + ROW + done("SHOW") + CLOSED + CLOSED) * len(SHOWN))
    assert play.then == parse("a") + bind() + execute() + SYNC
    play.server(PARSED, BOUND, done("SELECT 1"), READY)
    assert b"SHOW" in play.then
    assert query("b") not in play.then


def test_settings_told_inside_a_pipeline_are_asked_for_again_behind_a_query_that_may_roll_it_back() -> None:
    play = Play(effects={"set": {"may_change_session": True}})
    play.client(parse("set"), bind(), execute(), query("select 1/0"), query("select 1"))
    play.server(PARSED, BOUND, done("SET"))
    play.server((PARSED + BOUND + ROW + done("SHOW") + CLOSED + CLOSED) * len(SHOWN))
    assert play.then == query("select 1/0") + FLUSH
    play.server(server_error(), READY)
    assert b"SHOW" in play.then
    assert query("select 1") not in play.then


def test_a_query_inside_a_pipeline_may_copy_twice() -> None:
    play = Play(effects={"copy; copy": {"copy": CopyEffect("in")}})
    data, copied = frame(b"d", b"1\n"), frame(b"c")
    play.client(parse("select 1"), query("copy; copy"), data, copied, data, copied, SYNC)
    play.server(PARSED, frame(b"G", b"\0\0\0"))
    assert play.then == data + copied
    play.server(done("COPY 1"), frame(b"G", b"\0\0\0"))
    assert play.then == data + copied
    play.server(done("COPY 1"), READY)
    assert play.then == SYNC


def test_settings_are_asked_for_behind_a_rollback_that_no_sync_follows() -> None:
    effects: dict[str, dict[str, object]] = {
        "set": {"may_change_session": True}, "rollback": {"transaction": "ROLLBACK"},
    }  # fmt: skip
    play = Play(effects=effects)
    play.client(query("set"))
    play.server(done("SET"), wire.ready_for_query(b"E"))
    play.client(parse("rollback"), bind(), execute(), parse("select 1"))
    for answer in (PARSED, BOUND, done("ROLLBACK")):
        play.server(answer)
    assert b"SHOW" in play.then
    assert parse("select 1") not in play.then


def test_names_are_told_apart_as_the_server_tells_them_apart() -> None:
    play, name = Play(), b"n" * 63
    play.client(parse("select 1", name + b"1"), SYNC)
    play.server(PARSED, READY)
    play.client(wire.close_message(b"S", name + b"2"), parse("delete", name + b"2"), SYNC)
    play.server(CLOSED, PARSED, READY)
    play.client(bind(name + b"1"), execute(), SYNC)
    assert play.asked[-1] == ("run", "delete")
    with pytest.raises(ProtocolViolation, match="not ASCII"):
        play.client(parse("select 1", "ä".encode() * 16))


def test_an_error_after_settings_were_touched_makes_them_unsure_again() -> None:
    play = Play(effects={"set": {"may_change_session": True}})
    play.client(query("set"))
    play.server(done("SET"), READY)
    play.client(query("a"))
    play.server((PARSED + BOUND + ROW + done("SHOW") + CLOSED + CLOSED) * len(SHOWN) + READY)
    play.server(server_error(), READY)
    assert b"SHOW" in play.client(query("b"))


def test_large_messages_wait_for_the_replies_of_those_before() -> None:
    play = Play(limit=2 << 20)
    large = query("x" * (1 << 20))
    assert play.client(*(large for _ in range(20))) == large * 15
    assert play.waiting is Wait.DRAIN
    play.server((done("X") + READY) * 15)
    assert play.then == large * 5


def test_large_parameters_are_held_under_names_up_to_a_limit() -> None:
    play = Play(limit=2 << 20)
    play.client(parse("a", b"s"), SYNC)
    play.server(PARSED, READY)
    for number in range(63):
        play.client(wire.bind_message(b"p%d" % number, b"s", [b"x" * (1 << 20)]))
        play.server(BOUND)
    assert substituted(play.client(wire.bind_message(b"more", b"s", [b"x" * (1 << 20)])), b"B")
    assert play.log == ["refused 54000"]
    play.server(server_error())
    play.client(SYNC)
    play.server(READY)
    assert play.client(wire.bind_message(b"", b"s", [b"x" * (1 << 20)]))[:1] == b"B", "without a name nothing adds up"


def test_a_message_over_the_limit_is_refused_and_never_passed() -> None:
    play = Play(limit=50)
    sent = play.client(query("x" * 60))
    assert substituted(sent, b"Q")
    assert b"xxx" not in sent
    assert play.log == ["refused 54000"]
    assert b"54000" in play.server(server_error(), READY)
    assert play.client(query("ok")) == query("ok")


def test_a_statement_of_exactly_the_limit_passes() -> None:
    play = Play(limit=51)
    assert play.client(query("x" * 50)) == query("x" * 50)


def test_invalid_utf8_is_refused() -> None:
    play = Play()
    assert substituted(play.client(wire.query_message(b"select '\xff'")), b"Q")
    assert b"invalid byte sequence" in play.server(server_error(), READY)


@pytest.mark.parametrize(
    "message",
    [
        b"Q\x00\x00\x00\x09ab\x00c\x00",
        b"Q\x00\x00\x00\x06ab",
        b"Q\x00\x00\x00\x03",
        b"Q\x7f\xff\xff\xff",
        b"!garbage",
        b"p\x00\x00\x00\x08abc\x00",
        frame(b"D", b"Xname\0"),
        frame(b"P", b"\0select 1\0\x00\x01"),
        frame(b"S", b"x"),
    ],
)
def test_garbage_ends_the_session(message: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        Play().client(message)


def test_function_calls_are_refused() -> None:
    play = Play()
    assert substituted(play.client(frame(b"F", bytes(12))), b"Q")
    assert b"0A000" in play.server(server_error(), READY)


def test_a_pipeline_is_bounded_and_goes_on_when_answers_come() -> None:
    play = Play()
    play.client(*[wire.describe_message(b"S", b"")] * 5000)
    assert play.waiting is Wait.ROOM
    owed = len(play.state.awaited)
    assert owed == 4096
    play.server(frame(b"n") * (owed // 2))
    assert play.waiting is Wait.ROOM
    play.server(frame(b"n"))
    assert play.waiting is Wait.READ
    assert play.then.count(wire.describe_message(b"S", b"")) == 5000 - 4096


def test_a_server_that_answers_out_of_order_ends_the_session() -> None:
    play = Play()
    play.client(parse("a"))
    with pytest.raises(ProtocolViolation, match="out of order"):
        play.server(BOUND)


@pytest.mark.parametrize(
    "answer",
    [
        PARSED + BOUND + frame(b"D", b"\0\0"),
        PARSED + BOUND + frame(b"D", b"\0\2" + b"\xff" * 8),
    ],
)
def test_settings_that_come_in_no_or_two_columns_end_the_session(answer: bytes) -> None:
    play = Play(effects={"set": {"may_change_session": True}})
    play.client(query("set"), query("select 1"))
    play.server(done("SET"), READY)
    with pytest.raises(ProtocolViolation, match="columns"):
        play.server(answer)


def test_a_description_that_is_cut_off_ends_the_session_whatever_formats_are_asked_for() -> None:
    play = Play()
    play.client(parse("a", b"s"), wire.describe_message(b"S", b"s"), SYNC)
    play.server(PARSED, frame(b"t", b"\0\0"), frame(b"T", b"\x00\x01x\x00" + bytes(17)), READY)
    play.client(wire.bind_message(b"", b"s", result_formats=[1]), execute(), SYNC)
    with pytest.raises(ProtocolViolation, match="RowDescription"):
        play.server(BOUND, ROW)


def test_a_row_count_of_thousands_of_digits_is_none() -> None:
    play = Play()
    play.client(query("a"))
    answer = done("SELECT " + "9" * 5000) + READY
    assert play.server(answer) == answer


def test_rows_that_nothing_asked_for_end_the_session() -> None:
    with pytest.raises(ProtocolViolation, match="nothing asked for"):
        Play().server(ROW)


def test_a_server_that_accepts_what_it_must_refuse_ends_the_session() -> None:
    play = Play(denied={"drop": NO})
    play.client(query("drop"))
    with pytest.raises(ProtocolViolation, match="accepted"):
        play.server(done("DROP TABLE"))


def test_a_fatal_error_in_the_place_of_a_denial_stays_what_it_is() -> None:
    play = Play(denied={"drop": NO})
    play.client(query("drop"))
    shutdown = server_error("terminating connection", "57P01", "FATAL")
    assert play.server(shutdown) == shutdown
    assert play.backend.fatal


def test_a_row_larger_than_a_chunk_streams_through() -> None:
    play = Play()
    play.client(query("select 1"))
    big = frame(b"D", b"\x00\x01" + (1_000_000).to_bytes(4, "big") + b"x" * 1_000_000)
    stream = DESCRIPTION + big + done("SELECT 1") + READY
    seen, held = b"", 0
    for i in range(0, len(stream), 65536):
        seen += play.server(stream[i : i + 65536])
        held = max(held, i + 65536 - len(seen))
    assert seen == stream
    assert held < 70_000
    assert play.recorded["r1"] == stream


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_row_that_streams_is_a_row_wherever_its_header_is_cut(cut: int) -> None:
    play = Play()
    play.client(query("select 1"))
    # A value that looks like messages: they are none.
    value = (done("SELECT 1") + READY) * 5000
    big = frame(b"D", b"\x00\x01" + len(value).to_bytes(4, "big") + value)
    stream = DESCRIPTION + big + done("SELECT 1") + READY
    head = len(DESCRIPTION) + cut
    assert play.server(stream[:head]) + play.server(stream[head:]) == stream
    assert play.log == ["r1 ok"]


def test_skipped_requests_are_recorded_as_skipped() -> None:
    play = Play()
    play.client(parse("a", b"a"), parse("b", b"b"), SYNC)
    play.server(PARSED, PARSED, READY)
    play.client(bind(b"a"), execute(), bind(b"b"), execute(), SYNC)
    play.server(BOUND, server_error(), READY)
    assert play.log == ["r4 error", "r6 skipped"]


def test_after_an_error_everything_up_to_the_sync_that_comes_later_is_ignored() -> None:
    play = Play()
    play.client(parse("select 1/0"), bind())
    assert play.server(PARSED, server_error()) == PARSED + server_error()
    asked = len(play.asked)
    assert play.client(execute(), parse("delete", b"s"), FLUSH) == b""
    assert play.client(SYNC, query("select 1")) == SYNC + query("select 1")
    assert play.server(READY, done("SELECT 1"), READY) == READY + done("SELECT 1") + READY
    assert play.asked[asked:] == [("run", "select 1")]


def test_an_error_that_comes_while_a_request_is_decided_keeps_it_from_running() -> None:
    play = Play()
    play.client(parse("select 1/0"), bind())
    statement = play.state.statements[b""]
    play.server(PARSED)
    # What the relay does while `execute` waits for its record: the server's error comes first.
    play.backend.feed(server_error())
    play.frontend._owe(Awaited(Kind.PARSE, name=b"", statement=Prepared(b"", "x"), previous=statement), b"P....x", 5, 6)
    assert play.frontend.to_server == []
    assert play.client(SYNC) == SYNC
