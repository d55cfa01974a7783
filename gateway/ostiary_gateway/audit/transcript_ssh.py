"""SSH in a transcript: commands with what they wrote, file operations as lines, forwards, what was let through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from ostiary_gateway.audit import stream_recording as streams
from ostiary_gateway.audit.reader import Request, SessionReader
from ostiary_gateway.audit.stream_recording import Recording
from ostiary_gateway.audit.transcript_streams import again, bounded, streams_view
from ostiary_gateway.audit.transcript_words import Options, bytes_text, highlighted, items, mapping, pieces
from ostiary_gateway.visible import visible

MAX_NAMES: Final = 20
SHA_SHOWN: Final = 12
"""Digits of a digest that are shown."""


def login(detail: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    """The login at the target, and what the client says of itself."""
    if detail.get("certificate"):
        yield "login", "a certificate was asked for"
    elif detail.get("login"):
        yield "login", str(detail["login"])
    if isinstance(client := detail.get("client"), str) and client:
        yield "client", client


def asked(text: str, detail: Mapping[str, object], options: Options) -> list[RenderableType]:
    """The command as one types it, or one line that says what is done with which file, or where a forward leads."""
    kind = str(detail.get("kind") or "")
    operation = str(detail.get("operation") or "")
    if kind == "exec" or (kind == "scp" and operation == "session"):
        line = Text("$ ", "bold cyan")
        line.append_text(highlighted(text, "bash", options))
        views: list[RenderableType] = [*bounded(line, options)]
    else:
        views = [_line(kind, operation, text, detail)]
    return views + _about(kind, detail)


def _line(kind: str, operation: str, text: str, detail: Mapping[str, object]) -> Text:
    if kind in ("sftp", "scp") and operation and detail.get("path"):
        line = Text(visible(f"{kind} {operation}"), "bold")
        line.append(visible(f" {detail['path']}"))
        if detail.get("target"):
            line.append(" → ", "dim").append(visible(str(detail["target"])))
        return line
    return Text(visible(text), "bold")


def _about(kind: str, detail: Mapping[str, object]) -> list[RenderableType]:
    notes: list[str] = []
    real = detail.get("realPath")
    if real and real != detail.get("path"):
        notes.append(f"leads to {real}")
    if users := items(detail.get("runAs")):
        notes.append(f"as {', '.join(map(str, users))}")
    if detail.get("pty") and kind == "exec":
        notes.append("with a terminal")
    if env := mapping(detail.get("env")):
        notes.append(f"with {' '.join(f'{name}={value}' for name, value in list(env.items())[:MAX_NAMES])}")
    if refused := items(detail.get("envRefused")):
        notes.append(f"without {', '.join(map(str, refused[:MAX_NAMES]))}, which no policy allows")
    if isinstance(mode := detail.get("mode"), str):
        notes.append(f"mode {mode}")
    views: list[RenderableType] = []
    if notes:
        views.append(Text(visible("; ".join(notes)), "dim"))
    if detail.get("opaque"):
        views.append(Text(visible(f"what it does cannot be known: {detail['opaque']}"), "yellow"))
    return views


def answered(reader: SessionReader, request: Request, width: int, options: Options) -> list[RenderableType]:
    """What it wrote, or what the terminal showed."""
    views: list[RenderableType] = []
    found = pieces(reader, request, views)
    first = next(found, b"")
    if first and streams.is_recording(first[:8]):
        views += streams_view(Recording(again(first, found)), options)
        detail = mapping(request.ended.fields.get("detail")) if request.ended else {}
        if (said := failure(detail)) and "ended" not in detail:
            views.append(Text(visible(said), "red"))
    elif first:
        views.append(Text(f"{bytes_text(len(first))} of something else", "dim"))
    return views


def result(detail: Mapping[str, object]) -> Text:
    """Exit status or signal; of files how much, and the beginning of its digest; of a session of files what was
    done."""
    line = Text()
    if isinstance(status := detail.get("exitStatus"), int):
        line.append(f"exit {status}", "bold" if status == 0 else "bold red")
    elif detail.get("exitSignal"):
        line.append(visible(f"ended by SIG{detail['exitSignal']}"), "bold red")
    if isinstance(entries := detail.get("entries"), int):
        line.append(f"{entries:,} entr{'y' if entries == 1 else 'ies'}", "bold")
    for name, word in (("read", "read"), ("written", "written")):
        if isinstance(size := detail.get(f"{name}Bytes"), int) and "operations" not in detail:
            _amount(line, word, size, detail.get(f"{name}Sha256"))
    if isinstance(size := detail.get("bytes"), int) and "files" not in detail:
        _amount(line, "", size, detail.get("sha256"))
    if isinstance(operations := detail.get("operations"), dict) and operations:
        done = ", ".join(f"{count} {name}" for name, count in list(operations.items())[:MAX_NAMES])
        line.append(visible(f"  {done}" if line else done))
    if isinstance(files := detail.get("files"), int):
        line.append(f"{'  ' if line else ''}{files} file{'' if files == 1 else 's'}", "bold")
    if isinstance(refused := detail.get("refused"), int):
        line.append(f", {refused} refused", "red")
    if "exitStatus" not in detail and "stdinBytes" in detail and "operations" not in detail and "files" not in detail:
        for name, word in (("stdin", "sent"), ("stdout", "received")):
            if isinstance(size := detail.get(f"{name}Bytes"), int):
                _amount(line, word, size, None)
    if signals := items(detail.get("signals")):
        line.append(visible(f"  signalled {', '.join(map(str, signals))}"), "yellow")
    if isinstance(terminal := detail.get("terminal"), str):
        line.append(visible(f"  {terminal}"), "dim")
    return line


def _amount(line: Text, word: str, size: int, digest: object) -> None:
    if line:
        line.append("  ")
    line.append(f"{bytes_text(size)} {word}".rstrip())
    if isinstance(digest, str):
        line.append(visible(f" sha256 {digest[:SHA_SHOWN]}…"), "dim")


def failure(detail: Mapping[str, object]) -> str:
    """Why the gateway or the target ended it."""
    for name in ("ended", "message", "status", "refused"):
        if isinstance(said := detail.get(name), str):
            return said
    return ""
