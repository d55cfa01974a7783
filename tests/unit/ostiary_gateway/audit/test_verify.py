"""Every kind of edit to a record is found, and named."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from ostiary_gateway.audit import chain
from ostiary_gateway.audit.event import LoginRefused
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.sqlite import SqliteRecorder
from ostiary_gateway.audit.verify import Report, findings, verify

Playing = Callable[[SqliteRecorder], Any]


@pytest.fixture
async def record(path: Path, play: Playing) -> Path:
    """Three sessions of three requests each; the second has a response of several frames."""
    recorder = await SqliteRecorder.open(path)
    acts = play(recorder)
    for name in ("s1", "s2", "s3"):
        acts.open(name)
        for number in range(3):
            await acts.run(name, number + 1, f"select {number}", f"row {number} of {name}".encode())
        if name == "s2":
            acts.begin(name, 4)
            acts.respond(name, 4, os.urandom(600_000))
            acts.end(name, 4)
        acts.close(name)
    recorder.login_refused(LoginRefused("l1", 1.0, "prod/app", {}, "wrong token"))
    await recorder.close()
    assert verify(path).ok
    return path


def edit(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> Report:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        if isinstance(statement, str):
            connection.execute(statement)
        else:
            connection.execute(*statement)
    connection.close()
    report = verify(path)
    assert report.exit_status == 1
    return report


def said(report: Report) -> str:
    return "\n".join(str(finding) for finding in report.findings)


S2 = "(select sid from session where id = 's2')"


def test_a_changed_statement_is_named(record: Path) -> None:
    report = edit(
        record,
        "update event set body = cast(replace(cast(body as text), 'select 1', 'select 2') as blob) "
        f"where sid = {S2} and seq = 3",
    )
    assert said(report) == "s2, event 3: the begin event was changed: its content is not what was linked"


def test_a_removed_event_is_named(record: Path) -> None:
    report = edit(record, f"delete from event where sid = {S2} and seq = 4")
    assert "s2, event 5: event 4 before it removed, or moved" in said(report)


def test_a_removed_event_is_named_even_if_the_rest_is_renumbered(record: Path) -> None:
    report = edit(
        record,
        f"delete from event where sid = {S2} and seq = 4",
        f"delete from place where sid = {S2}",
        f"update event set seq = seq - 1 where sid = {S2} and seq > 4",
        f"insert into place select sid, seq, id from event where sid = {S2}",
    )
    assert "s2, event 4: the begin event was changed" in said(report)


def test_events_that_changed_places_are_named(record: Path) -> None:
    report = edit(
        record,
        f"update event set seq = 100 where sid = {S2} and seq = 3",
        f"update event set seq = 3 where sid = {S2} and seq = 5",
        f"update event set seq = 5 where sid = {S2} and seq = 100",
    )
    assert "s2, event 5" in said(report)


def test_events_whose_contents_were_swapped_are_named(record: Path) -> None:
    connection = sqlite3.connect(record)
    rows = dict(connection.execute(f"select seq, body from event where sid = {S2} and seq in (1, 3)").fetchall())
    connection.close()
    statement = f"update event set body = ? where sid = {S2} and seq = ?"
    report = edit(record, (statement, (rows[3], 1)), (statement, (rows[1], 3)))
    assert [(finding.session, finding.seq) for finding in report.findings] == [("s2", 1), ("s2", 3)]


def test_the_end_cut_off_is_named(record: Path) -> None:
    report = edit(record, f"delete from event where sid = {S2} and seq >= 5")
    assert "s2, event 5: events from here to" in said(report)


def test_a_removed_session_is_named(record: Path) -> None:
    report = edit(
        record,
        f"delete from event where sid = {S2}",
        f"delete from place where sid = {S2}",
        "delete from session where id = 's2'",
    )
    assert "s2: the session was removed; seal " in said(report)


def test_a_session_emptied_of_its_events_is_named(record: Path) -> None:
    report = edit(record, f"delete from event where sid = {S2}", f"delete from place where sid = {S2}")
    assert "s2: all of its events were removed" in said(report)


def test_a_forged_session_is_named(record: Path) -> None:
    body = orjson.dumps({"kind": "open", "at": 1.0, "session": "forged"})
    report = edit(
        record,
        ("insert into event (id, sid, seq, kind, body, hash) values (1000, 99, 0, 'open', ?, ?)", (body, b"x" * 32)),
    )
    assert "session number 99, event 0: its session was removed" in said(report)


def test_a_chain_written_anew_does_not_fit_the_seal(record: Path) -> None:
    """Whoever recomputes all links after an edit still lacks the signature."""
    connection = sqlite3.connect(record, isolation_level=None)
    head = chain.genesis("s2")
    for event, seq, body, digest in connection.execute(
        f"select id, seq, body, digest from event where sid = {S2} order by seq"
    ).fetchall():
        body = body.replace(b"select 1", b"select 9") if seq == 3 else body
        head = chain.link(head, body, digest or chain.NO_DIGEST)
        connection.execute("update event set body = ?, hash = ? where id = ?", (body, head, event))
    connection.close()
    report = verify(record)
    assert "the chain up to here was rewritten" in said(report)


def test_a_seal_with_another_signature_is_named(record: Path) -> None:
    report = edit(record, "update seal set signature = zeroblob(64) where number = 2")
    assert "seal 2 was changed: its signature is wrong" in said(report)


def test_a_changed_seal_is_named(record: Path) -> None:
    report = edit(
        record, "update seal set body = cast(replace(cast(body as text), 'closed', 'lost') as blob) where number = 2"
    )
    assert "seal 2 was changed" in said(report)
    assert "seal 3 does not follow the seal before it" in said(report)


def test_a_removed_seal_is_named(record: Path) -> None:
    report = edit(record, "delete from seal where number = 2")
    assert "seals are missing or in another order: seal 3 where 2 should be" in said(report)


def test_the_last_seals_cut_off_show_against_a_noted_one(record: Path) -> None:
    noted = verify(record).last_seal
    connection = sqlite3.connect(record, isolation_level=None)
    connection.execute("delete from seal where number = (select max(number) from seal)")
    connection.close()
    assert "was cut off or replaced" in said(verify(record, anchor=noted))


def test_a_noted_seal_that_is_there_is_no_finding(record: Path) -> None:
    assert verify(record, anchor=verify(record).last_seal).ok


@pytest.mark.parametrize("request_id", ["s2-2", "s2-4"])
def test_a_changed_response_is_named(record: Path, request_id: str) -> None:
    with Reader.open(record) as reader:
        (request,) = (r for r in reader.requests(reader.session("s2")) if r.id == request_id)
        pack = request.parts[0][0]
        raw = reader.packs.stored(pack)[1]
    changed = bytes([raw[0] ^ 1]) + raw[1:]
    report = edit(record, ("update pack set data = ?, codec = 0 where id = ?", (changed, pack)))
    assert "its response was changed" in said(report)
    assert {finding.session for finding in report.findings} <= {"s1", "s2", "s3"}


def test_a_damaged_response_is_named(record: Path) -> None:
    report = edit(record, "update pack set codec = 1, data = zeroblob(20) where id = 1")
    assert "its response was changed: pack 1 is damaged" in said(report)


def test_a_removed_response_is_named(record: Path) -> None:
    report = edit(record, f"delete from pack where id = (select pack from event where sid = {S2} and seq = 2)")
    assert "s2, event 2: its response was removed" in said(report)


def test_a_response_pointed_elsewhere_is_named(record: Path) -> None:
    report = edit(record, f"update event set pack = pack - 1 where sid = {S2} and seq = 4")
    assert "s2, event 4: its response was" in said(report)


def test_a_changed_decision_is_named(record: Path) -> None:
    report = edit(record, "update decision set body = cast(replace(cast(body as text), 'Allow', 'Deny') as blob)")
    assert "decision " in said(report)
    assert "was changed" in said(report)


def test_a_removed_decision_is_named(record: Path) -> None:
    assert "its decision " in said(edit(record, "delete from decision"))


@pytest.mark.parametrize(
    "change",
    ["username = 'someone'", "connection = 'x/y'", "opened = 1.0", "denied = 1", "requests = 2", "state = 'open'"],
)
def test_a_changed_list_entry_is_named(record: Path, change: str) -> None:
    report = edit(record, f"update session set {change} where id = 's2'")
    assert f"s2: its {change.split(maxsplit=1)[0]} in the list was changed" in said(report)


def test_a_session_under_another_id_is_named(record: Path) -> None:
    assert "s2: its id was changed to 'other'" in said(edit(record, "update session set id = 'other' where id = 's2'"))


def test_a_changed_kind_is_named(record: Path) -> None:
    report = edit(record, f"update event set kind = 'frame' where sid = {S2} and seq = 3")
    assert "s2, event 3: its kind was changed to frame; recorded was begin" in said(report)


def test_an_event_hidden_from_readers_is_found(record: Path) -> None:
    report = edit(record, f"delete from place where sid = {S2} and seq = 3")
    assert "the index of events was changed: 1 hidden" in said(report)


def test_rows_of_the_wrong_type_are_findings_not_crashes(record: Path) -> None:
    report = edit(record, f"update event set body = 'text', hash = 5, seq = 'x' where sid = {S2} and seq = 3")
    assert "its row is damaged" in said(report)


def test_another_key_signs_nothing(record: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_text("")
    assert "which is not among the public keys given" in said(verify(record, keys=other))


def test_a_copy_verifies_like_the_original(record: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("audit.db", "audit.pub"):
        shutil.copy(record.with_name(name), copy / name)
    assert verify(copy).ok


def test_a_damaged_file_is_a_finding(record: Path) -> None:
    content = bytearray(record.read_bytes())
    content[8192:24000] = os.urandom(24000 - 8192)
    record.write_bytes(content)
    assert not verify(record).ok


def test_the_findings_read_well(record: Path) -> None:
    lines = list(
        findings(edit(record, f"delete from pack where id = (select pack from event where sid = {S2} and seq = 2)"))
    )
    assert lines[0].startswith("4 sessions, ")
    assert lines[-1] == "1 findings: the record is not as it was written."


async def test_a_live_record_verifies_while_it_is_written(path: Path, recorder: SqliteRecorder, play: Playing) -> None:
    acts = play(recorder)
    acts.open("s1")
    for number in range(50):
        await acts.run("s1", number + 1, "select 1", b"row")
        if number % 10 == 0:
            assert verify(path).ok
