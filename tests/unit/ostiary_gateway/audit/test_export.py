"""Everything as JSON lines."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostiary_gateway.audit.event import LoginRefused
from ostiary_gateway.audit.export import export
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder

Playing = Callable[[FileRecorder], Any]


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


RESPONSE = (
    message("T", b"\0\1n\0" + struct.pack("!IHIhih", 0, 0, 23, 4, -1, 0))
    + message("D", struct.pack("!Hi", 1, 1) + b"7")
    + message("C", b"SELECT 1\0")
)


@pytest.fixture
async def record(path: Path, play: Playing) -> Path:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    await acts.run("s1", 1, "select 7 as n", RESPONSE)
    acts.begin("s1", 2, "drop database app", acts.deny)
    acts.end("s1", 2, "denied")
    acts.close("s1")
    recorder.login_refused(LoginRefused("l1", 1.5, "prod/app", {"address": "::1"}, "wrong token"))
    await recorder.close()
    return path


def lines(path: Path, **options: str) -> list[dict[str, Any]]:
    with Reader.open(path) as reader:
        return [
            json.loads(line) for line in export(reader, reader.sessions(gateway=True, newest_first=False), **options)
        ]


def test_a_session_its_requests_decisions_and_rows_are_lines(record: Path) -> None:
    ours = [line for line in lines(record) if line["session"] == "s1"]
    assert [line["type"] for line in ours] == [
        *("session", "open", "close"),
        *("request", "response", "response", "response", "request"),
    ]
    session, opened, _, request, columns, row, complete, denied = ours
    assert all(line["v"] == 1 for line in ours)
    assert (session["username"], session["requests"], session["denied"]) == ("planner", 2, 1)
    assert opened["subject"]["groups"] == ["agents"]
    assert (request["text"], request["outcome"], request["decision"]["action"]) == ("select 7 as n", "ok", "Allow")
    assert columns["columns"] == [{"name": "n", "type": 23}]
    assert row["row"] == ["7"]
    assert complete["complete"] == "SELECT 1"
    assert denied["decision"]["rule"]["rule"] == "no-drop"
    assert request["begun"].endswith("Z")


def test_responses_can_be_had_as_recorded(record: Path) -> None:
    parts = [line["base64"] for line in lines(record, responses="base64") if line["type"] == "response"]
    assert b"".join(base64.b64decode(part) for part in parts) == RESPONSE


def test_responses_can_be_left_out(record: Path) -> None:
    assert not any(line["type"] == "response" for line in lines(record, responses="none"))


def test_refused_logins_are_lines(record: Path) -> None:
    (refused,) = (line for line in lines(record) if line["type"] == "refused")
    assert (refused["reason"], refused["at"]) == ("wrong token", "1970-01-01T00:00:01.500000Z")


def test_an_unknown_form_is_refused(record: Path) -> None:
    with pytest.raises(ValueError, match="Choose decoded"):
        lines(record, responses="xml")
