"""Which gateway a token stands for: a ServiceAccount's by TokenReview, or one whose sha256 stands in a file.

A gateway hands over its own record and no other: in a cluster the ServiceAccount must be the one that the operator made
for it, since any pod of a namespace can have a token for this audience.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from ostiary_api.names import child_name
from ostiary_gateway.audit.shipping import AUDIENCE
from ostiary_gateway.identity.jose import BadToken, parse_token
from ostiary_gateway.kube.errors import KubeError
from ostiary_gateway.kube.resources import Reviewed

FRESH: Final = 60.0
"""Seconds that an accepted token is taken again without a question."""
REFUSED_FOR: Final = 5.0
MOST: Final = 4096
AT_ONCE: Final = 8
PATIENCE: Final = 10.0
MAX_TOKEN: Final = 8192
_ACCOUNT: Final = re.compile(r"system:serviceaccount:([a-z0-9][-a-z0-9]{0,62}):([a-z0-9][-a-z0-9.]{0,252})")
_LINE: Final = re.compile(r"([0-9a-f]{64})[ \t]+(\S{1,512})")


class NotAccepted(Exception):
    """The token stands for nobody. The text says why, and is for the gateway's log."""


class CannotAsk(Exception):
    """There is nobody who could say whose the token is: try again."""


class Sender(Protocol):
    """Who has sent something."""

    def may_ship(self, gateway: str) -> bool:
        """Whether it is this gateway."""


class Identities(Protocol):
    """Who senders are."""

    async def identify(self, token: str) -> Sender:
        """Raises NotAccepted or CannotAsk."""


class Named:
    """A gateway by its name; `prod/*` is any of a namespace."""

    def __init__(self, name: str) -> None:
        self.name = name

    def may_ship(self, gateway: str) -> bool:
        if self.name.endswith("/*"):
            return gateway.startswith(self.name[:-1])
        return gateway == self.name


class Account:
    """The ServiceAccount of a gateway in a cluster."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace, self.name = namespace, name

    def may_ship(self, gateway: str) -> bool:
        namespace, _, name = gateway.partition("/")
        return namespace == self.namespace and bool(name) and self.name == child_name(name)


class TokenFile:
    """Lines of a token's sha256 and a gateway's name. Read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._names: list[tuple[bytes, str]] = []
        self._read()

    def _read(self) -> None:
        """OSError or ValueError."""
        status = self._path.stat()
        stamp = status.st_mtime_ns, status.st_ino
        if stamp == self._stamp:
            return
        found = []
        for number, line in enumerate(self._path.read_text().splitlines(), 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            match = _LINE.fullmatch(text)
            if match is None:
                raise ValueError(
                    f"{self._path}:{number}: not the sha256 of a token (64 hex digits) and a gateway's name"
                )
            found.append((bytes.fromhex(match[1]), match[2]))
        self._names, self._stamp = found, stamp

    async def identify(self, token: str) -> Sender:
        try:
            await asyncio.to_thread(self._read)
        except (OSError, ValueError) as problem:
            raise CannotAsk(f"the file of tokens cannot be read: {problem}") from None
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = [name for known, name in self._names if hmac.compare_digest(known, digest)]
        if not found:
            raise NotAccepted("it is not known here: put its sha256 and the gateway's name into the file of tokens")
        return Named(found[0])


class Reviewer(Protocol):
    """Who asks the API server: `ostiary_gateway.kube`."""

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = ...) -> Reviewed:
        """Raises KubeError."""


class TokenReviews:
    """ServiceAccount tokens of the audience `ostiary-store`, before the API server."""

    def __init__(self, reviewer: Reviewer, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._reviewer = reviewer
        self._monotonic = monotonic
        self._answers: OrderedDict[bytes, tuple[float, Account | None, str]] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def identify(self, token: str) -> Sender:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._answers.get(digest)
        if known is None or self._monotonic() >= known[0]:
            _worth_asking(token)
            account, why = await self._ask(token)
            known = self._monotonic() + (FRESH if account is not None else REFUSED_FOR), account, why
            self._answers[digest] = known
            self._answers.move_to_end(digest)
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)
        if known[1] is None:
            raise NotAccepted(known[2])
        return known[1]

    async def _ask(self, token: str) -> tuple[Account | None, str]:
        try:
            async with asyncio.timeout(PATIENCE), self._slots:
                reviewed = await self._reviewer.review_token(token, (AUDIENCE,), timeout=PATIENCE / 2)
        except TimeoutError:
            raise CannotAsk("the API server does not answer") from None
        except KubeError as problem:
            raise CannotAsk(f"the API server cannot be asked: {problem}") from None
        if not reviewed.authenticated:
            return None, "the API server does not accept it"
        if AUDIENCE not in reviewed.audiences:
            return None, f"it is not for the audience {AUDIENCE}"
        match = _ACCOUNT.fullmatch(reviewed.username)
        return (None, "it is not that of a ServiceAccount") if match is None else (Account(match[1], match[2]), "")


def _worth_asking(token: str) -> None:
    """What a token says of itself is only ever used to refuse it, before anybody is asked."""
    try:
        audiences = parse_token(token).payload.get("aud")
    except BadToken as problem:
        raise NotAccepted(f"it is no ServiceAccount's token: {problem}") from None
    if audiences not in (AUDIENCE, [AUDIENCE]):
        raise NotAccepted(f"it is not for the audience {AUDIENCE} alone")
