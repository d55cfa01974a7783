"""ServiceAccount tokens before the API server: asked once for many logins, and again while sessions live by them.

A token that was not reviewed is never taken. When the API server is away, nobody new comes in by a ServiceAccount, and
sessions go on until their tokens expire.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from ostiary_gateway.kube.errors import ApiError, KubeError
from ostiary_gateway.kube.resources import Reviewed

from .jose import BadToken
from .proof import Identity, LoginRefused, bounded
from .service_account import AUDIENCE, Claimed, ServiceAccount, claimed, is_service_account_token, proven

log = structlog.get_logger(__name__)

FRESH: Final = 10.0
"""Seconds that an accepted token is taken again without a question, as the API server itself does."""
REFUSED_FOR: Final = 2.0
"""Seconds that a refused token stays refused without a question."""
TIMEOUT: Final = 5.0
"""Seconds for one review, with its repetitions: a login has 30."""
PATIENCE: Final = 10.0
"""Seconds for one review and for its turn, where many are asked for."""
AT_ONCE: Final = 16
"""Reviews under way at one time: strangers can make up tokens."""
MOST: Final = 4096
"""Answers that are kept."""
AGAIN: Final = 60.0
"""Seconds after which the token of a living session is reviewed again."""
TICK: Final = 5.0
"""Seconds between looks at what is to be reviewed again."""
FORGET: Final = 120.0
"""Seconds after which a token that no session was seen with is forgotten. A login takes 30 at most."""
STRIKES: Final = 2
"""Refusals in a row that end a session: one may be an API server that cannot reach its store."""


class Reviewer(Protocol):
    """Who asks the API server: `ostiary_gateway.kube`."""

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = ...) -> Reviewed:
        """Raises KubeError."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of a review: an account, or why not. `until`: of the monotonic clock, when it is worth nothing."""

    token: Claimed
    account: ServiceAccount | None
    refused: str
    said: str
    until: float


@dataclass(slots=True)
class _Live:
    """A token that sessions may live by. Times are of the monotonic clock."""

    token: Claimed
    account: ServiceAccount
    reviewed: float
    seen: float
    strikes: int = 0
    withdrawn: bool = field(default=False)


class _Away(Exception):
    """There was no review. The text says why, for the gateway's operator."""


class TokenReviews:
    """All ServiceAccount tokens of one gateway process; it outlives reloads. Tokens are in its memory, nowhere else.

    `keep_reviewing` must run beside it, or a deleted ServiceAccount ends no session.
    """

    def __init__(
        self,
        reviewer: Reviewer,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reviewer = reviewer
        self._clock = clock
        self._monotonic = monotonic
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._flights: dict[str, asyncio.Task[_Answer]] = {}
        self._live: dict[str, _Live] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._away = ""

    async def identify(self, secret: str, hint: str) -> Identity:
        """Who a token stands for. `hint`: what a client could send instead. Raises LoginRefused."""
        digest = hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
        try:
            answer = self._known(digest) or await self._answer(digest, claimed(secret, self._clock()))
        except BadToken as problem:
            raise _refusal(secret, str(problem), "", hint) from None
        except _Away as problem:
            raise LoginRefused(
                "review", f"serviceaccount: the API server cannot be asked: {bounded(str(problem), 300)}",
                "The API server cannot be asked about ServiceAccount tokens now, and the gateway takes none unasked.",
                "Try again in a moment. If it stays so, tell who runs the gateway: its record says under this id what "
                "is wrong.",
            ) from None  # fmt: skip
        if answer.account is None:
            raise _refusal(secret, answer.refused, answer.said, hint)
        token = answer.token
        self._note(digest, token, answer.account)
        subject, claims = answer.account.subject, answer.account.subject["claims"]
        shown = [("serviceAccount", f"{subject['namespace']}/{subject['name']}")]
        shown += [("pod", str(claims["podName"]))] if "podName" in claims else []
        shown += [("credential", answer.account.credential_id)] if answer.account.credential_id else []
        credential = f"serviceaccount {digest}"
        return Identity(subject, credential, "serviceAccount", token.expires, "", tuple(shown))

    def withdrawn(self, identity: Identity) -> bool:
        """Whether the API server has come to refuse the token. Asking also says that a session still lives by it."""
        live = self._live.get(identity.credential.partition(" ")[2])
        if live is None:
            # Not asked after for so long that it was forgotten: nobody knows any more that it holds.
            return True
        live.seen = self._monotonic()
        return live.withdrawn

    async def keep_reviewing(self) -> None:
        """Reviews the tokens of living sessions again and again, until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            try:
                await self.review_again()
            except Exception:
                # Whatever it was, the gateway goes on, and asks again at the next look.
                log.exception("reviewing the tokens of living sessions failed")

    async def review_again(self) -> None:
        """One look: forgets tokens that nobody lives by, and asks about those that are due."""
        now = self._monotonic()
        for digest in [digest for digest, live in self._live.items() if now - live.seen > FORGET]:
            del self._live[digest]
        for digest, live in list(self._live.items()):
            wait = TICK if live.strikes else AGAIN
            # An expired token cannot be reviewed, and its sessions end by themselves.
            if live.withdrawn or now - live.reviewed < wait or self._clock() >= live.token.expires:
                continue
            try:
                answer = await self._ask(live.token)
            except _Away:
                # Whoever is in stays in; the others are asked about as soon as there is an answer.
                return
            self._heard(digest, live, answer)

    def _heard(self, digest: str, live: _Live, answer: _Answer) -> None:
        live.reviewed = self._monotonic()
        if answer.account is not None and answer.account.subject["uid"] == live.account.subject["uid"]:
            live.strikes = 0
            return
        live.strikes += 1
        self._answers.pop(digest, None)
        if live.strikes >= STRIKES:
            live.withdrawn = True
            log.warning(
                "the API server does not accept the token of living sessions any more: they end",
                service_account=live.account.subject["username"], problem=bounded(answer.said or answer.refused, 300),
            )  # fmt: skip

    async def close(self) -> None:
        """Ends reviews that are under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    # -- one question

    def _known(self, digest: str) -> _Answer | None:
        known = self._answers.get(digest)
        if known is None or self._monotonic() >= known.until or self._clock() >= known.token.expires:
            return None
        return known

    async def _answer(self, digest: str, token: Claimed) -> _Answer:
        flight = self._flights.get(digest)
        if flight is None:
            flight = self._flights[digest] = asyncio.create_task(self._ask(token))
            flight.add_done_callback(lambda done: self._landed(digest, done))
        # A login that is given up must not take the others' review with it.
        return await asyncio.shield(flight)

    def _landed(self, digest: str, flight: asyncio.Task[_Answer]) -> None:
        del self._flights[digest]
        if flight.cancelled() or flight.exception() is not None:
            return
        self._answers[digest] = flight.result()
        self._answers.move_to_end(digest)
        while len(self._answers) > MOST:
            self._answers.popitem(last=False)

    async def _ask(self, token: Claimed) -> _Answer:
        """Raises _Away."""
        try:
            async with asyncio.timeout(PATIENCE), self._slots:
                reviewed = await self._reviewer.review_token(token.token, (AUDIENCE,), timeout=TIMEOUT)
        except TimeoutError:
            raise self._told_away(f"no answer within {PATIENCE:.0f} s") from None
        except ApiError as problem:
            text = str(problem)
            if problem.status in (401, 403):
                text = f"the gateway's ServiceAccount must be allowed to create tokenreviews, and is not: {text}"
            raise self._told_away(text) from None
        except KubeError as problem:
            raise self._told_away(str(problem)) from None
        if self._away:
            self._away = ""
            log.info("the API server reviews ServiceAccount tokens again")
        try:
            return _Answer(token, proven(reviewed, token), "", "", self._monotonic() + FRESH)
        except BadToken as problem:
            return _Answer(token, None, str(problem), bounded(reviewed.error, 300), self._monotonic() + REFUSED_FOR)

    def _told_away(self, why: str) -> _Away:
        if not self._away:
            log.warning(
                "the API server cannot be asked about ServiceAccount tokens: no new logins with them", problem=why
            )
        self._away = why
        return _Away(why)

    def _note(self, digest: str, token: Claimed, account: ServiceAccount) -> None:
        now = self._monotonic()
        live = self._live.get(digest)
        if live is None:
            self._live[digest] = _Live(token, account, reviewed=now, seen=now)
            return
        live.seen = now
        if live.withdrawn:
            live.withdrawn, live.strikes, live.reviewed = False, 0, now


def _refusal(secret: str, why: str, said: str, hint: str) -> LoginRefused:
    what = "ServiceAccount token" if is_service_account_token(secret) else "JWT"
    reason = f"{what.lower()}: {why}" + (f" ({said})" if said else "")
    return LoginRefused("jwt", reason, f"The {what} is not accepted: {why}.", hint)
