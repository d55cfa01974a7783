"""Messages on their way: POSTed with a timeout, tried again with growing pauses, given up after a time and logged."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from ostiary_api.logs import get_logger
from ostiary_notify.addresses import refused_address, url_problem
from ostiary_notify.settings import Receiver
from ostiary_notify.signing import SecretProblem, key_of, sign

log = get_logger(__name__)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 300.0
MAX_WAITING: Final = 500
"""Messages of one receiver."""
AT_ONCE: Final = 4
"""Tries of one receiver at one time."""
LAST_WORD: Final = 3.0
"""Seconds that a try still has when no more are begun: what a receiver has taken should not be sent it again."""
_AGAIN: Final = frozenset({408, 425, 429})
"""Besides 5xx: what may go well later."""
_SLACK_WORD: Final = re.compile(r"[a-z_]{1,40}")
_MAX_SECRET: Final = 4096

Result = Literal["sent", "given up"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one receiver."""

    id: str
    body: bytes
    about: str
    """For logs: what it tells, of which question."""


@dataclass(frozen=True, slots=True)
class Try:
    """How one try went. `wait`: seconds that the receiver asks for; None: it does not say."""

    ok: bool
    again: bool = False
    wait: float | None = None
    why: str = ""


class Guarded(AbstractResolver):
    """Names are resolved as ever, but lead to no address that is no receiver's."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        kept = [each for each in found if not refused_address(each["host"])]
        if not kept:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} leads to an address that is no receiver's")
        return kept

    async def close(self) -> None:
        await self._inner.close()


class Sender:
    """`offer` it messages while `run` runs. When `run` is cancelled, tries under way may end (`LAST_WORD`); what is
    still waiting then is not sent: whoever offered it knows that it was not told, and offers it again."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        *,
        give_up_after: float = 3600.0,
        counted: Callable[[str, str], None] = lambda receiver, result: None,
        environment: Mapping[str, str] = os.environ,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._receivers = {each.name: each for each in receivers}
        self._give_up_after = give_up_after
        self._counted = counted
        self._environment = environment
        self._first_pause = first_pause
        self._waiting: dict[str, asyncio.Queue[tuple[Message, Callable[[Result], None]]]] = {
            each: asyncio.Queue(MAX_WAITING) for each in self._receivers
        }
        self._known: set[tuple[str, str]] = set()

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return len(self._known)

    def offer(self, receiver: str, message: Message, done: Callable[[Result], None]) -> bool:
        """False if it is on its way already, or too many are. `done` hears how it ended."""
        key = (receiver, message.id)
        if key in self._known or self._waiting[receiver].full():
            return False
        self._known.add(key)
        self._waiting[receiver].put_nowait((message, done))
        return True

    async def run(self) -> None:
        """Until cancelled."""
        # Nothing that a receiver says is kept: no cookies; and no proxy but one that is set.
        connector = aiohttp.TCPConnector(resolver=Guarded(), limit=AT_ONCE * max(1, len(self._receivers)))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
                asyncio.TaskGroup() as group,
            ):
                for receiver in self._receivers.values():
                    for _ in range(AT_ONCE):
                        group.create_task(self._work(session, receiver))
        finally:
            self._known.clear()
            for queue in self._waiting.values():
                while not queue.empty():
                    queue.get_nowait()

    async def _work(self, session: aiohttp.ClientSession, receiver: Receiver) -> None:
        queue = self._waiting[receiver.name]
        while True:
            message, done = await queue.get()
            try:
                result = await self._deliver(session, receiver, message)
            except Exception:
                # A fault of ours must not end what runs beside.
                log.exception("a notification is given up", receiver=receiver.name, about=message.about, id=message.id)
                result = "given up"
            self._known.discard((receiver.name, message.id))
            self._counted(receiver.name, result)
            done(result)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return

    async def _deliver(self, session: aiohttp.ClientSession, receiver: Receiver, message: Message) -> Result:
        begun, pause, tries = time.monotonic(), self._first_pause, 0
        while True:
            tries += 1
            tried = await _to_its_end(self._try(session, receiver, message))
            if tried.ok:
                log.debug("a notification was sent", receiver=receiver.name, about=message.about, tries=tries)
                return "sent"
            rest = self._give_up_after - (time.monotonic() - begun)
            wait = max(pause * random.uniform(0.5, 1.0), tried.wait or 0.0)
            if not tried.again or wait >= rest:
                log.error(
                    "a notification is given up: look at the question itself (kubectl get apr, or the console), and "
                    "mend the receiver", receiver=receiver.name, about=message.about, id=message.id, tries=tries,
                    reason=tried.why,
                )  # fmt: skip
                return "given up"
            self._counted(receiver.name, "tried again")
            log.warning(
                "a notification is tried again", receiver=receiver.name, about=message.about, reason=tried.why,
                seconds=round(wait, 1),
            )  # fmt: skip
            await asyncio.sleep(wait)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _try(self, session: aiohttp.ClientSession, receiver: Receiver, message: Message) -> Try:
        try:
            url = await asyncio.to_thread(self._url, receiver)
            headers = await asyncio.to_thread(self._headers, receiver, message)
            trust = await asyncio.to_thread(_context, receiver.ca_file) if receiver.ca_file else True
        except (OSError, UnicodeError, SecretProblem, ssl.SSLError) as problem:
            # A Secret may be put right while it is tried.
            return Try(False, again=True, why=str(problem))
        if why := url_problem(url, insecure=receiver.insecure):
            return Try(False, again=False, why=why)
        try:
            async with session.post(
                url, data=message.body, headers=headers, allow_redirects=False, ssl=trust, proxy=receiver.proxy,
                timeout=aiohttp.ClientTimeout(total=receiver.timeout),
            ) as answer:  # fmt: skip
                return await _judged(receiver, answer)
        except aiohttp.InvalidURL:
            return Try(False, again=False, why="its URL cannot be used")
        except TimeoutError:
            return Try(False, again=True, why=f"no answer within {receiver.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            # What the library says may hold the URL.
            return Try(False, again=True, why=str(problem).replace(url, "its URL") or type(problem).__name__)

    def _url(self, receiver: Receiver) -> str:
        if receiver.url_file is not None:
            return _read(receiver.url_file)
        if receiver.url_env is not None:
            return self._variable(receiver.url_env)
        assert receiver.url is not None
        return receiver.url

    def _headers(self, receiver: Receiver, message: Message) -> Mapping[str, str]:
        headers = {"content-type": "application/json", "user-agent": "ostiary"}
        if receiver.type != "Webhook":
            return headers
        secrets = [_read(each) for each in receiver.secret_files]
        secrets += [self._variable(each) for each in receiver.secret_envs]
        return {**headers, **sign([key_of(each) for each in secrets], message.id, int(time.time()), message.body)}

    def _variable(self, name: str) -> str:
        value = self._environment.get(name, "").strip()
        if not value:
            raise OSError(f"the environment variable {name} is not set")
        return value


async def _to_its_end(trying: Coroutine[None, None, Try]) -> Try:
    """Cancelled, it still has `LAST_WORD` seconds: a Try that went well is returned all the same."""
    task = asyncio.ensure_future(trying)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,), timeout=LAST_WORD)
        if task.done() and not task.cancelled() and task.exception() is None and task.result().ok:
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _judged(receiver: Receiver, answer: aiohttp.ClientResponse) -> Try:
    if 200 <= answer.status < 300:
        return Try(True)
    why = f"it answered {answer.status}"
    if receiver.type == "Slack":
        word = (await answer.content.read(64)).decode("ascii", "replace").strip()
        why += f" ({word})" if _SLACK_WORD.fullmatch(word) else ""
    if 300 <= answer.status < 400:
        return Try(False, why=f"{why}: redirects are not followed; give the address itself")
    again = answer.status in _AGAIN or answer.status >= 500
    return Try(False, again=again, wait=retry_after(answer.headers.get("Retry-After", "")), why=why)


def retry_after(value: str) -> float | None:
    """Seconds that a receiver asks to wait for, at most a quarter of an hour; None: it says nothing of use."""
    value = value.strip()
    if value.isascii() and value.isdecimal() and len(value) < 10:
        return min(900.0, float(value))
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(900.0, max(0.0, (at - datetime.now(UTC)).total_seconds()))


def _read(path: str) -> str:
    """A secret from a file, read anew each time: it may have been changed."""
    with Path(path).open("rb") as file:
        text = file.read(_MAX_SECRET).decode().strip()
    if not text:
        raise OSError(f"{path} is empty")
    return text


def _context(path: str) -> ssl.SSLContext:
    return _made(path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _made(path: str, changed: int) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)
