"""What a client and the API server say through the gateway, in order, and what becomes of it when one of them goes."""

from __future__ import annotations

import pytest
from support.api_gateway import policy, rule
from support.api_talks import (
    OTHER_TOKEN,
    SlowDisk,
    body_of,
    head_of,
    request,
    response,
    status_of,
    talking,
)

PODS = "GET /api/v1/namespaces/shop/pods"
WATCH = "GET /api/v1/namespaces/shop/pods?watch=true"


async def test_a_request_goes_on_as_the_gateway_and_not_as_the_agent() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(
            request(
                f"{PODS}/web",
                "Accept: application/json",
                "X-Remote-User: root",
                "Cookie: a=b",
                "X-Forwarded-For: 10.0.0.1",
                "Accept-Encoding: gzip",
                "Connection: keep-alive",
            )
        )
        assert talk.server.heard() == (
            b"GET /api/v1/namespaces/shop/pods/web HTTP/1.1\r\nhost: api.test:6443\r\naccept: application/json\r\n"
            b"authorization: Bearer the-gateway's-own-token\r\n\r\n"
        )

        talk.server.says(response(b'{"kind":"Pod"}', "200 OK", "Audit-Id: 1", "Set-Cookie: c=d"))
        answer = await client.hears()

        status, headers = head_of(answer)
        assert (status, body_of(answer)) == ("200 OK", b'{"kind":"Pod"}')
        assert headers["audit-id"] == "1"
        assert headers["ostiary-request"] == f"{client.relay.gate.id}-1" if client.relay.gate else False
        assert "set-cookie" not in headers


async def test_requests_are_answered_in_their_order_one_after_the_other() -> None:
    async with talking(policy("p", rule("no-b", "k8s.name == 'b'", "Deny"), rule("all"))) as talk:
        client = talk.client()
        await client.says(request(f"{PODS}/a"), request(f"{PODS}/b"), request(f"{PODS}/c"))
        assert talk.server.heard().startswith(b"GET /api/v1/namespaces/shop/pods/a ")

        talk.server.says(response(b'"a"'))
        answers = await client.hears()
        assert answers.startswith(b"HTTP/1.1 200 OK")
        assert answers.index(b'"a"') < answers.index(b"HTTP/1.1 403 Forbidden")
        assert talk.server.heard().startswith(b"GET /api/v1/namespaces/shop/pods/c ")

        talk.server.says(response(b'"c"'))
        assert body_of(await client.hears()) == b'"c"'
        assert len(talk.servers) == 1


async def test_a_denied_request_is_told_why_and_the_connection_stays() -> None:
    hint = rule("no-deletes", "k8s.verb == 'delete'", "Deny", message="Nothing is deleted here.", hint="Scale it.")
    async with talking(policy("p", hint, rule("all"))) as talk:
        client = talk.client()
        told = status_of(await client.says(request("DELETE /api/v1/namespaces/shop/pods/web")))

        assert client.relay.gate is not None
        record = f"{client.relay.gate.id}-1"
        assert (told["code"], told["reason"], told["status"]) == (403, "Forbidden", "Failure")
        assert told["message"] == f"Nothing is deleted here. (rule default/p#no-deletes) Scale it. [{record}]"
        causes = {each["reason"]: each["message"] for each in told["details"]["causes"]}  # type: ignore[index]
        assert causes["OstiaryRule"] == "default/p#no-deletes"
        assert '"decision": "Deny"' in causes["OstiaryAnswer"]
        assert talk.servers == []

        await client.says(request(f"{PODS}/web"))
        assert talk.server.heard().startswith(b"GET ")


@pytest.mark.parametrize("path", ["/healthz", "/version", "/api", "/api/v1/namespaces"])
async def test_nobody_is_anonymous(path: str) -> None:
    async with talking() as talk:
        client = talk.client()
        answer = await client.says(request(f"GET {path}", token=""))

        assert head_of(answer)[0] == "401 Unauthorized"
        assert "The request shows no token" in str(status_of(answer)["message"])
        assert talk.servers == []
        assert talk.lobby.sessions == 0


async def test_another_subject_on_the_same_connection_has_another_session() -> None:
    async with talking() as talk:
        client = talk.client()
        for token in ("an-agent's-token-of-enough-entropy-0123456789", OTHER_TOKEN):
            await client.says(request(PODS, token=token))
            talk.server.says(response())
            await client.hears()
            assert client.relay.gate is not None
            assert client.relay.gate.requests == 1
        assert client.relay.gate.identity.subject["username"] == "other"
        assert talk.lobby.sessions == 1


async def test_no_more_sessions_than_may_be() -> None:
    async with talking(limits={"maxSessions": 1}) as talk:
        first, second = talk.client(), talk.client()
        await first.says(request(PODS))
        answer = await second.says(request(PODS))

        status, headers = head_of(answer)
        assert (status, headers["retry-after"], headers["connection"]) == ("429 Too Many Requests", "5", "close")
        assert second.wire.closed


@pytest.mark.parametrize(
    "line",
    [
        "GET /api//v1/pods",
        "GET /api/v1/../secrets",
        "GET /api/v1/namespaces/a%2fb",
        "GET /api/v1/namespaces/%2e%2e/secrets",
        "GET /api/v1/pods?watch=true;x",
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused_and_recorded(line: str) -> None:
    async with talking() as talk:
        client = talk.client()
        answer = await client.says(request(line))

        assert head_of(answer)[0] == "400 Bad Request"
        assert head_of(answer)[1]["ostiary-request"]
        assert talk.servers == []


async def test_impersonation_is_refused_under_any_policy() -> None:
    async with talking() as talk:
        client = talk.client()
        answer = await client.says(request(PODS, "Impersonate-User: root"))

        assert head_of(answer)[0] == "403 Forbidden"
        assert "Impersonation" in str(status_of(answer)["message"])
        assert talk.servers == []


async def test_a_bad_request_is_answered_behind_the_good_ones_and_ends_the_connection() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS), b"GET / HTTP/1.0\r\n\r\n")
        talk.server.says(response(b"[]"))
        answers = await client.hears()

        first, _, rest = answers.partition(b"[]")
        assert first.startswith(b"HTTP/1.1 200 OK")
        assert rest.startswith(b"HTTP/1.1 505 ")
        assert client.relay.over.done()


async def test_a_client_that_waits_to_send_its_body_is_told_to() -> None:
    async with talking() as talk:
        client = talk.client()
        post = request("POST /api/v1/namespaces/shop/pods", "Expect: 100-continue", body=b'{"kind":"Pod"}')
        head, _, body = post.partition(b"\r\n\r\n")

        assert await client.says(head + b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.says(body)
        forwarded = talk.server.heard()
        assert b"expect" not in forwarded
        assert forwarded.endswith(b'content-length: 14\r\n\r\n{"kind":"Pod"}')


@pytest.mark.parametrize(
    ("method", "sent", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", None),
    ],
)
async def test_responses_without_a_body(method: str, sent: bytes, length: str | None) -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(f"{method} /version"))
        assert talk.server.heard().startswith(method.encode())
        talk.server.says(sent)
        answer = await client.hears()

        assert body_of(answer) == b""
        assert head_of(answer)[1].get("content-length") == length
        assert "transfer-encoding" not in head_of(answer)[1]
        await client.says(request(PODS))
        assert talk.server.heard().startswith(b"GET ")


async def test_a_chunked_response_stays_chunked_and_one_until_the_end_becomes_it() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert body_of(await client.hears()) == b"3\r\nabc\r\n"
        talk.server.says(b"0\r\n\r\n")
        assert await client.hears() == b"0\r\n\r\n"

        await client.says(request(PODS))
        talk.server.says(b"HTTP/1.1 200 OK\r\n\r\nabc")
        assert body_of(await client.hears()) == b"3\r\nabc\r\n"
        talk.server.closes()
        assert await client.hears() == b"0\r\n\r\n"
        assert not client.wire.closed


async def test_a_slow_client_slows_the_server() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

        client.relay.pause_writing()
        assert talk.server.wire.paused
        client.relay.resume_writing()
        assert not talk.server.wire.paused


async def test_no_more_is_read_from_a_client_than_it_may_have_waiting() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS) * 40)
        assert client.wire.paused

        for _ in range(40):
            talk.server.says(response())
            await client.hears()
        assert not client.wire.paused


async def test_a_client_that_goes_takes_its_request_along() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        client.leaves()
        await client.hears()

        assert talk.server.wire.aborted
        assert client.task.done()


async def test_a_read_is_tried_again_when_a_kept_connection_was_closed_meanwhile() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(response())
        await client.says(request(PODS))
        talk.server.closes()
        await client.hears()

        assert len(talk.servers) == 2
        talk.server.says(response(b'"again"'))
        assert body_of(await client.hears()) == b'"again"'


async def test_a_write_is_never_sent_twice() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(response())
        await client.hears()
        await client.says(request("DELETE /api/v1/namespaces/shop/pods/web"))
        talk.server.closes()
        answer = await client.hears()

        assert len(talk.servers) == 1
        assert head_of(answer)[0] == "502 Bad Gateway"
        assert "look before you send it again" in str(status_of(answer)["message"])


async def test_half_a_response_is_not_taken_for_a_whole_one() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        talk.server.closes()

        assert not (await client.hears()).endswith(b"0\r\n\r\n")
        assert client.wire.aborted


async def test_an_api_server_that_is_away_is_503() -> None:
    async with talking() as talk:
        talk.upstream.away = "cannot connect"
        client = talk.client()
        answer = await client.says(request(PODS))

        assert head_of(answer)[0] == "503 Service Unavailable"
        assert "retry-after" not in head_of(answer)[1], "kubectl would ask ten times before it says anything"


async def test_a_credential_that_the_api_server_refuses_is_not_the_agents() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(response(b"{}", "401 Unauthorized"))
        answer = await client.hears()

        assert head_of(answer)[0] == "503 Service Unavailable"


async def test_what_the_server_says_unasked_is_not_passed_on() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(response() + response(b'"surplus"'))

        assert b"surplus" not in await client.hears()
        await client.says(request(PODS))
        assert len(talk.servers) == 2


async def test_nothing_goes_upstream_before_its_record_is_on_the_disk() -> None:
    disk = SlowDisk()
    async with talking(disk=disk, audit="Strict") as talk:
        client = talk.client()
        await client.says(request(PODS))
        assert (client.relay.busy, talk.servers) == (True, [])

        disk.pending[0].tell("")
        await client.hears()
        assert talk.server.heard().startswith(b"GET ")


async def test_nothing_goes_upstream_that_cannot_be_recorded() -> None:
    disk = SlowDisk()
    async with talking(disk=disk, audit="Strict") as talk:
        client = talk.client()
        await client.says(request(PODS))
        disk.pending[0].tell("the disk is full")
        answer = await client.hears()

        assert head_of(answer)[0] == "503 Service Unavailable"
        assert "Nothing may run now: the disk is full." in str(status_of(answer)["message"])
        assert talk.servers == []


# -- ends


async def test_a_drain_closes_idle_connections_and_lets_requests_finish() -> None:
    async with talking() as talk:
        idle, busy = talk.client(), talk.client()
        await idle.says(request(PODS))
        talk.server.says(response())
        await idle.hears()
        await busy.says(request(PODS))
        talk.lobby.stop("The gateway is shutting down.", only_idle=True)
        await idle.hears()

        assert idle.wire.closed
        assert not busy.wire.closed
        talk.server.says(response())
        assert head_of(await busy.hears())[1]["connection"] == "close"
        assert busy.wire.closed


async def test_who_is_stopped_is_told_so_far_as_the_response_has_not_begun() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.lobby.stop("The gateway is shutting down.")
        answer = await client.hears()

        assert head_of(answer)[0] == "503 Service Unavailable"
        assert "The gateway is shutting down." in str(status_of(answer)["message"])
        assert talk.server.wire.aborted


async def test_a_watch_ends_between_two_events_when_new_policies_would_deny_it() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(WATCH))
        talk.server.says(
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n'
        )
        assert body_of(await client.hears()) == b'5\r\n{"a":\r\n'

        talk.policies(policy("p", rule("no-watches", "k8s.verb == 'watch'", "Deny"), rule("all")))
        assert await client.hears() == b""
        talk.server.says(b'8\r\n1}\n{"b":\r\n')

        assert await client.hears() == b"3\r\n1}\n\r\n0\r\n\r\n"
        assert talk.server.wire.aborted
        assert not client.wire.closed


async def test_a_watch_goes_on_when_new_policies_allow_it_too() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(WATCH))
        talk.server.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
        await client.hears()
        talk.policies(policy("other", rule("reads", "k8s.readOnly")))
        talk.server.says(b"3\r\n[]\n\r\n")

        assert await client.hears() == b"3\r\n[]\n\r\n"


async def test_a_revoked_token_ends_what_it_began() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(WATCH, token=OTHER_TOKEN))
        talk.server.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
        await client.hears()
        talk.policies(authentication={"tokens": "Refuse"})

        assert await client.hears() == b"0\r\n\r\n"
        assert client.wire.closed


POST_PODS = "POST /api/v1/namespaces/shop/pods"


async def test_a_stranger_is_told_so_before_its_body_is_waited_for() -> None:
    async with talking() as talk:
        client = talk.client()
        for token in ("", "a token of nobody"):
            client = talk.client()
            answer = await client.says(
                request(POST_PODS, "Content-Length: 900000", "Expect: 100-continue", token=token), b"{"
            )
            assert head_of(answer)[0] == "401 Unauthorized"
            assert head_of(answer)[1]["connection"] == "close"
        assert talk.servers == []


async def test_a_body_is_asked_for_once_it_is_known_who_asks() -> None:
    async with talking() as talk:
        client = talk.client()
        assert (
            await client.says(
                request(POST_PODS, "Content-Length: 2", "Content-Type: application/json", "Expect: 100-continue")
            )
            == b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        assert talk.servers == []
        assert not client.wire.paused

        await client.says(b"{}")
        assert talk.server.heard().endswith(b"content-length: 2\r\n\r\n{}")
        talk.server.says(response(b"{}"))
        assert head_of(await client.hears())[0] == "200 OK"


async def test_what_comes_too_slowly_is_ended_with_a_reason() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(PODS))
        talk.server.says(response())
        await client.hears()
        now = client.relay.active
        assert not client.relay.overdue(now + 3600), "nothing is on its way"

        await client.says(request(PODS)[:20])
        assert not client.relay.overdue(now + 29)
        await client.says(request(PODS)[20:30])
        assert client.relay.overdue(now + 31 + (client.relay.active - now))
        told = status_of(await client.hears())
        assert (told["code"], told["reason"]) == (408, "Timeout")
        assert "not complete after 30 s" in str(told["message"])


async def test_a_session_begins_anew_when_its_connection_is_recorded_otherwise() -> None:
    async with talking() as talk:
        client = talk.client()
        sessions = []
        for recording in ("Full", "Metadata"):
            talk.policies(recording=recording, audit="Relaxed")
            await client.says(request(PODS))
            talk.server.says(response())
            await client.hears()
            assert client.relay.gate is not None
            sessions.append((client.relay.gate.id, client.relay.gate.full))

        assert [full for _, full in sessions] == [True, False]
        assert sessions[0][0] != sessions[1][0]


async def test_reads_are_decided_once_though_rules_read_what_writes_result_in() -> None:
    large = rule("large", "has(k8s.object.spec) && k8s.object.spec.replicas > 50", "Deny")
    async with talking(policy("p", large, rule("all"))) as talk:
        client = talk.client()
        for name in ("a", "a", "b"):
            await client.says(request(f"{PODS}/{name}"))
            talk.server.says(response())
            await client.hears()

        assert client.relay.gate is not None
        assert client.relay.gate.requests == 3
        assert sum(talk.checkpoint.counters.decision_buckets) == 1


async def test_what_is_sent_before_an_upgrade_is_agreed_to_is_bounded() -> None:
    async with talking() as talk:
        client = talk.client()
        exec_of = request(
            "GET /api/v1/namespaces/shop/pods/web/exec?command=ls&stdout=true", "Connection: Upgrade",
            "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: v5.channel.k8s.io",
        )  # fmt: skip
        await client.says(exec_of, b"x" * 60_000)
        assert not client.wire.paused
        await client.says(b"x" * 6_000)
        assert client.wire.paused
