"""Which lines a sink gets, and what of them: by Connection, by decision, with or without statements. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, Protocol

from ostiary_store.exports.item import Item

_STATEMENT: Final = frozenset({"text", "detail", "result"})
"""Fields of a request that hold what was asked, with which parameters, and what the target said of it."""


class Filters(Protocol):
    """The fields of ExportSettings that say it."""

    @property
    def connections(self) -> Collection[str]: ...

    @property
    def only(self) -> Collection[str]: ...

    @property
    def statements(self) -> bool: ...


def connection_of(item: Item) -> str:
    """`namespace/name`: of what is in the gateway's own session the Connection that it is about."""
    about = item.fields.get("connection")
    return about if isinstance(about, str) else item.session.connection


def wanted(item: Item, filters: Filters) -> bool:
    """Whether the sink gets it. Where only some decisions are told, so is what leads to them: a refused login is a
    Deny, a question a RequireApproval."""
    if filters.connections:
        connection = connection_of(item)
        namespace = connection.partition("/")[0]
        if connection not in filters.connections and f"{namespace}/*" not in filters.connections:
            return False
    if not filters.only:
        return True
    match item.kind:
        case "request":
            decision = item.fields.get("decision")
            return isinstance(decision, Mapping) and decision.get("action") in filters.only
        case "refused":
            return "Deny" in filters.only
        case "approval":
            return "RequireApproval" in filters.only
        case "response":
            return True  # of a request that was wanted: see Exporter
        case "gap":
            return True
    return False


def shaped(item: Item, filters: Filters) -> Item:
    """What of it the sink gets."""
    if filters.statements or item.kind != "request":
        return item
    return replace(item, fields={key: value for key, value in item.fields.items() if key not in _STATEMENT})
