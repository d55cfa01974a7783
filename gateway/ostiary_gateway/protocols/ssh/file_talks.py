"""Which channels carry files, and so have a talk: SFTP, and the old protocol of scp. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .scp import ScpTalk
from .scp_lines import scp_command
from .sftp import SftpTalk

if TYPE_CHECKING:
    from .questions import Question
    from .talks import Talk

LINK_FIRST: Final = "SSH-2.0-AsyncSSH"
"""Servers that read the paths of SYMLINK as the draft has them, from clients that do not say that they are OpenSSH."""


def is_scp(command: bytes) -> bool:
    """True if an exec of this is a session of scp, of which each file is decided; otherwise it is a command."""
    return scp_command(command) is not None


def talk_of(question: Question, now: Callable[[], float], *, content: bool = False, version: str = "") -> Talk | None:
    """The talk of a channel whose `question` was allowed; None: a plain stream. `version`: the target's, of SSH. The
    rest as SftpTalk has it."""
    if question.facts.get("operation") != "session":
        return None
    if question.kind == "sftp":
        return SftpTalk(now, content=content, link_first=version.startswith(LINK_FIRST))
    if question.kind == "scp":
        command = scp_command(question.exact[0])
        return ScpTalk(command, now, content=content) if command is not None else None
    return None
