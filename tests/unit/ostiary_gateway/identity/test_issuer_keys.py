"""Keys of issuers: kept, fetched again, rationed, and good for a while without the issuer. The clock is the test's."""

from __future__ import annotations

import asyncio

import pytest
from support.jwts import SigningKey, ec_key, jwks, rsa_key

from ostiary_gateway.identity.issuer_keys import LAST_GOOD, SPACING, Fetched, KeysUnavailable, RemoteKeys, _max_age
from ostiary_gateway.identity.jose import Header, VerifyingKey, parse_jwks

OLD = rsa_key("old")
NEW = ec_key("new")


class Issuer:
    """What the issuer publishes, how often it was asked, and the time."""

    def __init__(self, *keys: SigningKey, fresh: float | None = None) -> None:
        self.published = keys
        self.fresh = fresh
        self.away = False
        self.asked = 0
        self.now = 1000.0
        self.gate: asyncio.Event | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.keys = RemoteKeys("https://login.example.com", self.fetch, self.tasks, lambda: self.now)

    async def fetch(self) -> Fetched:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise KeysUnavailable("connection refused")
        return Fetched(parse_jwks(jwks(*self.published)), self.fresh)

    async def find(self, kid: str, algorithm: str = "RS256") -> VerifyingKey | None:
        return await self.keys.find(Header(algorithm, kid, None))


async def test_keys_are_fetched_once_and_kept() -> None:
    issuer = Issuer(OLD)
    assert await issuer.find("old")
    issuer.now += 299
    assert await issuer.find("old")
    assert issuer.asked == 1
    issuer.now += 2
    assert await issuer.find("old")
    assert issuer.asked == 2


@pytest.mark.parametrize(("says", "kept"), [(0.0, 60), (90.0, 90), (1e9, 3600), (None, 300)])
async def test_the_issuer_says_how_long_within_bounds(says: float | None, kept: float) -> None:
    issuer = Issuer(OLD, fresh=says)
    await issuer.find("old")
    issuer.now += kept - 1
    await issuer.find("old")
    assert issuer.asked == 1
    issuer.now += 2
    await issuer.find("old")
    assert issuer.asked == 2


async def test_a_new_key_is_found_when_its_first_token_comes() -> None:
    issuer = Issuer(OLD)
    await issuer.find("old")
    issuer.published = (OLD, NEW)
    issuer.now += SPACING
    assert await issuer.find("new", "ES256")


async def test_a_withdrawn_key_is_forgotten_with_the_next_fetch() -> None:
    issuer = Issuer(OLD, NEW)
    await issuer.find("old")
    issuer.published = (NEW,)
    issuer.now += 301
    assert await issuer.find("old") is None


async def test_made_up_key_ids_do_not_drive_the_gateway_to_ask() -> None:
    issuer = Issuer(OLD)
    for number in range(50):
        assert await issuer.find(f"made-up-{number}") is None
    assert issuer.asked == 1
    issuer.now += SPACING
    for number in range(50):
        await issuer.find(f"made-up-{number}")
    assert issuer.asked == 2


async def test_logins_at_one_time_share_a_fetch() -> None:
    issuer = Issuer(OLD)
    issuer.gate = asyncio.Event()
    logins = [asyncio.create_task(issuer.find("old")) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    logins[0].cancel()
    await asyncio.sleep(0)
    issuer.gate.set()
    found = await asyncio.gather(*logins, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(key, VerifyingKey) for key in found[1:]), "one that left has not taken the others with it"
    assert issuer.asked == 1
    assert issuer.tasks == set()


async def test_the_last_good_keys_serve_while_the_issuer_is_away_for_a_bounded_time() -> None:
    issuer = Issuer(OLD)
    await issuer.find("old")
    issuer.away = True
    issuer.now += LAST_GOOD - 1
    assert await issuer.find("old")
    issuer.now += 2
    with pytest.raises(KeysUnavailable, match="4 hours old, and connection refused"):
        await issuer.find("old")
    issuer.away = False
    issuer.now += SPACING
    assert await issuer.find("old")


async def test_an_issuer_that_is_away_from_the_beginning_is_asked_again_but_not_by_every_login() -> None:
    issuer = Issuer(OLD)
    issuer.away = True
    for _ in range(10):
        with pytest.raises(KeysUnavailable, match="connection refused"):
            await issuer.find("old")
    assert issuer.asked == 1
    issuer.away = False
    issuer.now += SPACING
    assert await issuer.find("old")


async def test_an_unexpected_error_of_a_fetch_refuses_and_does_not_stay() -> None:
    issuer = Issuer(OLD)
    issuer.published = ()
    with pytest.raises(KeysUnavailable, match="ValueError"):
        await issuer.find("old")
    issuer.published = (OLD,)
    issuer.now += SPACING
    assert await issuer.find("old")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("public", None),
        ("max-age=600", 600.0),
        ('public, Max-Age="120", must-revalidate', 120.0),
        ("no-store, max-age=600", 0.0),
        ("max-age=abc", None),
        ("max-age=-1", None),
    ],
)
def test_cache_control_is_read(header: str, seconds: float | None) -> None:
    assert _max_age(header) == seconds


