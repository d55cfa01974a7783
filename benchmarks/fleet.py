"""The fleet that benchmarks/cluster_scale.py measures: Connections that share gateways, and policies as people write
them, each with one rule more whose decision can be turned."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
API = "ostiary.dev/v1alpha1"
TOKEN = "a-token-of-an-agent-with-enough-entropy-42"
AGENT = "planner"
FIRST_PORT = 6401
SYSTEM_POLICIES = 10


@dataclass(frozen=True)
class Upstream:
    """The PostgreSQL behind all Connections."""

    host: str
    port: int
    user: str
    password: str
    database: str


@dataclass(frozen=True)
class Place:
    """A Connection, and where it is served."""

    namespace: str
    name: str
    gateway: str
    port: int
    labels: tuple[tuple[str, str], ...]

    def has(self, **labels: str) -> bool:
        """Whether it has all these labels."""
        return set(labels.items()) <= set(self.labels)


@dataclass(frozen=True)
class Policy:
    """A policy whose probe can be turned on and off, and the Connections that it is for."""

    number: int
    namespace: str
    name: str
    match: Manifest
    rules: tuple[Manifest, ...]
    tests: tuple[Manifest, ...]
    places: tuple[Place, ...]

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def statement(self) -> str:
        """Denied while the probe is on, allowed while it is off."""
        return f"select n from probe_{self.number:03}"

    def manifest(self, *, probe: bool) -> Manifest:
        """The policy with its probe on or off."""
        on = "true" if probe else "false"
        touches = f"sql.statements.exists(s, s.relations.exists(r, r.name == 'probe_{self.number:03}'))"
        rule = {"name": "probe", "action": "Deny", "expression": f"{on} && {touches}", "message": "The probe is on."}
        spec: Manifest = {"match": self.match, "rules": [*self.rules, rule]}
        if self.tests:
            spec["tests"] = list(self.tests)
        meta = {"name": self.name, "namespace": self.namespace, "labels": {"benchmark": "scale"}}
        return {"apiVersion": API, "kind": "GatewayPolicy", "metadata": meta, "spec": spec}


@dataclass(frozen=True)
class Fleet:
    """All of it."""

    upstream: Upstream
    namespaces: tuple[str, ...]
    places: tuple[Place, ...]
    policies: tuple[Policy, ...]

    @property
    def gateways(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of each."""
        return tuple(dict.fromkeys((place.namespace, place.gateway) for place in self.places))

    def base(self) -> list[Manifest]:
        """Namespaces and Secrets."""
        restricted = {"pod-security.kubernetes.io/enforce": "restricted", "agents": "served"}
        found: list[Manifest] = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}}
            for name in self.namespaces
        ]
        for name in self.namespaces:
            login = {"username": self.upstream.user, "password": self.upstream.password}
            digest = hashlib.sha256(TOKEN.encode()).hexdigest()
            found.append(_secret(name, "db", "Opaque", login))
            token = {"username": AGENT, "groups": "agents", "sha256": digest}
            found.append(_secret(name, "planner-token", "ostiary.dev/token", token))
        return found

    def connections(self, replicas: int) -> list[Manifest]:
        """The Connections, whose gateways have so many pods."""
        return [self._connection(place, replicas) for place in self.places]

    def _connection(self, place: Place, replicas: int) -> Manifest:
        to = self.upstream
        return {
            "apiVersion": API,
            "kind": "Connection",
            "metadata": {"name": place.name, "namespace": place.namespace, "labels": dict(place.labels)},
            "spec": {
                "protocol": "Postgres",
                "upstream": {"host": to.host, "port": to.port, "database": to.database, "tls": {"mode": "Disable"}},
                "credentials": {"static": {"secretRef": {"name": "db"}}},
                "listener": {"port": place.port, "tls": {"mode": "Disable"}},
                "gateway": {"name": place.gateway, "replicas": replicas},
            },
        }


def _secret(namespace: str, name: str, kind: str, values: dict[str, str]) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": kind, "data": data}


def fleet(
    upstream: Upstream, system: str, *, connections: int = 100, policies: int = 200, prefix: str = "fleet"
) -> Fleet:
    """So many Connections, ten to a gateway, two gateways to a namespace, and so many policies."""
    places: list[Place] = []
    for number in range(connections):
        space, rest = divmod(number, 20)
        team, own = divmod(rest, 10)
        labels = {
            "app": f"app{rest:02}", "team": f"team{team}", "env": "prod" if own < 7 else "staging",
            "data": "personal" if own % 2 else "plain",
        }  # fmt: skip
        places.append(
            Place(f"{prefix}-{space}", f"db{rest:02}", f"gw{team}", FIRST_PORT + own, tuple(sorted(labels.items())))
        )
    namespaces = tuple(dict.fromkeys(place.namespace for place in places))
    made: list[Policy] = []
    for number in range(min(SYSTEM_POLICIES, policies)):
        selector = {"matchLabels": {"agents": "served"}}
        made.append(
            Policy(number, system, f"{prefix}-everywhere-{number}", {"namespaceSelector": selector},
                   _guard_rails(number), _guard_tests(), tuple(places))
        )  # fmt: skip
    while len(made) < policies:
        number = len(made)
        namespace = namespaces[number % len(namespaces)]
        made.append(_of_namespace(number, namespace, number // len(namespaces), places))
    return Fleet(upstream, namespaces, tuple(places), tuple(made))


def _of_namespace(number: int, namespace: str, turn: int, places: list[Place]) -> Policy:
    """Of 38 policies of a namespace 20 are for one application each, 12 for a team, 4 for what is in production, and 2
    mask what is personal."""
    turn %= 38
    if turn < 20:
        labels = {"app": f"app{turn:02}"}
        name, rules, tests = f"app-{number}", _application(number), ()
    elif turn < 32:
        labels = {"team": f"team{turn % 2}"}
        name, rules, tests = f"team-{number}", _team(number), _team_tests()
    elif turn < 36:
        labels = {"env": "prod"}
        name, rules, tests = f"prod-{number}", _guard_rails(number), _guard_tests()
    else:
        labels = {"data": "personal"}
        name, rules, tests = f"personal-{number}", _masks(), ()
    mine = tuple(place for place in places if place.namespace == namespace and place.has(**labels))
    return Policy(number, namespace, name, {"connectionSelector": {"matchLabels": labels}}, rules, tests, mine)


def _rule(name: str, action: str, expression: str, message: str = "") -> Manifest:
    return {"name": name, "action": action, "expression": expression} | ({"message": message} if message else {})


def _guard_rails(number: int) -> tuple[Manifest, ...]:
    return (
        _rule("no-drop", "Deny", "sql.statements.exists(s, s.verb in ['DROP', 'TRUNCATE'])", "Nothing is dropped."),
        _rule("bounded", "Deny", "sql.statements.exists(s, s.verb in ['DELETE', 'UPDATE'] && !s.hasWhere)",
              "Say which rows you mean with WHERE."),
        _rule("roles", "Deny", "sql.statements.exists(s, s.kind in ['ROLE', 'USER'])", "Roles are not changed here."),
        _rule("opaque", "Deny", "sql.statements.exists(s, s.opaque)", "What this does cannot be known from its text."),
        _rule("not-theirs", "Deny",
              f"sql.statements.exists(s, s.relations.exists(r, r.schema == 'hr' && r.name == 'salaries{number}'))"),
    )  # fmt: skip


def _guard_tests() -> tuple[Manifest, ...]:
    return (
        {"name": "a dropped table", "sql": "drop table orders", "expect": "Deny", "rule": "no-drop"},
        {"name": "every row", "sql": "delete from orders", "expect": "Deny", "rule": "bounded"},
        {"name": "code", "sql": "do $$ begin execute 'x'; end $$", "expect": "Deny", "rule": "opaque"},
    )


def _application(number: int) -> tuple[Manifest, ...]:
    return (
        _rule("read", "Allow", "sql.statements.all(s, s.readOnly)"),
        _rule("orders", "Allow", "sql.statements.all(s, !s.opaque && s.verb in ['INSERT', 'UPDATE', 'DELETE'] "
              "&& s.relations.all(r, r.access == 'read' || r.name == 'orders'))"),
        _rule("tidy-up", "Allow", "sql.statements.all(s, s.readOnly || s.verb == 'UNLISTEN' || "
              "(s.verb == 'RESET' && s.settings == ['*']) || s.functions == ['pg_catalog.pg_advisory_unlock_all'])"),
        _rule("queue", "Deny", f"sql.statements.exists(s, s.relations.exists(r, r.name == 'queue{number}'))"),
    )  # fmt: skip


def _team(number: int) -> tuple[Manifest, ...]:
    return (
        _rule("wide-reads", "Audit", "sql.statements.exists(s, s.readOnly && !s.hasWhere && !s.hasLimit)"),
        _rule("readers", "Deny", "sql.statements.exists(s, s.writes) && 'readers' in request.subject.groups"),
        _rule("secrets", "Deny",
              f"sql.statements.exists(s, s.relations.exists(r, r.name in ['keys', 'vault{number}']))"),
        _rule("catalog", "Deny", "sql.statements.exists(s, s.relations.exists(r, r.schema == 'pg_catalog' && "
              "r.name in ['pg_authid', 'pg_shadow']))"),
        {"name": "large", "action": "RequireApproval", "message": "More than 1,000 rows need somebody's word.",
         "expression": "sql.statements.exists(s, s.writes) && sql.estimatedRows > 1000",
         "approval": {"groups": ["dba"], "pendingTTL": "15m", "grantTTL": "10m", "wait": "0s"}},
    )  # fmt: skip


def _team_tests() -> tuple[Manifest, ...]:
    return (
        {"name": "passwords", "sql": "select * from pg_authid", "expect": "Deny", "rule": "catalog"},
        {"name": "keys", "sql": "select * from keys", "expect": "Deny", "rule": "secrets"},
    )


def _masks() -> tuple[Manifest, ...]:
    masks: list[Manifest] = [
        {"column": "public.customers.email", "strategy": {"type": "Redact", "replacement": "[email]"}},
        {"column": "public.cards.number", "strategy": {"type": "Partial", "keepLast": 4}},
        {"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}},
        {"detector": "Email", "strategy": {"type": "Redact", "replacement": "[email]"}},
    ]
    return (
        {"name": "hide", "action": "Mask", "masking": masks[:2]},
        {"name": "anywhere", "action": "Mask", "masking": masks[2:]},
        _rule("dumps", "Deny", "sql.statements.exists(s, s.verb == 'COPY')", "Copies of this data are not made here."),
        _rule("wide", "Audit", "sql.statements.exists(s, s.readOnly && !s.hasWhere)"),
    )


def tables(count: int) -> str:
    """SQL that makes the tables which the probes read."""
    names = [f"probe_{number:03}" for number in range(count)]
    return "".join(f"create table if not exists {name} (n int);" for name in names) + (
        "create table if not exists customers (id int, email text);"
        "insert into customers values (1, 'somebody@mail.example')"
    )
