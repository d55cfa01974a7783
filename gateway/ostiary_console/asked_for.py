"""What somebody looks for, from the query parameters of a page to questions to the store. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from ostiary_console.problems import bad
from ostiary_console.views import SearchForm
from ostiary_store.model import RequestQuery, Scope, SessionQuery

PAGE: Final = 50
LARGEST: Final = 500
"""Rows of a page, where a program asks for so many."""
_AGE: Final = re.compile(r"([0-9]{1,5})(m|h|d|w)")
_SECONDS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DECISIONS: Final = ("", "Allow", "Deny", "RequireApproval")
_STATES: Final = ("", "open", "closed", "lost")
_VIEWS: Final = ("", "sessions", "requests")
_MAX_TEXT: Final = 1_000


def moment(text: str, now: float) -> float | None:
    """`24h` (ago) or a time of RFC 3339; without a zone it is UTC. None: not given. Raises Problem."""
    text = text.strip()
    if not text:
        return None
    if (age := _AGE.fullmatch(text)) is not None:
        return now - int(age[1]) * _SECONDS[age[2]]
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise bad(f"{text[:40]!r} is no time.", "Write 24h, 7d, or 2026-11-23T18:00.") from None


def search_form(query: Mapping[str, str]) -> SearchForm:
    """The form as it was filled in. Raises Problem for what no form can send."""
    fields = {name: query.get(name, "").strip()[:_MAX_TEXT] for name in SearchForm.__dataclass_fields__}
    form = SearchForm(**fields)
    for value, allowed, name in (
        (form.decision, _DECISIONS, "decision"), (form.state, _STATES, "state"), (form.view, _VIEWS, "view"),
    ):  # fmt: skip
        if value not in allowed:
            raise bad(f"The parameter {name} is none of {', '.join(filter(None, allowed))}.")
    return form


def shows_requests(form: SearchForm) -> bool:
    """Whether requests are listed, and not sessions."""
    if form.view:
        return form.view == "requests"
    return bool(form.q or form.rule or form.outcome or form.would or form.session)


def request_query(form: SearchForm, now: float, *, after: str = "", limit: int = PAGE) -> RequestQuery:
    """Raises Problem."""
    policy, rule = _rule(form.rule)
    return RequestQuery(
        text=form.q, connection=form.connection or None, username=form.user or None, protocol=form.protocol or None,
        action=form.decision or None, policy=policy, rule=rule, outcome=form.outcome or None,
        would_deny=True if form.would == "1" else None, session=form.session or None, since=moment(form.since, now),
        until=moment(form.until, now), limit=limit, after=after,
    )  # fmt: skip


def session_query(form: SearchForm, now: float, *, after: str = "", limit: int = PAGE) -> SessionQuery:
    """Raises Problem."""
    return SessionQuery(
        connection=form.connection or None, username=form.user or None, protocol=form.protocol or None,
        since=moment(form.since, now), until=moment(form.until, now), decision=form.decision or None,
        state=form.state or None, gateway=form.protocol == "Gateway", limit=limit, after=after,
    )  # fmt: skip


def _rule(text: str) -> tuple[str | None, str | None]:
    """`namespace/policy/rule` or `namespace/policy`."""
    if not text:
        return None, None
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise bad("The parameter rule is no namespace/policy/rule.")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None


def within(scope: Scope, connection: str) -> bool:
    """Whether this Connection is among those that may be seen."""
    if scope.connections is None:
        return True
    return connection in scope.connections or f"{connection.partition('/')[0]}/*" in scope.connections


def touches(scope: Scope, namespace: str) -> bool:
    """Whether anything in this namespace may be seen."""
    if scope.connections is None:
        return True
    return any(connection.partition("/")[0] == namespace for connection in scope.connections)
