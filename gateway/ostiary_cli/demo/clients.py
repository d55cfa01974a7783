"""How the demo talks to PostgreSQL: with the real psql where there is one, else with asyncpg."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg

SECONDS = 30.0
_COPY = re.compile(r"copy \((.*)\) to stdout", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and as whom. `ca` is None for a connection without TLS."""

    host: str
    port: int
    user: str
    password: str
    database: str
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client printed, and whether a statement failed."""

    text: str
    failed: bool


class Client(Protocol):
    """Runs statements in one session, as an agent would, and gives what the agent sees."""

    name: str

    async def run(self, target: Target, statements: Sequence[str], seconds: float = SECONDS) -> Outcome: ...


class Psql:
    """The real psql, as it is."""

    name = "psql"

    def __init__(self, program: str) -> None:
        self._program = program

    async def run(self, target: Target, statements: Sequence[str], seconds: float = SECONDS) -> Outcome:
        """One psql with a -c for each statement."""
        arguments = [argument for statement in statements for argument in ("-c", statement)]
        process = await asyncio.create_subprocess_exec(
            *(self._program, "--no-psqlrc", "--pset=pager=off", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(target),
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            return Outcome(f"psql gave no answer within {seconds:.0f} s", True)
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        text = output.decode(errors="replace").strip("\n")
        return Outcome(text, process.returncode != 0 or "ERROR:" in text)


class Asyncpg:
    """asyncpg, with results set like those of psql."""

    name = "asyncpg"

    async def run(self, target: Target, statements: Sequence[str], seconds: float = SECONDS) -> Outcome:
        """One connection, the statements one after the other; goes on after an error, as psql does."""
        parts: list[str] = []
        failed = False
        try:
            connection = await asyncpg.connect(
                host=target.host,
                port=target.port,
                user=target.user,
                password=target.password,
                database=target.database,
                ssl=ssl.create_default_context(cafile=str(target.ca)) if target.ca else False,
                timeout=SECONDS,
            )
        except (asyncpg.PostgresError, OSError) as error:
            return Outcome(_error(error), True)
        try:
            for statement in statements:
                try:
                    parts.append(await _run(connection, statement))
                except asyncpg.PostgresError as error:
                    failed = True
                    parts.append(_error(error))
        finally:
            await connection.close(timeout=SECONDS)
        return Outcome("\n".join(parts), failed)


async def _run(connection: asyncpg.Connection, statement: str) -> str:
    copied = _COPY.fullmatch(statement)
    if copied is not None:
        output = bytearray()

        async def take(data: bytes) -> None:
            output.extend(data)

        await connection.copy_from_query(copied[1], output=take)
        return output.decode(errors="replace").strip("\n")
    if ";" in statement:  # several cannot be prepared
        return str(await connection.execute(statement))
    prepared = await connection.prepare(statement)
    rows = await prepared.fetch()
    names = [attribute.name for attribute in prepared.get_attributes()]
    return _table(names, rows) if names else str(prepared.get_statusmsg())


def choose(wanted: str | None = None) -> Client:
    """psql if there is one. `wanted` names one of the two."""
    program = shutil.which("psql")
    if program is not None and wanted != Asyncpg.name:
        return Psql(program)
    return Asyncpg()


def _environment(target: Target) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    own = {
        "PGHOST": target.host,
        "PGPORT": str(target.port),
        "PGUSER": target.user,
        "PGPASSWORD": target.password,
        "PGDATABASE": target.database,
        "PGSSLMODE": "verify-full" if target.ca else "disable",
        "PGCONNECT_TIMEOUT": "10",
    }
    return kept | own | ({"PGSSLROOTCERT": str(target.ca)} if target.ca else {})


def _error(error: Exception) -> str:
    lines = [f"ERROR:  {getattr(error, 'message', None) or error}"]
    for label, name in (("DETAIL", "detail"), ("HINT", "hint")):
        if value := getattr(error, name, None):
            lines.append(f"{label}:  {value}")
    return "\n".join(lines)


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[index]) for row in cells)]) for index, name in enumerate(names)]
    lines = [
        " " + " | ".join(name.center(width) for name, width in zip(names, widths, strict=True)).rstrip(),
        "-" + "-+-".join("-" * width for width in widths) + "-",
    ]
    lines.extend(
        " " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
    return "\n".join([*lines, f"({len(rows)} row{'s' * (len(rows) != 1)})"])
