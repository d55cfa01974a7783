"""The transcript, as a terminal shows it."""

from __future__ import annotations

import io
import struct
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.transcript import render
from ostiary_gateway.audit.transcript_words import Options, bytes_text, duration
from ostiary_gateway.visible import HIDDEN, visible
from ostiary_policy.decision import Action, Decision, RuleRef

READS = RuleRef("prod", "agents", "reads", "sha256:1")
Playing = Callable[[FileRecorder], Any]


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def table(columns: list[tuple[str, int]], *rows: list[str | None]) -> bytes:
    described = struct.pack("!H", len(columns))
    for name, oid in columns:
        described += name.encode() + b"\0" + struct.pack("!IHIhih", 0, 0, oid, -1, -1, 0)
    stream = message("T", described)
    for row in rows:
        body = struct.pack("!H", len(row))
        for value in row:
            body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value.encode())) + value.encode()
        stream += message("D", body)
    return stream + message("C", f"SELECT {len(rows)}\0".encode()) + message("Z", b"I")


def shown(path: Path, width: int = 100, options: Options | None = None) -> str:
    output = io.StringIO()
    with Reader.open(path) as reader:
        (session,) = reader.sessions()
        render(reader, session, Console(file=output, width=width, no_color=True), options)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


async def test_a_result_stands_under_its_statement(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1, "select id, name\n  from t", detail={"parameters": ["7", None]})
    acts.respond("s1", 1, table([("id", 23), ("name", 25)], ["1", "Ada"], ["22", None], ["3", "x"]))
    acts.end("s1", 1, rows=3)
    acts.close("s1")
    await recorder.close()
    text = shown(path, options=Options(rows=2))
    assert (
        """
  select id, name
    from t
  $1 = 7  $2 = NULL
  ✓ Allow  prod/agents#reads
  ╭────┬──────╮
  │ id │ name │
  ├────┼──────┤
  │  1 │ Ada  │
  │ 22 │ NULL │
  ╰────┴──────╯
  … 1 more row
  ok  SELECT 3"""
        in text
    )
    assert "subject     planner" in text
    assert "the client went away" in text


async def test_a_denial_says_which_rule_and_what_the_agent_saw(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1, "drop database app", acts.deny)
    acts.end("s1", 1, "denied")
    acts.respond("s1", 1, message("E", b"SERROR\0C42501\0MDropping is not allowed.\0HAsk.\0\0"))
    acts.close("s1")
    await recorder.close()
    text = shown(path)
    assert "✗ Deny  prod/agents#no-drop  Dropping a database is not allowed.\n  hint: Ask the platform team." in text
    assert "ERROR 42501  Dropping is not allowed.\n    HINT  Ask.\n  denied" in text
    assert "outside a request" not in text


async def test_a_rule_is_named_once(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1, decision=replace(acts.allow, rule=READS, message=f"Allowed by rule {READS}."))
    acts.begin("s1", 2, decision=replace(acts.deny, rule=READS, message=f"Not you. (rule {READS})"))
    await recorder.close()
    text = shown(path)
    assert "✓ Allow  prod/agents#reads\n" in text
    assert "✗ Deny  prod/agents#reads  Not you.\n" in text


async def test_what_no_policy_was_asked_about_is_not_laid_to_a_missing_rule(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    refusal = Decision(Action.DENY, None, "client_encoding must stay UTF8.")
    acts.begin("s1", 1, "set names latin1", refusal, detail={"refused": "42501"})
    acts.end("s1", 1, "denied")
    await recorder.close()
    text = shown(path)
    assert "✗ Deny  refused under any policy (42501)  client_encoding must stay UTF8." in text


async def test_an_error_whose_answer_is_not_recorded_is_told_by_its_end(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1", recording="Metadata")
    acts.begin("s1", 1, "select 1/0")
    acts.end("s1", 1, "error", detail={"sqlstate": "22012", "message": "division by zero"})
    await recorder.close()
    assert "\n  ERROR 22012  division by zero" in shown(path)


async def test_the_tags_of_many_statements_are_counted(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1, ";".join(["begin"] * 10))
    acts.end("s1", 1, detail={"tags": ["BEGIN"] * 10})
    await recorder.close()
    assert f"ok  {', '.join(['BEGIN'] * 8)} … 2 more" in shown(path)


async def test_a_result_wider_than_the_terminal_has_a_line_for_each_value(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1)
    acts.respond("s1", 1, table([(f"column_{n}", 25) for n in range(9)], [f"value {n}" for n in range(9)]))
    acts.end("s1", 1)
    await recorder.close()
    assert "  column_8 │ value 8" in shown(path, width=60)


async def test_a_recording_that_was_cut_says_so(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path, max_recorded_bytes=1000)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1)
    acts.respond("s1", 1, table([("n", 23)], *([str(n)] for n in range(1000))))
    acts.end("s1", 1)
    await recorder.close()
    assert "recording cut at 1000 B of 13.6 KiB (limit)" in shown(path)


async def test_a_request_without_an_end_says_so(path: Path, recorder: FileRecorder, play: Playing) -> None:
    acts = play(recorder)
    acts.open("s1")
    await acts.begin("s1", 1, durable=True)
    assert "no end in the record" in shown(path)


async def test_what_was_recorded_cannot_steer_the_terminal(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    evil = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m[bold]"
    acts.open("s1", username=evil)
    acts.begin("s1", 1, f"select '{evil}'", detail={"parameters": [evil]})
    acts.respond("s1", 1, table([(evil, 25)], [evil]) + message("N", b"SNOTICE\0M" + evil.encode() + b"\0\0"))
    acts.end("s1", 1)
    acts.close("s1")
    await recorder.close()
    text = shown(path, width=300)
    assert not any(character in text for character in "\x1b\x07\u202e\x9b")
    assert "\\x1b[2J" in text
    assert "[bold]" in text


@given(st.text())
def test_visible_text_is_printable(text: str) -> None:
    assert all(unicodedata.category(character) not in HIDDEN for character in visible(text))


def test_numbers_for_people() -> None:
    times = (0.0000004, 0.00099999, 0.25, 12.5, 61, 3725)
    assert [duration(time) for time in times] == ["0 µs", "1.0 ms", "250.0 ms", "12.50 s", "1 min 01 s", "1 h 02 min"]
    sizes = (0, 1023, 1024, 5 << 20, 3 << 40)
    assert [bytes_text(size) for size in sizes] == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3072.0 GiB"]
