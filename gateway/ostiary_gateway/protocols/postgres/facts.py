"""Facts of PostgreSQL statements: `parse` reads a text, `resolve` says what it does in one session's scope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from . import facts_changes, facts_definitions, facts_settings, facts_special, facts_statements
from .catalog import Catalog, Wanted
from .facts_commands import COMMANDS, name_command, name_statement
from .facts_model import (
    Analysis,
    CopyEffect,
    Draft,
    Effects,
    Parsed,
    ParsedStatement,
    Scope,
    Statement,
)
from .facts_parse import RawStatement, Unparsable, parse_statements
from .facts_resolve import Resolver
from .facts_statements import outer_conditions
from .facts_walk import HANDLERS, UNEXPECTED, Handler, Tree, Walk

HANDLER_MODULES = (facts_changes, facts_definitions, facts_settings, facts_special, facts_statements)
"""They register what they read when they are imported."""

__all__ = [
    "Analysis",
    "CopyEffect",
    "Effects",
    "Parsed",
    "ParsedStatement",
    "Scope",
    "Statement",
    "parse",
    "resolve",
]

MAX_STATEMENTS = 1000
"""A text of more statements is refused as unparsable: the policy could not judge it in bounded time."""

Known = Callable[[str], Parsed | None]


def _noting(kind: str, handler: Handler) -> Handler:
    """The handler of a statement, wherever it stands, that first notes which command it is."""

    def note(walk: Walk, body: Tree) -> None:
        if walk.draft.runs:
            walk.draft.commands[name_command(kind, body)] = None
        handler(walk, body)

    return note


for _kind in (*COMMANDS, "AlterTableCmd"):
    HANDLERS[_kind] = _noting(_kind, HANDLERS[_kind])


def parse(text: str) -> Parsed:
    """Read a text. Never raises: what cannot be parsed is one opaque statement without a verb. Empty: none."""
    try:
        raw = parse_statements(text)
        if len(raw) > MAX_STATEMENTS:
            raise Unparsable(f"the text has more than {MAX_STATEMENTS} statements")
        return Parsed(text, tuple(_read(statement) for statement in raw))
    except Unparsable as error:
        reason = str(error)
    except RecursionError:
        reason = "the text nests too deeply"
    draft = Draft()
    draft.concede(f"it cannot be parsed: {reason}")
    draft.ddl = draft.rebinds = True
    draft.effect(may_change_session=True)
    return Parsed(text, (ParsedStatement(text, draft, ""),), reason)


def _read(statement: RawStatement) -> ParsedStatement:
    draft = Draft()
    draft.verb, draft.kind = name_statement(statement.type, statement.tree)
    try:
        Walk(draft, statement.text).node({statement.type: statement.tree})
    except UNEXPECTED as error:
        draft.concede(f"its parse tree is not of the expected shape: {error!r}")
    draft.where, draft.limit = outer_conditions(statement.type, statement.tree)
    if statement.type in _PLANNED:
        draft.effect(estimable=True, explain_text=statement.text)
    if draft.prepared_text:
        draft.effect(prepares=(draft.prepared_name, parse(draft.prepared_text)))
    return ParsedStatement(statement.text, draft)


_PLANNED = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "ExecuteStmt"))


def _unknown(name: str) -> Parsed | None:
    return None


def resolve(
    parsed: Parsed, catalog: Catalog, scope: Scope, prepared: Known = _unknown, cursors: Known = _unknown,
    *, fingerprints: bool = True,
) -> Analysis | Wanted:  # fmt: skip
    """What the statements do. `prepared` and `cursors` know the session's prepared statements and cursors.
    `fingerprints`: False leaves them empty, where nobody reads them.

    Gives a Wanted while the catalog does not know enough: load it and call again.
    """
    wanted = Resolver.missing(catalog)
    if wanted is not None:
        return wanted
    statements = []
    resolver = Resolver(catalog, prepared, cursors, fingerprints=fingerprints)
    for statement in parsed.statements:
        found = replace(resolver.statement(statement, scope), scope=scope)
        statements.append(found)
        effects = found.effects
        # What ran before in this text decides what names mean behind it.
        if effects.ddl or effects.rebinds:
            scope = replace(scope, uncommitted_ddl=True, rebound=scope.rebound or effects.rebinds)
        if effects.search_path is not None:
            scope = replace(scope, search_path=effects.search_path)
        elif effects.may_change_session and _moves_names(found):
            scope = replace(scope, rebound=True)
        if scope.touched and effects.transaction in _CHANGES_BACK:
            scope = replace(scope, rebound=True)
        if effects.may_change_session:
            scope = replace(scope, touched=True)
    wanted = resolver.wanted()
    return Analysis(tuple(statements)) if wanted is None else wanted


_CHANGES_BACK = frozenset(("COMMIT", "ROLLBACK", "ROLLBACK_TO", "PREPARE_TRANSACTION"))
"""What undoes SET or SET LOCAL: what the settings are then does not stand in the text."""


def _moves_names(statement: Statement) -> bool:
    settings = statement.facts["settings"]
    return statement.facts["opaque"] or any(
        name in settings for name in ("*", "search_path", "role", "session_authorization")
    )
