"""Raw records, policies and approvals made into views."""

from __future__ import annotations

from typing import Any

from ostiary_console.shown.approvals import approval_view
from ostiary_console.shown.connections import connections_page
from ostiary_console.shown.hours import by_hour
from ostiary_console.shown.policies import policies_page
from ostiary_console.shown.requests import request_view
from ostiary_console.shown.search import address, sessions_page
from ostiary_console.shown.sessions import session_page
from ostiary_console.shown.words import ago, compact, snippet, span
from ostiary_console.views import Copied, Diff, Document, Grid, Remark, Report, SearchForm, Stream, Terminal
from ostiary_gateway.audit.event import request_id
from ostiary_gateway.audit.reader import Event, Request
from ostiary_gateway.audit.stream_recording import Kind, Writer, size_data
from ostiary_store.model import Facets, RequestPage, RuleHits, SessionRow, Tally

NOW = 1_764_000_000.0


def row(protocol: str = "Postgres", state: str = "closed", **more: Any) -> SessionRow:
    closed = None if state == "open" else NOW
    return SessionRow("01s", NOW - 60, closed, state, "shop/app", protocol, "planner", "Full", **more)


def request(text: str, detail: dict[str, Any], end: dict[str, Any], action: str = "Allow", **ended: Any) -> Request:
    rule = {"namespace": "shop", "policy": "rails", "rule": "work", "revision": "1"}
    decision = {"id": "ab", "action": action, "rule": rule, "message": "Allowed by rule shop/rails#work."}
    begun = {"at": NOW, "text": text, "detail": detail, "decision": decision}
    fields = {"at": NOW + 1, "outcome": "ok", "rows": 0, "bytes": 0, "detail": end, **ended}
    return Request(request_id("01s", 1), Event(1, "begin", begun, 0), Event(2, "end", fields, 0), ())


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + (len(body) + 4).to_bytes(4, "big") + body


def data_row(*values: bytes | None) -> bytes:
    cells = b"".join(b"\xff\xff\xff\xff" if v is None else len(v).to_bytes(4, "big") + v for v in values)
    return message("D", len(values).to_bytes(2, "big") + cells)


DESCRIBED = message(
    "T", b"\0\x02" + b"".join(name + b"\0" + b"\0" * 6 + oid.to_bytes(4, "big") + b"\0" * 8 for name, oid in
                              ((b"id", 23), (b"name", 25))),
)  # fmt: skip


def test_a_statement_with_its_rows() -> None:
    pieces = [DESCRIBED, *(data_row(str(n).encode(), None if n == 2 else b"x" * 300) for n in range(1, 31))]
    pieces.append(message("C", b"SELECT 30\0"))
    view = request_view(
        row(), request("select 1 ", {"parameters": ["a", None]}, {"tags": ["SELECT 30"]}), pieces
    )  # fmt: skip
    assert (view.text, view.language, view.parameters, view.result) == ("select 1", "sql", ("a", None), "SELECT 30")
    assert view.decision is not None
    assert (view.decision.policy, view.decision.rule, view.decision.message) == ("shop/rails", "work", "")
    (grid,) = view.answered
    assert isinstance(grid, Grid)
    assert [column.number for column in grid.columns] == [True, False]
    assert (grid.count, len(grid.rows), grid.rows[1]) == (30, 12, ("2", None))
    assert grid.rows[0][1] == "x" * 160 + "…"


def test_rows_further_on_are_counted_from_the_beginning() -> None:
    pieces = [DESCRIBED, *(data_row(str(n).encode(), b"x") for n in range(1, 31)), message("C", b"SELECT 30\0")]
    view = request_view(row(), request("select", {}, {}), pieces, first_row=20)
    (grid,) = view.answered
    assert isinstance(grid, Grid)
    assert (grid.count, grid.rows[0][0], len(grid.rows)) == (30, "21", 10)


def test_errors_copies_and_what_is_broken() -> None:
    error = message("E", b"SERROR\0C42501\0Mno\0Hask\0\0")
    copied = message("H", b"\0\0\0") + message("d", b"a\tb\n") + message("c", b"")
    blocks = request_view(row(), request("copy", {}, {}), [copied, error, b"D\0"]).answered
    assert [type(block) for block in blocks] == [Report, Remark, Copied]
    assert blocks[0] == Report(True, "ERROR", "42501", "no", (("Hint", "ask"),))
    assert blocks[2] == Copied(4, binary=False, text="a\tb")


def test_a_damaged_response_is_told_of_in_its_place() -> None:
    def pieces() -> Any:
        yield DESCRIBED
        raise ValueError("a chunk does not decompress")

    (*_, last) = request_view(row(), request("select", {}, {}), pieces()).answered
    assert isinstance(last, Remark)
    assert last.bad
    assert "ostiary verify" in last.text


def test_a_write_to_an_api_shows_what_it_changes() -> None:
    detail = {"diff": "--- a\n+++ b\n@@ -1 +1 @@\n-replicas: 1\n+replicas: 3"}
    body = b'{"kind": "Deployment", "spec": {"replicas": 3}}'
    view = request_view(row("Kubernetes"), request("PATCH /apis/x", detail, {"status": 200}), [body])
    (change,), (answer,) = view.asked, view.answered
    assert isinstance(change, Diff)
    assert [line.kind for line in change.lines] == ["-", "+", "@", "-", "+"]
    assert isinstance(answer, Document)
    assert (answer.language, answer.title, view.result, view.good) == ("json", "Deployment", "200", True)


def test_a_table_of_the_api_and_a_refusal() -> None:
    table = (
        b'{"kind":"Table","columnDefinitions":[{"name":"Name","type":"string"},{"name":"Wide","priority":1}],'
        b'"rows":[{"cells":["web","x"]},{"cells":[null]}]}'
    )
    (grid,) = request_view(row("Kubernetes"), request("GET /api", {}, {"status": 200}), [table]).answered
    assert isinstance(grid, Grid)
    assert (grid.rows, grid.count) == ((("web",), ("",)), 2)
    refused = request_view(row("Kubernetes"), request("GET /x", {}, {"status": 403, "reason": "Forbidden"}), [])
    assert (refused.result, refused.good) == ("403 Forbidden", False)


def recorded(*, tty: bool) -> list[bytes]:
    writer = Writer(0.0, tty=tty)
    return [
        writer.header, writer.frame(0.1, Kind.RESIZE, size_data(100, 40)),
        writer.frame(0.2, Kind.STDOUT, b"\x1b[1mout\x1b[0m\r\n"), writer.frame(0.3, Kind.STDERR, b"err\n"),
    ]  # fmt: skip


def test_a_command_shows_its_programs_and_its_streams() -> None:
    detail = {"kind": "exec", "programs": ["ls", "rm"], "runAs": ["root"], "opaque": "eval"}
    view = request_view(row("SSH"), request("ls; rm x", detail, {"exitStatus": 2}), recorded(tty=False))
    assert view.notes == ("runs ls, rm", "as root")
    assert view.warnings == ("What it does cannot be known: eval",)
    assert (view.kind, view.language, view.result, view.good) == ("command", "bash", "exit 2", False)
    assert view.answered == (Stream("stdout", "out"), Stream("stderr", "err"))
    assert view.cast_href == ""


def test_a_terminal_can_be_played() -> None:
    view = request_view(row("SSH"), request("shell", {"kind": "shell"}, {"exitStatus": 0}), recorded(tty=True))
    assert view.answered[0] == Terminal("/sessions/01s/requests/1/cast", 100, 40, tty=True)
    assert view.cast_href == "/sessions/01s/requests/1/cast"


def test_a_session_says_who_came_from_where() -> None:
    opened = row(
        state="open", subject={"onBehalfOf": "otto", "groups": ["a", "b"]}, detail={"database": "app"},
        client={"address": "10.0.0.1", "application": "psql"}, retention={"record": 86_400.0, "responses": 60},
    )  # fmt: skip
    gap = Event(3, "gap", {"at": NOW, "events": 3}, 0)
    page = session_page(opened, [gap], (), now=NOW, can_end=True)
    assert dict(page.about) == {
        "On behalf of": "otto", "Groups": "a, b", "Client": "10.0.0.1, psql", "Database": "app",
        "Kept for": "1 day, responses 60 s",
    }  # fmt: skip
    assert page.remarks[0].text == "3 events missing here: they could not be written"
    assert page.can_end
    assert page.follow_href == "/sessions/01s/follow"
    assert not session_page(row(), [], (), now=NOW, can_end=True).can_end


def test_a_search_can_be_narrowed_and_widened() -> None:
    form = SearchForm(q="a b", decision="Deny", user="p&q")
    facets = Facets({"shop/app": 3}, {"p&q": 3}, {"Allow": 1, "Deny": 2, "Mask": 9}, {"/": 1, "s/p/r": 2}, 3, False)
    page = sessions_page(form, requests=RequestPage((), "n", 1.0), facets=facets, after="x")
    assert page.view == "requests"
    assert page.next_href == "/sessions?q=a+b&user=p%26q&decision=Deny&after=n"
    assert page.first_href == address(form)
    assert [chip.href for chip in page.chips if chip.value == "denied"] == ["/sessions?q=a+b&user=p%26q"]
    decisions, who, _, rules = page.facets
    assert [value.value for value in decisions.values] == ["Deny", "Allow"]
    assert who.values[0].chosen
    assert who.values[0].href == "/sessions?q=a+b&decision=Deny"
    assert [value.value for value in rules.values] == ["s/p/r"]
    assert page.sessions_href == "/sessions?user=p%26q&decision=Deny&view=sessions"


def test_a_question_has_all_that_one_needs_to_decide() -> None:
    spec = {
        "request": {"hash": "ab", "summary": "delete from x", "truncated": True,
                    "facts": {"sql": {"estimatedRows": 7, "params": [1, None], "statements": [
                        {"verb": "DELETE", "relations": [{"access": "write", "schema": "public", "name": "x"}]}]}},
                    "evidence": {"type": "Explain", "text": "Seq Scan"}},
        "connectionRef": {"name": "app"}, "requester": {"username": "planner", "session": "01s"},
        "approval": {"groups": ["dba"], "minApprovals": 2},
        "policies": [{"namespace": "shop", "name": "rails", "rule": "big"}],
    }  # fmt: skip
    status = {"expiresAt": "2025-11-24T16:00:00Z", "approvals": [{"approver": "ann", "verdict": "Approve"}]}
    item = {"approval": {"metadata": {"name": "apr-1"}, "spec": spec, "status": status}, "state": "Pending",
            "acting": {"ann": "dba"}}  # fmt: skip
    view = approval_view(item, now=NOW, can_decide=True, why_not="")
    assert (view.href, view.connection, view.language) == ("/approvals/default/apr-1", "default/app", "sql")
    assert (view.needed, view.given, view.estimated_rows, view.parameters) == (2, 1, 7, ("1", None))
    assert view.facts == ("DELETE: write public.x",)
    assert view.answers[0].acting == "dba"
    assert view.truncated
    assert view.can_decide
    assert view.expires == NOW
    assert not approval_view({**item, "state": "Denied"}, now=NOW, can_decide=True, why_not="").can_decide
    assert approval_view({}, now=NOW, can_decide=False, why_not="no").why_not == "no"


def test_policies_have_their_hits_and_those_only_the_record_knows() -> None:
    rules = [{"name": "big", "action": "Deny", "expression": "true"}, {"name": "pii", "action": "Mask", "masking": [
        {"column": "a.b.c"}]}]  # fmt: skip
    manifest = {"metadata": {"namespace": "shop", "name": "rails"}, "spec": {"rules": rules, "enforcement": "Audit"}}
    hits = [RuleHits("shop/rails", "big", "Deny", False, 3, NOW), RuleHits("shop/old", "x", "Allow", True, 1, NOW),
            RuleHits("", "", "Deny", True, 5, NOW)]  # fmt: skip
    tallies = [Tally(int(NOW) // 3600 * 3600, "shop/app", "", "Deny", "shop/rails", "big", False, 3)]
    page = policies_page([manifest], hits=hits, tallies=tallies, denials={}, since="24h", now=NOW)
    rails, old = page.policies
    assert (rails.rules[0].hits, rails.rules[0].enforced, rails.rules[0].hours[-1]) == (3, False, 3)
    assert (rails.rules[1].masks, rails.rules[1].href) == (("a.b.c (Redact)",), "")
    assert (old.key, old.known, page.unmatched, len(page.would_have)) == ("shop/old", False, 5, 1)


def test_connections_that_are_not_well_come_first() -> None:
    def manifest(name: str, status: str) -> dict[str, Any]:
        conditions = [{"type": "UpstreamReachable", "status": status, "message": "refused"}]
        return {"metadata": {"namespace": "shop", "name": name}, "status": {"conditions": conditions},
                "spec": {"protocol": "SSH", "upstream": {"host": "h", "port": 22}}}  # fmt: skip

    hour = int(NOW) // 3600 * 3600
    tallies = [Tally(hour, "shop/a", "", action, "", "", True, 2) for action in ("Allow", "Deny", "Mask")]
    tallies.append(Tally(hour, "shop/gone", "", "Allow", "", "", True, 1))
    page = connections_page(
        [manifest("a", "True"), manifest("b", "False")], tallies=tallies, records=[{"gateway": "g", "last": 5.0}],
        live={"shop/a": 2}, now=NOW,
    )  # fmt: skip
    assert [(view.name, view.health) for view in page.connections] == [("b", "bad"), ("a", "ok"), ("gone", "unknown")]
    assert (page.connections[1].requests, page.connections[1].denied, page.connections[1].live) == (4, 2, 2)
    assert page.connections[0].target == "h:22"
    assert page.records[0].last == 5.0


def test_hours_become_bars() -> None:
    now = 100 * 3600.0
    assert by_hour([(100 * 3600, 1), (98 * 3600, 2)], 97 * 3600, now) == (0, 2, 0, 1)
    long = by_hour([(100 * 3600, 1), (99 * 3600, 2), (0, 4)], 0, now, bars=10)
    assert len(long) <= 10
    assert (long[-1], sum(long)) == (3, 7)


def test_words() -> None:
    assert [span(seconds) for seconds in (0.2, 59, 61, 3600)] == ["0 s", "59 s", "1 min", "1 h"]
    assert [span(seconds) for seconds in (7500, 90_000)] == ["2 h 5 min", "1 d 1 h"]
    assert (ago(NOW, NOW), ago(NOW - 5, NOW)) == ("now", "5 s ago")
    assert [compact(n) for n in (9_999, 12_345, 1_500_000)] == ["9,999", "12.3k", "1.5M"]
    assert snippet("a\n  b") == "a b"
    assert len(snippet("x" * 1000)) == 281
