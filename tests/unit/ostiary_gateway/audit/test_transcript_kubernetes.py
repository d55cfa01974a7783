"""Requests to the Kubernetes API in a transcript and in the export, and recorded commands as casts."""

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
from ostiary_gateway.audit.transcript_words import Options

Playing = Callable[[FileRecorder], Any]
PODS = [{"metadata": {"name": f"web-{number}", "namespace": "shop"}} for number in range(30)]
SHELL = [
    (0.1, Kind.RESIZE, size_data(120, 40)),
    (0.2, Kind.STDOUT, b"\x1b[1m$\x1b[0m "),
    (1.0, Kind.STDIN, b"id\r"),
    (1.1, Kind.STDOUT, b"id\r\nuid=0(root)\r\n"),
    (2.0, Kind.ERROR, b'{"status":"Success"}'),
]
BATCH = [
    (0.1, Kind.STDIN, b"hello\n"),
    (0.2, Kind.STDOUT, b"hel"),
    (0.3, Kind.STDOUT, b"lo\n"),
    (0.4, Kind.STDERR, b"oops\n"),
    (0.5, Kind.STDOUT, bytes(2) + b"\xff"),
]


def stream(frames: list[tuple[float, Kind, bytes]], *, tty: bool) -> bytes:
    writer = Writer(0.0, tty=tty)
    return writer.header + b"".join(writer.frame(*frame) for frame in frames)


class Acts:
    """One session of an agent at an API server."""

    def __init__(self, recorder: FileRecorder, acts: Any) -> None:
        self.acts = acts
        self.number = 0
        acts.sessions["k1"] = recorder.session_opened(
            SessionOpened("k1", 1796000000.0, "prod/api", "Kubernetes", {"username": "planner"}, {}, {}, "Full")
        )

    def request(
        self, text: str, response: bytes = b"", end: dict[str, object] | None = None, outcome: str = "ok",
        **detail: object,
    ) -> None:  # fmt: skip
        self.number += 1
        decision = self.acts.deny if outcome == "denied" else self.acts.allow
        self.acts.begin("k1", self.number, text, decision, detail=detail)
        if response:
            self.acts.respond("k1", self.number, response)
        self.acts.end("k1", self.number, outcome, size=len(response), detail=end or {"status": 200})


@pytest.fixture
async def acts(recorder: FileRecorder, play: Playing) -> Acts:
    return Acts(recorder, play(recorder))


async def shown(acts: Acts, path: Path, options: Options | None = None) -> str:
    await acts.acts.recorder.close()
    output = io.StringIO()
    with Reader.open(path) as reader:
        (session,) = reader.sessions()
        render(reader, session, Console(file=output, width=100, no_color=True), options)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


async def test_a_list_is_counted_and_its_first_items_named(acts: Acts, path: Path) -> None:
    acts.request("GET /api/v1/namespaces/shop/pods", json.dumps({"kind": "PodList", "items": PODS}).encode())
    text = await shown(acts, path)
    assert "GET /api/v1/namespaces/shop/pods\n  ✓ Allow  prod/agents#reads\n  PodList, 30 items" in text
    assert "│ shop      │ web-9 │" in text
    assert "web-10" not in text
    assert "… 20 more items" in text
    assert "\n  ok  200" in text


async def test_a_table_of_the_server_is_a_table(acts: Acts, path: Path) -> None:
    table = {
        "kind": "Table",
        "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
        "rows": [{"cells": ["web-1", 3, "10.0.0.1"]}, {"cells": ["web-2", None]}],
    }
    acts.request("GET /api/v1/pods", json.dumps(table).encode())
    text = await shown(acts, path)
    assert "│ Name  │ Ready │" in text
    assert "│ web-1 │ 3     │" in text
    assert "10.0.0.1" not in text


async def test_a_write_shows_what_was_sent_and_an_object_is_bounded(acts: Acts, path: Path) -> None:
    labels = {f"label-{number}": "x" for number in range(100)}
    acts.request(
        "PATCH /apis/apps/v1/namespaces/shop/deployments/web",
        json.dumps({"kind": "Deployment", "metadata": {"name": "web", "labels": labels}}).encode(),
        body={"spec": {"replicas": 5}},
    )
    acts.request("POST /api/v1/pods", body=None, bodyBytes=2048, contentType="application/vnd.kubernetes.protobuf")
    acts.request("PATCH /api/v1/pods/x", diff="- replicas: 3\n+ replicas: 5", body={"not": "shown"})
    text = await shown(acts, path)
    assert '"replicas": 5' in text
    assert '"kind": "Deployment"' in text
    assert "more lines" in text
    assert "label-99" not in text
    assert "a body of 2.0 KiB, application/vnd.kubernetes.protobuf" in text
    assert "  - replicas: 3\n  + replicas: 5" in text
    assert "shown" not in text


async def test_denials_and_errors_say_why(acts: Acts, path: Path) -> None:
    denied = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "Not on Fridays."}
    acts.request("DELETE /api/v1/namespaces/shop", json.dumps(denied).encode(), {}, "denied")
    acts.request("PUT /x", b"", {"status": 409, "reason": "Conflict", "message": "it changed"}, "error")
    text = await shown(acts, path)
    assert "✗ Deny  prod/agents#no-drop" in text
    assert "Failure Forbidden  Not on Fridays." in text
    assert "error  409 Conflict" in text


async def test_a_watch_shows_its_events(acts: Acts, path: Path) -> None:
    events = [{"type": "ADDED", "object": {"kind": "Pod", **pod}} for pod in PODS[:3]]
    events.append({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "9"}}})
    data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    acts.request("GET /api/v1/pods?watch=1", data + b'{"type":"ADD')
    acts.request("GET /api/v1/pods?watch=1", json.dumps(events[0]).encode() + b"\n")
    text = await shown(acts, path)
    assert "ADDED     Pod shop/web-0\n  ADDED     Pod shop/web-1" in text
    assert "BOOKMARK  Pod" in text


async def test_logs_and_protobuf(acts: Acts, path: Path) -> None:
    acts.request("GET /api/v1/pods/x/log", b"".join(b"line %d\n" % number for number in range(100)))
    acts.request("GET /api/v1/pods/x", b"k8s\0\x0a\x00")
    text = await shown(acts, path)
    assert "  line 29\n  … 70 more lines" in text
    assert "protobuf, 6 B" in text
    assert "line 99" in await shown(acts, path, Options(rows=None))


async def test_a_shell_shows_what_its_terminal_showed(acts: Acts, path: Path) -> None:
    end: dict[str, object] = {"transport": "WebSocket", "protocol": "v5.channel.k8s.io", "exitCode": 0}
    acts.request("GET /exec", stream(SHELL, tty=True), end, exec={"command": ["sh", "-l"]})
    text = await shown(acts, path)
    assert "$ sh -l" in text
    assert "  $ id\n  uid=0(root)\n  ok  exit 0  WebSocket v5.channel.k8s.io" in text
    assert "\x1b" not in text
    assert "[1m" not in text


async def test_a_command_shows_its_streams_apart(acts: Acts, path: Path) -> None:
    acts.request("GET /exec", stream(BATCH, tty=False), {"exitCode": 3})
    acts.request("GET /exec", stream([], tty=False), {"outcome": "error", "message": "no such container"}, "error")
    text = await shown(acts, path)
    assert "stdin\n  hello\n  stdout\n  hello\n  stderr\n  oops\n  stdout\n  binary, 3 B\n  ok  exit 3" in text
    assert "no such container" in text


async def test_a_port_forward_shows_its_connections(acts: Acts, path: Path) -> None:
    acts.request("POST /portforward", b"", {
        "transport": "SPDY", "protocol": "portforward.k8s.io", "connections": 1, "toUpstreamBytes": 80,
        "toClientBytes": 2048, "forwarded": [{"port": "8080", "toUpstream": 80, "toClient": 2048}],
        "errors": ["connection refused"],
    })  # fmt: skip
    text = await shown(acts, path)
    assert "port 8080: 80 B sent, 2.0 KiB received" in text
    assert "connection refused" in text
    assert "ok  1 connection  80 B sent, 2.0 KiB received  SPDY portforward.k8s.io" in text


async def test_what_was_recorded_cannot_steer_the_terminal(acts: Acts, path: Path) -> None:
    evil = "\x1b]0;owned\x07\u202e\x9b31m\x1b[2J[bold]"
    acts.request(f"GET /{evil}", json.dumps({"kind": "Pod", "metadata": {"name": evil}}).encode(), body=evil)
    acts.request("GET /list", json.dumps({"kind": f"{evil}List", "items": [{"metadata": {"name": evil}}]}).encode())
    acts.request("GET /log", evil.encode(), {"status": 200, "reason": evil, "message": evil})
    acts.request("GET /exec", stream([(0, Kind.STDOUT, evil.encode()), (0, Kind.STDERR, b"\x1b")], tty=True))
    acts.request("GET /watch", json.dumps({"type": evil, "object": {"kind": evil}}).encode(), diff=evil)
    text = await shown(acts, path)
    assert not any(character in text for character in "\x1b\x07\u202e\x9b")


async def test_the_export_has_text_and_streams(acts: Acts, path: Path) -> None:
    acts.request("GET /api/v1/pods", '{"kind":"PodList","é":1}'.encode())
    acts.request("GET /api/v1/pods", b"k8s\0\xff")
    acts.request("GET /exec", stream([*SHELL, *BATCH[-1:]], tty=True))
    await acts.acts.recorder.close()
    with Reader.open(path) as reader:
        lines = [json.loads(line) for line in export(reader, reader.sessions())]
    said = [line for line in lines if line["type"] == "response"]
    assert said[0]["text"] == '{"kind":"PodList","é":1}'
    assert said[1]["base64"] == "azhzAP8="
    assert said[2]["stream"] == {"at": 0.1, "channel": "resize", "columns": 120, "rows": 40}
    assert said[4]["stream"] == {"at": 1.0, "channel": "stdin", "text": "id\r"}
    assert said[7]["stream"]["base64"] == "AAD/"


async def test_a_recorded_shell_becomes_a_cast(acts: Acts, path: Path, tmp_path: Path) -> None:
    acts.request("GET /api/v1/pods", b"{}")
    acts.request("GET /exec", stream(SHELL, tty=True))
    await acts.acts.recorder.close()
    target = tmp_path / "shell.cast"
    data = ["--data", str(path.parent)]
    found = CliRunner().invoke(cli, ["session", "k1", *data, "--cast", str(target)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert "Wrote k1-2" in found.output
    header, *events = (json.loads(line) for line in target.read_text().splitlines())
    assert (header["version"], header["width"], header["height"]) == (2, 120, 40)
    assert header["title"] == "GET /exec (planner, k1-2)"
    assert [code for _, code, _ in events] == ["o", "i", "o", "m"]
    told = CliRunner().invoke(cli, ["session", "k1-2", *data, "--cast", "-", "--no-input"], catch_exceptions=False)
    assert [json.loads(line)[1] for line in told.output.splitlines()[1:]] == ["o", "o", "m"]


async def test_a_cast_of_what_is_no_command_says_what_there_is(acts: Acts, path: Path, tmp_path: Path) -> None:
    acts.request("GET /api/v1/pods", b"{}")
    acts.request("GET /exec", stream(SHELL, tty=True))
    acts.request("GET /exec", stream(BATCH, tty=False))
    await acts.acts.recorder.close()

    def said(name: str) -> str:
        found = CliRunner().invoke(cli, ["session", name, "--data", str(path.parent), "--cast", str(tmp_path / "x")])
        assert found.exit_code != 0
        return found.output + found.stderr

    assert "2 recorded streams" in said("k1")
    assert "k1-2, k1-3" in said("k1")
    assert "No command or shell" in said("k1-1")
    assert "there is no session" in said("zz")


async def test_one_request_is_shown_by_its_id(acts: Acts, path: Path) -> None:
    acts.request("GET /api/v1/pods", b"{}")
    acts.request("GET /exec", stream(BATCH, tty=False), {"exitCode": 3})
    await acts.acts.recorder.close()
    found = CliRunner().invoke(cli, ["session", "k1-2", "--data", str(path.parent)], catch_exceptions=False)
    assert "oops" in found.output
    assert "exit 3" in found.output
    assert "pods" not in found.output
