"""Texts of one key differ in literals and in nothing else; where those are mere values, their facts are the same."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgast import PgQueryError, scan
from support import sqlgen
from support.fuzzing import Target, read_words

from ostiary_gateway.protocols.postgres.facts_parse import Json, Unparsable, parse_statements
from ostiary_gateway.protocols.postgres.folding import fold, literals
from ostiary_gateway.protocols.postgres.literal_places import mere_values
from ostiary_gateway.protocols.postgres.offline import sql_facts

CORPUS = Path(__file__).parents[1] / "corpus"
LINES = [
    line
    for path in sorted(CORPUS.glob("*.sql"))
    for line in path.read_text("utf-8").splitlines()
    if line.strip() and not line.startswith("--")
]
STRINGS = (
    b"''", b"'x'", b"'it''s'", b"'public.t'", b"'a\nb'", b"'-- no comment'", b"'/*'", b"'$$'", b"'\xc3\xa4'",
    b"'1'",
)  # fmt: skip
INTEGERS = (b"0", b"1", b"2", b"7", b"42", b"999999999", b"007")
PROFILE = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def unfolded(key: bytes, choices: bytes) -> bytes:
    """A text of this key, with literals by these choices."""
    pieces = key.split(b"\0")
    text = pieces[0]
    for number, piece in enumerate(pieces[1:]):
        choice = choices[number % len(choices)] if choices else 0
        text += STRINGS[choice % len(STRINGS)] if piece[:1] == b"s" else INTEGERS[choice % len(INTEGERS)]
        text += piece[1:]
    return text


def tokens(text: bytes) -> list[tuple[int, bytes]] | None:
    """Kinds, and the words of all but strings and integers; None if PostgreSQL's scanner refuses the text."""
    try:
        found = scan(text.decode()).tokens
    except (PgQueryError, UnicodeDecodeError):
        return None
    return [(t.token, b"" if t.token in _VALUES else text[t.start : t.end]) for t in found]


_VALUES = frozenset(token.token for token in scan("'x' 1 1e-2").tokens)
"""Strings and numbers: of 1e-2 the exponent is folded, for it looks like an integer behind a minus."""


def shape(node: Json) -> Json:
    """A parse tree without places and the values of strings and integers."""
    if isinstance(node, list):
        return [shape(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() & {"ival", "sval"} and "location" in node:
        return "integer" if "ival" in node else "string"
    return {name: shape(value) for name, value in node.items() if not name.endswith(("location", "_start", "_end"))}


def trees(text: bytes) -> Json:
    try:
        return [[each.type, shape(each.tree)] for each in parse_statements(text.decode())]
    except (Unparsable, UnicodeDecodeError):
        return None


def facts(text: bytes) -> list[dict[str, object]]:
    found = sql_facts(text.decode(), database="app", user="agent")["statements"]
    return [{name: value for name, value in each.items() if name != "text"} for each in found]


def check(text: bytes, choices: bytes) -> bool:
    """True if the text has literals that may be any."""
    key = fold(text)
    if key is text:
        return False
    assert b"\0" in key
    assert b"\0" not in text
    found, places = literals(text)
    assert found == key
    assert len(places) == key.count(b"\0")
    other = unfolded(key, choices)
    if fold(other) != key:
        return False  # two literals stand together, and these two are one
    assert tokens(other) == tokens(text), f"{other!r} is read otherwise"
    if not mere_values(text):
        return False
    assert mere_values(other), f"{other!r}: the literals are more than values"
    assert trees(other) == trees(text), f"{other!r} is another statement"
    assert facts(other) == facts(text), f"{other!r} does something else"
    return True


def run(data: bytes) -> bytes:
    """The first byte tells how many bytes choose literals; the rest is a text."""
    if len(data) < 2 or 0 in data[1 + data[0] % 8 :]:
        return b""
    choices, text = data[1 : 1 + data[0] % 8], data[1 + data[0] % 8 :]
    try:
        text.decode()
    except UnicodeDecodeError:
        return b""
    check(text, choices)
    return fold(text)


TARGET = Target("folding", run, longest=600)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(6000)


@PROFILE
@given(st.sampled_from(LINES), st.binary(max_size=8))
def test_the_literals_of_real_statements(line: str, choices: bytes) -> None:
    check(line.encode(), choices)


@PROFILE
@given(sqlgen.queries() | sqlgen.writes(), st.binary(min_size=1, max_size=8))
def test_the_literals_of_generated_statements(text: str, choices: bytes) -> None:
    check(text.encode(), choices)


WORDS = st.sampled_from(
    [*(word.decode() for word in read_words(TARGET.words)), "a", "b1", "$", "_", "&", "'", '"', "0", "9" * 9]
)


@PROFILE
@given(st.lists(WORDS, max_size=14), st.binary(max_size=8))
def test_any_words(words: list[str], choices: bytes) -> None:
    check("".join(words).encode(), choices)
    check(" ".join(words).encode(), choices)


def test_most_queries_with_literals_have_keys_for_any() -> None:
    """Else the tests above would look at nothing."""
    plain = [line for line in LINES if line.startswith("SELECT") and "'" in line]
    assert sum(check(line.encode(), b"\1\2\3") for line in plain) > 20


LITERALS = Target("literals", test_the_literals_of_generated_statements.hypothesis.fuzz_one_input)
