"""Any text: facts that hold to their schema, never an exception; and no spelling or wrapping makes a write a read."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import sqlgen
from support.evasions import EVASIONS
from support.fuzzing import Target

from ostiary_gateway.protocols.postgres.facts import parse
from ostiary_gateway.protocols.postgres.offline import sql_facts
from ostiary_policy.facts import SqlFacts
from ostiary_policy.guard import check_facts
from ostiary_policy.schema import FACTS, Fact

CORPUS = Path(__file__).parents[1] / "corpus"
LINES = [
    line
    for path in sorted(CORPUS.glob("*.sql"))
    for line in path.read_text("utf-8").splitlines()
    if line.strip() and not line.startswith("--")
]
PROFILE = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
_TYPES = {"string": str, "int": int, "bool": bool, "double": float, "timestamp": str}


def facts(text: str) -> SqlFacts:
    return sql_facts(text, database="app", user="agent")


def conforms(value: object, fact: Fact) -> None:
    """The value is what the declaration of the fact promises to policies."""
    values = value if fact.repeated and isinstance(value, list) else [value]
    assert not fact.repeated or isinstance(value, list), fact.path
    for each in values:
        if fact.shape == "object":
            assert isinstance(each, dict), fact.path
            assert each.keys() <= fact.fields.keys(), fact.path
            for name, below in fact.fields.items():
                if name in each:
                    conforms(each[name], below)
                else:
                    assert below.optional, below.path
        elif fact.shape in _TYPES:
            assert type(each) is _TYPES[fact.shape], f"{fact.path}: {each!r}"


def checked(text: str) -> SqlFacts:
    found = facts(text)
    check_facts({"sql": found})
    conforms(found, FACTS["sql"])
    for statement in found["statements"]:
        assert not (statement["readOnly"] and statement["writes"]), statement
        assert not (statement["readOnly"] and statement["opaque"]), statement
        assert bool(statement["opaqueReason"]) == statement["opaque"], statement
    return found


def read_only(text: str) -> bool:
    return all(statement["readOnly"] for statement in checked(text)["statements"])


def without_text(text: str) -> list[dict[str, object]]:
    found = checked(text)["statements"]
    return [{name: value for name, value in each.items() if name not in ("text", "opaqueReason")} for each in found]


def run(data: bytes) -> None:
    """Any bytes; what is no UTF-8 never comes so far."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    if "\0" in text:
        assert parse(text).error
        return
    checked(text)


TARGET = Target("facts", run, longest=2000)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(1500)


@settings(PROFILE, max_examples=300)
@given(st.sampled_from(LINES), st.data())
def test_what_is_written_in_another_case_and_with_other_blanks_is_the_same(text: str, data: st.DataObject) -> None:
    if not parse(text).error:
        assert without_text(data.draw(sqlgen.respelled(text))) == without_text(text)


@PROFILE
@given(st.data())
def test_a_generated_statement_is_the_same_in_any_spelling(data: st.DataObject) -> None:
    text = data.draw(sqlgen.ANY)
    assert without_text(data.draw(sqlgen.respelled(text))) == without_text(text)


@PROFILE
@given(sqlgen.queries())
def test_reads_are_read_only_in_brackets_too(text: str) -> None:
    assert read_only(text), text
    assert read_only(f"(({text}))")
    assert read_only(f"SELECT * FROM ({text}) AS s")


@PROFILE
@given(sqlgen.writes(), st.data())
def test_no_wrapping_makes_a_write_a_read(write: str, data: st.DataObject) -> None:
    assert not read_only(write)
    wrapped = data.draw(st.sampled_from(sqlgen.around(write)))
    assert not read_only(wrapped), wrapped
    again = data.draw(sqlgen.respelled(wrapped))
    assert not read_only(again), again


@PROFILE
@given(sqlgen.OTHER_WRITES, st.data())
def test_what_is_not_read_only_stays_so_behind_other_statements(text: str, data: st.DataObject) -> None:
    assert not read_only(text)
    assert not read_only(data.draw(sqlgen.respelled(f"SELECT 1; {text}")))


@PROFILE
@given(st.lists(sqlgen.ANY, max_size=5))
def test_statements_are_told_apart_as_they_were_put_together(texts: list[str]) -> None:
    found = checked(";\n".join(texts))["statements"]
    assert [each["text"] for each in found] == texts
    assert [each["fingerprint"] for each in found] == [facts(text)["statements"][0]["fingerprint"] for text in texts]


@PROFILE
@given(st.sampled_from([evasion.text for evasion in EVASIONS if not evasion.objects]), st.data())
def test_an_evasion_stays_one_in_any_spelling(text: str, data: st.DataObject) -> None:
    if parse(text).error:
        return
    assert without_text(data.draw(sqlgen.respelled(text))) == without_text(text)


SPELLINGS = Target("spellings", test_a_generated_statement_is_the_same_in_any_spelling.hypothesis.fuzz_one_input)
WRAPPINGS = Target("wrappings", test_no_wrapping_makes_a_write_a_read.hypothesis.fuzz_one_input)
