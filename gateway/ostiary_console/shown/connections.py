"""The page of connections: health as the operator or the gateway tells it, and what went through in a day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import quote

from ostiary_console.shown.hours import by_hour
from ostiary_console.shown.policies import conditions
from ostiary_console.views import Condition, ConnectionsPage, ConnectionView, RecordView
from ostiary_gateway.audit.transcript_words import items, mapping
from ostiary_store.model import Tally

DAY: Final = 86_400.0
_DECIDED: Final = ("Allow", "Deny", "RequireApproval")


@dataclass(slots=True)
class _Traffic:
    requests: int = 0
    denied: int = 0
    hours: list[tuple[int, int]] = field(default_factory=list)


def connections_page(
    manifests: Sequence[Mapping[str, object]],
    *,
    tallies: Sequence[Tally],
    records: Sequence[Mapping[str, object]],
    live: Mapping[str, int] | None,
    now: float,
    problem: str = "",
) -> ConnectionsPage:
    """`tallies` of a day. `live`: open sessions by Connection; None: nobody could be asked. What is not well first."""
    traffic: dict[str, _Traffic] = defaultdict(_Traffic)
    for tally in tallies:
        if not tally.enforced or tally.action not in _DECIDED:
            continue
        own = traffic[tally.connection]
        own.requests += tally.requests
        own.denied += tally.requests if tally.action == "Deny" else 0
        own.hours.append((tally.hour, tally.requests))
    views = [_view(manifest, traffic, live, now) for manifest in manifests]
    known = {view.key for view in views}
    others = sorted({*traffic, *(live or ())} - known)
    views += [_unknown(name, traffic[name], live, now) for name in others if "/" in name]
    order = {"bad": 0, "ok": 1, "unknown": 2}
    views.sort(key=lambda view: (order[view.health], view.key))
    found = [
        RecordView(str(each.get("gateway", "")), str(each.get("instance", "")), _seconds(each.get("last")))
        for each in records
    ]
    found.sort(key=lambda each: (-(each.last or 0.0), each.gateway))
    return ConnectionsPage(tuple(views), tuple(found), problem)


def _view(
    manifest: Mapping[str, object], traffic: Mapping[str, _Traffic], live: Mapping[str, int] | None, now: float
) -> ConnectionView:
    metadata, spec, status = (mapping(manifest.get(name)) for name in ("metadata", "spec", "status"))
    namespace, name = str(metadata.get("namespace") or "default"), str(metadata.get("name", ""))
    key = f"{namespace}/{name}"
    own = traffic.get(key) or _Traffic()
    told = tuple(conditions(status))
    endpoint = mapping(status.get("endpoint"))
    return ConnectionView(
        namespace=namespace,
        name=name,
        protocol=str(spec.get("protocol", "")),
        target=_target(mapping(spec.get("upstream"))),
        health=_health(told),
        endpoint=f"{endpoint.get('host')}:{endpoint.get('port')}" if endpoint else "",
        gateway=str(mapping(spec.get("gateway")).get("name") or ""),
        audit=str(spec.get("audit") or "Strict"),
        recording=str(spec.get("recording") or "Full"),
        retention=_retention(mapping(spec.get("retention"))),
        conditions=told,
        policies=tuple(
            f"{each.get('namespace')}/{each.get('name')}" for each in map(mapping, items(status.get("policies")))
        ),
        live=None if live is None else live.get(key, 0),
        requests=own.requests,
        denied=own.denied,
        hours=by_hour(own.hours, now - DAY, now),
        href=f"/sessions?connection={quote(key)}",
    )


def _unknown(key: str, own: _Traffic, live: Mapping[str, int] | None, now: float) -> ConnectionView:
    namespace, _, name = key.partition("/")
    return ConnectionView(
        namespace, name, "", "", "unknown", live=None if live is None else live.get(key, 0), requests=own.requests,
        denied=own.denied, hours=by_hour(own.hours, now - DAY, now), href=f"/sessions?connection={quote(key)}",
    )  # fmt: skip


def _health(told: Sequence[Condition]) -> Literal["ok", "bad", "unknown"]:
    if any(each.status == "False" for each in told):
        return "bad"
    return "ok" if told and all(each.status == "True" for each in told) else "unknown"


def _target(upstream: Mapping[str, object]) -> str:
    if upstream.get("server"):
        return str(upstream["server"])
    host, port = upstream.get("host"), upstream.get("port")
    where = f"{host}:{port}" if port else str(host or "")
    return f"{where}, {upstream['database']}" if upstream.get("database") else where


def _retention(retention: Mapping[str, object]) -> str:
    parts = [f"{retention['record']}"] if retention.get("record") else []
    parts += [f"responses {retention['responses']}"] if retention.get("responses") else []
    return ", ".join(parts)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value else None
