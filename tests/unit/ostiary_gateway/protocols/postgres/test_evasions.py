"""Whatever hides a DELETE or a DROP in a text is seen, or conceded as opaque."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ostiary_gateway.protocols.postgres.catalog import Catalog, Wanted
from ostiary_gateway.protocols.postgres.facts import Analysis, Scope, parse, resolve
from ostiary_policy.facts import StatementFacts

sys.path.insert(0, str(Path(__file__).parents[4]))

from support.evasions import EVASIONS, Evasion

TEXTS = [evasion for evasion in EVASIONS if not evasion.objects]


def shows(facts: StatementFacts) -> bool:
    """True if the policy can see that something is written, or that it cannot be known."""
    touches = any(relation["access"] != "read" for relation in facts["relations"])
    return facts["opaque"] or (facts["writes"] and (touches or facts["verb"] in ("DROP", "SELECT", "CALL", "COPY")))


@pytest.mark.parametrize("evasion", TEXTS, ids=lambda evasion: evasion.name)
def test_a_text_cannot_hide_that_it_writes(evasion: Evasion) -> None:
    analysis = resolve(parse(evasion.text), Catalog.offline(), Scope(("public",), "agent", "evasions"))
    assert isinstance(analysis, Analysis)
    assert not all(statement.facts["readOnly"] for statement in analysis.statements)
    seen = [statement for statement in analysis.statements if shows(statement.facts)]
    refused = [statement for statement in analysis.statements if statement.effects.pinned]
    if evasion.name not in NO_WRITE:
        assert seen or refused


NO_WRITE = frozenset(("terminate others",))
"""These write nothing that the text shows: they are not readOnly, and name what they call or set."""


def test_what_is_not_known_yet_is_asked_for_and_not_guessed() -> None:
    parsed = parse("SELECT wipe()")
    assert isinstance(resolve(parsed, Catalog(180000), Scope(("public",), "agent", "evasions")), Wanted)


def test_there_are_enough_of_them() -> None:
    assert len(EVASIONS) >= 100
    assert len({evasion.name for evasion in EVASIONS}) == len(EVASIONS)
