"""When readiness is lost, and what it says."""

from __future__ import annotations

from ostiary_operator.pulse import Pulse


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_kind_must_have_been_listed() -> None:
    pulse = Pulse(["Connection"], Clock())
    assert pulse.stale(120.0) == {"Connection": "not listed yet"}
    pulse.hear("Connection")
    assert pulse.stale(120.0) == {"Connection": "not listed yet"}
    pulse.listed("Connection")
    assert pulse.stale(120.0) == {}


def test_a_kind_must_be_heard_of() -> None:
    clock = Clock()
    pulse = Pulse(["Connection", "Secret"], clock)
    pulse.listed("Connection")
    pulse.listed("Secret")
    clock.now += 100
    pulse.hear("Secret")
    clock.now += 30
    assert pulse.stale(120.0) == {"Connection": "not heard of for 130 s"}
    assert (pulse.age("Secret"), pulse.age("Connection")) == (30.0, 130.0)
    pulse.hear("Connection")
    assert pulse.stale(120.0) == {}


def test_it_says_what_the_trouble_is_until_the_kind_is_heard_of() -> None:
    pulse = Pulse(["Connection"], Clock())
    pulse.trouble("Connection", "connection refused")
    assert pulse.stale(120.0) == {"Connection": "not listed yet (connection refused)"}
    assert pulse.beats["Connection"].restarts == 1
    pulse.listed("Connection")
    assert pulse.beats["Connection"].problem == ""
