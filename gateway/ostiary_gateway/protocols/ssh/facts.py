"""The facts of what is asked for over SSH, and the questions that are made of them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from . import request_detail
from .commands import command_facts
from .questions import Question

SHELL: Final = "a shell runs whatever is typed into it"
SUBSYSTEM: Final = "what a subsystem does is not known"
NOT_UTF8: Final = "it is not UTF-8"
EMPTY: Final = "an empty command is a shell to some servers"

NO_DESTINATION: Final[Mapping[str, object]] = {"host": "", "port": 0, "path": ""}
NEUTRAL: Final[Mapping[str, object]] = {
    "kind": "", "user": "", "command": "", "commands": [], "opaque": False, "opaqueReason": "", "pty": False,
    "env": {}, "name": "", "value": "", "operation": "", "path": "", "target": "", "size": 0, "readOnly": False,
    "direction": "", "destination": NO_DESTINATION,
}  # fmt: skip
"""What a kind does not have."""
NOT_FOUND: Final[Mapping[str, str]] = {"realPath": "", "realTarget": ""}
"""The costly facts of what is about no file of the target's."""

_FILES: Final = frozenset(("sftp", "scp"))
READS: Final = frozenset(("session", "read", "stat", "list", "readlink", "realpath", "statvfs"))
"""Operations on files that change nothing."""


def whole(question: Question, user: str) -> dict[str, object]:
    """All facts of a question, for a login at the target. Only those that must be asked for may be missing."""
    facts = {**NEUTRAL, "kind": question.kind, "user": user, **question.facts}
    if question.kind not in _FILES or facts["operation"] == "session":
        facts.update(NOT_FOUND)
    return facts


def exec_question(
    command: bytes, *, pty: bool = False, env: Mapping[str, str] | None = None, channel: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> Question:  # fmt: skip
    """A command line. `env`: the variables that were let through before."""
    return _command_question("exec", command, {"pty": pty, "env": dict(env or {})}, channel, detail)


def scp_question(
    command: bytes, *, env: Mapping[str, str] | None = None, channel: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> Question:  # fmt: skip
    """The beginning of a session of the old scp: `scp -t` or `scp -f` as a command. Its files are questions of their
    own."""
    facts = {"operation": "session", "readOnly": True, "env": dict(env or {})}
    return _command_question("scp", command, facts, channel, detail)


def _command_question(
    kind: Literal["exec", "scp"], command: bytes, facts: dict[str, object], channel: int | None,
    detail: Mapping[str, object] | None,
) -> Question:  # fmt: skip
    line, problem = text_of(command)
    read = command_facts(line)
    opaque, reason = read.opaque, read.reason
    if problem or not line.strip():
        opaque, reason = True, problem or EMPTY
    facts |= {
        "command": line, "commands": read.facts(), "opaque": opaque, "opaqueReason": reason,
    }  # fmt: skip
    return _question(kind, facts, channel, detail, (command,))


def shell_question(
    *, pty: bool, env: Mapping[str, str] | None = None, channel: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> Question:  # fmt: skip
    """An interactive shell; `pty` is false where its input is a script."""
    facts = {"pty": pty, "env": dict(env or {}), "opaque": True, "opaqueReason": SHELL}
    return _question("shell", facts, channel, detail)


def subsystem_question(
    name: bytes, *, env: Mapping[str, str] | None = None, channel: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> Question:  # fmt: skip
    """A subsystem. That of SFTP is the beginning of a session, whose operations are questions of their own."""
    if name == b"sftp":
        facts = {"operation": "session", "readOnly": True, "env": dict(env or {})}
        return _question("sftp", facts, channel, detail)
    text, _ = text_of(name)
    facts = {"command": text, "env": dict(env or {}), "opaque": True, "opaqueReason": SUBSYSTEM}
    return _question("subsystem", facts, channel, detail, (name,))


def file_question(
    kind: Literal["sftp", "scp"], operation: str, path: str, *, target: str = "", read_only: bool | None = None,
    size: int = 0, opaque_reason: str = "", exact: Sequence[bytes] = (), quiet: bool = False,
    channel: int | None = None, detail: Mapping[str, object] | None = None,
) -> Question:  # fmt: skip
    """One operation on a file. `exact`: what else it says, byte for byte (flags, attributes)."""
    facts: dict[str, object] = {
        "operation": operation, "path": path, "target": target, "size": size,
        "readOnly": operation in READS if read_only is None else read_only,
        "opaque": bool(opaque_reason), "opaqueReason": opaque_reason,
    }  # fmt: skip
    question = _question(kind, facts, channel, detail, exact)
    question.quiet = quiet
    return question


def forward_question(
    direction: Literal["local", "remote"], *, host: str = "", port: int = 0, path: str = "",
    channel: int | None = None, detail: Mapping[str, object] | None = None,
) -> Question:  # fmt: skip
    """A connection that the target makes (local), or accepts (remote). `path`: a Unix socket."""
    facts: dict[str, object] = {"direction": direction, "destination": {"host": host, "port": port, "path": path}}
    return _question("forward", facts, channel, detail)


def agent_question(*, channel: int | None = None) -> Question:
    """Whether the target may use the agent's keys."""
    return _question("agent", {}, channel)


def x11_question(*, channel: int | None = None, detail: Mapping[str, object] | None = None) -> Question:
    """Whether programs at the target may use the agent's display."""
    return _question("x11", {}, channel, detail)


def env_question(
    name: bytes, value: bytes, *, env: Mapping[str, str] | None = None, channel: int | None = None
) -> Question:
    """A variable of the environment. It has no record of its own."""
    facts: dict[str, object] = {"name": text_of(name)[0], "value": text_of(value)[0], "env": dict(env or {})}
    problem = text_of(name)[1] or text_of(value)[1]
    if problem:
        facts |= {"opaque": True, "opaqueReason": problem}
    return _question("env", facts, channel, None, (name, value))


def _question(
    kind: Literal["exec", "shell", "subsystem", "sftp", "scp", "forward", "agent", "x11", "env"],
    facts: dict[str, object],
    channel: int | None,
    detail: Mapping[str, object] | None = None,
    exact: Sequence[bytes] = (),
) -> Question:
    whole = {**NEUTRAL, "kind": kind, **facts}
    text = request_detail.text_of(whole)
    return Question(kind, facts, text, channel, dict(detail or {}), tuple(exact))


def text_of(data: bytes) -> tuple[str, str]:
    """As text, and what is wrong with it; bytes that are no UTF-8 stand as `\\xff`."""
    try:
        return data.decode(), ""
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace"), NOT_UTF8
