"""What the gateway counts: plain integers that the hot path increments, read when the metrics are scraped.

Labels are `namespace/name` of a Connection, `namespace/policy` and rule names, and the fixed words below: never
anything that a client chose, so that no client can make the metrics grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

DECISION_BUCKETS = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 1.0)
"""Upper bounds of the decision latency, in seconds."""

LoginFailure = Literal[
    "token", "jwt", "issuer", "review", "certificate", "tls", "protocol", "deadline", "limit", "closed", "other",
]  # fmt: skip
"""Why a client was not let in: wrong token, wrong JWT, an issuer's keys not to be had, no review of a ServiceAccount's
token to be had, wrong client certificate, no or broken TLS, bad startup, too slow, too many, something that the gateway
needs is missing."""

UpstreamError = Literal["connect"]
"""What went wrong with the target: no session could be opened there, whatever the cause."""

RoleEvent = Literal["created", "dropped", "swept", "failed"]
"""Of session roles: made, dropped after the session, dropped as a leftover, not to be dropped (each attempt)."""

Direction = Literal["to_upstream", "to_client"]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric of this moment. `label`: its name and value, where there are several of one name."""

    name: str
    text: str
    value: float
    label: tuple[str, str] | None = None


class Counters:
    """The counts of one gateway process. Methods do as little as they can; the event loop's thread calls them."""

    __slots__ = (
        "approvals",
        "approvals_pending",
        "bundle_loaded_at",
        "bundle_revision",
        "bytes",
        "decision_buckets",
        "decision_sum",
        "denials",
        "login_failures",
        "record_dropped",
        "record_freed",
        "record_held",
        "record_queue",
        "reload_failures",
        "reloads",
        "requests",
        "roles",
        "roles_stuck",
        "sessions",
        "sessions_open",
        "ship_batches",
        "ship_bytes",
        "ship_failures",
        "ship_lag",
        "ship_waiting",
        "upstream_errors",
        "wait_count",
        "wait_seconds",
    )

    def __init__(self) -> None:
        self.sessions: defaultdict[str, int] = defaultdict(int)
        """Sessions that were opened, by connection."""
        self.sessions_open: defaultdict[str, int] = defaultdict(int)
        self.requests: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """By connection, protocol and decision (Allow, Deny, RequireApproval)."""
        self.denials: defaultdict[tuple[str, str], int] = defaultdict(int)
        """By policy (`namespace/name`) and rule; both empty where no rule decided."""
        self.decision_buckets = [0] * (len(DECISION_BUCKETS) + 1)
        self.decision_sum = 0.0
        self.upstream_errors: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.login_failures: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.roles: defaultdict[tuple[str, RoleEvent], int] = defaultdict(int)
        self.roles_stuck: dict[str, int] = {}
        """Session roles that could not be dropped so far, by connection."""
        self.bytes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.record_queue: Callable[[], int] = int
        """Gives the bytes that wait to be written. The recorder's owner sets it, and the next."""
        self.record_dropped: Callable[[], int] = int
        """Gives the events that could not be recorded."""
        self.record_held: Callable[[], int] = int
        """Gives the bytes of the record that are here."""
        self.record_freed: Callable[[], int] = int
        """Gives the bytes that the disk got back, since the store has them."""
        self.ship_batches: Callable[[], int] = int
        """Gives what was handed over to the store: batches, and bytes; and what failed."""
        self.ship_bytes: Callable[[], int] = int
        self.ship_failures: Callable[[], int] = int
        self.ship_waiting: Callable[[], int] = int
        """Gives the bytes that the store does not have yet."""
        self.ship_lag: Callable[[], float] = float
        """Gives the seconds since the store had everything."""
        self.approvals: defaultdict[tuple[str, str], int] = defaultdict(int)
        """By connection and step: Asked, Approved, Denied, Expired, Consumed."""
        self.approvals_pending: Callable[[], int] = int
        """Gives the questions that are open."""
        self.wait_count = 0
        self.wait_seconds = 0.0
        """That clients were held for approvals."""
        self.reloads = 0
        self.reload_failures = 0
        self.bundle_revision = ""
        self.bundle_loaded_at = 0.0

    def session_opened(self, connection: str) -> None:
        """A client has logged in."""
        self.sessions[connection] += 1
        self.sessions_open[connection] += 1

    def session_closed(self, connection: str) -> None:
        """A session that was opened is over."""
        self.sessions_open[connection] -= 1

    def request(self, connection: str, protocol: str, decision: str) -> None:
        """A request was decided; `decision` is an Action."""
        self.requests[connection, protocol, decision] += 1

    def denied(self, policy: str, rule: str) -> None:
        """A request was denied by this rule; both empty where none held or an error decided."""
        self.denials[policy, rule] += 1

    def decided(self, seconds: float) -> None:
        """A decision took so long, costly facts not counted."""
        self.decision_buckets[bisect_left(DECISION_BUCKETS, seconds)] += 1
        self.decision_sum += seconds

    def upstream_error(self, connection: str, reason: UpstreamError) -> None:
        """Something went wrong with the target."""
        self.upstream_errors[connection, reason] += 1

    def login_refused(self, connection: str, reason: LoginFailure = "other") -> None:
        """A client was not let in."""
        self.login_failures[connection, reason] += 1

    def transferred(self, connection: str, direction: Direction, count: int) -> None:
        """So many bytes went through."""
        self.bytes[connection, direction] += count

    def approval(self, connection: str, step: str) -> None:
        """Something became of a question."""
        self.approvals[connection, step] += 1

    def waited(self, seconds: float) -> None:
        """A client was held for an approval so long."""
        self.wait_count += 1
        self.wait_seconds += seconds

    def bundle_loaded(self, revision: str, at: float) -> None:
        """This bundle is served from now on. `at`: seconds since the epoch."""
        self.reloads += 1
        self.bundle_revision = revision
        self.bundle_loaded_at = at

    def reload_failed(self) -> None:
        """A new bundle was refused; the last good one stays."""
        self.reload_failures += 1
