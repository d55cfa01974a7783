"""The page of sessions and searches: what was found, what narrows it down, and the way on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Final
from urllib.parse import urlencode

from ostiary_console.views import Chip, Facet, FacetValue, SearchForm, SessionsPage
from ostiary_store import model

MAX_VALUES: Final = 12
"""Of a facet."""
_CHIPS: Final = {
    "q": "words", "user": "who", "connection": "connection", "protocol": "protocol", "decision": "decision",
    "rule": "rule", "outcome": "outcome", "state": "state", "session": "in session", "would": "Audit mode",
    "since": "since", "until": "until",
}  # fmt: skip
_OF_REQUESTS: Final = ("q", "rule", "outcome", "would", "session")
"""What only requests have."""
_DECISIONS: Final = {"Allow": "allowed", "Deny": "denied", "RequireApproval": "asked"}
_OUTCOMES: Final = {"error": "failed", "lost": "cut off"}


def address(form: SearchForm, after: str = "") -> str:
    """Of this search."""
    given = {name: value for name, value in asdict(form).items() if value}
    if after:
        given["after"] = after
    return f"/sessions?{urlencode(given)}" if given else "/sessions"


def sessions_page(
    form: SearchForm,
    *,
    sessions: model.SessionPage | None = None,
    requests: model.RequestPage | None = None,
    facets: model.Facets | None = None,
    after: str = "",
) -> SessionsPage:
    """Of what was found; `after` is where this page of it began."""
    following = requests.next if requests is not None else sessions.next if sessions is not None else ""
    return SessionsPage(
        form=form,
        view="requests" if requests is not None else "sessions",
        sessions=sessions.sessions if sessions is not None else (),
        requests=requests.requests if requests is not None else (),
        facets=_facets(form, facets) if facets is not None else (),
        counted=facets.counted if facets is not None else 0,
        complete=facets.complete if facets is not None else True,
        chips=_chips(form),
        next_href=address(form, following) if following else "",
        first_href=address(form) if after else "",
        searched_to=requests.searched_to if requests is not None else None,
        sessions_href=address(replace(form, view="sessions", **dict.fromkeys(_OF_REQUESTS, ""))),
        requests_href=address(replace(form, view="requests", state="")),
    )


def _chips(form: SearchForm) -> tuple[Chip, ...]:
    found = []
    for name, label in _CHIPS.items():
        value: str = getattr(form, name)
        if not value:
            continue
        told = {"decision": _DECISIONS, "outcome": _OUTCOMES, "would": {"1": "would have denied"}}.get(name, {})
        found.append(Chip(label, told.get(value, value), address(replace(form, **{name: ""}))))
    return tuple(found)


def _facets(form: SearchForm, facets: model.Facets) -> tuple[Facet, ...]:
    fields: tuple[tuple[str, str, Mapping[str, int]], ...] = (
        ("decision", "Decision", {name: facets.actions[name] for name in _DECISIONS if name in facets.actions}),
        ("user", "Who", facets.usernames),
        ("connection", "Connection", facets.connections), ("rule", "Rule", facets.rules),
    )  # fmt: skip
    return tuple(Facet(name, label, _values(form, name, counts)) for name, label, counts in fields if counts)


def _values(form: SearchForm, name: str, counts: Mapping[str, int]) -> tuple[FacetValue, ...]:
    chosen: str = getattr(form, name)
    found: list[FacetValue] = []
    for value, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        if not value.strip("/") or (len(found) >= MAX_VALUES and value != chosen):
            continue
        is_chosen = value == chosen
        found.append(FacetValue(value, count, address(replace(form, **{name: "" if is_chosen else value})), is_chosen))
    return tuple(found)
