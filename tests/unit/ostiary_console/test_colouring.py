"""Colours and marks: every character is there, escaped, whatever the text."""

from __future__ import annotations

import re
import time
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_console.shown.colouring import coloured, found_words
from ostiary_console.shown.words import visible

LANGUAGES = ["sql", "cel", "bash", "json", "yaml", ""]


def plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.mark.parametrize(
    ("text", "language", "html"),
    [
        ("select 1", "sql", '<span class="c-word">select</span> <span class="c-number">1</span>'),
        ("where a = 'it''s' -- no", "sql",
         '<span class="c-word">where</span> a = <span class="c-string">&#39;it&#39;</span>'
         '<span class="c-string">&#39;s&#39;</span> <span class="c-comment">-- no</span>'),
        ("$1::text", "sql", '<span class="c-param">$1</span>::text'),
        ('{"a": true}', "json",
         '{<span class="c-name">&#34;a&#34;</span>: <span class="c-word">true</span>}'),
        ("echo \"$HOME\" | cat", "bash",
         'echo <span class="c-string">&#34;$HOME&#34;</span> <span class="c-name">|</span> cat'),
        ("selected", "sql", "selected"),
    ],
)  # fmt: skip
def test_a_language_is_coloured(text: str, language: str, html: str) -> None:
    assert coloured(text, language) == html


@pytest.mark.parametrize("language", LANGUAGES)
def test_markup_in_a_text_stays_text(language: str) -> None:
    html = str(coloured("<script>alert('x')</script>\"><img src=x onerror=1>", language, found_words("script img")))
    assert "<script" not in html
    assert "<img" not in html
    assert set(re.findall(r"<(\w+)", html)) <= {"span", "mark"}


@given(st.text(alphabet="'\"<>&$-/*\\#{}: \nab1é\u202e\0", max_size=60), st.sampled_from(LANGUAGES))
def test_nothing_is_lost_and_all_is_escaped(text: str, language: str) -> None:
    html = str(coloured(text, language, found_words("a b1")))
    assert plain(html) == visible(text)
    assert not re.search(r"<(?!/?(span( class=\"c-[a-z]+\")?|mark)>)", html)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "text", ["'" * 20_000, '"\\' * 10_000, "/*" * 10_000, "$" * 20_000, "-" * 20_000, "a." * 10_000]
)
def test_a_hostile_text_takes_no_long_time(text: str, language: str) -> None:
    begun = time.perf_counter()
    coloured(text, language)
    assert time.perf_counter() - begun < 2


def test_characters_that_reorder_text_are_shown() -> None:
    assert coloured("a\u202eb") == "a\\u202eb"


def test_what_was_found_is_marked_within_colours() -> None:
    assert coloured("delete from Orders", "sql", found_words("orders delete")) == (
        '<mark><span class="c-word">delete</span></mark> <span class="c-word">from</span> <mark>Orders</mark>'
    )


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ("orders", "reorders ORDERS orders_old", ["ORDERS"]),
        ("order*", "orders reorder", ["order"]),
        ('"drop table"', "drop  table, table drop", ["drop  table"]),
        ("-secret rest", "secret rest", ["rest"]),
        ("public.orders", "public.orders", ["public", "orders"]),
    ],
)
def test_words_are_found_as_a_search_finds_them(query: str, text: str, found: list[str]) -> None:
    pattern = found_words(query)
    assert pattern is not None
    assert pattern.findall(text) == found


@pytest.mark.parametrize("query", ["", "  ", "-a", '""', "-", "*", "."])
def test_a_search_for_nothing_marks_nothing(query: str) -> None:
    assert found_words(query) is None
