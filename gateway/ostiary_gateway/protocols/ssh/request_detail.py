"""What the record keeps of a request beside its outcome: one line for people, and its parts. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .questions import Question

MAX_TEXT: Final = 8192
"""Characters of the line."""
MAX_PROGRAMS: Final = 64
MAX_REASON: Final = 512


def text_of(facts: Mapping[str, object]) -> str:
    """One line for people: the command, or what is done with which file, or where a forward leads."""
    kind = facts["kind"]
    if kind == "exec" or (kind == "scp" and facts["operation"] == "session"):
        text = str(facts["command"]) or "(an empty command)"
    elif kind == "subsystem":
        text = f"subsystem {facts['command']}"
    elif kind in ("sftp", "scp"):
        text = _file(facts)
    elif kind == "forward":
        text = f"forward {facts['direction']} {destination(facts['destination'])}"
    elif kind == "env":
        text = f"env {facts['name']}={facts['value']}"
    else:
        text = {"shell": "shell", "agent": "agent forwarding", "x11": "X11 forwarding"}.get(str(kind), str(kind))
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _file(facts: Mapping[str, object]) -> str:
    parts = [str(facts["kind"]), str(facts["operation"])]
    if path := str(facts["path"]):
        parts.append(path)
    if target := str(facts["target"]):
        parts += ["→", target]
    return " ".join(parts)


def destination(facts: object) -> str:
    """`db:5432`, `[::1]:80`, or the path of a socket."""
    found = facts if isinstance(facts, Mapping) else {}
    if path := found.get("path"):
        return str(path)
    host = str(found.get("host", ""))
    return f"[{host}]:{found.get('port')}" if ":" in host else f"{host}:{found.get('port')}"


def of_question(question: Question, facts: Mapping[str, object]) -> dict[str, object]:
    """Its kind and its parts. What the core and the file protocols know beside that comes last, and wins."""
    kind = question.kind
    detail: dict[str, object] = {"kind": kind}
    commands = facts["commands"]
    if isinstance(commands, list) and commands:
        names = [str(each.get("program", "")) for each in commands]
        detail["programs"] = [*dict.fromkeys(names)][:MAX_PROGRAMS]
        if users := [*dict.fromkeys(str(each["runAs"]) for each in commands if each.get("runAs"))]:
            detail["runAs"] = users[:MAX_PROGRAMS]
    if facts["opaque"] and kind != "shell":
        detail["opaque"] = str(facts["opaqueReason"])[:MAX_REASON]
    if facts["pty"]:
        detail["pty"] = True
    if env := facts["env"]:
        detail["env"] = env
    for name in ("operation", "path", "target", "realPath", "realTarget", "size", "direction"):
        if value := facts.get(name):
            detail[name] = value
    if kind == "forward":
        detail["destination"] = destination(facts["destination"])
    return detail | question.detail
