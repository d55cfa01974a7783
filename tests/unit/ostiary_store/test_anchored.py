"""Anchors as they are written, and in every form in which they are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_store.anchored import Anchored, line, noted, parse

HASH = "ab" * 32


def test_lines_are_read_back() -> None:
    seals = [Anchored(number, HASH, 1.5, "k", "00") for number in (1, 2)]
    text = "\n".join(line(seal).decode() for seal in seals)
    assert [(each.number, each.hash, each.at, each.key) for each in parse(text, "file")] == [
        (1, HASH, 1.5, "k"), (2, HASH, 1.5, "k")
    ]  # fmt: skip
    assert [each.source for each in parse(text, "file")] == ["file, line 1", "file, line 2"]


@pytest.mark.parametrize(
    "text", [f"3:{HASH}", f'{{"seal": 3, "hash": "{HASH}"}}', f'[{{"seal": 3, "hash": "{HASH}"}}]', f"\n 3:{HASH} \n\n"]
)
def test_a_seal_in_every_form(text: str) -> None:
    (found,) = parse(text, "given")
    assert str(found) == f"3:{HASH}"


@pytest.mark.parametrize("text", ["", "3", "3:ab", f"x:{HASH}", f"0:{HASH}", f"-1:{HASH}", "3:" + "zz" * 32])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="anchor"):
        noted(text)


@pytest.mark.parametrize(
    "text",
    ["[1]", '{"seal": 1}', '{"seal": 1, "ha', '[{"seal": "x", "hash": ""}]', '{"seal": 0, "hash": "' + HASH + '"}'],
)
def test_a_line_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="file"):
        list(parse(text, "file"))


@given(st.text(max_size=200))
def test_any_text_is_anchors_or_a_value_error(text: str) -> None:
    try:
        list(parse(text, "file"))
    except ValueError:
        pass
