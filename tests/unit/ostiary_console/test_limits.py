"""How often somebody may try, and how many things may go on."""

from __future__ import annotations

import pytest

from ostiary_console.limits import Attempts, Full, Places
from ostiary_console.links import GOOD_FOR, Links


def test_tries_come_back_with_time() -> None:
    now = [0.0]
    attempts = Attempts(3, 6, clock=lambda: now[0])
    assert [attempts.take("a") for _ in range(4)] == [0, 0, 0, 10]
    assert attempts.take("b") == 0, "another address"
    now[0] += 10
    assert [attempts.take("a") > 0 for _ in range(2)] == [False, True]


def test_many_addresses_have_no_more_than_all_may() -> None:
    attempts = Attempts(3, 6, 4, clock=lambda: 0.0)
    assert sum(attempts.take(f"10.0.0.{number}") == 0 for number in range(50)) == 12


def test_places_are_of_one_and_of_all() -> None:
    places = Places(3, 2)
    with places.place("ann"), places.place("ann"):
        with pytest.raises(Full), places.place("ann"):
            pass
        with places.place("bob"), pytest.raises(Full), places.place("carol"):
            pass
    assert places.taken == 0


def test_a_link_is_good_once_and_for_minutes() -> None:
    now = [0.0]
    links = Links(lambda: now[0])
    one, two = links.make(), links.make()
    assert [links.use(one), links.use(one), links.use("made-up")] == [True, False, False]
    now[0] += GOOD_FOR
    assert not links.use(two)
