"""Whatever both ends of a session do: what the gateway sends keeps to the protocol, and nothing undecided is sent."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.ssh_model import Model

STEPS = st.lists(st.tuples(st.integers(0, 24), st.integers(0, 255)), max_size=120)
LIKELY = st.lists(
    st.tuples(st.sampled_from([0, 0, 2, 2, 2, 4, 5, 8, 9, 9, 10, 11, 12, 15, 16, 17, 23, 23, 24]), st.integers(0, 255)),
    max_size=200,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_both_ends_do_the_protocol_is_kept(steps: list[tuple[int, int]]) -> None:
    Model(bytes(byte for step in steps for byte in step))


@settings(max_examples=150, deadline=None)
@given(LIKELY)
def test_the_same_where_programs_run(steps: list[tuple[int, int]]) -> None:
    Model(b"\x17\x02\x00\x20\x09\x20" + bytes(byte for step in steps for byte in step))
