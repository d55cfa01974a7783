"""The admin socket of a gateway on this machine, as the commands use it; and the approvals of one that does not run."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ostiary_cli.errors import CommandError
from ostiary_gateway.admin.approvals import item
from ostiary_gateway.admin.http import short_path
from ostiary_gateway.admin.local_socket import SOCKET
from ostiary_gateway.admin.sessions import END, LIVE
from ostiary_gateway.approvals import files

SECONDS: Final = 15.0

Item = dict[str, Any]
"""An approval as the socket gives it (see `ostiary_gateway.admin.approvals`)."""


class NotRunning(Exception):
    """Nobody listens at the socket."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(SECONDS)
        try:
            with short_path(self._path) as path:
                sock.connect(path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class AdminSocket:
    """Asks the gateway whose data directory is `data`, or that listens at `path`."""

    def __init__(self, data: Path, path: Path | None = None) -> None:
        self.path = path or data / SOCKET
        self._data = data

    def approvals(self, *, closed: bool = False, limit: int = 200) -> list[Item]:
        """The open ones, with `closed` all. Where the gateway does not run, as the file has them."""
        try:
            found: list[Item] = self._call("GET", f"/approvals?all={int(closed)}&limit={limit}")["items"]
        except NotRunning:
            return self._from_file(closed, limit, "")
        return found

    def approval(self, name: str) -> Item:
        """One, by its name or the beginning of it. Raises CommandError."""
        try:
            return self._call("GET", f"/approval?name={_safe(name)}")
        except NotRunning:
            found = self._from_file(True, 10, name)
            if len(found) != 1:
                raise CommandError(_not_one(name, found), "See: ostiary approvals --all") from None
            return found[0]

    def decide(self, name: str, verdict: str, reason: str) -> Item:
        """Approves or denies. Raises CommandError."""
        body = json.dumps({"verdict": verdict, "reason": reason})
        try:
            return self._call("POST", f"/approval/decision?name={_safe(name)}", body)
        except NotRunning:
            raise CommandError(
                f"No gateway listens at {self.path}, and only a running one can take a decision.",
                "Start it (ostiary serve), or name its data directory: --data DIR",
            ) from None

    def live(self) -> list[Item]:
        """The sessions that are open, and what runs in them. Raises CommandError."""
        try:
            found: list[Item] = self._call("GET", LIVE)["items"]
        except NotRunning:
            raise CommandError(_NOBODY.format(path=self.path), _START) from None
        return found

    def end(self, target: str, reason: str) -> str:
        """Ends a session or a request; its whole id. Raises CommandError."""
        try:
            return str(self._call("POST", END, json.dumps({"target": target, "reason": reason}))["ended"])
        except NotRunning:
            raise CommandError(_NOBODY.format(path=self.path), _START) from None

    def _call(self, method: str, path: str, body: str | None = None) -> Item:
        connection = _Connection(self.path)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            fields: Item = json.loads(answer.read())
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(str(self.path)) from None
        except PermissionError:
            raise CommandError(
                f"You may not use {self.path}.",
                "Ask as the user that runs the gateway, or have it started with --approvers and --admin-socket.",
            ) from None
        except (OSError, ValueError, http.client.HTTPException) as problem:
            raise CommandError(
                f"The gateway at {self.path} did not answer: {str(problem) or type(problem).__name__}.", "Try again."
            ) from None
        finally:
            connection.close()
        if answer.status != 200:
            raise CommandError(str(fields.get("message", "The gateway refused.")), _NEXT.get(str(fields["error"]), ""))
        return fields

    def _from_file(self, closed: bool, limit: int, name: str) -> list[Item]:
        try:
            connection = files.connect_readonly(self._data / files.FILE)
        except FileNotFoundError:
            raise CommandError(
                f"There are no approvals in {self._data}, and no gateway listens at {self.path}.",
                "Give the directory that the gateway was started with: --data DIR",
            ) from None
        except (OSError, ValueError, sqlite3.Error) as problem:
            raise CommandError(f"The approvals in {self._data} cannot be read: {problem}.", "") from problem
        try:
            kept = files.matching(connection, name) if name else files.kept(connection, closed=closed, limit=limit)
            return [item(each) for each in kept]
        finally:
            connection.close()


def _safe(name: str) -> str:
    """As a part of a URL. Names have letters, digits and `-` only."""
    if not name or not all(character.isascii() and (character.isalnum() or character in "-.") for character in name):
        raise CommandError(f"{name!r} is no name of an approval.", "See: ostiary approvals")
    return name


def _not_one(name: str, found: list[Item]) -> str:
    if not found:
        return f"There is no approval {name}."
    names: list[Mapping[str, Any]] = [each["approval"]["metadata"] for each in found]
    return f"{name} may be one of several: {', '.join(str(each['name']) for each in names)}."


_NOBODY: Final = "No gateway listens at {path}, and only a running one has sessions."
_START: Final = "Start it (ostiary serve), or name its data directory: --data DIR"

_NEXT: Final = {
    "unknown": "See: ostiary approvals --all",
    "ambiguous": "Give more of its name.",
    "closed": "See: ostiary approvals --all. Sent again, it asks anew.",
    "own": "Somebody else has to decide.",
    "answered": "Somebody else has to answer too; `ostiary approval` says how many.",
    "group": "Somebody of these groups has to answer; who that is, `ostiary serve --approvers` says.",
    "store": "See the gateway's log.",
    "owner": "Ask as the user that runs the gateway, or as root.",
    "gone": "See: ostiary sessions --live",
    "several sessions": "Give more of its id.",
    "no session": "See: ostiary sessions --live",
}
