"""The documented reasons are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary_operator import conditions_reference
from ostiary_operator.reconcile.reasons import REASONS

ROOT = Path(__file__).parents[3]


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert conditions_reference.main(["--check"]) == 0


def test_every_reason_is_in_the_tables() -> None:
    text = conditions_reference.tables()
    for each in REASONS:
        assert f"| {each.status} | `{each.reason}` | {each.meaning} | {each.todo} |" in text


def test_a_page_that_drifted_is_told_and_mended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / conditions_reference.PAGE
    page.write_text(f"# Page\n{conditions_reference.BEGIN}old\n{conditions_reference.END}rest\n")
    monkeypatch.chdir(tmp_path)
    assert conditions_reference.main(["--check"]) == 1
    assert "has drifted; run: python -m ostiary_operator.conditions_reference" in capsys.readouterr().err
    assert conditions_reference.main() == 0
    assert conditions_reference.main(["--check"]) == 0
    assert page.read_text().endswith("rest\n")
    page.write_text("# Page\n")
    with pytest.raises(ValueError, match="has no lines"):
        conditions_reference.main()
