from __future__ import annotations

from pathlib import Path

import pytest

from ostiary_policy import facts_reference
from ostiary_policy.facts import PROTOCOL_VARIABLE
from ostiary_policy.schema import BY_PATH, COSTLY, FACTS, OPTIONAL

ROOT = Path(__file__).parents[3]


def test_every_fact_is_documented() -> None:
    undocumented = [p for p, fact in BY_PATH.items() if not (fact.summary if fact.shape == "object" else fact.doc.text)]
    assert not undocumented


def test_costly_facts_may_be_absent() -> None:
    objects = {"k8s.object", "k8s.oldObject", "k8s.oldObjects", "k8s.affected"}
    assert {"sql.estimatedRows", "ssh.realPath", "ssh.realTarget", *objects} == COSTLY
    assert COSTLY <= OPTIONAL


def test_every_protocol_has_its_variable() -> None:
    assert set(FACTS) == {"request", *PROTOCOL_VARIABLE.values()}


def test_types_are_those_of_cel() -> None:
    assert BY_PATH["request.time"].cel == "timestamp"
    assert BY_PATH["sql.statements"].cel == "list(Statement)"
    assert BY_PATH["request.subject.claims"].cel == "map(string, dyn)"
    assert BY_PATH["sql.params"].cel == "list(dyn)"
    assert BY_PATH["sql.statements.relations.columns"].cel == "list(string)"


def test_the_reference_page_has_not_drifted() -> None:
    assert facts_reference.main([str(ROOT / "docs" / "facts.md"), "--check"]) == 0


def test_a_drifted_page_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "facts.md"
    assert facts_reference.main([str(page), "--check"]) == 1
    assert facts_reference.main([str(page)]) == 0
    assert facts_reference.main([str(page), "--check"]) == 0
    page.write_text(page.read_text(encoding="utf-8") + "more", encoding="utf-8")
    assert facts_reference.main([str(page), "--check"]) == 1
    assert "run: python -m ostiary_policy.facts_reference" in capsys.readouterr().err
