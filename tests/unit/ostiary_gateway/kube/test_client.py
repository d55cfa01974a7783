"""The client of the Kubernetes API: what it sends, what it makes of answers, when it asks again."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import aclosing
from typing import Any

import pytest
from support.kube import Drop, Hang, Say, Stream, bookmark, config_map, event, listed, scripted, status

from ostiary_gateway.kube.client import KubeClient, _socket
from ostiary_gateway.kube.errors import ApiError, Cause, Unreachable
from ostiary_gateway.kube.resources import APPROVAL_REQUESTS, CONFIG_MAPS, Kind


def client(server: Any) -> KubeClient:
    return KubeClient(server.access, chance=lambda: 0.01)


async def test_a_get_is_one_request_with_the_token() -> None:
    async with scripted(Say(config_map("a", "1"))) as server, client(server) as kube:
        found = await kube.get(CONFIG_MAPS, "shop", "a")
    assert found["metadata"]["name"] == "a"
    (asked,) = server.asked
    assert str(asked) == "GET /api/v1/namespaces/shop/configmaps/a"
    assert asked.headers["authorization"] == "Bearer a-token"
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["accept-encoding"] == "identity"


def test_names_are_escaped_in_paths() -> None:
    assert (
        Kind("g.x", "v1", "things").path("a/b", "c?d", "status") == "/apis/g.x/v1/namespaces/a%2Fb/things/c%3Fd/status"
    )


async def test_a_refusal_says_why_and_where() -> None:
    details = {"causes": [{"reason": "FieldValueInvalid", "message": "too long", "field": "spec.x"}]}
    refusal = Say(status(422, "Invalid", "spec.x: too long", details=details), 422)
    async with scripted(refusal) as server, client(server) as kube:
        with pytest.raises(ApiError) as raised:
            await kube.create(APPROVAL_REQUESTS, "shop", {"spec": {}})
    assert (raised.value.status, raised.value.reason, str(raised.value)) == (422, "Invalid", "spec.x: too long")
    assert raised.value.causes == (Cause("spec.x", "FieldValueInvalid", "too long"),)


async def test_a_write_is_not_sent_twice_when_it_may_have_come() -> None:
    async with scripted(Drop()) as server, client(server) as kube:
        with pytest.raises(Unreachable) as raised:
            await kube.replace(APPROVAL_REQUESTS, "shop", "a", {}, subresource="status")
    assert raised.value.sent
    assert server.told == ["PUT /apis/ostiary.dev/v1alpha1/namespaces/shop/approvalrequests/a/status"]


async def test_a_write_that_the_server_did_not_look_at_is_sent_again() -> None:
    busy = Say(status(429, "TooManyRequests", "wait"), 429, {"Retry-After": "0"})
    async with scripted(busy, Say(config_map("a", "2"))) as server, client(server) as kube:
        await kube.patch(CONFIG_MAPS, "shop", "a", {"data": {"x": "1"}}, field_manager="me")
    assert len(server.asked) == 2
    assert server.asked[1].query == {"fieldManager": "me"}
    assert server.asked[1].headers["content-type"] == "application/merge-patch+json"


async def test_a_read_is_tried_again_until_it_comes() -> None:
    async with (
        scripted(Drop(), Drop(), Say(status(503, "ServiceUnavailable"), 503), Say(config_map("a", "1"))) as server,
        client(server) as kube,
    ):
        assert (await kube.get(CONFIG_MAPS, "shop", "a"))["metadata"]["resourceVersion"] == "1"


async def test_a_connection_that_leads_nowhere_does_not_take_all_the_time() -> None:
    async with scripted(Hang(), Say(config_map("a", "1"))) as server, client(server) as kube:
        assert (await kube.get(CONFIG_MAPS, "shop", "a", timeout=20))["metadata"]["name"] == "a"
    assert len(server.asked) == 2


async def test_a_read_ends_at_its_time_limit() -> None:
    async with scripted(Hang()) as server, client(server) as kube:
        with pytest.raises(Unreachable, match="does not answer"):
            await kube.get(CONFIG_MAPS, "shop", "a", timeout=0.1)


async def test_no_server_is_said_so_and_nothing_was_sent() -> None:
    async with scripted() as server:
        kube = client(server)
    async with kube:
        with pytest.raises(Unreachable, match="cannot be reached") as raised:
            await kube.create(CONFIG_MAPS, "shop", {}, timeout=1)
    assert not raised.value.sent


async def test_what_is_no_json_is_no_answer() -> None:
    async with scripted(*[Say(b"<html>login</html>")] * 20) as server, client(server) as kube:
        with pytest.raises(Unreachable, match="no JSON object"):
            await kube.get(CONFIG_MAPS, "shop", "a", timeout=1)


async def test_a_redirect_is_not_followed() -> None:
    """The token must not go elsewhere."""
    async with scripted(Say({}, 302, {"Location": "http://127.0.0.1:1/"})) as server, client(server) as kube:
        with pytest.raises(ApiError, match="302"):
            await kube.get(CONFIG_MAPS, "shop", "a")


async def test_a_list_is_read_page_by_page() -> None:
    pages = listed("7", config_map("a", "1"), more="next"), listed("7", config_map("b", "2"))
    async with scripted(*pages) as server, client(server) as kube:
        found = await kube.list(CONFIG_MAPS, "shop", label_selector="app=x")
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
    assert found.resource_version == "7"
    assert server.asked[0].query == {"labelSelector": "app=x", "limit": "500"}
    assert server.asked[1].query == {"labelSelector": "app=x", "limit": "500", "continue": "next"}


async def test_a_watch_gives_each_event_however_the_stream_is_cut() -> None:
    big = config_map("b", "9", text="x" * 300_000)
    stream = Stream((event("ADDED", config_map("a", "8")), bookmark("8"), event("MODIFIED", big)))
    async with (
        scripted(stream) as server,
        client(server) as kube,
        aclosing(kube.watch(CONFIG_MAPS, "shop", resource_version="7")) as events,
    ):
        found = [(each.type, each.object["metadata"]["resourceVersion"]) async for each in events]
    assert found == [("ADDED", "8"), ("BOOKMARK", "8"), ("MODIFIED", "9")]
    assert server.asked[0].query["allowWatchBookmarks"] == "true"
    assert 240 <= int(server.asked[0].query["timeoutSeconds"]) <= 300


async def test_a_watch_from_too_old_a_version_says_so() -> None:
    gone = Stream((event("ERROR", status(410, "Expired", "too old resource version")),))
    for answer in (gone, Say(status(410, "Gone"), 410)):
        async with scripted(answer) as server, client(server) as kube:
            with pytest.raises(ApiError) as raised:
                async with aclosing(kube.watch(CONFIG_MAPS, "shop", resource_version="1")) as events:
                    await anext(events)
        assert raised.value.expired


async def test_a_watch_that_falls_silent_is_given_up() -> None:
    async with (
        scripted(Stream((bookmark("8"),), then="silence")) as server,
        client(server) as kube,
        aclosing(kube.watch(CONFIG_MAPS, "shop", resource_version="7", silence=1)) as events,
    ):
        assert (await anext(events)).type == "BOOKMARK"
        with pytest.raises(Unreachable, match="does not answer"):
            await anext(events)


async def test_a_watch_whose_connection_breaks_says_so() -> None:
    async with scripted(Stream((bookmark("8"),), then="break")) as server, client(server) as kube:
        with pytest.raises(Unreachable):
            async with aclosing(kube.watch(CONFIG_MAPS, "shop", resource_version="7")) as events:
                async for _ in events:
                    pass


async def test_a_token_review_says_who_it_is() -> None:
    answer = {
        "status": {
            "authenticated": True,
            "audiences": ["ostiary"],
            "user": {
                "username": "system:serviceaccount:agents:planner", "uid": "7", "groups": ["system:serviceaccounts"],
                "extra": {"authentication.kubernetes.io/pod-name": ["planner-0"]},
            },
        }
    }  # fmt: skip
    async with scripted(Say(answer, 201)) as server, client(server) as kube:
        found = await kube.review_token("the-agent's", ["ostiary"])
    assert found.authenticated
    assert found.username == "system:serviceaccount:agents:planner"
    assert found.extra == {"authentication.kubernetes.io/pod-name": ("planner-0",)}
    assert server.asked[0].body["spec"] == {"token": "the-agent's", "audiences": ["ostiary"]}


async def test_a_token_review_that_says_no_gives_no_user() -> None:
    refused = {"status": {"authenticated": False, "error": "token expired"}}
    async with scripted(Say(refused, 201)) as server, client(server) as kube:
        found = await kube.review_token("x", ["ostiary"])
    assert (found.authenticated, found.username, found.error) == (False, "", "token expired")


async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async with scripted(Hang()) as server, client(server) as kube:
        asking = asyncio.create_task(kube.get(CONFIG_MAPS, "shop", "a"))
        await server.until_asked(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


def test_its_sockets_notice_a_peer_that_is_gone() -> None:
    with _socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_a_gateway_outside_of_a_cluster_does_not_load_aiohttp() -> None:
    code = "import sys, ostiary_gateway.kube.client, ostiary_gateway.kube.reflector; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
