"""Facts of a request over SSH without a target, for the tests of policies and for explaining."""

from __future__ import annotations

from typing import Final

from ostiary_api.cases import SSHTest
from ostiary_policy.facts import SshFacts

from . import facts as made
from .questions import Question
from .scp_lines import tidy
from .sftp_paths import PathError

USER: Final = "agent"
"""The login of a test that does not say one."""
_FIELDS: Final = (
    "command", "pty", "env", "name", "value", "operation", "path", "target", "real_path", "real_target", "size",
    "direction", "destination",
)  # fmt: skip
_HAS: Final[dict[str, frozenset[str]]] = {
    "exec": frozenset(("command", "pty", "env")),
    "shell": frozenset(("pty", "env")),
    "subsystem": frozenset(("command", "env")),
    "sftp": frozenset(("operation", "path", "target", "real_path", "real_target", "env")),
    "scp": frozenset(("operation", "command", "path", "size", "env")),
    "forward": frozenset(("direction", "destination")),
    "agent": frozenset(),
    "x11": frozenset(),
    "env": frozenset(("name", "value", "env")),
}
"""What a kind may say in a test."""
_NAMES: Final = {"real_path": "realPath", "real_target": "realTarget"}
_TWO_PATHS: Final = frozenset(("rename", "link", "symlink"))
_NO_PATH: Final = frozenset(("session",))
_KNOWN: Final = frozenset((
    *made.READS, "write", "append", "readwrite", "mkdir", "rmdir", "remove", "rename", "symlink", "link", "setstat",
))  # fmt: skip


def offline_facts(case: SSHTest) -> SshFacts:
    """The facts of a test's request. Raises ValueError for what no request can be."""
    has = _HAS[case.kind]
    for field in _FIELDS:
        if getattr(case, field) and field not in has:
            raise ValueError(f"{case.kind} has no {_NAMES.get(field, field)}")
    question = _question(case)
    found = made.whole(question, case.user or USER)
    if case.kind == "sftp" and case.operation != "session":
        found["realPath"] = case.real_path if case.real_path is not None else found["path"]
        target = "" if case.operation == "symlink" else found["target"]
        found["realTarget"] = case.real_target if case.real_target is not None else target
    return found  # type: ignore[return-value]


def _question(case: SSHTest) -> Question:
    env = dict(case.env)
    match case.kind:
        case "exec":
            return made.exec_question(case.command.encode(), pty=case.pty, env=env)
        case "shell":
            return made.shell_question(pty="pty" not in case.model_fields_set or case.pty, env=env)
        case "subsystem":
            return _subsystem(case, env)
        case "sftp" | "scp":
            return _file(case, env)
        case "forward":
            return _forward(case)
        case "env":
            if not case.name:
                raise ValueError("say the variable's name")
            return made.env_question(case.name.encode(), case.value.encode(), env=env)
        case "agent":
            return made.agent_question()
        case "x11":
            return made.x11_question()


def _subsystem(case: SSHTest, env: dict[str, str]) -> Question:
    if not case.command:
        raise ValueError("say the subsystem's name, as command")
    if case.command == "sftp":
        raise ValueError("the subsystem sftp is of the kind sftp, with operation session")
    return made.subsystem_question(case.command.encode(), env=env)


def _file(case: SSHTest, env: dict[str, str]) -> Question:
    operation = case.operation
    if not operation:
        raise ValueError(f"say what {case.kind} does: operation, for example read")
    if operation == "session":
        if case.path or case.target:
            raise ValueError("a session is about no file yet: leave out path and target")
        if case.kind == "scp":
            return made.scp_question((case.command or "scp -f .").encode(), env=env)
        return made.subsystem_question(b"sftp", env=env)
    if case.kind == "scp" and operation not in ("read", "write", "mkdir"):
        raise ValueError(f"scp does session, read, write and mkdir, not {operation}")
    if case.command:
        raise ValueError("command is for the operation session of scp")
    if operation in _KNOWN and not case.path:
        raise ValueError(f"{operation} is of a file or directory: say its path")
    if operation in _TWO_PATHS and not case.target:
        raise ValueError(f"{operation} has a second path: say target")
    if operation in _KNOWN - _TWO_PATHS and case.target:
        raise ValueError(f"{operation} has no second path: leave out target")
    path, target = _tidy(case.path), _tidy(case.target)
    question = made.file_question(case.kind, operation, path, target=target, size=case.size)  # type: ignore[arg-type]
    question.facts["env"] = env
    return question


def _tidy(path: str) -> str:
    """As the file protocols have it before they ask."""
    try:
        return tidy(path.encode()).decode() if path else ""
    except PathError as problem:
        raise ValueError(str(problem)) from None


def _forward(case: SSHTest) -> Question:
    where = case.destination
    if where is None:
        raise ValueError("say where the forward leads to: destination")
    if where.path and (where.host or where.port):
        raise ValueError("destination is a path, or a host and a port")
    direction = case.direction or "local"
    if not where.path and direction == "local" and not (where.host and where.port):
        raise ValueError("destination is a host and a port, or a path")
    return made.forward_question(direction, host=where.host, port=where.port, path=where.path)
