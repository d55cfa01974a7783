"""What pages and their JSON give: lists that lead on, parts of sessions, recordings, responses, static files."""

from __future__ import annotations

import json

from support.batches import ALLOW, DENY
from support.console import Desk, opened

from ostiary_gateway.audit.stream_recording import Kind, Writer, size_data


def recording() -> bytes:
    """A terminal: a prompt, what was typed, what came, ten seconds later more."""
    writer = Writer(0.0, tty=True)
    frames = [
        (0.1, Kind.RESIZE, size_data(100, 30)), (0.2, Kind.STDOUT, b"$ "), (1.0, Kind.STDIN, b"ls\r"),
        (1.1, Kind.STDOUT, "böse\r\n".encode()), (11.0, Kind.STDOUT, b"later\r\n"),
    ]  # fmt: skip
    return writer.header + b"".join(writer.frame(at, kind, data) for at, kind, data in frames)


async def test_a_terminal_is_played_from_anywhere(desk: Desk) -> None:
    desk.hand.open("01ssh", protocol="SSH")
    desk.hand.whole("01ssh", 1, "bash", detail={"kind": "shell"}, response=recording())
    desk.hand.whole("01ssh", 2, "scp", detail={"kind": "scp", "operation": "read"}, response=recording())
    await desk.write()
    async with await desk.as_("ann") as ann:
        page = (await ann.json("/sessions/01ssh/requests/1"))["request"]
        assert page["cast_href"] == "/sessions/01ssh/requests/1/cast"
        answer = await ann.get(page["cast_href"])
        head, *events = [json.loads(line) for line in (await answer.text()).splitlines()]
        assert (head["version"], head["width"], head["height"]) == (2, 100, 30)
        assert [(event[1], event[2]) for event in events if event[1] == "o"] == [
            ("o", "$ "), ("o", "böse\r\n"), ("o", "later\r\n")
        ]  # fmt: skip
        text = await (await ann.get(f"{page['cast_href']}?from=10")).text()
        later = [json.loads(line) for line in text.splitlines()]
        assert [event[0] for event in later[1:] if event[1] == "o"] == [0.0, 0.0, 1.0], "what came before is at once"
        typed = (await (await ann.get(f"{page['cast_href']}?input=1")).text()).splitlines()
        assert any(json.loads(line)[1:] == ["i", "ls\r"] for line in typed[1:])
        assert (await ann.get("/sessions/01ssh/requests/2/cast")).status == 404, "a file is no terminal"


async def test_a_long_response_is_read_in_pieces(desk: Desk) -> None:
    body = bytes(range(256)) * 8_000
    desk.hand.open("01k8s", protocol="Kubernetes")
    desk.hand.begin("01k8s", 1, "GET /api/v1/pods")
    for offset in range(0, len(body), 512_000):
        desk.hand.part("01k8s", 1, offset, body[offset : offset + 512_000])
    desk.hand.end("01k8s", 1, size=len(body))
    await desk.write()
    async with await desk.as_("ann") as ann:
        path = "/sessions/01k8s/requests/1/response"
        answer = await ann.get(path)
        assert (answer.headers["X-Response-Size"], await answer.read()) == (str(len(body)), body)
        assert await (await ann.get(f"{path}?offset=1000000&limit=10")).read() == body[1_000_000:1_000_010]
        assert await (await ann.get(f"{path}?offset=99999999")).read() == b""
        assert (await ann.get("/sessions/01k8s/requests/1")).status == 200


async def test_lists_lead_on(desk: Desk) -> None:
    for number in range(7):
        desk.hand.open(f"01s{number}", connection=f"shop/app-{number % 2}")
        desk.hand.whole(f"01s{number}", 1, f"select {number} from orders", DENY if number == 3 else ALLOW)
    await desk.write()
    async with await desk.as_("ann") as ann:
        found: list[str] = []
        path = "/sessions?limit=3"
        while path:
            page = await ann.json(path)
            found += [each["id"] for each in page["sessions"]]
            path = page["next_href"] and page["next_href"] + "&limit=3"
        assert found == [f"01s{number}" for number in reversed(range(7))]
        page = await ann.json("/sessions?q=orders&decision=Deny")
        assert [each["session"] for each in page["requests"]] == ["01s3"]
        page = await ann.json("/sessions?connection=shop/app-1")
        assert [each["id"] for each in page["sessions"]] == ["01s5", "01s3", "01s1"]
        assert (await ann.json("/sessions?since=2026-11-23T13:00"))["sessions"] == []
        assert (await ann.get("/sessions/01s")).status == 404, "several begin so"


async def test_the_beginning_of_an_id_is_enough(desk: Desk) -> None:
    desk.hand.open("01abcdef")
    desk.hand.whole("01abcdef", 1)
    await desk.write()
    async with await desk.as_("ann") as ann:
        assert (await ann.get("/sessions/01ab")).headers["Location"] == "/sessions/01abcdef"
        assert (await ann.get("/requests/01abcdef-1")).headers["Location"] == "/sessions/01abcdef/requests/1"
        assert (await ann.get("/sessions/01abcdef/requests/2")).status == 404


async def test_a_session_comes_in_stretches(desk: Desk) -> None:
    desk.hand.open("01long")
    for number in range(1, 121):
        desk.hand.whole("01long", number, f"select {number}")
    await desk.write()
    async with await desk.as_("ann") as ann:
        numbers: list[int] = []
        path = "/sessions/01long"
        while path:
            page = await ann.json(path)
            numbers += [each["number"] for each in page["requests"]]
            path = page["next_href"]
        assert numbers == list(range(1, 121))
        fragment = await ann.text("/sessions/01long?at=101&fragment=1")
        assert "<html" not in fragment
        assert "120" in fragment


async def test_a_gateway_that_does_not_answer_is_told_of(desk: Desk) -> None:
    desk.world.open.append(opened("01live", "shop/app", "01live-1"))
    desk.world.unreachable = ("shop/app-db (app-db-1)", "bank/ledger (x)")
    async with await desk.as_("ann") as ann, await desk.as_("bob") as bob:
        page = await ann.json("/live")
        assert [each["running"][0]["text"] for each in page["sessions"]] == ["select pg_sleep(9)"]
        assert len(page["unreachable"]) == 2
        assert (await bob.json("/live"))["unreachable"] == ["shop/app-db (app-db-1)"]


async def test_static_files_are_kept_by_browsers(desk: Desk) -> None:
    async with desk.browser() as browser:
        address = desk.console.pages.address("app.js")
        answer = await browser.get(address)
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        plain = await browser.get("/static/app.js")
        assert plain.headers["Cache-Control"] == "no-cache"
        again = await browser.get("/static/app.js", headers={"If-None-Match": plain.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
