"""Which columns of a result are withheld though they are none of the masked ones: they may carry what those hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ostiary_policy.masking import Strategy, stronger

from .facts import Scope, Statement
from .lineage import UNKNOWN, Lineage
from .origins import Origins
from .rows import Field

TextOf = Callable[[Statement], str | None]
"""The text that a statement runs: its own, or what was prepared or declared under its name. None: not known."""


class Withholding:
    """For one request. `report` takes the columns that detectors hit."""

    __slots__ = ("_origins", "_report", "_scope", "_statements", "_text_of")

    def __init__(
        self,
        origins: Origins | None,
        statements: Sequence[Statement],
        scope: Scope,
        text_of: TextOf,
        report: Callable[[int, int], None],
    ) -> None:
        self._origins = origins
        self._statements = statements
        self._scope = scope
        self._text_of = text_of
        self._report = report

    def __call__(self, index: int, fields: tuple[Field, ...]) -> Mapping[int, Strategy]:
        """Strategy by index of the result's column, for the statement of this index."""
        origins, statements = self._origins, self._statements
        if origins is None:
            return {}
        withheld: dict[int, Strategy] = {}
        if origins.targets:
            # What an earlier statement of the same transaction makes is not in the catalog yet.
            made = self._scope.rebound or any(s.effects.ddl or s.effects.rebinds for s in statements[:index])
            known = index < len(statements) and not made
            withheld = (self.lineage(origins, statements[index]) if known else UNKNOWN).withheld(fields)
        if origins.marked and index < len(statements):
            text = self._text_of(statements[index])
            if text is not None:
                for column, strategy in origins.derived_from_marked(text, self._scope, fields).items():
                    withheld[column] = stronger(withheld.get(column, strategy), strategy)
        return withheld

    def found(self, table_oid: int, attnum: int) -> None:
        """A detector hit a value of this column."""
        self._report(table_oid, attnum)

    def lineage(self, origins: Origins, statement: Statement) -> Lineage:
        """How the masked columns come out of one statement. EXECUTE and FETCH give what came before."""
        text = self._text_of(statement)
        scope = statement.scope or self._scope
        if text is None or not statement.facts["verb"] or scope.rebound:
            return UNKNOWN
        return origins.lineage(text, scope)

    def copies(self, origins: Origins, statement: Statement) -> bool:
        """True if masked values may go where no mask follows. What a DO block reads is in its variables."""
        if statement.facts["verb"] == "DO":
            return origins.read_by(statement.facts["relations"])
        return self.lineage(origins, statement).copies
