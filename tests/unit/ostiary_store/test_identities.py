"""Whose token it is: by the API server's word, or by a file of hashes; and which gateway's record it may bring."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ostiary_api.names import child_name
from ostiary_gateway.kube.errors import ApiError, Unreachable
from ostiary_gateway.kube.resources import Reviewed
from ostiary_store.service.identities import FRESH, Account, CannotAsk, Named, NotAccepted, TokenFile, TokenReviews

AUDIENCE = "ostiary-store"


def jwt(**claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'RS256'})}.{part({'iss': 'https://api', 'aud': [AUDIENCE], **claims})}.{part('signature')}"


def reviewed(username: str = "system:serviceaccount:shop:ostiary-app-db", **more: object) -> Reviewed:
    fields: dict[str, object] = {
        "authenticated": True, "username": username, "uid": "u", "groups": (), "extra": {}, "audiences": (AUDIENCE,),
        "error": "",
    }  # fmt: skip
    return Reviewed(**{**fields, **more})  # type: ignore[arg-type]


class Server:
    """Answers reviews as it is told."""

    def __init__(self, answer: Reviewed | Exception) -> None:
        self.answer = answer
        self.asked = 0

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = 0) -> Reviewed:
        assert tuple(audiences) == (AUDIENCE,)
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_gateways_account_brings_that_gateways_record_and_no_other() -> None:
    sender = await TokenReviews(Server(reviewed())).identify(jwt())
    assert sender.may_ship("shop/app-db")
    for other in ("shop/other", "other/app-db", "shop", "shop/", "", "app-db", "shop/app-db/x"):
        assert not sender.may_ship(other), other


async def test_any_other_account_of_the_namespace_brings_nothing() -> None:
    """An agent's pod can have a token for this audience, too."""
    sender = await TokenReviews(Server(reviewed("system:serviceaccount:shop:agent"))).identify(jwt())
    assert not sender.may_ship("shop/app-db")
    assert not sender.may_ship("shop/agent")


def test_names_that_are_cut_are_still_one_gateways() -> None:
    long = "a" * 70
    assert Account("shop", child_name(long)).may_ship(f"shop/{long}")
    assert not Account("shop", child_name(long)).may_ship(f"shop/{long}b")


async def test_the_api_server_is_asked_now_and_then() -> None:
    now = [0.0]
    server = Server(reviewed())
    reviews = TokenReviews(server, lambda: now[0])
    for _ in range(5):
        await reviews.identify(jwt())
    assert server.asked == 1
    now[0] += FRESH
    server.answer = reviewed(authenticated=False, username="")
    with pytest.raises(NotAccepted, match="does not accept it"):
        await reviews.identify(jwt())
    with pytest.raises(NotAccepted):
        await reviews.identify(jwt())
    assert server.asked == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reviewed(audiences=("ostiary",)), "not for the audience"),
        (reviewed(audiences=()), "not for the audience"),
        (reviewed("system:node:a"), "not that of a ServiceAccount"),
        (reviewed("alice"), "not that of a ServiceAccount"),
        (reviewed("system:serviceaccount:shop:ostiary-a:b"), "not that of a ServiceAccount"),
    ],
)
async def test_what_the_api_server_says_is_looked_at(answer: Reviewed, said: str) -> None:
    with pytest.raises(NotAccepted, match=said):
        await TokenReviews(Server(answer)).identify(jwt())


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", jwt(aud="ostiary"), jwt(aud=[AUDIENCE, "other"]), jwt(aud=[]), jwt(aud=None)]
)
async def test_what_is_no_such_token_is_not_asked_about(token: str) -> None:
    server = Server(reviewed())
    with pytest.raises(NotAccepted):
        await TokenReviews(server).identify(token)
    assert server.asked == 0


@pytest.mark.parametrize("problem", [Unreachable("no way", sent=False), ApiError(403, "Forbidden", "no right")])
async def test_nobody_is_let_in_while_nobody_can_be_asked(problem: Exception) -> None:
    server = Server(problem)
    reviews = TokenReviews(server)
    with pytest.raises(CannotAsk, match="cannot be asked"):
        await reviews.identify(jwt())
    server.answer = reviewed()
    assert (await reviews.identify(jwt())).may_ship("shop/app-db")


async def test_a_file_of_hashes_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "tokens"

    def line(token: str, name: str) -> str:
        return f"{hashlib.sha256(token.encode()).hexdigest()}  {name}  # of {name}\n"

    file.write_text(f"# gateways\n\n{line('one', 'host')}{line('two', 'prod/*')}")
    tokens = TokenFile(file)
    one, two = await tokens.identify("one"), await tokens.identify("two")
    assert one.may_ship("host")
    assert not one.may_ship("host2")
    assert two.may_ship("prod/app")
    assert not two.may_ship("production/app")
    assert not two.may_ship("prod")
    with pytest.raises(NotAccepted, match="not known here"):
        await tokens.identify("three")
    draft = tmp_path / "draft"
    draft.write_text(line("three", "host"))
    draft.replace(file)
    assert isinstance(await tokens.identify("three"), Named)
    with pytest.raises(NotAccepted):
        await tokens.identify("one")
    file.write_text("not a hash host\n")
    with pytest.raises(CannotAsk, match=":1: not the sha256"):
        await tokens.identify("three")


def test_a_file_of_hashes_must_be_there_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="tokens"):
        TokenFile(tmp_path / "tokens")
