# cython: annotation_typing=False
"""What the frontend asks and waits for, and the answers: the seam between the protocol and who decides. No I/O."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from .state import Denial, Portal, Prepared

if TYPE_CHECKING:
    from ostiary_gateway.checkpoint import Verdict

    from .facts import Analysis
    from .masks import ResponseMask


class Wait(Enum):
    """READ: more bytes of the client. DRAIN: every reply that is owed. ROOM: fewer replies owed than the limit.
    TURN: the other sessions' turn."""

    READ = "read"
    TURN = "turn"
    DRAIN = "drain"
    ROOM = "room"


class Stage(Enum):
    """PARSE and BIND ask before anything runs (only a denial is recorded); RUN is the request itself."""

    PARSE = "parse"
    BIND = "bind"
    RUN = "run"


class Ask:
    """May this run? The relay answers with an Admission."""

    __slots__ = ("outside", "portal", "raw", "stage", "statement", "text")

    def __init__(
        self, stage: Stage, text: str, raw: bytes, statement: Prepared | None = None, portal: Portal | None = None
    ) -> None:
        self.stage = stage
        self.text = text
        self.raw = raw
        """The text as it came, in UTF-8."""
        self.statement = statement
        self.portal = portal
        self.outside: bool | None = None
        """Whether the client may be held for an approval: if no transaction is open. None: that was not looked at."""


class Admission:
    """The answer: `denial` is None if the request may go on; `mask` hides what its response must not show."""

    __slots__ = (
        "analysis", "ask_outside", "by_origin", "decides_next", "denial", "mask", "needs_description", "plain",
        "verdict",
    )  # fmt: skip

    def __init__(
        self, verdict: Verdict, analysis: Analysis, denial: Denial | None, mask: ResponseMask | None = None,
        needs_description: bool = False, by_origin: bool = False, decides_next: bool = False, plain: bool = False,
    ) -> None:  # fmt: skip
        self.verdict = verdict
        self.analysis = analysis
        self.denial = denial
        self.mask = mask
        self.needs_description = needs_description
        """True if rows cannot be masked or recorded without their RowDescription."""
        self.by_origin = by_origin
        """True if the mask goes by the columns' origin, so that the RowDescription must be of this very execution."""
        self.decides_next = decides_next
        """True if policies read what is only known when this has ended: rows so far, whether a transaction is open."""
        self.plain = plain
        """True if it is known to change nothing that the next message depends on."""
        self.ask_outside = False
        """True if it needs an approval that is not there: ask again with `outside` known."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that is refused without a policy: the reason goes to the record, as a request that was denied."""

    text: str
    denial: Denial


@dataclass(frozen=True, slots=True)
class Settings:
    """What SHOW told, in the order of `SHOWN`."""

    values: tuple[str, ...]


SHOWN: Final = ("search_path", "role", "session_authorization", "standard_conforming_strings", "client_encoding")
"""The settings that the meaning of names and texts depends on."""

Effect = Wait | Ask | Refused | Settings
Outcome = Admission | Denial | None
Steps = Generator[Effect, Outcome, None]
