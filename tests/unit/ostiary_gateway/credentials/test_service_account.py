"""Tokens of a ServiceAccount: asked for once, renewed in time, kept through failures, and refused with words."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from support.virtual_time import run

from ostiary_gateway.credentials.service_account import AccountTokens
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.kube.errors import ApiError, KubeError, Unreachable

WHO = "system:serviceaccount:demo:ostiary-cluster"
AWAY = Unreachable("the API server cannot be reached", sent=False)


class Server:
    """Gives t1, t2 … after a second, or fails as it is told to."""

    def __init__(self, *failures: KubeError | None, life: int = 600) -> None:
        self.asked: list[tuple[float, str, Any]] = []
        self.closed = False
        self._failures = deque(failures)
        self._life = life

    async def request(self, method: str, path: str, *, body: object = None, timeout: float = 10.0) -> dict[str, Any]:
        self.asked.append((asyncio.get_running_loop().time(), f"{method} {path}", body))
        await asyncio.sleep(1)
        failure = self._failures.popleft() if self._failures else None
        if failure is not None:
            raise failure
        return {"spec": {"expirationSeconds": self._life}, "status": {"token": f"t{len(self.asked)}"}}

    async def close(self) -> None:
        self.closed = True


def tokens(server: Server, ttl: float = 600) -> AccountTokens:
    return AccountTokens(server, "prod", "agent", ttl, who=WHO, clock=asyncio.get_running_loop().time)


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


def test_many_that_come_at_once_share_one_request() -> None:
    async def many() -> None:
        server = Server()
        held = tokens(server)
        assert held.ready() is None
        found = await asyncio.gather(*(held.headers() for _ in range(50)))
        assert found == [bearer("t1")] * 50
        assert held.ready() == bearer("t1")
        ((_, path, body),) = server.asked
        assert path == "POST /api/v1/namespaces/prod/serviceaccounts/agent/token"
        assert body["spec"] == {"expirationSeconds": 600}

    run(many())


def test_one_that_goes_does_not_take_the_token_from_the_others() -> None:
    async def cancelled() -> None:
        held = tokens(Server())
        first, second = asyncio.create_task(held.headers()), asyncio.create_task(held.headers())
        await asyncio.sleep(0.5)
        first.cancel()
        assert await second == bearer("t1")

    run(cancelled())


def test_a_token_is_renewed_at_four_fifths_of_its_life_and_nobody_waits() -> None:
    async def renewed() -> None:
        server = Server(life=1000)
        held = tokens(server)
        await held.headers()
        await asyncio.sleep(798)
        assert held.ready() == bearer("t1")
        assert len(server.asked) == 1
        await asyncio.sleep(1)
        assert held.ready() == bearer("t1"), "the old one serves until the new one is there"
        await asyncio.sleep(2)
        assert held.ready() == bearer("t2")
        assert [at for at, _, _ in server.asked] == [0, 800]

    run(renewed())


def test_a_renewal_that_fails_keeps_the_old_token_until_it_expires_and_then_refuses() -> None:
    async def failing() -> None:
        server = Server(None, *[AWAY] * 100)
        held = tokens(server)
        await held.headers()
        for _ in range(598):
            await asyncio.sleep(1)
            assert held.ready() == bearer("t1")
        tries = len(server.asked)
        assert 3 < tries < 12, "it is tried again, with pauses"
        await asyncio.sleep(1)
        assert held.ready() is None
        with pytest.raises(CredentialError, match="no token of ServiceAccount prod/agent: the API server cannot be"):
            await held.headers()

    run(failing())


def test_while_it_fails_requests_do_not_hammer_the_api_server() -> None:
    async def failing() -> None:
        server = Server(*[AWAY] * 1000)
        held = tokens(server)
        for _ in range(1000):
            with pytest.raises(CredentialError):
                await held.headers()
            await asyncio.sleep(0.1)
        assert len(server.asked) < 12
        server._failures.clear()
        await asyncio.sleep(31)
        assert await held.headers() == bearer(f"t{len(server.asked)}")

    run(failing())


def test_what_the_api_server_does_not_take_is_thrown_away_once() -> None:
    async def refused() -> None:
        server = Server()
        held = tokens(server)
        await held.headers()
        await asyncio.sleep(60)
        assert held.refused()
        assert held.ready() is None
        assert await held.headers() == bearer("t2")
        assert held.refused(), "an answer to a request that had the old one"
        assert held.ready() == bearer("t2")

    run(refused())


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (
            ApiError(403, "Forbidden", "no"),
            "--resource-name=agent && kubectl create rolebinding token-of-agent",
        ),
        (ApiError(403, "Forbidden", "no"), "--serviceaccount=demo:ostiary-cluster"),
        (ApiError(404, "NotFound", "no"), "kubectl create serviceaccount agent -n prod"),
        (ApiError(422, "Invalid", "may not specify a duration less than 10 minutes"), "less than 10 minutes"),
    ],
)
def test_a_refusal_says_what_to_do(refusal: ApiError, says: str) -> None:
    async def refused() -> None:
        with pytest.raises(CredentialError) as told:
            await tokens(Server(refusal)).headers()
        assert says in str(told.value)

    run(refused())


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": {"token": ""}, "spec": {"expirationSeconds": 600}},
        {"status": {"token": "a\r\nb"}, "spec": {"expirationSeconds": 600}},
        {"status": {"token": "t"}, "spec": {}},
        {"status": {"token": "t"}, "spec": {"expirationSeconds": 0}},
    ],
)
def test_an_answer_that_is_none_gives_no_header(answer: dict[str, Any]) -> None:
    class Strange(Server):
        async def request(self, *_: object, **__: object) -> dict[str, Any]:
            return answer

    async def asked() -> None:
        held = tokens(Strange())
        with pytest.raises(CredentialError, match="the API server's answer"):
            await held.headers()
        assert held.ready() is None

    run(asked())


def test_a_closed_one_has_forgotten_its_token() -> None:
    async def closed() -> None:
        server = Server()
        held = tokens(server)
        await held.headers()
        assert held.refused()
        waiting = asyncio.create_task(held.headers())
        await asyncio.sleep(0.1)
        await held.close()
        assert server.closed
        with pytest.raises(CredentialError):
            await waiting
        assert held.ready() is None
        assert "t1" not in repr(held)

    run(closed())
