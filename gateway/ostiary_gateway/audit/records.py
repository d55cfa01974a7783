"""All records of a data directory as one: each worker of a gateway writes its own."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from ostiary_gateway.audit.reader import Reader, Request, Session, SessionReader

_NAME: Final = re.compile(r"audit(?:-([2-9]|[1-9][0-9]+))?\.db")


def records(data: Path) -> list[Path]:
    """The records in a data directory by worker; `data` itself if it is none, or has none."""
    if not data.is_dir():
        return [data]
    found = [(int(match[1] or 1), path) for path in data.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)] or [data]


class Recorded(Protocol):
    """Sessions of gateways, wherever they are kept: in data directories, or in a store."""

    def sessions(
        self,
        *,
        connection: str | None = None,
        username: str | None = None,
        since: float | None = None,
        decision: str | None = None,
        state: str | None = None,
        gateway: bool = False,
        limit: int = -1,
        newest_first: bool = True,
    ) -> Iterator[tuple[SessionReader, Session]]:
        """Sessions by the time when they were opened, each with the reader that has it."""

    def session(self, session: str) -> tuple[SessionReader, Session]:
        """One session by its id, or by the beginning of its id if only one begins so. LookupError."""

    def request(self, request: str) -> tuple[SessionReader, Session, Request]:
        """One request by its id, with its session. LookupError."""


class Records:
    """A read-only view of several records. Sessions come with the reader that has them."""

    def __init__(self, readers: list[Reader]) -> None:
        self._readers = readers

    @classmethod
    @contextmanager
    def open(cls, data: Path) -> Iterator[Records]:
        """FileNotFoundError or ValueError with what is wrong with one of them."""
        with ExitStack() as stack:
            yield cls([stack.enter_context(Reader.open(path)) for path in records(data)])

    def sessions(
        self,
        *,
        connection: str | None = None,
        username: str | None = None,
        since: float | None = None,
        decision: str | None = None,
        state: str | None = None,
        gateway: bool = False,
        limit: int = -1,
        newest_first: bool = True,
    ) -> Iterator[tuple[Reader, Session]]:
        """Sessions of all records by the time when they were opened; the filters are those of `Reader.sessions`."""

        def of(reader: Reader) -> Iterator[tuple[Reader, Session]]:
            found = reader.sessions(
                connection=connection, username=username, since=since, decision=decision, state=state,
                gateway=gateway, limit=limit, newest_first=newest_first,
            )  # fmt: skip
            return ((reader, session) for session in found)

        merged = heapq.merge(*map(of, self._readers), key=lambda pair: pair[1].opened, reverse=newest_first)
        return merged if limit < 0 else islice(merged, limit)

    def session(self, session: str) -> tuple[Reader, Session]:
        """One session by its id, or by the beginning of its id if only one begins so. LookupError."""
        found: list[tuple[Reader, Session]] = []
        missing: LookupError | None = None
        for reader in self._readers:
            try:
                found.append((reader, reader.session(session)))
            except LookupError as error:
                if "several" in str(error):
                    raise
                missing = error
        exact = [pair for pair in found if pair[1].id == session]
        if len(exact or found) > 1:
            raise LookupError(f"several sessions begin with {session!r}. Give more of the id.")
        if not found:
            assert missing is not None
            raise missing
        return (exact or found)[0]

    def request(self, request: str) -> tuple[Reader, Session, Request]:
        """One request by its id, with its session. LookupError."""
        reader, session = self.session(request.rpartition("-")[0])
        return reader, *reader.request(f"{session.id}-{request.rpartition('-')[2]}")
