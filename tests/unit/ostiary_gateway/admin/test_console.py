"""Live sessions for the console of a cluster: only its ServiceAccount, and only with a token for this gateway."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from ostiary_gateway.admin.console import ConsoleDesk, account_of, audience_of
from ostiary_gateway.admin.http import Request, Response
from ostiary_gateway.admin.sessions import END, LIVE, SessionsDesk
from ostiary_gateway.approvals.people import Approvers
from ostiary_gateway.kube.errors import Unreachable
from ostiary_gateway.kube.resources import Reviewed
from ostiary_gateway.workers.place import ALONE

CONSOLE = "system:serviceaccount:ostiary:ostiary-console"
SESSION = {"session": "01abc", "connection": "shop/db", "opened": 1.0, "running": [{"request": "01abc-2"}]}


class Api:
    """Reviews tokens: `name@audience`."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = 0) -> Reviewed:
        self.asked += 1
        if self.away:
            raise Unreachable("no way there", sent=False)
        name, _, audience = token.partition("@")
        return Reviewed(bool(name) and audience in audiences, name, audiences=(audience,))


class Scene:
    def __init__(self) -> None:
        self.api = Api()
        self.now = 0.0
        self.ended: list[tuple[str, str]] = []
        desk = SessionsDesk(lambda: [dict(SESSION)], self.end, Approvers(), ALONE)
        self.desk = ConsoleDesk(desk, self.api, CONSOLE, "shop/db", lambda: self.now)

    async def end(self, target: str, message: str) -> bool:
        self.ended.append((target, message))
        return True

    async def ask(self, method: str, path: str, token: str = "", **body: str) -> tuple[int, dict[str, object]]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer: Response = await self.desk.routes[(method, path)](
            Request(method, path, headers=headers, body=json.dumps(body).encode())
        )
        return answer.status, json.loads(answer.body)


@pytest.fixture
def scene() -> Scene:
    return Scene()


GOOD = f"{CONSOLE}@{audience_of('shop/db')}"


async def test_the_console_lists_and_ends_in_a_persons_name(scene: Scene) -> None:
    assert await scene.ask("GET", LIVE, GOOD) == (200, {"items": [SESSION]})
    answer = await scene.ask("POST", END, GOOD, target="01abc-2", reason="too long", person="oidc:ann")
    assert answer == (200, {"ended": "01abc-2"})
    assert scene.ended == [("01abc-2", "Ended by oidc:ann: too long.")]


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("", 401),
        (f"{CONSOLE}@{audience_of('shop/other')}", 401),
        (f"{CONSOLE}@ostiary", 401),
        (f"system:serviceaccount:shop:agent@{audience_of('shop/db')}", 403),
        ("x" * 20_000, 401),
        ("ü", 401),
    ],
    ids=["none", "another gateway's", "an agent's audience", "another account", "huge", "odd"],
)  # fmt: skip
async def test_nobody_else_sees_or_ends_anything(scene: Scene, token: str, status: int) -> None:
    for method, path in (("GET", LIVE), ("POST", END)):
        assert (await scene.ask(method, path, token, target="01abc", person="eve"))[0] == status
    assert not scene.ended


@pytest.mark.parametrize("person", ["", "ann\nroot", " ann", "x" * 600])
async def test_an_end_needs_a_name(scene: Scene, person: str) -> None:
    assert (await scene.ask("POST", END, GOOD, target="01abc", person=person))[0] == 400
    assert not scene.ended


async def test_a_token_is_reviewed_again_after_seconds(scene: Scene) -> None:
    for _ in range(5):
        assert (await scene.ask("GET", LIVE, GOOD))[0] == 200
    assert scene.api.asked == 1
    scene.now += 11
    scene.api.away = True
    assert (await scene.ask("GET", LIVE, GOOD))[0] == 503


async def test_made_up_tokens_do_not_reach_the_api_server_without_end(scene: Scene) -> None:
    statuses = [(await scene.ask("GET", LIVE, f"made-up-{number}"))[0] for number in range(50)]
    assert statuses.count(401) == scene.api.asked == 10
    assert statuses[-1] == 429


def test_an_account_is_written_in_either_way() -> None:
    assert account_of("ostiary/ostiary-console") == account_of(CONSOLE) == CONSOLE
    for odd in ("", "a", "a/b/c", "a/", "a/b c", "system:serviceaccount:a"):
        with pytest.raises(ValueError, match="ServiceAccount"):
            account_of(odd)
