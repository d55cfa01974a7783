"""Values for browsers: nobody else reads or makes them, and keys can be changed."""

from __future__ import annotations

import pytest

from ostiary_console.seals import Seal

OLD, NEW = b"o" * 32, b"n" * 40


def test_what_was_sealed_opens_for_its_purpose_only() -> None:
    seal = Seal([OLD])
    sealed = seal.seal("session", {"name": "ann", "groups": ["dba"]})
    assert seal.open("session", sealed) == {"name": "ann", "groups": ["dba"]}
    assert seal.open("signin", sealed) is None
    assert "ann" not in sealed
    assert sealed != seal.seal("session", {"name": "ann", "groups": ["dba"]})


def test_keys_are_changed_without_signing_anybody_out() -> None:
    before, between, after = Seal([OLD]), Seal([NEW, OLD]), Seal([NEW])
    sealed = before.seal("session", {"name": "ann"})
    assert between.open("session", sealed) == {"name": "ann"}
    assert after.open("session", sealed) is None
    assert after.open("session", between.seal("session", {"name": "ann"})) == {"name": "ann"}


@pytest.mark.parametrize("text", ["", "A", "====", "é", "A" * 5000, "\x00"])
def test_what_was_not_sealed_here_does_not_open(text: str) -> None:
    assert Seal([OLD]).open("session", text) is None


def test_a_short_key_is_refused() -> None:
    for keys in ([], [b"short"], [OLD, b""]):
        with pytest.raises(ValueError, match="32 bytes"):
            Seal(keys)
