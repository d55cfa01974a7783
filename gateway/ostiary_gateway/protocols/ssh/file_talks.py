"""Which channels carry files, and so have a talk: SFTP, and the old protocol of scp. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .scp import ScpTalk
from .scp_lines import scp_command
from .sftp import SftpTalk

if TYPE_CHECKING:
    from .questions import Question
    from .talks import Talk


def is_scp(command: bytes) -> bool:
    """True if an exec of this is a session of scp, of which each file is decided; otherwise it is a command."""
    return scp_command(command) is not None


def talk_of(question: Question, now: Callable[[], float], *, content: bool = False) -> Talk | None:
    """The talk of a channel whose `question` was allowed; None: a plain stream. The rest as SftpTalk has it."""
    if question.facts.get("operation") != "session":
        return None
    if question.kind == "sftp":
        return SftpTalk(now, content=content)
    if question.kind == "scp":
        command = scp_command(question.exact[0])
        return ScpTalk(command, now, content=content) if command is not None else None
    return None
