"""Seals, heads and proofs: what is written is read back, and what was changed does not fit any more."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.batches import Hand

from ostiary_store.model import Expiry, SessionRow
from ostiary_store.sealed import (
    ExpiryDigest,
    Head,
    Prover,
    RecordHead,
    Seal,
    heads_digest,
    pack_heads,
    parse_heads,
    parse_seal,
    raw_heads,
    row_digest,
)
from ostiary_store.signing import StoreKey


def row() -> SessionRow:
    hand = Hand()
    hand.open("s1", retention={"record": 86400.0})
    hand.whole("s1", 1)
    hand.close("s1")
    return hand.batch().opened[0]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "s2"}, {"opened": 1.0}, {"closed": None}, {"state": "lost"}, {"connection": "a/b"}, {"username": "eve"},
        {"protocol": "SSH"}, {"recording": "None"}, {"requests": 7}, {"denied": 7}, {"asked": 7}, {"errors": 7},
        {"rows": 7}, {"bytes": 7}, {"events": 7}, {"head": bytes(32)}, {"record": bytes(16)}, {"sid": 7},
        {"retention": {"record": 1.0}},
    ],
)  # fmt: skip
def test_a_proof_is_of_one_row(change: dict[str, object]) -> None:
    prover, there = Prover(b"secret"), row()
    proven = replace(there, proof=prover.prove(there))
    assert prover.holds(proven)
    assert not prover.holds(replace(proven, **change))  # type: ignore[arg-type]
    assert row_digest(there) != row_digest(replace(there, **change))  # type: ignore[arg-type]


def test_a_proof_of_a_key_that_was_in_use_before_counts() -> None:
    there = row()
    old = replace(there, proof=Prover(b"old").prove(there))
    assert not Prover(b"new").holds(old)
    assert Prover(b"new", [b"old"]).holds(old)


def test_a_row_without_a_proof_is_not_believed() -> None:
    assert not Prover(b"secret").holds(row())


_TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
_NUMBER = st.integers(0, 2**53)
_SECONDS = st.none() | st.floats(0, 1e10)
_HEADS = st.lists(
    st.builds(
        Head, _TEXT, _TEXT, _NUMBER, st.floats(0, 1e10), _SECONDS, _SECONDS, _SECONDS, _NUMBER, _TEXT, _TEXT
    )
    | st.builds(RecordHead, _TEXT, _TEXT, _NUMBER, _NUMBER, _TEXT, st.lists(_TEXT, max_size=3).map(tuple)),
    max_size=20,
)  # fmt: skip


@given(_HEADS)
def test_heads_are_read_back(heads: list[Head | RecordHead]) -> None:
    count, digest, stored = pack_heads(heads)
    raw = raw_heads(stored)
    assert (count, digest) == (len(heads), heads_digest(raw))
    assert list(parse_heads(raw)) == heads


@given(st.binary(max_size=200))
def test_what_are_no_heads_is_a_value_error(data: bytes) -> None:
    for read in (lambda: raw_heads(data), lambda: list(parse_heads(data)), lambda: parse_seal(data)):
        try:
            read()
        except ValueError:
            pass


def test_a_seal_is_read_back() -> None:
    expiry = Expiry("record", 86400, 3, b"\1" * 32, 100.0, 50.0, math.inf, 99.5)
    seal = Seal(7, 1.5, "k", "AAAA", "00" * 32, 2, "ab", ("s1",), ("something",), (expiry,), 3, 86400, 5)
    assert parse_seal(seal.body()) == seal
    plain = Seal(1, 1.5, "k", "AAAA", "00" * 32)
    assert parse_seal(plain.body()) == plain
    assert b"expired" not in plain.body()


def test_what_expires_is_told_by_ids_and_heads() -> None:
    one, other = ExpiryDigest(), ExpiryDigest()
    one.add("s1", b"\1")
    other.add("s1\1", b"")
    assert one.digest() != other.digest()


def test_a_key_is_made_once_and_belongs_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "store.key"
    with pytest.raises(ValueError, match="ostiary store key"):
        StoreKey.load(path)
    key = StoreKey.load(path, create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".pub").read_text().strip() == key.line
    again = StoreKey.load(path, create=True)
    assert again.id == key.id
    there = row()
    assert again.prover().holds(replace(there, proof=key.prover().prove(there)))
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        StoreKey.load(path)
    path.chmod(0o440)  # as a Secret is mounted for the pod's group
    assert StoreKey.load(path).id == key.id
    path.chmod(0o600)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="not a private key"):
        StoreKey.load(path)
