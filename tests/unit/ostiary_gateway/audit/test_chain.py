"""The chain: any difference in what was linked is a difference in the link."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.audit import chain


@given(st.binary(max_size=80), st.lists(st.binary(max_size=40), max_size=4), st.data())
def test_a_changed_byte_changes_the_link(header: bytes, body: list[bytes], data: st.DataObject) -> None:
    whole = header + b"".join(body)
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        other = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert chain.link(header, *body) != chain.link(other)
    assert chain.link(header, *body) == chain.link(whole)


@given(st.integers(1, 2**31), st.floats(0, 1e10), st.integers(0, 2**40), st.binary(min_size=32, max_size=32))
def test_a_seal_is_read_back_as_it_was_made(number: int, at: float, block: int, head: bytes) -> None:
    seal = chain.seal(number, at, block, head, "key")
    assert chain.parse_seal(seal.body) == seal


@given(st.binary())
def test_garbage_is_no_seal(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        chain.parse_seal(body)
