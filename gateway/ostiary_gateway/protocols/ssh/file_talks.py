"""Which channels carry files, and so have a talk: SFTP, and the old protocol of scp. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .scp import ScpTalk
from .scp_lines import scp_command
from .sftp import SftpTalk

if TYPE_CHECKING:
    from .questions import Question
    from .talks import Talk

_LINK_FIRST: Final = re.compile(r"SSH-2\.0-(?:AsyncSSH|libssh[_-]|WinSCP)")
"""Clients and servers that have the paths of SYMLINK in the draft's order, unless the other end is OpenSSH."""


def is_scp(command: bytes) -> bool:
    """True if an exec of this is a session of scp, of which each file is decided; otherwise it is a command."""
    return scp_command(command) is not None


def talk_of(
    question: Question, now: Callable[[], float], *, content: bool = False, client: str = "", target: str = ""
) -> Talk | None:
    """The talk of a channel whose `question` was allowed; None: a plain stream. client, target: the versions of SSH
    that they tell. The rest as SftpTalk has it."""
    if question.facts.get("operation") != "session":
        return None
    if question.kind == "sftp":
        first = tuple(_LINK_FIRST.match(version) is not None for version in (client, target))
        return SftpTalk(now, content=content, link_first=(first[0], first[1]))
    if question.kind == "scp":
        command = scp_command(question.exact[0])
        return ScpTalk(command, now, content=content) if command is not None else None
    return None
