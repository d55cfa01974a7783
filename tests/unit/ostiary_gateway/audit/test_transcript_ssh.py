"""Requests over SSH in a transcript and in the export, and recorded commands and shells as casts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from ostiary_cli.main import cli
from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.export import export
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.stream_recording import Kind, Writer, size_data
from ostiary_gateway.audit.transcript import render

Playing = Callable[[FileRecorder], Any]
SHA = "55a67d99d824" + 52 * "0"
SHELL = [
    (0.1, Kind.RESIZE, size_data(120, 40)),
    (0.2, Kind.STDOUT, b"\x1b[1m$\x1b[0m "),
    (1.0, Kind.STDIN, b"id\r"),
    (1.1, Kind.STDOUT, b"id\r\nuid=0(root)\r\n"),
]
BATCH = [(0.1, Kind.STDOUT, b"hello\n"), (0.2, Kind.STDERR, b"oops\n"), (0.3, Kind.NOTE, b"ostiary: it is over")]
DETAIL: dict[str, object] = {"login": "deploy", "client": "SSH-2.0-OpenSSH_9.2p1"}


def stream(frames: list[tuple[float, Kind, bytes]], *, tty: bool = False) -> bytes:
    writer = Writer(0.0, tty=tty)
    return writer.header + b"".join(writer.frame(*frame) for frame in frames)


class Acts:
    """One session of an agent at an SSH server. What it asks for ends as it comes, unless it is `open`."""

    def __init__(self, recorder: FileRecorder, acts: Any, detail: dict[str, object]) -> None:
        self.acts = acts
        self.number = 0
        acts.sessions["s1"] = recorder.session_opened(
            SessionOpened("s1", 1796000000.0, "prod/web", "SSH", {"username": "planner"}, {}, detail, "Full")
        )

    def begin(self, text: str, outcome: str = "ok", **detail: object) -> int:
        self.number += 1
        decision = self.acts.deny if outcome == "denied" else self.acts.allow
        self.acts.begin("s1", self.number, text, decision, detail=detail)
        return self.number

    def end(self, number: int, outcome: str = "ok", response: bytes = b"", **detail: object) -> None:
        if response:
            self.acts.respond("s1", number, response)
        self.acts.end("s1", number, outcome, size=len(response), detail=detail)

    def request(
        self, text: str, end: dict[str, object] | None = None, response: bytes = b"", outcome: str = "ok",
        **detail: object,
    ) -> None:  # fmt: skip
        self.end(self.begin(text, outcome, **detail), outcome, response, **(end or {}))


@pytest.fixture
async def acts(recorder: FileRecorder, play: Playing) -> Acts:
    return Acts(recorder, play(recorder), DETAIL)


async def shown(acts: Acts, path: Path) -> str:
    await acts.acts.recorder.close()
    output = io.StringIO()
    with Reader.open(path) as reader:
        (session,) = (each for each in reader.sessions() if each.protocol == "SSH")
        render(reader, session, Console(file=output, width=100, no_color=True))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


async def test_a_command_stands_with_what_it_wrote_and_how_it_ended(acts: Acts, path: Path) -> None:
    acts.request(
        "sudo make -C /srv", {"exitStatus": 2, "stdoutBytes": 6, "signals": ["INT"]}, stream(BATCH), kind="exec",
        runAs=["root"], env={"LANG": "C"}, envRefused=["LD_PRELOAD"],
    )  # fmt: skip
    seen = await shown(acts, path)
    assert "login       deploy" in seen
    assert "client      SSH-2.0-OpenSSH_9.2p1" in seen
    assert "  $ sudo make -C /srv\n" in seen
    assert "as root; with LANG=C; without LD_PRELOAD, which no policy allows" in seen
    assert "  stdout\n  hello\n  stderr\n  oops\n  ostiary: it is over\n" in seen
    assert "ok  exit 2  signalled INT" in seen


async def test_a_denied_command_says_by_what(acts: Acts, path: Path) -> None:
    acts.request('eval "$x"', outcome="denied", kind="exec", opaque="eval runs what only the target knows")
    seen = await shown(acts, path)
    assert '$ eval "$x"' in seen
    assert "what it does cannot be known: eval runs what only the target knows" in seen
    assert "✗ Deny" in seen


async def test_a_shell_shows_what_its_terminal_showed(acts: Acts, path: Path) -> None:
    end = {"exitSignal": "HUP", "terminal": "120x40", "ended": "Its operator ended it."}
    acts.request("shell", end, stream(SHELL, tty=True), "error", kind="shell", pty=True)
    seen = await shown(acts, path)
    assert "  shell\n" in seen
    assert "  $ id\n  uid=0(root)\n" in seen
    assert "error  ended by SIGHUP  120x40" in seen


async def test_file_operations_are_lines_with_sizes_and_digests_in_the_order_in_which_they_began(
    acts: Acts, path: Path
) -> None:
    session = acts.begin("sftp session", kind="sftp", operation="session")
    acts.request(
        "sftp read /etc/hosts", {"readBytes": 1200, "readSha256": SHA}, kind="sftp", operation="read", path="/etc/hosts"
    )
    acts.request("sftp list /srv", {"entries": 1}, kind="sftp", operation="list", path="/srv")
    acts.request(
        "sftp rename /a → /b", {"status": "permission denied"}, outcome="error", kind="sftp", operation="rename",
        path="/a", target="/b", realPath="/srv/a",
    )  # fmt: skip
    acts.request("sftp read /etc/shadow", outcome="denied", kind="sftp", operation="read", path="/etc/shadow")
    acts.end(session, exitStatus=0, operations={"read": 1, "list": 1}, readBytes=1200, writtenBytes=0, refused=1)
    seen = await shown(acts, path)
    places = [seen.index(each) for each in (
        "  sftp session\n", "ok  exit 0  1 read, 1 list, 1 refused",
        "  sftp read /etc/hosts\n", "ok  1.2 KiB read sha256 55a67d99d824…",
        "  sftp list /srv\n", "ok  1 entry",
        "  sftp rename /a → /b\n", "leads to /srv/a", "permission denied",
        "  sftp read /etc/shadow\n", "\n  denied",
    )]  # fmt: skip
    assert places == sorted(places)


async def test_files_of_the_old_scp(acts: Acts, path: Path) -> None:
    session = acts.begin("scp -t /srv", kind="scp", operation="session")
    end = {"bytes": 600, "sha256": SHA}
    acts.request("scp write /srv/a", end, kind="scp", operation="write", path="/srv/a", mode="0644")
    acts.end(session, exitStatus=0, files=1, bytes=600)
    seen = await shown(acts, path)
    assert "  $ scp -t /srv\n" in seen
    assert "ok  exit 0  1 file" in seen
    assert "  scp write /srv/a\n  mode 0644\n" in seen
    assert "ok  600 B sha256 55a67d99d824…" in seen


async def test_forwards_and_certificates(acts: Acts, path: Path) -> None:
    end = {"seconds": 1.0, "stdinBytes": 10, "stdoutBytes": 2048}
    acts.request("forward local db:5432", end, kind="forward", direction="local", destination="db:5432")
    acts.request("forward local db:1", {"refused": 2}, outcome="error", kind="forward", direction="local")
    acts.request("certificate for SHA256:abc", certificate={"serial": "1"})
    seen = await shown(acts, path)
    assert "  forward local db:5432\n" in seen
    assert "ok  10 B sent  2.0 KiB received" in seen
    assert "  certificate for SHA256:abc\n" in seen


async def test_nothing_that_is_recorded_steers_the_terminal(acts: Acts, path: Path) -> None:
    evil = "a\x1b[2Jb"
    wrote = stream([(0.1, Kind.STDOUT, b"\x1b]0;x\x07ok\n")])
    acts.request(evil, {"exitSignal": evil, "message": evil}, wrote, kind="exec")
    acts.request("sftp", {"status": evil}, outcome="error", kind="sftp", operation=evil, path=evil, target=evil)
    seen = await shown(acts, path)
    assert "\x1b" not in seen
    assert "\x07" not in seen


async def test_the_export_has_streams(acts: Acts, path: Path) -> None:
    acts.request("ls", {"exitStatus": 0}, stream(BATCH), kind="exec")
    await acts.acts.recorder.close()
    with Reader.open(path) as reader:
        lines = [json.loads(line) for line in export(reader, reader.sessions())]
    said = [line["stream"] for line in lines if line["type"] == "response"]
    assert said[0] == {"at": 0.1, "channel": "stdout", "text": "hello\n"}
    assert [each["channel"] for each in said] == ["stdout", "stderr", "note"]


async def test_shells_and_commands_become_casts_and_files_do_not(acts: Acts, path: Path, tmp_path: Path) -> None:
    acts.request("sftp read /a", {"readBytes": 6}, stream(BATCH), kind="sftp", operation="read", path="/a")
    acts.request("shell", {"exitStatus": 0}, stream(SHELL, tty=True), kind="shell", pty=True)
    acts.request("make", {"exitStatus": 0}, stream(BATCH), kind="exec")
    await acts.acts.recorder.close()

    def run(name: str, *more: str) -> Any:
        return CliRunner().invoke(cli, ["session", name, "--data", str(path.parent), "--cast", "-", *more])

    header, *events = (json.loads(line) for line in run("s1-2").output.splitlines())
    assert (header["width"], header["height"], header["title"]) == (120, 40, "shell (planner, s1-2)")
    assert [code for _, code, _ in events] == ["o", "i", "o"]
    _, *events = (json.loads(line) for line in run("s1-3").output.splitlines())
    assert events[0][1:] == ["o", "hello\r\n"]
    assert "No command or shell" in run("s1-1").stderr
    assert "s1-2, s1-3" in run("s1").stderr
