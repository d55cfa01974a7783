"""What every page shows, as plain data: templates render it, and /api/v1 gives the same as JSON. No I/O.

A template is rendered with `page` (one of the `…Page` classes) and `frame`. Texts are as they were recorded, control
characters included: templates pass them through the filter `visible` (one line) or `lines` (several), and escape them.
Times are seconds since the epoch, `None` where there is none. An empty string means: there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ostiary_console.replay_views import (
    Audited,
    Change,
    ChangeExample,
    ReplayPage,
    ReplayResult,
    Undecided,
)
from ostiary_console.request_views import (
    Answered,
    AnyBlock,
    AskedPeople,
    Column,
    Copied,
    DecisionView,
    Diff,
    DiffLine,
    Document,
    Grid,
    Matched,
    Plain,
    Remark,
    Report,
    RequestView,
    Stream,
    Terminal,
    Verdict,
    Watched,
    WatchEvent,
)
from ostiary_store.model import RequestRow, RuleHits, SessionRow

# -- around every page


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks."""

    name: str
    groups: tuple[str, ...] = ()
    method: str = ""
    """How the person signed in: link, token or oidc."""
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """What is around a page."""

    title: str
    section: str
    """sessions, live, approvals, policies, connections, replay, or empty."""
    viewer: Viewer | None
    csrf: str
    """For the hidden field `csrf` of every form, and the header X-CSRF-Token of scripts."""
    now: float
    path: str
    """Path and query of this page."""
    standalone: bool
    """One gateway on this machine, and not a cluster."""
    version: str
    theme: str = ""
    """light or dark, as the cookie `ostiary-theme` has it; empty: as the system is."""
    pending: int | None = None
    """Approvals that wait; None if that is not known."""
    done: str = ""
    """What has just been done, as the query parameter says: approved, denied, killed, ending, signed-out, too-late."""
    can_replay: bool = True


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """error.html: what is wrong, and what to do next."""

    status: int
    title: str
    message: str
    next_step: str = ""
    href: str = "/sessions"


@dataclass(frozen=True, slots=True)
class Provider:
    """An issuer where one can sign in."""

    name: str
    href: str


@dataclass(frozen=True, slots=True)
class SigninPage:
    """signin.html. The token form POSTs `token`, `csrf` and `next` to /signin/token."""

    providers: tuple[Provider, ...]
    token: bool
    """Tokens of the cluster are taken."""
    link: bool
    """One comes in with the link that `ostiary console` prints; there is no form."""
    next: str
    problem: str = ""
    cluster: str = ""
    """Where a token is checked, for people."""


# -- sessions and search


@dataclass(frozen=True, slots=True)
class SearchForm:
    """What was looked for, as it was typed. Fields are the query parameters of /sessions."""

    q: str = ""
    connection: str = ""
    user: str = ""
    protocol: str = ""
    decision: str = ""
    """Allow, Deny, RequireApproval."""
    rule: str = ""
    """namespace/policy/rule, or namespace/policy"""
    outcome: str = ""
    state: str = ""
    """Of sessions: open, closed, lost."""
    session: str = ""
    """Only of this session."""
    would: str = ""
    """`1`: only what a rule in `enforcement: Audit` would have denied."""
    since: str = ""
    """`24h`, `7d`, or a time like 2026-11-23T18:00."""
    until: str = ""
    view: str = ""
    """sessions or requests; empty: requests where a text or a rule is looked for, else sessions."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set, and the way to lose it."""

    label: str
    value: str
    href: str


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str
    count: int
    href: str
    """With this value chosen; if it is, without."""
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Facet:
    """Values of one field among all that fits."""

    name: str
    """The query parameter."""
    label: str
    values: tuple[FacetValue, ...]


@dataclass(frozen=True, slots=True)
class SessionsPage:
    """sessions.html"""

    form: SearchForm
    view: str
    """sessions or requests."""
    sessions: Sequence[SessionRow] = ()
    requests: Sequence[RequestRow] = ()
    facets: tuple[Facet, ...] = ()
    counted: int = 0
    """Requests that the facets were counted among."""
    complete: bool = True
    """False: the facets are of the newest matches only."""
    chips: tuple[Chip, ...] = ()
    next_href: str = ""
    first_href: str = ""
    """Back to the newest; empty on the first page."""
    searched_to: float | None = None
    """The search stopped here, and `next_href` goes on from there: also where nothing was found."""
    sessions_href: str = ""
    requests_href: str = ""
    """The same filters, the other list."""
    problem: str = ""


# -- requests


@dataclass(frozen=True, slots=True)
class Remarkable:
    """An event that is none of a request: a gap, the end."""

    at: float | None
    kind: str
    """gap, close, lost, refused, approval"""
    text: str


@dataclass(frozen=True, slots=True)
class SessionPage:
    """session.html"""

    session: SessionRow
    about: tuple[tuple[str, str], ...]
    """Groups, on whose behalf, client, login, TLS, database …: name and text."""
    requests: tuple[RequestView, ...]
    first: int
    last: int
    """Numbers of the first and the last request that are shown."""
    next_href: str = ""
    previous_href: str = ""
    remarks: tuple[Remarkable, ...] = ()
    live: bool = False
    can_end: bool = False
    """POST /sessions/{id}/kill with `target`, `reason` and `csrf`."""
    follow_href: str = ""
    """Server-sent events of what comes, if it is open: `request` (RequestView and HTML), `end`."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RequestPage:
    """request.html"""

    session: SessionRow
    request: RequestView
    previous_href: str = ""
    next_href: str = ""
    more_href: str = ""
    """The next piece of a long response."""
    first_row: int = 0
    """Rows of the response before those that are shown."""


# -- live


@dataclass(frozen=True, slots=True)
class Running:
    request: str
    since: float
    text: str


@dataclass(frozen=True, slots=True)
class LiveSession:
    session: str
    connection: str
    protocol: str
    username: str
    on_behalf_of: str
    client: str
    opened: float
    requests: int
    running: tuple[Running, ...]
    gateway: str = ""
    can_end: bool = False


@dataclass(frozen=True, slots=True)
class LivePage:
    """live.html; /live/events sends a new `sessions` (this as JSON, and HTML) whenever it changes."""

    sessions: tuple[LiveSession, ...]
    unreachable: tuple[str, ...] = ()
    """Gateways that did not answer."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class KillPage:
    """kill.html: asks before a session is ended. POST /sessions/{id}/kill with `reason` and `csrf`."""

    session: SessionRow
    running: tuple[Running, ...] = ()
    reason: str = ""
    """As it was typed, where it was not taken."""
    problem: str = ""


# -- approvals


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """A question to a person."""

    namespace: str
    name: str
    state: str
    """Pending, Approved, Denied, Expired, Consumed."""
    asked: float | None
    expires: float | None
    """Of the question, or of the grant."""
    title: str
    summary: str
    language: str
    hash: str
    version: str
    """resourceVersion, or empty; goes back with the decision."""
    connection: str
    """namespace/name"""
    requester: str
    groups: tuple[str, ...]
    """Of the requester."""
    on_behalf_of: str
    session: str
    """That asked."""
    policies: tuple[str, ...]
    """`namespace/name#rule` of those that ask."""
    approvers: tuple[str, ...]
    """Groups whose members may answer."""
    needed: int
    given: int
    parameters: tuple[str | None, ...] = ()
    truncated: bool = False
    """Not all that would run is shown."""
    redacted: bool = False
    facts: tuple[str, ...] = ()
    """What the statement would do: a line each."""
    estimated_rows: int | None = None
    evidence_title: str = ""
    evidence: AnyBlock | None = None
    """Plain (a plan, a command) or Diff."""
    answers: tuple[Answered, ...] = ()
    can_decide: bool = False
    why_not: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalsPage:
    """approvals.html"""

    waiting: tuple[ApprovalView, ...]
    closed: tuple[ApprovalView, ...]
    all: bool
    """Also older closed ones; `?all=1`."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """approval.html. Deciding: POST {href}/decide with verdict (Approve or Deny), reason, hash, version, csrf."""

    approval: ApprovalView
    verdict: str = ""
    """Approve or Deny: what the viewer is about to answer (`?verdict=`); empty: not said yet."""
    problem: str = ""
    """Why the decision that was sent was not taken, as the API server or the gateway said it."""


# -- policies and connections


@dataclass(frozen=True, slots=True)
class RuleView:
    name: str
    action: str
    enforced: bool
    expression: str
    message: str = ""
    hint: str = ""
    masks: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    hits: int = 0
    last: float | None = None
    hours: tuple[int, ...] = ()
    """Hits of each hour (or as many hours as fit in fifty bars), the oldest first."""
    href: str = ""
    """The requests that it decided."""


@dataclass(frozen=True, slots=True)
class PolicyView:
    namespace: str
    name: str
    enforcement: str
    priority: int
    matches: tuple[str, ...]
    """In words: connections, protocols, subjects, conditions."""
    rules: tuple[RuleView, ...]
    conditions: tuple[Condition, ...] = ()
    not_after: str = ""
    connections: tuple[str, ...] = ()
    """That it is in force for."""
    denials: Sequence[RequestRow] = ()
    """The last ones."""
    tests: int = 0
    known: bool = True
    """False: it is in the record only; there is no such policy now, or the viewer may not read it."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PoliciesPage:
    """policies.html"""

    policies: tuple[PolicyView, ...]
    since: str
    """`24h`, `7d` …: of the counts."""
    unmatched: int = 0
    """Requests that were denied because no rule let them."""
    would_have: tuple[RuleHits, ...] = ()
    """What rules in `enforcement: Audit` would have done."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    """True, False or Unknown."""
    reason: str = ""
    message: str = ""
    since: float | None = None


@dataclass(frozen=True, slots=True)
class ConnectionView:
    namespace: str
    name: str
    protocol: str
    target: str
    """host:port, database"""
    health: Literal["ok", "bad", "unknown"]
    endpoint: str = ""
    """Where agents connect."""
    gateway: str = ""
    audit: str = ""
    recording: str = ""
    retention: str = ""
    conditions: tuple[Condition, ...] = ()
    policies: tuple[str, ...] = ()
    live: int | None = None
    requests: int = 0
    denied: int = 0
    """Within the last 24 hours."""
    hours: tuple[int, ...] = ()
    """Requests of each of these hours, the oldest first."""
    href: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RecordView:
    """A gateway process whose record the store takes in."""

    gateway: str
    instance: str
    last: float | None
    """When something came."""


@dataclass(frozen=True, slots=True)
class ConnectionsPage:
    """connections.html"""

    connections: tuple[ConnectionView, ...]
    records: tuple[RecordView, ...] = ()
    problem: str = ""


Page = (
    SessionsPage | SessionPage | RequestPage | LivePage | KillPage | ApprovalsPage | ApprovalPage | PoliciesPage
    | ConnectionsPage | ReplayPage | SigninPage | ErrorPage
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page and how it is told: `template` by name, status, more headers."""

    template: str
    page: Page
    title: str
    section: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


__all__ = [
    "Answered",
    "AnyBlock",
    "ApprovalPage",
    "ApprovalView",
    "ApprovalsPage",
    "AskedPeople",
    "Audited",
    "Change",
    "ChangeExample",
    "Chip",
    "Column",
    "Condition",
    "ConnectionView",
    "ConnectionsPage",
    "Copied",
    "DecisionView",
    "Diff",
    "DiffLine",
    "Document",
    "ErrorPage",
    "Facet",
    "FacetValue",
    "Frame",
    "Grid",
    "KillPage",
    "LivePage",
    "LiveSession",
    "Matched",
    "Page",
    "Plain",
    "PoliciesPage",
    "PolicyView",
    "Provider",
    "RecordView",
    "Remark",
    "Remarkable",
    "Rendered",
    "ReplayPage",
    "ReplayResult",
    "Report",
    "RequestPage",
    "RequestView",
    "RuleView",
    "Running",
    "SearchForm",
    "SessionPage",
    "SessionsPage",
    "SigninPage",
    "Stream",
    "Terminal",
    "Undecided",
    "Verdict",
    "Viewer",
    "WatchEvent",
    "Watched",
]
