"""ServiceAccount tokens: what is worth a question, what the API server's answer means, and how often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.jwts import Json, claims, rsa_key

from ostiary_gateway.identity.proof import Identity, LoginRefused
from ostiary_gateway.identity.token_review import AGAIN, AT_ONCE, FORGET, FRESH, REFUSED_FOR, TICK, TokenReviews
from ostiary_gateway.kube.errors import ApiError, KubeError, Unreachable
from ostiary_gateway.kube.resources import Reviewed

KEY = rsa_key()
CLUSTER = "https://kubernetes.default.svc.cluster.local"
PLANNER = "system:serviceaccount:agents:planner"
EXTRA = {
    "authentication.kubernetes.io/pod-name": ("planner-7d9f",),
    "authentication.kubernetes.io/pod-uid": ("b28bb642",),
    "authentication.kubernetes.io/node-name": ("node-1",),
    "authentication.kubernetes.io/credential-id": ("JTI=0fbf590e",),
}
GOOD = Reviewed(
    True, PLANNER, "uid-1", ("system:serviceaccounts", "system:serviceaccounts:agents"), EXTRA, ("ostiary",)
)


class ApiServer:
    """What the API server answers, how often it was asked, and the time."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        self.answer: Reviewed | KubeError = GOOD
        self.asked: list[str] = []
        self.audiences: set[tuple[str, ...]] = set()
        self.at_once = self.most_at_once = 0
        self.gate: asyncio.Event | None = None
        self.reviews = TokenReviews(self, lambda: self.now, lambda: self.now)

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = 0) -> Reviewed:
        self.asked.append(token)
        self.audiences.add(tuple(audiences))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if isinstance(self.answer, KubeError):
                raise self.answer
            return self.answer
        finally:
            self.at_once -= 1

    def token(self, *, lasts: float = 3600, **more: object) -> str:
        usual: Json = {
            "iss": CLUSTER,
            "aud": ["ostiary"],
            "kubernetes.io": {"namespace": "agents", "serviceaccount": {"name": "planner", "uid": "uid-1"}},
        }
        return KEY.token(claims(PLANNER, now=self.now, lasts=lasts, **{**usual, **more}))

    async def enter(self, token: str) -> Identity:
        return await self.reviews.identify(token, "Send a good one.")

    async def refused(self, token: str) -> LoginRefused:
        with pytest.raises(LoginRefused) as caught:
            await self.enter(token)
        assert token not in f"{caught.value} {caught.value.message} {caught.value.hint}"
        return caught.value


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


async def test_the_api_server_says_who_it_is(server: ApiServer) -> None:
    found = await server.enter(server.token())
    assert found.subject == {
        "username": PLANNER,
        "uid": "uid-1",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:agents"],
        "kind": "ServiceAccount",
        "namespace": "agents",
        "name": "planner",
        "claims": {"podName": "planner-7d9f", "podUID": "b28bb642", "nodeName": "node-1"},
        "onBehalfOf": "",
    }
    assert (found.method, found.expires) == ("serviceAccount", server.now + 3600)
    assert found.shown == (
        ("serviceAccount", "agents/planner"), ("pod", "planner-7d9f"), ("credential", "JTI=0fbf590e"),
    )  # fmt: skip
    assert server.audiences == {("ostiary",)}


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        ({"aud": [CLUSTER]}, "not for the audience ostiary. If it is the pod's own token for the API server"),
        ({"aud": CLUSTER}, "not for the audience ostiary"),
        ({"aud": ["ostiary", CLUSTER]}, "it is for others than ostiary as well"),
        ({"aud": None}, "for no audience in particular, as tokens in Secrets are"),
        ({"aud": 7}, "its aud is no text"),
        ({"exp": 1_789_999_000}, "it has expired; the kubelet renews the file"),
        ({"exp": None}, "it has no exp"),
        ({"exp": True}, "it has no exp"),
        ({"exp": 1e300}, "it has no exp"),
        ({"sub": None}, "it has no sub"),
        ({"kubernetes.io": None}, "it is no ServiceAccount's token"),
    ],
)
async def test_what_cannot_be_right_is_refused_without_a_question(server: ApiServer, claim: Json, says: str) -> None:
    """A token that would work elsewhere must not be passed around: not even to the API server, by us."""
    refused = await server.refused(server.token(**claim))
    assert refused.kind == "jwt"
    assert says in refused.message
    assert refused.hint == "Send a good one."
    assert server.asked == []


async def test_the_token_of_a_secret_is_refused(server: ApiServer) -> None:
    legacy = {"kubernetes.io": None, "kubernetes.io/serviceaccount/namespace": "agents", "aud": None, "exp": None}
    assert "as tokens in Secrets are" in (await server.refused(server.token(**legacy))).message


@pytest.mark.parametrize("token", ["eyJ.x.y", "eyJhbGciOiJSUzI1NiJ9.e30.x", "eyJ" + "x" * 20_000 + ".a.b"])
async def test_garbage_is_refused_without_a_question(server: ApiServer, token: str) -> None:
    assert (await server.refused(token)).kind == "jwt"
    assert server.asked == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("[invalid bearer token, invalid signature, no keys found]", "is it a token of another cluster?"),
        ("[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]", "token of another cluster?"),
        ("invalid bearer token", "is it a token of another cluster?"),
        ("", "is it a token of another cluster?"),
        ('[invalid bearer token, serviceaccounts "planner" not found]', "does not exist any more"),
        ("[invalid bearer token, service account UID (a) does not match claim (b)]", "does not exist any more"),
        ("[invalid bearer token, service account token has been invalidated]", "does not exist any more"),
        ("[invalid bearer token, service account token has expired]", "it has expired"),
        ('[invalid bearer token, token audiences ["x"] is invalid for the target audiences ["ostiary"]]', "audience"),
        ("etcdserver: request timed out", "the gateway's record says why"),
    ],
)
async def test_a_refusal_of_the_api_server_says_what_to_do(server: ApiServer, error: str, says: str) -> None:
    server.answer = Reviewed(False, error=error)
    refused = await server.refused(server.token())
    assert (refused.kind, says in refused.message) == ("jwt", True), refused.message
    assert error in refused.reason


@pytest.mark.parametrize(
    "answer",
    [
        replace(GOOD, audiences=()),
        replace(GOOD, audiences=(CLUSTER,)),
        replace(GOOD, username="alice"),
        replace(GOOD, username="system:admin"),
        replace(GOOD, username="system:serviceaccount:agents:other"),
        replace(GOOD, username="system:serviceaccount:agents:planner:x"),
        replace(GOOD, username="system:serviceaccount:Agents:planner"),
        replace(GOOD, groups=("a\nb",)),
        replace(GOOD, groups=tuple(f"g{number}" for number in range(257))),
    ],
)
async def test_an_answer_that_is_not_about_this_token_lets_nobody_in(server: ApiServer, answer: Reviewed) -> None:
    server.answer = answer
    assert (await server.refused(server.token())).kind == "jwt"


async def test_what_the_api_server_adds_is_kept_only_if_it_is_plain(server: ApiServer) -> None:
    server.answer = replace(GOOD, extra={"authentication.kubernetes.io/pod-name": ("a", "b"), "x": ("y",)})
    found = await server.enter(server.token())
    assert (found.subject["claims"], found.shown) == ({}, (("serviceAccount", "agents/planner"),))


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (Unreachable("the API server does not answer within 5 s", sent=True), "does not answer"),
        (ApiError(403, "Forbidden", "no"), "must be allowed to create tokenreviews"),
        (ApiError(500, "InternalError", "etcd"), "etcd"),
    ],
)
async def test_nobody_comes_in_unasked(server: ApiServer, problem: KubeError, says: str) -> None:
    server.answer = problem
    refused = await server.refused(server.token())
    assert refused.kind == "review"
    assert "takes none unasked" in refused.message
    assert "Try again" in refused.hint
    assert says in refused.reason
    server.answer = GOOD
    await server.enter(server.token())
    assert len(server.asked) == 2, "an API server that was away is asked again at once"


async def test_a_hundred_logins_with_one_token_make_one_question(server: ApiServer) -> None:
    token = server.token()
    found = await asyncio.gather(*(server.enter(token) for _ in range(100)))
    assert len({identity.credential for identity in found}) == len(server.asked) == 1


async def test_a_login_that_is_given_up_does_not_take_the_others_with_it(server: ApiServer) -> None:
    server.gate = asyncio.Event()
    token = server.token()
    first, second = (asyncio.create_task(server.enter(token)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    server.gate.set()
    assert (await second).subject["name"] == "planner"
    assert len(server.asked) == 1


async def test_an_accepted_token_is_taken_for_a_while(server: ApiServer) -> None:
    token = server.token()
    await server.enter(token)
    server.now += FRESH - 1
    await server.enter(token)
    assert len(server.asked) == 1
    server.now += 1
    server.answer = Reviewed(False, error="not found")
    await server.refused(token)
    assert len(server.asked) == 2


async def test_but_never_beyond_its_end(server: ApiServer) -> None:
    token = server.token(lasts=5)
    await server.enter(token)
    server.now += 5
    server.answer = Reviewed(False, error="token has expired")
    await server.refused(token)
    assert len(server.asked) == 2


async def test_a_refused_token_stays_so_for_a_moment_only(server: ApiServer) -> None:
    token = server.token()
    server.answer = Reviewed(False, error='serviceaccounts "planner" not found')
    await server.refused(token)
    server.answer = GOOD
    assert "does not exist" in (await server.refused(token)).message
    server.now += REFUSED_FOR
    await server.enter(token)


async def test_what_is_asked_at_once_is_bounded(server: ApiServer) -> None:
    server.answer = Reviewed(False)
    await asyncio.gather(*(server.refused(server.token(jti=str(number))) for number in range(4 * AT_ONCE)))
    assert (len(server.asked), server.most_at_once) == (4 * AT_ONCE, AT_ONCE)


async def test_what_is_kept_is_bounded(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostiary_gateway.identity.token_review.MOST", 2)
    first, *others = (server.token(jti=str(number)) for number in range(3))
    for token in (first, *others, *others):
        await server.enter(token)
    assert len(server.asked) == 3
    await server.enter(first)
    assert len(server.asked) == 4


# Sessions


async def look(server: ApiServer, seconds: float, *alive: Identity) -> None:
    """So much time passes; sessions of these identities are swept, and tokens are looked at, as often as usual."""
    for _ in range(int(seconds / TICK)):
        server.now += TICK
        for identity in alive:
            server.reviews.withdrawn(identity)
        await server.reviews.review_again()


async def test_the_token_of_a_living_session_is_reviewed_now_and_then(server: ApiServer) -> None:
    found = await server.enter(server.token())
    await look(server, 10 * AGAIN, found)
    assert len(server.asked) == 11
    assert not server.reviews.withdrawn(found)


async def test_a_deleted_service_account_ends_its_sessions(server: ApiServer) -> None:
    found = await server.enter(server.token())
    server.answer = Reviewed(False, error='serviceaccounts "planner" not found')
    await look(server, AGAIN - TICK, found)
    assert not server.reviews.withdrawn(found)
    await look(server, 2 * TICK, found)
    assert server.reviews.withdrawn(found)
    asked = len(server.asked)
    await look(server, 3 * AGAIN, found)
    assert len(server.asked) == asked, "it is not asked for ever"


async def test_one_refusal_alone_ends_no_session(server: ApiServer) -> None:
    """An API server that cannot reach its store refuses what it does not find."""
    found = await server.enter(server.token())
    server.answer = Reviewed(False, error="etcdserver: request timed out")
    await look(server, AGAIN, found)
    server.answer = GOOD
    await look(server, 5 * AGAIN, found)
    assert not server.reviews.withdrawn(found)


async def test_another_account_of_the_same_name_is_another(server: ApiServer) -> None:
    found = await server.enter(server.token())
    server.answer = replace(GOOD, uid="uid-2")
    await look(server, AGAIN + TICK, found)
    assert server.reviews.withdrawn(found)


async def test_sessions_go_on_while_the_api_server_is_away(server: ApiServer) -> None:
    found = await server.enter(server.token())
    server.answer = Unreachable("connection refused", sent=False)
    await look(server, 20 * AGAIN, found)
    assert not server.reviews.withdrawn(found)
    server.answer = Reviewed(False, error="not found")
    await look(server, 2 * TICK, found)
    assert server.reviews.withdrawn(found), "what happened meanwhile is found out as soon as it is back"


async def test_an_expired_token_is_not_asked_about(server: ApiServer) -> None:
    found = await server.enter(server.token(lasts=30))
    server.answer = Reviewed(False, error="token has expired")
    await look(server, 3 * AGAIN, found)
    assert len(server.asked) == 1
    assert not server.reviews.withdrawn(found), "when its sessions end is for the Connection to say"


async def test_a_token_that_nobody_lives_by_is_forgotten(server: ApiServer) -> None:
    found = await server.enter(server.token())
    await look(server, FORGET + 2 * TICK)
    asked = len(server.asked)
    await look(server, 5 * AGAIN)
    assert len(server.asked) == asked
    assert server.reviews.withdrawn(found), "and what is forgotten proves nothing"


async def test_what_nobody_thought_of_does_not_end_the_reviewing(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostiary_gateway.identity.token_review.TICK", 0.001)
    looks = 0

    async def review_again() -> None:
        nonlocal looks
        looks += 1
        raise RuntimeError("something")

    monkeypatch.setattr(server.reviews, "review_again", review_again)
    keeping = asyncio.create_task(server.reviews.keep_reviewing())
    while looks < 3:
        await asyncio.sleep(0.001)
    keeping.cancel()
    assert not keeping.done()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_reviews_under_way_end_with_the_gateway(server: ApiServer) -> None:
    server.gate = asyncio.Event()
    login = asyncio.create_task(server.enter(server.token()))
    keeping = asyncio.create_task(server.reviews.keep_reviewing())
    await asyncio.sleep(0.01)
    keeping.cancel()
    await server.reviews.close()
    found = await asyncio.gather(login, keeping, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in found)
