"""What somebody types into a search, and which texts fit it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_store.words import MOST_PARTS, Part, Words, parse


def test_every_word_must_occur_whatever_its_case() -> None:
    assert parse("Select  customers") == Words((Part(("select",)), Part(("customers",))))
    assert parse("Select customers").fits("SELECT * FROM Customers")
    assert not parse("select customer").fits("select * from customers")


def test_a_compound_stands_as_given() -> None:
    assert parse("card_number") == Words((Part(("card", "number"), False, "card_number"),))
    assert parse("card_number").fits("select card_number from cards")
    assert not parse("card_number").fits("select number from card")
    assert parse("/api/v1/pods").fits("get /api/v1/pods?limit=500")


def test_quotes_hold_words_together() -> None:
    search = parse('"DROP TABLE x"')
    assert search == Words((Part(("drop", "table", "x"), False, "drop table x"),))
    assert search.fits("begin; drop table x; commit")
    assert not search.fits("drop index x on table y")
    assert parse('"one"') == parse("one")


def test_minus_excludes_and_a_star_begins() -> None:
    assert parse("-secret cust*") == Words((Part(("cust",), True),), (Part(("secret",)),))
    assert parse("cust*").fits("select from customers")
    assert not parse("-secret cust*").fits("select secret from customers")
    assert parse('-"drop table" drop').fits("drop index x")
    assert not parse('-"drop table" drop').fits("drop table x")
    assert parse("app.cust*") == Words((Part(("app", "cust"), True, "app.cust"),))


def test_signs_around_a_word_are_not_looked_at() -> None:
    assert parse("(customers);") == parse("customers")
    assert parse("count(*)") == parse("count")


@pytest.mark.parametrize("nothing", ["", "   ", "*", '""', '"  "', "-", '-"', "\0"])
def test_what_cannot_be_searched_for_is_left_out(nothing: str) -> None:
    assert parse(nothing).fits('anything - at " all')


def test_signs_alone_are_looked_for_as_they_are() -> None:
    assert parse("<>").fits("where a <> b")
    assert not parse("<>").fits("where a = b")


def test_an_open_quote_goes_to_the_end() -> None:
    assert parse('select "from x') == Words((Part(("select",)), Part(("from", "x"), False, "from x")))


@given(st.text(max_size=200))
def test_no_text_is_too_strange(text: str) -> None:
    search = parse(text)
    assert len(search.parts) + len(search.excluded) <= MOST_PARTS
    search.fits(text)
    for part in (*search.parts, *search.excluded):
        assert part.words or part.phrase
        assert all(word.isalnum() or not word.isascii() for word in part.words)


@given(st.lists(st.text("abcXYZ019_", min_size=1, max_size=8).filter(lambda word: word.strip("_")), min_size=1))
def test_a_text_fits_each_of_its_own_words(words: list[str]) -> None:
    text = " ".join(words)
    assert all(parse(word).fits(text) for word in words)
    assert parse(f'"{text}"').fits(text)
