"""SSH on a page: commands with their programs and what they wrote, terminals, file operations, forwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ostiary_console.shown.bounds import Bounds
from ostiary_console.shown.protocol import Answer, Asked
from ostiary_console.shown.streams import streams
from ostiary_console.shown.words import bytes_text
from ostiary_console.views import AnyBlock, Remark
from ostiary_gateway.audit import stream_recording, transcript_ssh
from ostiary_gateway.audit.stream_recording import Recording
from ostiary_gateway.audit.transcript_streams import again
from ostiary_gateway.audit.transcript_words import items, mapping

MAX_NAMES: Final = 40
_KINDS: Final = {"exec": "command", "shell": "shell", "sftp": "file", "scp": "file", "forward": "forward"}


def login(detail: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The login at the target, and what the client says of itself."""
    if detail.get("certificate"):
        yield "Login", "a certificate was asked for"
    elif detail.get("login"):
        yield "Login", str(detail["login"])
    if isinstance(client := detail.get("client"), str) and client:
        yield "Program", client


def asked(text: str, detail: Mapping[str, object], bounds: Bounds) -> Asked:
    """The command as one types it, or one line that says what is done with which file, or where a forward leads."""
    kind, operation = str(detail.get("kind") or ""), str(detail.get("operation") or "")
    shown, language = text, ""
    if kind == "exec" or (kind == "scp" and operation == "session"):
        language = "bash"
    elif kind in ("sftp", "scp") and operation and detail.get("path"):
        shown = f"{kind} {operation} {detail['path']}"
        if detail.get("target"):
            shown += f" → {detail['target']}"
    opaque = (f"What it does cannot be known: {detail['opaque']}",) if detail.get("opaque") else ()
    return Asked(_KINDS.get(kind, "other"), shown, language, notes=tuple(_about(kind, detail)), warnings=opaque)


def _about(kind: str, detail: Mapping[str, object]) -> Iterator[str]:
    if programs := items(detail.get("programs")):
        yield f"runs {_listed(programs)}"
    real = detail.get("realPath")
    if real and real != detail.get("path"):
        yield f"leads to {real}"
    if users := items(detail.get("runAs")):
        yield f"as {_listed(users)}"
    if detail.get("pty") and kind == "exec":
        yield "with a terminal"
    if env := mapping(detail.get("env")):
        yield f"with {' '.join(f'{name}={value}' for name, value in list(env.items())[:MAX_NAMES])}"
    if refused := items(detail.get("envRefused")):
        yield f"without {_listed(refused)}, which no policy allows"
    if isinstance(mode := detail.get("mode"), str):
        yield f"mode {mode}"


def _listed(names: list[object]) -> str:
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(str(name) for name in names[:MAX_NAMES]) + more


def answered(answer: Answer, bounds: Bounds) -> Iterator[AnyBlock]:
    """What it wrote, or what the terminal showed."""
    rest = iter(answer.pieces)
    first = next(rest, b"")
    if first and stream_recording.is_recording(first[:8]):
        yield from streams(Recording(again(first, rest)), answer, bounds)
        if (said := failure(answer.detail)) and "ended" not in answer.detail:
            yield Remark(said, bad=True)
    elif first:
        yield Remark(f"{bytes_text(len(first))} of something else")


def result(detail: Mapping[str, object]) -> tuple[str, bool]:
    """Exit status or signal; of files how much."""
    good = detail.get("exitStatus") in (None, 0) and not detail.get("exitSignal")
    return " ".join(transcript_ssh.result(detail).plain.split()), good


def failure(detail: Mapping[str, object]) -> str:
    """Why the gateway or the target ended it."""
    return transcript_ssh.failure(detail)
