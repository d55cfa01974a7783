"""A session of the Kubernetes API, as who owns the gateway sees and ends it."""

from __future__ import annotations

from support.api_talks import body_of, head_of, request, response, talking

PODS = "GET /api/v1/namespaces/shop/pods"
WATCH = "GET /api/v1/namespaces/shop/pods?watch=true"
MESSAGE = "Ended by root: maintenance."


async def test_what_runs_is_seen_until_it_has_ended() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(f"{PODS}/web"))
        (gate,) = talk.checkpoint.gates.values()
        (running,) = gate.live()["running"]  # type: ignore[misc]
        assert (running["request"], running["text"]) == (f"{gate.id}-1", "GET /api/v1/namespaces/shop/pods/web")

        talk.server.says(response())
        await client.hears()
        assert gate.live()["running"] == []
        client.leaves()
        await client.hears()
        assert talk.checkpoint.gates == {}


async def test_a_request_without_an_answer_is_answered_with_the_reason() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(f"{PODS}/web"))
        (session,) = talk.checkpoint.gates
        assert not await talk.lobby.end(session, 2, MESSAGE)
        assert not await talk.lobby.end("another", 0, MESSAGE)
        assert await talk.lobby.end(session, 1, MESSAGE)

        answer = await client.hears()
        assert head_of(answer)[0] == "403 Forbidden"
        assert MESSAGE in body_of(answer).decode()
        assert client.wire.closed


async def test_a_watch_ends_between_two_events() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(WATCH))
        talk.server.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
        await client.hears()
        (session,) = talk.checkpoint.gates
        assert await talk.lobby.end(session, 0, MESSAGE)

        assert await client.hears() == b"0\r\n\r\n"
        assert client.wire.closed
