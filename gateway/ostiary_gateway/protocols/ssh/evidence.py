"""What a person is shown of a request over SSH: what would run, as whom and where. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ostiary_api.connection import Connection

from .questions import Question
from .request_detail import destination
from .veil import Veil

MAX_COMMANDS: Final = 64
"""Commands of a line that are shown one by one."""
MAX_TEXT: Final = 60_000
_WIDTH: Final = 12

_DOES: Final[Mapping[str, str]] = {
    "session": "begin a session of file operations", "read": "read", "write": "write", "append": "append to",
    "readwrite": "read and write", "stat": "look at", "list": "list", "mkdir": "make directory",
    "rmdir": "remove directory", "remove": "remove", "rename": "rename", "symlink": "make a symbolic link",
    "link": "make a link to", "setstat": "change the attributes of", "readlink": "read the link",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """`summary`: its first line says it all as far as one line can. `redacted`: something is not shown."""

    summary: str
    text: str
    facts: Mapping[str, object]
    redacted: bool


def shown(question: Question, facts: Mapping[str, Any], connection: Connection, veil: Veil) -> Shown:
    """What a person needs to decide."""
    host = _host(connection)
    login = f"{facts['user']}@{host}" if facts["user"] else host
    command = veil.text(str(facts["command"]))
    title = f"{_title(question, facts, command)} on {login}"
    lines = [("login", f"{facts['user']} at {host}"), *_lines(question, facts, command, veil)]
    text = "\n".join(f"{name:<{_WIDTH}}{_indented(value)}" for name, value in lines if value)
    safe = veil.everything(facts)
    assert isinstance(safe, dict)
    summary = title
    if "\n" in command.strip() or len(command) > 200:
        summary = f"{title}\n{command}"
    return Shown(summary, text[:MAX_TEXT], safe, veil.touched)


def _host(connection: Connection) -> str:
    host, port = connection.spec.upstream.host or "", connection.spec.upstream.port or 22
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _title(question: Question, facts: Mapping[str, Any], command: str) -> str:
    kind = question.kind
    if kind == "exec":
        return f"run {' '.join(command.split()) or '(an empty command)'}"
    if kind in ("sftp", "scp"):
        return _file(kind, facts)
    if kind == "forward":
        where = destination(facts["destination"])
        return f"connect to {where}" if facts["direction"] == "local" else f"listen for connections at {where}"
    return {
        "shell": "open an interactive shell", "agent": "use the agent's keys", "x11": "use the agent's display",
        "subsystem": f"start the subsystem {command}", "env": f"set {facts['name']}",
    }[kind]  # fmt: skip


def _file(kind: str, facts: Mapping[str, Any]) -> str:
    operation = str(facts["operation"])
    does = _DOES.get(operation, operation)
    parts = [f"{does} ({kind})" if operation == "session" else does]
    if path := facts["path"]:
        parts.append(str(path))
    if target := facts["target"]:
        parts.append(f"to {target}" if operation != "symlink" else f"→ {target}")
    if size := facts["size"]:
        parts.append(f"({size:,} bytes)")
    return " ".join(parts)


def _lines(question: Question, facts: Mapping[str, Any], command: str, veil: Veil) -> Iterator[tuple[str, str]]:
    kind = question.kind
    if command:
        yield ("subsystem" if kind == "subsystem" else "command"), command
    label = "runs"
    for each in facts["commands"][:MAX_COMMANDS]:
        yield label, _command(each, veil)
        label = ""
    if (more := len(facts["commands"]) - MAX_COMMANDS) > 0:
        yield "", f"… and {more} more"
    if facts["opaque"]:
        yield "not known", f"what it does: {facts['opaqueReason']}"
    if kind in ("sftp", "scp"):
        yield "operation", str(facts["operation"])
        yield "path", str(facts["path"])
        if facts.get("realPath") not in (None, "", facts["path"]):
            yield "which is", str(facts["realPath"])
        yield "target", str(facts["target"])
        if facts.get("realTarget") not in (None, "", facts["target"]):
            yield "which is", str(facts["realTarget"])
        if facts["size"]:
            yield "size", f"{facts['size']:,} bytes"
    if kind == "forward":
        yield "direction", str(facts["direction"])
        yield "leads to" if facts["direction"] == "local" else "listens at", destination(facts["destination"])
    if facts["pty"]:
        yield "terminal", "yes"
    label = "environment"
    for name, value in facts["env"].items():
        yield label, f"{name}={veil.value(name, str(value))}"
        label = ""


def _command(command: Mapping[str, Any], veil: Veil) -> str:
    argv = veil.argv(command["argv"], exact=command["exact"])
    text = shlex.join(argv) if command["exact"] else " ".join(argv)
    notes = []
    if via := command["via"]:
        notes.append(f"by {', '.join(via)}")
    if user := command["runAs"]:
        notes.append(f"as {user}")
    if not command["exact"]:
        notes.append("its arguments are only known when it runs")
    if names := command["assignments"]:
        notes.append(f"with {', '.join(names)} set")
    parts = [text or "(no program)"]
    parts += [f"< {name}" for name in command["inputs"]] + [f"> {name}" for name in command["redirects"]]
    return " ".join(parts) + (f"   ({'; '.join(notes)})" if notes else "")


def _indented(text: str) -> str:
    return text.strip("\n").replace("\n", "\n" + " " * _WIDTH)
