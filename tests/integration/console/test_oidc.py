"""Signing in at an OpenID provider: the whole way, what is wrong with it, new tokens, and the end."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority, make_authority
from support.console import Browser, Desk, console_desk, question
from support.jwts import rsa_key
from support.oidc_provider import CLIENT, SECRET, Provider, path_of

from ostiary_console.id_tokens import Rules
from ostiary_console.issuers import Issuer
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_store.model import ALL

SITE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def provider(authority: Authority) -> Iterator[Provider]:
    with Provider(authority.server).running() as provider:
        yield provider


def issuer_of(provider: Provider, authority: Authority, keys: KeySources, **more: Any) -> Issuer:
    rules = Rules(provider.issuer, CLIENT, "sub", "oidc:", "groups", "oidc:", more.pop("required", {}))
    return Issuer(
        "corp", "Example Corp", rules, secret=lambda: SECRET, scopes=("openid", "groups"),
        redirect=f"{SITE}/signin/callback", keys=keys, authorities=authority.ca.read_text(), **more,
    )  # fmt: skip


@pytest.fixture
async def desk(tmp_path: Path, provider: Provider, authority: Authority) -> AsyncIterator[Desk]:
    keys = KeySources()
    async with console_desk(tmp_path, issuers=[issuer_of(provider, authority, keys)]) as desk:
        desk.world.scopes["oidc:ann"] = ALL
        yield desk
    await keys.close()


async def at_the_provider(url: str, authority: Authority) -> str:
    """The browser goes there; where it is sent back to."""

    def gone() -> str:
        context = ssl.create_default_context(cafile=str(authority.ca))

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: object) -> None:
                return None

        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), Stay())
        try:
            opener.open(url)
        except urllib.error.HTTPError as answer:
            with answer:
                return str(answer.headers["Location"])
        raise AssertionError("the provider sends nobody back")

    return await asyncio.to_thread(gone)


async def there_and_back(browser: Browser, authority: Authority, after: str = "/live") -> str:
    """The way up to where the issuer sends the browser; its path here."""
    answer = await browser.get(f"/signin/oidc?provider=corp&next={after}")
    assert answer.status == 303, await answer.text()
    back = await at_the_provider(answer.headers["Location"], authority)
    assert back.startswith(f"{SITE}/signin/callback?")
    return path_of(back)


async def test_somebody_signs_in_and_sees_what_they_may(desk: Desk, authority: Authority) -> None:
    desk.hand.open("01aaaa")
    await desk.write()
    async with desk.browser() as browser:
        assert "Example Corp" in await browser.text("/signin?next=/live")
        back = await there_and_back(browser, authority)
        answer = await browser.get(back)
        assert (answer.status, answer.headers["Location"]) == (303, "/live")
        assert [each["id"] for each in (await browser.json("/sessions"))["sessions"]] == ["01aaaa"]
        assert "oidc:ann" in await browser.text("/sessions")
        assert not any("eyJ" in value for value in browser.cookies.values()), "no token is to be seen"


async def test_a_way_back_is_good_once(desk: Desk, authority: Authority) -> None:
    async with desk.browser() as browser:
        back = await there_and_back(browser, authority)
        kept = dict(browser.cookies)
        assert (await browser.get(back)).status == 303
        await browser.post("/signout")
        assert (await browser.get(back)).status == 400
        browser.cookies = kept
        assert (await browser.get(back)).status == 403, "the provider takes a code once"


async def test_the_way_back_of_another_browser_lets_nobody_in(desk: Desk, authority: Authority) -> None:
    """Login CSRF: Eve sends Ann the end of her own way."""
    async with desk.browser() as eve, desk.browser() as ann:
        back = await there_and_back(eve, authority)
        assert (await ann.get(back)).status == 400
        await ann.get("/signin/oidc?provider=corp")
        assert (await ann.get(back)).status == 403
        assert not ann.cookies.get("ostiary")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"aud": "somebody-else"}, "another audience"),
        ({"aud": [CLIENT, "other"]}, "another client"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "another client"),
        ({"iss": "https://evil.example.com"}, "another issuer"),
        ({"exp": 1}, "expired"),
        ({"iat": 2**33}, "in the future"),
        ({"sub": None}, "no sub"),
        ({"sub": " ann"}, "no name"),
        ({"groups": "dba\nroot"}, "no name of a group"),
        ({"groups": {"a": 1}}, "no list"),
        ({"at_hash": "AAAA"}, "at_hash"),
    ],
)
async def test_a_token_that_is_wrong_lets_nobody_in(
    desk: Desk, provider: Provider, authority: Authority, more: dict[str, object], says: str
) -> None:
    provider.more = more
    async with desk.browser() as browser:
        answer = await browser.get(await there_and_back(browser, authority))
        assert answer.status == 403
        assert says in await answer.text()
        assert not browser.cookies.get("ostiary")


async def test_a_token_of_another_key_lets_nobody_in(desk: Desk, provider: Provider, authority: Authority) -> None:
    provider.signs = rsa_key(provider.key.kid)
    async with desk.browser() as browser:
        answer = await browser.get(await there_and_back(browser, authority))
        assert (answer.status, "signature" in await answer.text()) == (403, True)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"iss": "https://evil.example.com"}, "another issuer"),
        ({"iss": ""}, "another issuer"),
        ({"state": "made-up"}, "another sign-in"),
        ({"code": "made-up"}, "used already, or never given"),
        ({"code": ""}, "no code"),
        ({"code": "", "error": "access_denied", "error_description": "<b>no</b>"}, "&lt;b&gt;no&lt;/b&gt;"),
    ],
)
async def test_an_answer_that_is_wrong_lets_nobody_in(
    desk: Desk, provider: Provider, authority: Authority, answer: dict[str, str], says: str
) -> None:
    provider.answer = answer
    async with desk.browser() as browser:
        found = await browser.get(await there_and_back(browser, authority))
        assert found.status == 403
        assert says in await found.text()


async def test_a_code_that_was_stolen_needs_the_verifier(desk: Desk, provider: Provider, authority: Authority) -> None:
    """PKCE: Eve, who can start a way of her own, has seen Ann's code."""
    async with desk.browser() as ann, desk.browser() as eve:
        stolen = (await there_and_back(ann, authority)).partition("code=")[2].partition("&")[0]
        provider.answer = {"code": stolen}
        answer = await eve.get(await there_and_back(eve, authority))
        assert answer.status == 403
        assert provider.refused == ["the verifier does not fit the challenge"]


async def test_new_tokens_come_before_the_old_ones_end(desk: Desk, provider: Provider, authority: Authority) -> None:
    provider.lasts = 300
    async with desk.browser() as browser:
        await browser.get(await there_and_back(browser, authority))
        before = provider.asked.count("/token")
        desk.now[0] += 200
        provider.people["ann"] = ["devs"]
        answers = await asyncio.gather(*(browser.get("/sessions") for _ in range(5)))
        assert [each.status for each in answers] == [200] * 5
        desk.now[0] += 50
        answers = await asyncio.gather(*(browser.get("/sessions") for _ in range(5)))
        assert [each.status for each in answers] == [200] * 5
        assert provider.asked.count("/token") == before + 1, "a refresh token is good once, however many ask"
        assert not provider.refused


async def test_who_may_not_any_more_is_signed_out(desk: Desk, provider: Provider, authority: Authority) -> None:
    async with desk.browser() as browser:
        await browser.get(await there_and_back(browser, authority))
        provider._refresh.clear()
        desk.now[0] += 250
        assert (await browser.get("/sessions")).status == 303


async def test_a_provider_that_is_away_ends_nobody_early(desk: Desk, provider: Provider, authority: Authority) -> None:
    async with desk.browser() as browser:
        await browser.get(await there_and_back(browser, authority))
        provider.away = True
        desk.now[0] += 250
        assert (await browser.get("/sessions")).status == 200
        desk.now[0] += 60
        assert (await browser.get("/sessions")).status == 303


async def test_without_refresh_it_ends_with_the_token(desk: Desk, provider: Provider, authority: Authority) -> None:
    provider.refreshes, provider.lasts = False, 120
    async with desk.browser() as browser:
        await browser.get(await there_and_back(browser, authority))
        desk.now[0] += 100
        assert (await browser.get("/sessions")).status == 200
        desk.now[0] += 30
        assert (await browser.get("/sessions")).status == 303


@pytest.mark.parametrize(
    "discovery",
    [{"issuer": "https://evil.example.com"}, {"token_endpoint": "http://localhost/token"},
     {"authorization_endpoint": None}, {"code_challenge_methods_supported": ["plain"]}],
)  # fmt: skip
async def test_a_provider_that_is_not_as_it_must_be_is_not_used(
    desk: Desk, provider: Provider, discovery: dict[str, object]
) -> None:
    provider.discovery = discovery
    async with desk.browser() as browser:
        answer = await browser.get("/signin/oidc?provider=corp")
        assert answer.status == 503
        assert "Location" not in answer.headers
        assert (await browser.get("/signin/oidc?provider=nobody")).status == 404


async def test_reserved_names_are_nobodys(tmp_path: Path, provider: Provider, authority: Authority) -> None:
    """Without a prefix a provider could name somebody as the cluster's own."""
    keys = KeySources()
    rules = Rules(provider.issuer, CLIENT, "sub", "", "groups", "", {})
    issuer = Issuer(
        "corp", "Example Corp", rules, secret=lambda: SECRET, scopes=("openid",), redirect=f"{SITE}/signin/callback",
        keys=keys, authorities=authority.ca.read_text(), impersonate=True,
    )  # fmt: skip
    async with console_desk(tmp_path, issuers=[issuer]) as desk, desk.browser() as browser:
        for more in ({"sub": "system:admin"}, {"groups": ["system:masters"]}):
            provider.more = more
            answer = await browser.get(await there_and_back(browser, authority))
            assert (answer.status, "system:" in await answer.text()) == (403, True)
    await keys.close()


async def test_a_large_token_fits_and_a_huge_one_is_told(desk: Desk, provider: Provider, authority: Authority) -> None:
    desk.world.items.append(question())
    async with desk.browser() as browser:
        provider.people["ann"] = [secrets.token_hex(16) for _ in range(120)]
        assert (await browser.get(await there_and_back(browser, authority))).status == 303
        assert len([name for name in browser.cookies if name.startswith("ostiary")]) > 1
        assert (await browser.get("/sessions")).status == 200
        await browser.get("/approvals")
        assert (await browser.post("/signout")).status == 303
        assert not browser.cookies.get("ostiary")
        assert not browser.cookies.get("ostiary-1")
        provider.people["ann"] = [secrets.token_hex(100) for _ in range(120)]
        answer = await browser.get(await there_and_back(browser, authority))
        assert (answer.status, "long" in await answer.text()) == (403, True)
        assert not browser.cookies.get("ostiary")
