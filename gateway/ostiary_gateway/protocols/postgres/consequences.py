"""What a request that was let through means for the messages behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .facts import Analysis, Statement
    from .state import SessionState


def is_plain(analysis: Analysis) -> bool:
    """True if running it changes nothing that another message's meaning depends on."""
    for statement in analysis.statements:
        effects = statement.effects
        if (
            not statement.facts["verb"] or effects.may_change_session or effects.ddl or effects.rebinds
            or effects.transaction or effects.copy is not None or effects.prepares is not None
            or effects.deallocates is not None or effects.declares_cursor is not None
            or effects.closes_cursor is not None
        ):  # fmt: skip
            return False
    return True


def take_effect(state: SessionState, analysis: Analysis) -> None:
    """Notes what was sent to the server, and may come true."""
    effects = [statement.effects for statement in analysis.statements]
    if any(effect.may_change_session for effect in effects):
        state.unsure = state.touched_session = True
    if any(effect.ddl for effect in effects):
        state.ddl_sent = state.uncommitted_ddl = True
        state.has_temp = state.has_temp or any(may_make_temporary(each) for each in analysis.statements)
    if any(effect.rebinds for effect in effects):
        state.rebound = True
    if state.touched_session and any(effect.transaction for effect in effects):
        state.unsure = True  # a rollback, or the end of a SET LOCAL, may have changed them back


def may_make_temporary(statement: Statement) -> bool:
    """True unless it is plain that no temporary object is made: the word must stand in the text, escapes aside."""
    facts, text = statement.facts, statement.facts["text"].lower()
    named = any(relation["schema"] == "pg_temp" for relation in facts["relations"])
    return named or facts["opaque"] or "temp" in text or "u&" in text


def settles_names(analysis: Analysis) -> bool:
    """True if the next message cannot be understood before it has ended: it copies in, gives or takes names, or what it
    does is not known."""
    for statement in analysis.statements:
        effects = statement.effects
        if (effects.copy is not None and effects.copy.direction == "in") or not statement.facts["verb"]:
            return True
        if effects.prepares or effects.deallocates or effects.declares_cursor or effects.closes_cursor:
            return True
    return False
