"""What an attacker would try at the console, and what comes of it."""

from __future__ import annotations

import asyncio
import io
import re
import time
from pathlib import Path

import pytest
from support.batches import DENY
from support.console import HOST, KEY, Browser, Desk, console_desk, opened, question

from ostiary_console.limits import Attempts, Places
from ostiary_console.seals import Seal

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


async def status(browser: Browser, path: str, **more: object) -> int:
    answer = await browser.get(path, **more)
    return answer.status


def _same(text: str, name: str) -> str:
    """A page without what differs with its address and the time."""
    return re.sub(r'data-now="[^"]*"', "", text).replace(name, "")


# -- another site


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example.com", "console.example.com@evil", "console.example.com/x", ""]
)
async def test_a_name_that_is_not_ours_is_refused(desk: Desk, host: str) -> None:
    """DNS rebinding: a page of evil.example.com whose name comes to lead here."""
    async with await desk.as_("ann") as ann:
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        cookies = "; ".join(f"{name}={value}" for name, value in ann.cookies.items())
        line = f"Host: {host}\r\n" if host else ""
        writer.write(f"GET /sessions HTTP/1.1\r\n{line}Cookie: {cookies}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] in (b"400", b"403"), answer[:200]
        assert b"Sessions" not in answer.partition(b"\r\n\r\n")[2][:2000]
        assert await status(ann, "/sessions", headers={"Host": f"{HOST}:8443"}) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": ""},
        {"Origin": "", "Sec-Fetch-Site": ""},
    ],
    ids=["another site", "a sandbox", "a sibling", "another port", "nobody knows"],
)
async def test_a_form_of_another_page_does_nothing(desk: Desk, headers: dict[str, str]) -> None:
    desk.world.items.append(question())
    async with await desk.as_("ann") as ann:
        await ann.get("/approvals/shop/apr-1")
        answer = await ann.post(
            "/approvals/shop/apr-1/decide", {"verdict": "Approve", "hash": "a" * 64}, headers=headers
        )
        assert answer.status == 403
        assert not desk.world.decided


@pytest.mark.parametrize("csrf", ["", "made-up", "x" * 100])
async def test_a_form_without_its_token_does_nothing(desk: Desk, csrf: str) -> None:
    desk.world.items.append(question())
    async with await desk.as_("ann") as ann:
        answer = await ann.post("/approvals/shop/apr-1/decide", {"verdict": "Approve", "hash": "a" * 64}, csrf=csrf)
        assert answer.status == 403
        assert not desk.world.decided


async def test_the_token_of_another_session_does_not_fit(desk: Desk) -> None:
    desk.world.items.append(question())
    async with await desk.as_("ann") as ann, await desk.as_("bob") as bob:
        await bob.get("/approvals/shop/apr-1")
        answer = await ann.post("/approvals/shop/apr-1/decide", {"verdict": "Approve", "hash": "a" * 64}, csrf=bob.csrf)
        assert answer.status == 403
        assert not desk.world.decided


async def test_a_stranger_cannot_sign_somebody_in_as_themselves(desk: Desk) -> None:
    """Login CSRF: what the victim does then is seen by who owns the token."""
    async with desk.browser() as victim:
        answer = await victim.post("/signin/token", {"token": "token-of-eve"}, csrf="made-up")
        assert answer.status == 403
        assert not victim.cookies


async def test_json_with_a_cookie_needs_the_token_as_well(desk: Desk) -> None:
    desk.world.items.append(question())
    body = {"verdict": "Approve", "hash": "a" * 64}
    async with await desk.as_("ann") as ann:
        headers = {"Origin": ann.base, "Sec-Fetch-Site": "same-origin"}
        path = "/api/v1/approvals/shop/apr-1/decide"
        assert (await ann.ask("POST", path, headers=headers, json=body)).status == 403
        assert (await ann.ask("POST", path, headers=headers, data='{"verdict": "Approve"}')).status == 415
        await ann.get("/approvals/shop/apr-1")
        answer = await ann.ask("POST", path, headers={**headers, "X-CSRF-Token": ann.csrf}, json=body)
        assert (answer.status, await answer.json()) == (200, {"approval": "shop/apr-1", "verdict": "Approve"})


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
async def test_only_get_and_post_are_taken(desk: Desk, method: str) -> None:
    async with await desk.as_("ann") as ann:
        answer = await ann.ask(method, "/sessions")
        assert answer.status == 405
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "after",
    ["//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "javascript:alert(1)",
     "/x\r\nSet-Cookie: a=b", "/%0d%0aSet-Cookie:%20a=b", "\t//evil.example.com", "/signout",
     "http:/\\evil.example.com"],
)  # fmt: skip
async def test_signing_in_leads_nowhere_else(desk: Desk, after: str) -> None:
    async with desk.browser() as browser:
        answer = await browser.sign_in("token-of-ann", after)
        where = answer.headers["Location"]
        assert where.startswith("/")
        assert not where.startswith(("//", "/\\", "/signout"))
        assert "a" not in answer.cookies


async def test_no_page_may_be_framed_or_load_from_elsewhere(desk: Desk) -> None:
    async with await desk.as_("ann") as ann:
        for path in ("/sessions", "/signin", "/nope", "/api/v1/sessions", "/static/nope.js"):
            headers = (await ann.get(path)).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe-inline" not in policy
            assert "unsafe-eval" not in policy.replace("wasm-unsafe-eval", "")
            assert "http" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "same-origin"
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cache-Control"] == "no-store"
            assert "aiohttp" not in headers.get("Server", "").lower()


# -- what agents chose


async def test_what_agents_chose_is_text(desk: Desk) -> None:
    """Stored XSS in a statement, a user name, a connection, a value and a column, and of every protocol."""
    hand = desk.hand
    row = f"\0\1{SCRIPT}\0".encode() + bytes(18)
    described = b"T" + (len(row) + 4).to_bytes(4, "big") + row
    value = SCRIPT.encode()
    cell = b"\0\1" + len(value).to_bytes(4, "big") + value
    data = b"D" + (len(cell) + 4).to_bytes(4, "big") + cell
    hand.open("01pg", username=f"planner{SCRIPT}", connection=f"shop/{SCRIPT}")
    hand.whole("01pg", 1, f"select '{SCRIPT}' \x1b[31m \u202e", DENY, outcome="denied")
    hand.whole("01pg", 2, f"select '{SCRIPT}'", response=described + data, detail={"parameters": [SCRIPT, None]})
    hand.open("01k8s", protocol="Kubernetes")
    hand.whole(
        "01k8s", 1, f"GET /api/v1/{SCRIPT}", detail={"diff": f"+{SCRIPT}", "contentType": SCRIPT},
        response=b'{"kind":"Status","status":"Failure","message":"' + SCRIPT.encode() + b'"}',
    )  # fmt: skip
    hand.open("01ssh", protocol="SSH")
    hand.whole(
        "01ssh", 1, f"echo '{SCRIPT}'", detail={"kind": "exec", "runAs": [SCRIPT], "env": {SCRIPT: SCRIPT}},
        response=b"OSTR\1\0\0\0\0\1" + bytes((len(value),)) + value,
    )  # fmt: skip
    await desk.write()
    evidence = {"type": "Diff", "text": SCRIPT}
    desk.world.items.append(question(summary=f"delete {SCRIPT}", title=SCRIPT, evidence=evidence))
    live = opened("01live", "shop/app", "01live-1")
    desk.world.open.append({**live, "username": SCRIPT, "running": [{**live["running"][0], "text": SCRIPT}]})
    async with await desk.as_("ann") as ann:
        for path in (
            "/sessions", "/sessions?view=requests", f"/sessions?q={SCRIPT}&user={SCRIPT}&view=requests",
            "/sessions/01pg", "/sessions/01pg/requests/1", "/sessions/01pg/requests/2",
            "/sessions/01k8s", "/sessions/01k8s/requests/1",
            "/sessions/01ssh", "/sessions/01ssh/requests/1", "/live", "/approvals", "/approvals/shop/apr-1",
            "/policies", "/connections", "/sessions/01live/kill",
        ):  # fmt: skip
            text = await ann.text(path)
            assert "<script>alert" not in text, path
            assert "<img src=x" not in text, path
            assert "\x1b" not in text, path
            assert "\u202e" not in text, path
        for path in (f"/sessions/{SCRIPT}", f"/nope/{SCRIPT}", f"/signin?next={SCRIPT}", f"/sessions?since={SCRIPT}"):
            assert "<script>alert" not in await (await ann.get(path)).text(), path


async def test_a_recorded_response_is_a_file_and_no_page(desk: Desk) -> None:
    desk.hand.open("01k8s", protocol="Kubernetes")
    desk.hand.whole("01k8s", 1, "GET /", response=f"<html>{SCRIPT}</html>".encode())
    await desk.write()
    async with await desk.as_("ann") as ann:
        answer = await ann.get("/sessions/01k8s/requests/1/response")
        assert await answer.read() == f"<html>{SCRIPT}</html>".encode()
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="01k8s-1.bin"'
        assert answer.headers["Content-Security-Policy"].startswith("sandbox;")


# -- what is not for everybody


async def test_another_viewers_session_is_not_there(desk: Desk) -> None:
    desk.hand.open("01open", connection="shop/app")
    desk.hand.open("01secret", connection="bank/ledger")
    for name in ("01open", "01secret"):
        desk.hand.whole(name, 1, "select secret_of_the_bank", response=b"x")
    await desk.write()
    desk.world.open += [opened("01open"), opened("01secret", "bank/ledger")]
    paths = ("", "/requests/1", "/requests/1/response", "/requests/1/cast", "/follow", "/kill")
    async with await desk.as_("bob") as bob, await desk.as_("carol") as carol:
        for browser, session in ((bob, "01secret"), (carol, "01open"), (carol, "01secret")):
            for path in paths:
                there = await browser.get(f"/sessions/{session}{path}")
                missing = await browser.get(f"/sessions/01nobody{path}")
                assert there.status == missing.status == 404, path
                assert _same(await there.text(), session) == _same(await missing.text(), "01nobody"), path
        assert await status(bob, "/sessions/01open") == 200
        lists = ("/sessions", "/sessions?view=requests", "/sessions?q=select", "/live", "/policies", "/connections")
        for path in lists:
            assert "ledger" not in await bob.text(path), path
            assert "01secret" not in await bob.text(path), path
        assert await status(bob, "/requests/01secret-1") == 404
        assert await status(bob, "/sessions/01s") == 404, "the beginning of an id tells nothing either"
        assert [each["id"] for each in (await bob.json("/sessions"))["sessions"]] == ["01open"]
        assert (await carol.json("/sessions"))["sessions"] == []


async def test_only_who_may_ends_a_session(desk: Desk) -> None:
    desk.world.open.append(opened("01aaaa", "shop/app", "01aaaa-2"))
    async with await desk.as_("bob") as bob, await desk.as_("ann") as ann:
        await bob.get("/approvals")
        assert (await bob.post("/sessions/01aaaa/kill", {"reason": "because"})).status == 403
        assert not desk.world.ended
        await ann.get("/sessions/01aaaa/kill")
        assert (await ann.post("/sessions/01aaaa/kill", {"target": "01bbbb"})).status == 409
        assert (await ann.post("/sessions/01aaaa/kill", {"target": "01aaaa-7"})).status == 409
        assert (await ann.post("/sessions/01aaaa/kill", {"reason": "x" * 600})).status == 400
        assert not desk.world.ended
        assert (await ann.post("/sessions/01aaaa/kill", {"reason": "too\nlong", "target": "01aaaa-2"})).status == 303
        assert desk.world.ended == [("ann", "01aaaa-2", "too long")]


async def test_a_question_that_has_changed_is_not_answered(desk: Desk) -> None:
    desk.world.items.append(question(hash="b" * 64))
    async with await desk.as_("ann") as ann:
        await ann.get("/approvals/shop/apr-1")
        answer = await ann.post("/approvals/shop/apr-1/decide", {"verdict": "Approve", "hash": "a" * 64})
        assert answer.status == 409
        assert "another question" in await answer.text()
        assert not desk.world.decided


async def test_what_is_not_shown_whole_is_not_approved_by_accident(desk: Desk) -> None:
    desk.world.items.append(question(truncated=True))
    async with await desk.as_("ann") as ann:
        await ann.get("/approvals/shop/apr-1")
        fields = {"verdict": "Approve", "hash": "a" * 64}
        assert (await ann.post("/approvals/shop/apr-1/decide", fields)).status == 409
        assert not desk.world.decided
        assert (await ann.post("/approvals/shop/apr-1/decide", {**fields, "unseen": "1"})).status == 303


async def test_nobody_who_is_not_signed_in_sees_anything(desk: Desk) -> None:
    desk.hand.open("01open")
    await desk.write()
    async with desk.browser() as nobody:
        for path in ("/sessions", "/sessions/01open", "/live", "/approvals", "/policies", "/connections", "/replay"):
            answer = await nobody.get(path)
            assert answer.status == 303, path
            assert answer.headers["Location"].startswith("/signin?next=/"), path
        for path in ("/api/v1/sessions", "/live/events", "/sessions/01open/follow"):
            assert await status(nobody, path) == 401, path
        assert (await nobody.post("/signout")).status == 401


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/%2e%2e/etc/passwd", "/static//etc/passwd",
     "/static/..\\app.py", "/static/app.css%00.js", "/static/", "/static/./app.css"],
)  # fmt: skip
async def test_static_files_are_those_of_the_package_only(desk: Desk, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.split(b" ")[1] in (b"404", b"400", b"303"), answer[:200]
    assert b"root:" not in answer


# -- cookies


async def test_a_cookie_cannot_be_made_or_changed(desk: Desk) -> None:
    async with await desk.as_("bob") as bob:
        name, value = next((n, v) for n, v in bob.cookies.items() if n == "ostiary")
        for wrong in (value[:-2] + "AA", "A" + value[1:], value[:40], "", value + "AAAA", "x" * 3000, "💥"):
            bob.cookies[name] = wrong
            assert await status(bob, "/sessions") == 303, wrong[:50]
        forged = Seal([b"another key that somebody guessed!!"]).seal("session", {"id": "x", "name": "ann"})
        bob.cookies[name] = forged
        assert await status(bob, "/sessions") == 303
        # Sealed by us, and for something else.
        bob.cookies[name] = Seal([KEY]).seal("signin", {"id": "x", "name": "ann", "groups": []})
        assert await status(bob, "/sessions") == 303
        bob.cookies[name] = Seal([KEY]).seal("session", {"name": "ann"})
        assert await status(bob, "/sessions") == 303


async def test_a_cookie_is_worth_nothing_after_signing_out(desk: Desk, tmp_path: Path) -> None:
    async with await desk.as_("ann") as ann:
        kept = dict(ann.cookies)
        await ann.get("/sessions")
        assert (await ann.post("/signout")).headers["Location"] == "/signin?done=signed-out"
        assert not ann.cookies.get("ostiary")
        ann.cookies = kept
        assert await status(ann, "/sessions") == 303, "here"
        from ostiary_console.signed_in import Ended

        desk.console.sessions.ended = Ended(desk.store, desk.console.clock)
        assert await status(ann, "/sessions") == 303, "and in another replica"


async def test_it_ends_for_idleness_and_in_any_case(desk: Desk) -> None:
    async with await desk.as_("ann") as ann, await desk.as_("bob") as bob:
        for _ in range(8):
            desk.now[0] += 450
            expected = 200 if desk.now[0] < 3600 else 303
            assert await status(ann, "/sessions") == expected
        assert await status(bob, "/sessions") == 303
    async with await desk.as_("ann") as ann:
        kept = dict(ann.cookies)
        desk.now[0] += 601
        ann.cookies = kept
        assert await status(ann, "/sessions") == 303


async def test_cookies_are_for_this_host_and_no_script(tmp_path: Path) -> None:
    async with console_desk(tmp_path, secure=True) as desk, desk.browser() as browser:
        browser.base = desk.base
        await browser.get("/signin")
        origin = f"https://127.0.0.1:{desk.port}"
        answer = await browser.post("/signin/token", {"token": "token-of-ann"}, headers={"Origin": origin})
        assert answer.status == 303
        assert answer.headers["Strict-Transport-Security"]
        cookies = [each for each in answer.headers.getall("Set-Cookie") if "Max-Age=0" not in each]
        assert cookies
        for cookie in cookies:
            assert cookie.startswith("__Host-ostiary")
            for attribute in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/"):
                assert attribute in cookie
            assert "Domain" not in cookie
            assert "token-of-ann" not in cookie


async def test_a_token_that_was_withdrawn_ends_the_session(desk: Desk) -> None:
    async with await desk.as_("ann") as ann:
        assert await status(ann, "/sessions") == 200
        desk.world.wrong_tokens.add("token-of-ann")
        answer = await ann.get("/sessions")
        assert (answer.status, answer.headers["Location"]) == (303, "/signin?next=/sessions")
        assert "ostiary" not in ann.cookies
        assert (await ann.get("/api/v1/sessions")).status == 401


async def test_bearer_tokens_are_for_programs(desk: Desk) -> None:
    desk.world.items.append(question())
    async with desk.browser() as program:
        headers = {"Authorization": "Bearer token-of-ann"}
        answer = await program.get("/api/v1/approvals", headers=headers)
        assert answer.status == 200
        assert not answer.cookies
        body = {"verdict": "Deny", "hash": "a" * 64, "reason": "no"}
        answer = await program.ask("POST", "/api/v1/approvals/shop/apr-1/decide", headers=headers, json=body)
        assert answer.status == 200
        assert desk.world.decided == [("ann", "shop", "apr-1", "Deny", "no")]
        for wrong in ("Bearer nobody", "Basic YW5uOng=", "Bearer", "token-of-ann", "Bearer \xfc"):
            assert await status(program, "/api/v1/sessions", headers={"Authorization": wrong}) == 401, wrong


async def test_a_link_is_good_once_and_not_for_long(desk: Desk) -> None:
    assert desk.console.links is not None
    link = desk.console.links.make()
    async with desk.browser() as first, desk.browser() as second:
        answer = await first.get(f"/signin/link/{link}")
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        assert await status(second, f"/signin/link/{link}") == 403
        assert await status(second, "/signin/link/made-up") == 403
        assert not second.cookies.get("ostiary")


async def test_guessing_is_slow(tmp_path: Path) -> None:
    async with console_desk(tmp_path, attempts=Attempts(5, 6)) as desk, desk.browser() as eve:
        await eve.get("/signin")
        statuses = [(await eve.post("/signin/token", {"token": f"guess-{n}"})).status for n in range(10)]
        assert statuses == [403] * 5 + [429] * 5
        assert await status(eve, "/signin/link/x") == 429
        bearer = {"Authorization": "Bearer guess"}
        assert await status(eve, "/api/v1/sessions", headers=bearer) == 429


# -- too much


async def test_oversized_input_is_refused(desk: Desk) -> None:
    async with await desk.as_("ann") as ann:
        await ann.get("/approvals")
        assert (await ann.post("/approvals/shop/apr-1/decide", {"reason": "x" * 300_000})).status == 413
        headers = {"Origin": ann.base, "Content-Type": "application/x-www-form-urlencoded"}
        huge = io.BytesIO(b"policies=" + b"x" * 5_000_000)
        assert (await ann.ask("POST", "/replay", headers=headers, data=huge)).status == 413
        assert await status(ann, f"/sessions?after={'x' * 5000}") == 400
        assert await status(ann, "/sessions", headers={"X-Long": "x" * 40_000}) == 400
        queries = ("since=yesterday", "after=made-up", "decision=Maybe", "rule=x", "limit=-1", "view=x", "q=%00")
        for odd in queries:
            assert await status(ann, f"/sessions?{odd}") in (200, 400), odd
        for odd in ("/sessions/01/requests/x", "/sessions/01/requests/-1", f"/sessions/01/requests/{'9' * 30}"):
            assert await status(ann, odd) == 404
        assert await status(ann, "/approvals/..%2f..%2fapi/x") == 404


async def test_who_says_nothing_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostiary_console.serving.FIRST", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    writer.write(b"GET / HTTP/1.1\r\nHo")
    began = time.monotonic()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    assert time.monotonic() - began < 3
    writer.close()


async def test_live_pages_do_not_use_the_console_up(desk: Desk) -> None:
    desk.console.streams = Places(6, 3)
    async with await desk.as_("ann") as ann, await desk.as_("bob") as bob, await desk.as_("carol") as carol:
        streams = [await ann.get("/live/events", stream=True) for _ in range(3)]
        assert [each.status for each in streams] == [200] * 3
        assert await status(ann, "/live/events", stream=True) == 429
        assert await status(ann, "/sessions") == 200
        others = [await bob.get("/live/events", stream=True) for _ in range(3)]
        assert await status(carol, "/live/events", stream=True) == 429
        for each in (*streams, *others):
            each.close()
        for _ in range(50):
            await asyncio.sleep(0.1)
            if not desk.console.streams.taken:
                break
        assert not desk.console.streams.taken, "who has gone leaves the place"


async def test_a_stream_ends_with_the_persons_session(desk: Desk) -> None:
    async with await desk.as_("ann") as ann:
        await ann.get("/sessions")
        stream = await ann.get("/live/events", stream=True)
        assert b"event: rows" in await stream.content.readuntil(b"\n\n")
        await ann.post("/signout")
        rest = await asyncio.wait_for(stream.content.read(), 10)
        assert rest.endswith(b"event: bye\ndata: \n\n")


async def test_a_stream_ends_with_the_persons_rights(desk: Desk) -> None:
    desk.hand.open("01open")
    await desk.write()
    async with await desk.as_("bob") as bob:
        stream = await bob.get("/sessions/01open/follow", stream=True)
        from ostiary_store.model import Scope

        desk.world.scopes["bob"] = Scope(frozenset())
        assert (await asyncio.wait_for(stream.content.read(), 10)).endswith(b"event: bye\ndata: \n\n")


async def test_many_who_hold_connections_leave_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostiary_console.serving.MAX_CLIENTS", 20)
    monkeypatch.setattr("ostiary_console.serving.FIRST", 1.0)
    held = [await asyncio.open_connection("127.0.0.1", desk.port) for _ in range(25)]
    await asyncio.sleep(1.5)
    async with desk.browser() as browser:
        assert await status(browser, "/signin") == 200
    for _, writer in held:
        writer.close()


