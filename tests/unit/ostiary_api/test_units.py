"""Durations and sizes: text to numbers and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_api.units import format_age, format_duration, format_quantity, parse_age, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15m", 900), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), ("0s", 0), ("1m1s1ms", 61.001), ("90s", 90)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "15", "15 m", "-1s", "1d", "m", "1h 30m", "1e3s", "１s", "1s\n", "9" * 40 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_duration(text)


@given(st.integers(0, 10**9))
def test_a_duration_written_back_is_the_same(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@pytest.mark.parametrize(
    ("text", "count"), [("0", 0), ("1Mi", 2**20), ("64Ki", 65536), ("1k", 1000), ("2G", 2 * 10**9), ("1Ti", 2**40)]
)
def test_sizes_are_bytes(text: str, count: int) -> None:
    assert parse_quantity(text) == count


@pytest.mark.parametrize("text", ["", "1MB", "1.5Mi", "-1", "Mi", "1 Mi", "1mi", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_quantity(text)


@given(st.integers(0, 2**45))
def test_a_size_written_back_is_the_same(count: int) -> None:
    assert parse_quantity(format_quantity(count)) == count


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 7_776_000), ("12h", 43_200), ("30m", 1800), ("99999d", 8639913600)]
)
def test_ages_are_seconds(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "0d", "1w", "-1d", "1.5d", "1 d", "100000d", "1d\n", "９d", "1h30m"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_age(text)


@given(st.integers(1, 99_999), st.sampled_from("mhd"))
def test_an_age_written_back_is_the_same(number: int, unit: str) -> None:
    seconds = parse_age(f"{number}{unit}")
    assert parse_age(format_age(seconds)) == seconds
