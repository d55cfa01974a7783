"""Upgraded connections through a gateway, as transcripts: what each side hears, and when it ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from support import api_talks, tunnels
from support.api_gateway import policy, rule
from support.api_talks import OTHER_TOKEN, Client, Talk, head_of, request, response, talking
from support.tunnels import SpdySender

from ostiary_gateway.protocols.kubernetes import spdy
from ostiary_gateway.protocols.kubernetes import websocket as ws

EXEC = "/api/v1/namespaces/shop/pods/box/exec?command=sh&stdin=true&stdout=true"
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {tunnels.KEY.decode()}", "Sec-WebSocket-Protocol: v5.channel.k8s.io",
)  # fmt: skip
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: " + tunnels.ACCEPT + b"\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
)
SWITCHED_SPDY = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
TYPED = ws.encode(ws.BINARY, b"\0ls\n", mask=b"abcd")
SHOWN = ws.encode(ws.BINARY, b"\x01file\n")
NOBODY = policy("p", rule("nobody", "k8s.verb == 'connect'", "Deny", message="Nobody connects now."), rule("all"))


async def upgraded(talk: Talk, *, token: str = "") -> Client:
    """A client in the middle of an exec."""
    client = talk.client()
    await client.says(request(f"GET {EXEC}", *WEBSOCKET, **({"token": token} if token else {})))
    talk.server.says(SWITCHED)
    assert head_of(await client.hears())[0] == "101 Switching Protocols"
    talk.server.heard()
    return client


def told(data: bytes) -> str:
    """What the last words on the status channel are, before the close."""
    status, close = ws.FrameReader(masked=False).feed(data)
    assert close.opcode == ws.CLOSE
    assert status.payload[:1] == b"\x03"
    return str(json.loads(status.payload[1:])["message"])


async def test_an_upgrade_goes_on_as_the_gateway_and_then_every_byte() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(f"GET {EXEC}", *WEBSOCKET))
        line, headers = head_of(talk.server.heard())
        assert line == f"GET {EXEC} HTTP/1.1"
        assert headers["sec-websocket-protocol"] == "v5.channel.k8s.io"
        assert headers["upgrade"] == "websocket"
        assert "an-agent's-token" not in str(headers)

        talk.server.says(SWITCHED + SHOWN)
        heard = await client.hears()
        assert head_of(heard)[1]["sec-websocket-accept"] == tunnels.ACCEPT.decode()
        assert heard.endswith(SHOWN)
        await client.says(TYPED)
        assert talk.server.heard() == TYPED


async def test_what_a_client_sends_before_the_answer_is_not_lost() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(f"GET {EXEC}", *WEBSOCKET) + TYPED)
        assert talk.server.heard().endswith(b"\r\n\r\n")
        talk.server.says(SWITCHED)
        await client.hears()

        assert talk.server.heard() == TYPED


async def test_a_bearer_in_the_subprotocols_does_not_go_on() -> None:
    async with talking() as talk:
        bearer = "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.c2VjcmV0"
        await talk.client().says(request(f"GET {EXEC}", *WEBSOCKET, bearer))

        assert b"bearer.authorization" not in talk.server.heard()


async def test_an_upgrade_that_the_api_server_refuses_is_an_answer_like_any_other() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(f"GET {EXEC}", *WEBSOCKET))
        talk.server.says(response(b'{"kind":"Status","code":404}', "404 Not Found"))
        answer = await client.hears()
        assert head_of(answer)[0] == "404 Not Found"
        assert answer.endswith(b'{"kind":"Status","code":404}')


async def test_a_denied_upgrade_never_reaches_the_api_server() -> None:
    async with talking(NOBODY) as talk:
        answer = await talk.client().says(request(f"GET {EXEC}", *WEBSOCKET))

        assert head_of(answer)[0] == "403 Forbidden"
        assert b"Nobody connects now." in answer
        assert talk.servers == []


async def test_an_answer_that_does_not_fit_the_upgrade_is_not_passed_on() -> None:
    async with talking() as talk:
        client = talk.client()
        await client.says(request(f"GET {EXEC}", *WEBSOCKET))
        talk.server.says(SWITCHED.replace(tunnels.ACCEPT, b"x" * 28) + SHOWN)
        answer = await client.hears()

        assert head_of(answer)[0] == "502 Bad Gateway"
        assert SHOWN not in answer
        assert talk.server.wire.aborted


async def test_a_command_is_ended_when_new_policies_would_deny_it() -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        talk.policies(NOBODY)

        assert "do not let it through: Nobody connects now." in told(await client.hears())
        assert client.wire.closed
        assert talk.server.wire.closed


async def test_a_command_is_ended_when_new_policies_would_mask_it() -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        masking = [{"detector": "Email", "strategy": {"type": "Redact"}}]
        talk.policies(policy("p", rule("all"), rule("mails", "true", "Mask", masking=masking)))

        assert "mask other parts of it" in told(await client.hears())


async def test_a_command_goes_on_when_new_policies_allow_it_too() -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        talk.policies(policy("other", rule("pods", "k8s.resource == 'pods'")))
        talk.server.says(SHOWN)

        assert await client.hears() == SHOWN


async def test_a_revoked_token_ends_its_command() -> None:
    async with talking() as talk:
        client = await upgraded(talk, token=OTHER_TOKEN)
        talk.policies(authentication={"tokens": "Refuse"})

        assert "does not count any more" in told(await client.hears())
        assert client.wire.closed


async def test_another_target_ends_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        elsewhere = replace(api_talks._PLANE, server="https://192.0.2.99:6443")
        monkeypatch.setattr(api_talks, "_PLANE", elsewhere)
        talk.policies()

        assert "target or credential has changed" in told(await client.hears())
        assert client.wire.closed


async def test_a_drain_lets_a_command_go_on_until_it_must_end() -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        talk.lobby.stop("The gateway is shutting down.", only_idle=True)
        talk.server.says(SHOWN)
        assert await client.hears() == SHOWN

        talk.lobby.stop("The gateway is shutting down.")
        assert "The gateway is shutting down." in told(await client.hears())
        assert client.wire.closed


async def test_a_watch_and_a_command_that_are_silent_for_hours_go_on() -> None:
    async with talking(limits={"idleTimeout": "1m"}) as talk:
        command, watch, idle = await upgraded(talk), talk.client(), talk.client()
        shell = talk.server
        await watch.says(request("GET /api/v1/pods?watch=1"))
        talk.server.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
        watched = talk.server
        await watch.hears()
        await idle.says(request("GET /api/v1/pods"))
        talk.server.says(response())
        await idle.hears()
        for client in (command, watch, idle):
            client.relay.active -= 7200
        talk.lobby.sweep()

        await idle.hears()
        assert idle.wire.closed, "nothing is under way there"
        shell.says(SHOWN)
        watched.says(b"3\r\n[]\n\r\n")
        assert await command.hears() == SHOWN
        assert await watch.hears() == b"3\r\n[]\n\r\n"


async def test_spdy_is_told_on_the_error_stream() -> None:
    async with talking() as talk:
        client, sender = talk.client(), SpdySender()
        await client.says(request(f"POST {EXEC}", *SPDY, "Content-Length: 0"))
        talk.server.says(SWITCHED_SPDY)
        await client.hears()
        await client.says(sender.open(1, {"streamtype": "error"}) + sender.open(3, {"streamtype": "stdout"}))
        talk.policies(NOBODY)

        status, end, going = spdy.FrameReader().feed(await client.hears())
        assert "Nobody connects now." in json.loads(status.payload)["message"]
        assert (end.stream, end.fin, going.kind) == (3, True, spdy.GOAWAY)


async def test_who_is_slow_slows_the_other() -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        for slow, other in ((client.relay, talk.server.wire), (talk.server.connection, client.wire)):
            slow.pause_writing()
            assert other.paused
            slow.resume_writing()
            assert not other.paused


async def test_a_client_that_goes_takes_its_connection_to_the_server_along() -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        client.leaves()
        await client.hears()

        assert talk.server.wire.closed or talk.server.wire.aborted


async def test_a_server_that_goes_ends_the_client_behind_what_it_said() -> None:
    async with talking() as talk:
        client = await upgraded(talk)
        talk.server.says(SHOWN)
        talk.server.closes()

        assert await client.hears() == SHOWN
        assert client.wire.closed


@pytest.mark.parametrize("who", ["client", "server"])
def test_who_breaks_the_protocol_is_named(who: str) -> None:
    async def main() -> None:
        async with talking() as talk:
            client = await upgraded(talk)
            if who == "client":
                answer = await client.says(ws.encode(ws.BINARY, b"\0x"))
            else:
                talk.server.says(ws.encode(ws.BINARY, b"\x01x", mask=b"abcd"))
                answer = await client.hears()
            assert f"The {who} broke the protocol" in told(answer)
            assert client.wire.closed

    asyncio.run(main())


async def test_what_is_held_back_comes_by_itself() -> None:
    masking = [{"detector": "CreditCard", "strategy": {"type": "Redact"}}]
    async with talking(policy("p", rule("all"), rule("cards", "true", "Mask", masking=masking))) as talk:
        client = await upgraded(talk)
        talk.server.says(ws.encode(ws.BINARY, b"\x01$ "))
        assert await client.hears() == b""
        async with asyncio.timeout(30):
            while not (heard := await client.hears()):
                await asyncio.sleep(0.01)
        assert heard == ws.encode(ws.BINARY, b"\x01$ ")
