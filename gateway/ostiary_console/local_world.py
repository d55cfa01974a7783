"""One gateway on this machine: its admin socket, asked as the Unix user who runs the console.

Who signs in here came by a link that only that user was shown, so the console may what that user may: the gateway's
socket tells by the kernel's word. Without a gateway that runs, its files are read.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from ostiary_console.problems import Problem, away, changed, forbidden
from ostiary_console.signed_in import SignedIn
from ostiary_console.world import Decidable, Item, LiveNow, Manifest, Verb
from ostiary_gateway.admin.approvals import item
from ostiary_gateway.admin.bundle import BUNDLE
from ostiary_gateway.admin.http import short_path
from ostiary_gateway.admin.local_socket import SOCKET
from ostiary_gateway.admin.sessions import END, LIVE
from ostiary_gateway.approvals import files
from ostiary_store.model import ALL, Scope

TIMEOUT: Final = 8.0
FRESH: Final = 3.0
"""Seconds for which the number of open questions is believed."""
MAX_LISTED: Final = 200
_NOT_RUNNING: Final = "No gateway listens at its admin socket"
_START: Final = "Start it: ostiary serve"


class NotRunning(Exception):
    """Nobody listens at the socket."""


class LocalWorld:
    """`data`: the gateway's directory. `socket`: where people come to it, if that is elsewhere."""

    standalone = True

    def __init__(self, data: Path, socket: Path | None = None) -> None:
        self._data = data
        self._socket = socket or data / SOCKET
        self._pending: tuple[float, int | None] = (-FRESH, None)

    async def close(self) -> None:
        pass

    async def scope(self, who: SignedIn) -> Scope:
        return ALL

    async def may(self, who: SignedIn, verb: Verb, connection: str) -> bool:
        return True  # the gateway says no itself, if it is not so

    # -- approvals

    async def approvals(self, who: SignedIn, *, closed: bool) -> Sequence[Decidable]:
        try:
            answer = await self._ask("GET", f"/approvals?all={int(closed)}&limit={MAX_LISTED}")
        except NotRunning:
            return [self._closed(each) for each in await asyncio.to_thread(self._from_file, closed, "")]
        return [self._decidable(each) for each in answer["items"]]

    async def approval(self, who: SignedIn, namespace: str, name: str) -> Decidable:
        found: Decidable | None
        try:
            found = self._decidable(await self._ask("GET", f"/approval?name={quote(name, safe='')}"))
        except NotRunning:
            listed = await asyncio.to_thread(self._from_file, True, name)
            found = self._closed(listed[0]) if listed else None
        metadata = found.item["approval"]["metadata"] if found is not None else {}
        if found is None or (metadata.get("namespace", "default"), metadata.get("name")) != (namespace, name):
            raise Problem(404, "Not found", "There is no such approval.", "Look for it among the approvals.")
        return found

    async def decide(
        self, who: SignedIn, namespace: str, name: str, verdict: str, reason: str, shown_hash: str
    ) -> None:
        found = await self.approval(who, namespace, name)
        if found.item["approval"]["spec"]["request"]["hash"] != shown_hash:
            raise changed("It is another question now than the one that you were shown.")
        body = orjson.dumps({"verdict": verdict, "reason": reason})
        try:
            await self._ask("POST", f"/approval/decision?name={quote(name, safe='')}", body)
        except NotRunning:
            raise away(f"{_NOT_RUNNING}, and only a running one takes decisions.", "Start it, then decide.") from None
        self._pending = (-FRESH, None)

    async def pending(self, who: SignedIn) -> int | None:
        at, found = self._pending
        if time.monotonic() - at >= FRESH:
            listed = await self.approvals(who, closed=False)
            found = sum(each.item["state"] == "Pending" for each in listed)
            self._pending = (time.monotonic(), found)
        return found

    @staticmethod
    def _decidable(each: Item) -> Decidable:
        waits = each["state"] == "Pending"
        return Decidable(each, waits, "" if waits else "it is closed")

    @staticmethod
    def _closed(each: Item) -> Decidable:
        return Decidable(each, False, "the gateway does not run, and only a running one can take a decision")

    def _from_file(self, closed: bool, name: str) -> list[Item]:
        try:
            connection = files.connect_readonly(self._data / files.FILE)
        except (OSError, ValueError, sqlite3.Error):
            return []
        try:
            kept = files.matching(connection, name) if name else files.kept(connection, closed=closed, limit=MAX_LISTED)
            return [item(each) for each in kept]
        except (OSError, ValueError, sqlite3.Error) as problem:
            raise away(f"The approvals in {self._data} cannot be read: {problem}.") from None
        finally:
            connection.close()

    # -- the rest

    async def policies(self, who: SignedIn) -> Sequence[Manifest]:
        return await self._bundle("policies")

    async def connections(self, who: SignedIn) -> Sequence[Manifest]:
        return await self._bundle("connections")

    async def _bundle(self, what: str) -> Sequence[Manifest]:
        try:
            answer = await self._ask("GET", BUNDLE)
        except NotRunning:
            raise away(f"{_NOT_RUNNING}, and only a running one knows what is in force.", _START) from None
        found: Sequence[Manifest] = answer[what]
        return found

    async def live(self) -> LiveNow:
        try:
            answer = await self._ask("GET", LIVE)
        except NotRunning:
            return LiveNow((), (str(self._socket),))
        return LiveNow([{**each, "gateway": ""} for each in answer["items"]])

    async def end(self, who: SignedIn, connection: str, target: str, reason: str) -> str:
        try:
            answer = await self._ask("POST", END, orjson.dumps({"target": target, "reason": reason}))
        except NotRunning:
            raise away(f"{_NOT_RUNNING}, and only a running one has sessions.", _START) from None
        return str(answer["ended"])

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> Mapping[str, Any]:
        """Raises NotRunning or Problem."""
        try:
            with short_path(self._socket) as short:
                async with (
                    asyncio.timeout(TIMEOUT),
                    aiohttp.ClientSession(connector=aiohttp.UnixConnector(short)) as session,
                    session.request(method, f"http://localhost{path}", data=body) as response,
                ):
                    answer = orjson.loads(await response.read())
        except FileNotFoundError:
            raise NotRunning from None
        except aiohttp.ClientConnectorError as problem:
            if isinstance(problem.os_error, PermissionError):
                raise forbidden(f"The console's user may not use {self._socket}.") from None
            raise NotRunning from None
        except (OSError, ValueError, TimeoutError, aiohttp.ClientError) as problem:
            raise away(f"The gateway did not answer: {str(problem) or type(problem).__name__}.") from None
        if response.status != 200:
            said = str(answer.get("message", "The gateway refused."))
            raise Problem(response.status, "Refused" if response.status != 404 else "Not found", said)
        found: Mapping[str, Any] = answer
        return found
