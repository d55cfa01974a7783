"""Syncs are shared by sessions that come together, and never wait for a session that comes alone."""

from __future__ import annotations

from ostiary_gateway.audit.pace import WINDOW, Pace


def test_one_session_alone_never_waits_for_others() -> None:
    pace, window = Pace(), 0
    for turn in range(10):
        window = pace.seen(window, 100.0 + turn * WINDOW / 3)
        assert pace.enough(1)


def test_of_many_sessions_a_third_is_enough() -> None:
    pace = Pace()
    for _ in range(12):
        pace.seen(0, 100.0)
    assert not pace.enough(3)
    assert pace.enough(4)


def test_who_was_there_in_the_window_before_still_counts_and_then_no_more() -> None:
    pace = Pace()
    for _ in range(12):
        pace.seen(0, 100.0)
    window = pace.seen(0, 100.0 + WINDOW)
    assert not pace.enough(1)
    pace.seen(window, 100.0 + 5 * WINDOW)
    assert pace.enough(1)
