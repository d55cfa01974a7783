"""Columns that detectors have hit: what is derived from them is withheld from then on.

A detector sees a value as it is sent, and finds nothing in `reverse(card)`. Once it has found something in a plain
column, lineage follows that column as it follows one with a mask of its own; the column itself stays the detector's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ostiary_policy.masking import MaskPlan

MAX_PLANS: Final = 64
MAX_COLUMNS: Final = 4096
"""Of one plan. Columns that come later are not marked."""

Column = tuple[int, int]
"""Table OID and attribute number, as RowDescription tells them. Neither is given out twice while the table is there."""


class Marks:
    """The marked columns of one database by plan, shared by all sessions of a Connection; gone with the process."""

    def __init__(self) -> None:
        self._columns: OrderedDict[MaskPlan, set[Column]] = OrderedDict()

    def of(self, plan: MaskPlan) -> frozenset[Column]:
        """What the detectors of this plan have hit so far."""
        return frozenset(self._columns.get(plan, ()))

    def add(self, plan: MaskPlan, column: Column) -> bool:
        """True if that is news."""
        columns = self._columns.setdefault(plan, set())
        self._columns.move_to_end(plan)
        if len(self._columns) > MAX_PLANS:
            self._columns.popitem(last=False)
        if column in columns or len(columns) >= MAX_COLUMNS:
            return False
        columns.add(column)
        return True
