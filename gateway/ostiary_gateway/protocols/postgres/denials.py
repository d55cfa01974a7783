"""What the gateway refuses by itself, whatever the policies say: each with what to do instead."""

from __future__ import annotations

from typing import Final

from .state import Denial

PINNED: Final = "Ostiary pins client_encoding to UTF8 and standard_conforming_strings to on."

MOVED: Final = Denial(
    "55000", "The search_path or the role is not what it was when the cursor was made, or that cannot be told.",
    hint="Set them back, or make the cursor again.",
)  # fmt: skip
CHANGED: Final = Denial(
    "55000", "Tables or views were changed since the cursor was made, so its columns cannot be masked any more.",
    hint="Make the cursor again.",
)  # fmt: skip
COPIES: Final = Denial(
    "42501", "The statement would write values of a masked column to where no mask follows them.",
    hint="Leave the masked columns out of what is written.",
)  # fmt: skip
COPY_UNSURE: Final = Denial(
    "42501", "COPY cannot be masked while this session has temporary objects or uncommitted DDL.",
    hint="Use SELECT, or COPY from a new session.",
)  # fmt: skip
FUNCTION_CALL: Final = Denial(
    "0A000", "The fast-path function call protocol is not available through Ostiary.",
    hint="Call the function with SELECT instead.",
)  # fmt: skip


def too_many_statements(most: int, most_bytes: int) -> Denial:
    """One session may keep so many prepared statements, and so many bytes of them and of portals."""
    return Denial(
        "54000", f"This session holds {most} prepared statements, or {most_bytes} bytes of them and of portals, the "
        "most that Ostiary keeps.",
        hint="Close statements that are no longer needed (DEALLOCATE, or Close).",
    )  # fmt: skip


def too_large_portals(most_bytes: int) -> Denial:
    return Denial(
        "54000", f"This session holds {most_bytes} bytes of statements and portals, the most that Ostiary keeps.",
        hint="Close portals that are no longer needed, or use the unnamed portal.",
    )  # fmt: skip


def oversized(limit: int) -> Denial:
    """A message over spec.limits.maxRequestBytes."""
    return Denial(
        "54000", f"The message is larger than the limit of {limit} bytes for one request, and was not forwarded.",
        hint="Send the data with COPY FROM STDIN or in smaller statements, or raise spec.limits.maxRequestBytes.",
    )  # fmt: skip


def not_utf8(problem: UnicodeDecodeError) -> Denial:
    return Denial(
        "22021", f'invalid byte sequence for encoding "UTF8": 0x{problem.object[problem.start]:02x}',
        hint="Ostiary reads statements as UTF-8, whatever client_encoding says.",
    )  # fmt: skip


def no_statement(name: bytes) -> Denial:
    """In PostgreSQL's own words."""
    shown = name.decode(errors="backslashreplace")
    text = f'prepared statement "{shown}" does not exist' if name else "unnamed prepared statement does not exist"
    return Denial("26000", text)


def no_portal(name: bytes) -> Denial:
    """In PostgreSQL's own words."""
    return Denial("34000", f'portal "{name.decode(errors="backslashreplace")}" does not exist')
