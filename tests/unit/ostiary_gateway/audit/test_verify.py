"""Every kind of edit to a record is found, and named."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.forgery import Forgery

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.event import LoginRefused
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.verify import Report, findings, verify

Playing = Callable[[FileRecorder], Any]


@pytest.fixture
async def record(path: Path, play: Playing) -> Path:
    """Three sessions of three requests each; the second has a response of several frames."""
    recorder = await FileRecorder.open(path)
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


def said(report: Report) -> str:
    assert report.exit_status == 1
    return "\n".join(str(finding) for finding in report.findings)


def edited(path: Path, *statements: str) -> str:
    """What `verify` says after somebody has changed the index."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return said(verify(path))


def sealed(forgery: Forgery) -> list[int]:
    return [at for at, forged in enumerate(forgery.blocks) if forged.block.kind == layout.SEAL]


def test_a_changed_statement_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forgery.change("s2", 3, b"select 1", b"select 2")
    forgery.save()
    assert said(verify(record)) == "s2, event 3: the begin event was changed: its content is not what was written"


def test_a_changed_statement_is_named_where_the_index_has_not_come_yet(record: Path) -> None:
    forgery = Forgery(record)
    forgery.change("s2", 3, b"select 1", b"select 2")
    forgery.save()
    told = edited(record, "delete from indexed")
    assert "s2, event 3: the begin event was changed: its content is not what was written" in told
    assert "damaged from byte" not in told


def test_a_changed_statement_shows_even_if_its_checksum_fits(record: Path) -> None:
    forgery = Forgery(record)
    forgery.change("s2", 3, b"select 1", b"select 2", crc=True)
    forgery.save()
    (finding,) = said(verify(record)).splitlines()
    assert "of s2" in finding
    assert "was changed: its content is not what was linked" in finding


def test_a_changed_response_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forgery.change("s2", 4, b"row 1 of s2", b"row 9 of s2")
    forgery.save()
    assert said(verify(record)) == "s2, event 4: the end event was changed: its content is not what was written"


def test_a_removed_event_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forgery.remove("s2", 3)
    forgery.save(relink=True)
    text = said(verify(record))
    assert "s2, event 4: event 3 before it removed, or moved" in text
    assert "was rewritten: it is not what seal 1 signed" in text


def test_events_that_changed_places_are_named(record: Path) -> None:
    forgery = Forgery(record)
    forgery.swap("s3", 4)
    forgery.save()
    assert "of s3" in said(verify(record))


def test_a_removed_block_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forged, _ = forgery.event("s2", 3)
    forgery.blocks.remove(forged)
    forgery.save()
    text = said(verify(record))
    number = forged.block.number
    assert f"block {number + 1} stands where block {number} should be: block {number} before it removed" in text
    assert "s2, event 4: events 2 to 3 before it removed, or moved" in text


def test_blocks_that_changed_places_are_named(record: Path) -> None:
    forgery = Forgery(record)
    forgery.blocks[2], forgery.blocks[3] = forgery.blocks[3], forgery.blocks[2]
    forgery.save()
    assert "block 3 stands where block 2 should be" in said(verify(record))


def test_the_end_cut_off_is_named(record: Path) -> None:
    log = record.with_suffix(".log")
    log.write_bytes(log.read_bytes()[:-300])
    assert "and its index goes to" in said(verify(record))


def test_a_removed_session_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forgery.drop("s2")
    forgery.save(relink=True)
    text = edited(record, "delete from span where sid = 3", "delete from session where id = 's2'")
    assert "was rewritten: it is not what seal 1 signed" in text


def test_a_session_emptied_of_its_events_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forgery.drop("s2")
    forgery.save(relink=True)
    assert "s2: all of its events were removed" in said(verify(record))


def test_a_chain_written_anew_does_not_fit_the_seal(record: Path) -> None:
    """Whoever recomputes all links after an edit still lacks the signature."""
    forgery = Forgery(record)
    forgery.change("s2", 3, b"select 1", b"select 9", crc=True)
    forgery.save(relink=True)
    (finding,) = said(verify(record)).splitlines()
    assert "was rewritten: it is not what seal 1 signed" in finding


def test_a_seal_with_another_signature_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forged = forgery.blocks[sealed(forgery)[0]]
    forged.write(bytes(64) + forged.raw[64:])
    forgery.save(relink=True)
    assert said(verify(record)) == "the record: seal 1 was changed: its signature is wrong"


def test_a_changed_seal_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forged = forgery.blocks[sealed(forgery)[0]]
    forged.write(forged.raw.replace(b'"seal":1', b'"seal":7'))
    forgery.save(relink=True)
    text = said(verify(record))
    assert "seals are missing or in another order: seal 7 where 1 should be" in text
    assert "seal 7 was changed: its signature is wrong" in text


def test_a_removed_seal_is_named(record: Path) -> None:
    forgery = Forgery(record)
    del forgery.blocks[sealed(forgery)[0]]
    forgery.save(relink=True)
    text = said(verify(record, anchor="1:00"))
    assert "the noted seal 1:00 is not there" in text


def test_the_last_seals_cut_off_show_against_a_noted_one(record: Path) -> None:
    noted = verify(record).last_seal
    forgery = Forgery(record)
    del forgery.blocks[-1]
    forgery.save()
    assert "was cut off or replaced" in said(verify(record, anchor=noted))


def test_a_noted_seal_that_is_there_is_no_finding(record: Path) -> None:
    assert verify(record, anchor=verify(record).last_seal).ok


def test_a_changed_part_of_a_long_response_is_named(record: Path) -> None:
    forgery = Forgery(record)
    (*_, forged) = (each for each in forgery.blocks if each.block.kind == layout.PART)
    at = layout.PART_HEAD.size + 1000
    forged.stored = forged.stored[:at] + bytes([forged.stored[at] ^ 1]) + forged.stored[at + 1 :]
    forgery.save()
    assert "the response of request 4 was changed" in said(verify(record))


def test_a_damaged_block_is_named(record: Path) -> None:
    forgery = Forgery(record)
    forged, _ = forgery.event("s2", 3)
    forged.block = forged.block._replace(codec=layout.ZSTD)
    forged.stored = bytes(len(forged.stored))
    forgery.save()
    text = said(verify(record))
    assert "perhaps of s2" in text
    assert "was changed: block" in text


def test_a_damaged_header_loses_one_block_not_the_rest(record: Path) -> None:
    forgery = Forgery(record)
    forged, _ = forgery.event("s2", 3)
    log = record.with_suffix(".log")
    content = bytearray(log.read_bytes())
    content[forged.block.position] ^= 1
    log.write_bytes(content)
    report = verify(record)
    assert f"damaged from byte {forged.block.position} to {forged.block.end}" in said(report)
    assert report.sessions == 4


def test_a_changed_decision_is_named(record: Path) -> None:
    text = edited(record, "update decision set body = cast(replace(cast(body as text), 'Allow', 'Deny') as blob)")
    assert "was changed in the index" in text


def test_a_removed_decision_is_named(record: Path) -> None:
    assert "was removed from the index" in edited(record, "delete from decision")


@pytest.mark.parametrize(
    "change",
    [
        *("username = 'someone'", "connection = 'x/y'", "opened = 1.0", "denied = 1", "requests = 2"),
        *("state = 'open'", "rows = 9", "id = 'other'"),
    ],
)
def test_a_changed_list_entry_is_named(record: Path, change: str) -> None:
    text = edited(record, f"update session set {change} where id = 's2'")
    assert f"s2: its {change.split(maxsplit=1)[0]} in the list was changed" in text


def test_an_event_hidden_from_readers_is_found(record: Path) -> None:
    text = edited(record, "delete from span where sid = (select sid from session where id = 's2')")
    assert "s2, event 0: the index was changed: readers would not find this event" in text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(record: Path, data: st.DataObject) -> None:
    log = record.with_suffix(".log")
    content = log.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))
    log.write_bytes(changed)
    try:
        if at < 16:  # the file's own magic
            with pytest.raises(ValueError, match="not a record"):
                verify(record)
        else:
            assert not verify(record).ok
    finally:
        log.write_bytes(content)


def test_another_key_signs_nothing(record: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_text("")
    assert "which is not among the public keys given" in said(verify(record, keys=other))


def test_a_copy_verifies_like_the_original(record: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("audit.db", "audit.log", "audit.pub"):
        shutil.copy(record.with_name(name), copy / name)
    assert verify(copy).ok


def test_a_damaged_index_is_a_finding(record: Path) -> None:
    content = bytearray(record.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    record.write_bytes(content)
    assert not verify(record).ok


def test_the_findings_read_well(record: Path) -> None:
    forgery = Forgery(record)
    forgery.change("s2", 3, b"select 1", b"select 2")
    forgery.save()
    lines = list(findings(verify(record)))
    assert lines[0].startswith("4 sessions, ")
    assert lines[-1] == "1 finding: the record is not as it was written."


async def test_a_live_record_verifies_while_it_is_written(path: Path, recorder: FileRecorder, play: Playing) -> None:
    acts = play(recorder)
    acts.open("s1")
    for number in range(50):
        await acts.run("s1", number + 1, "select 1", b"row")
        if number % 10 == 0:
            assert verify(path).ok
