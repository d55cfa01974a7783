"""The chain: any difference in what was linked is a difference in the head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.audit import chain

bodies = st.lists(st.binary(max_size=40), min_size=1, max_size=8)


def head(session: str, events: list[bytes]) -> bytes:
    link = chain.genesis(session)
    for body in events:
        link = chain.link(link, body)
    return link


@given(bodies, st.data())
def test_a_changed_event_changes_the_head(events: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(events) - 1))
    other = data.draw(st.binary(max_size=40).filter(lambda body: body != events[index]))
    assert head("s", events) != head("s", [*events[:index], other, *events[index + 1 :]])


@given(bodies, st.data())
def test_a_removed_event_changes_the_head(events: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(events) - 1))
    assert head("s", events) != head("s", events[:index] + events[index + 1 :])


@given(bodies, st.randoms())
def test_another_order_changes_the_head(events: list[bytes], random: object) -> None:
    other = sorted(events)
    assert (head("s", events) == head("s", other)) == (events == other)


@given(st.text(), st.text(), bodies)
def test_two_sessions_have_two_chains(one: str, other: str, events: list[bytes]) -> None:
    assert (head(one, events) == head(other, events)) == (one == other)


@given(st.binary(max_size=80), st.binary(min_size=32, max_size=32))
def test_a_response_cannot_be_taken_for_a_part_of_the_event(body: bytes, digest: bytes) -> None:
    start = chain.genesis("s")
    if digest != chain.NO_DIGEST:
        assert chain.link(start, body, digest) != chain.link(start, body)
        assert chain.link(start, digest + body) != chain.link(start, body, digest)


@given(
    st.integers(1, 2**31),
    st.floats(0, 1e10),
    st.lists(
        st.builds(
            chain.Head,
            st.integers(1, 2**40),
            st.text(),
            st.integers(0, 2**40),
            st.binary(min_size=32, max_size=32),
            st.sampled_from(["open", "closed", "lost"]),
        ),
        max_size=5,
    ),
)
def test_a_seal_is_read_back_as_it_was_made(number: int, at: float, heads: list[chain.Head]) -> None:
    seal = chain.seal(number, at, chain.FIRST_SEAL, "key", heads)
    assert chain.parse_seal(seal.body) == seal


@given(st.binary())
def test_garbage_is_no_seal(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        chain.parse_seal(body)
