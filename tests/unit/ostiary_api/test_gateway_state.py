"""The document at /state: what is in it, and what wakes those who wait for a change."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ostiary_api.gateway_state import ConnectionState, GatewayState, ShippingState, StateProblem, UpstreamState

AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


def state(**changed: object) -> GatewayState:
    upstream = UpstreamState(state="Reachable", at=AT)
    connection = ConnectionState(namespace="shop", name="app-db", listening=True, sessions=3, upstream=upstream)
    made = GatewayState(instance="ostiary-app-db-0", revision="ab" * 32, loaded_at=AT, connections=(connection,))
    return made.model_copy(update=changed)


def test_it_is_json_with_every_field_and_reads_back() -> None:
    text = state().to_json()
    assert json.loads(text) == {
        "instance": "ostiary-app-db-0",
        "revision": "ab" * 32,
        "loadedAt": "2026-03-01T12:00:05Z",
        "draining": False,
        "problems": [],
        "connections": [
            {
                "namespace": "shop", "name": "app-db", "listening": True, "message": "", "sessions": 3,
                "upstream": {"state": "Reachable", "message": "", "at": "2026-03-01T12:00:05Z"},
            }
        ],
        "shipping": {"state": "Off", "message": "", "since": None, "behindBytes": 0},
    }  # fmt: skip
    assert GatewayState.model_validate_json(text) == state()


def test_a_gateway_without_a_bundle_has_a_state_too() -> None:
    assert GatewayState.model_validate_json(GatewayState(instance="a").to_json()).revision == ""


def test_what_a_newer_gateway_tells_besides_is_passed_over() -> None:
    assert GatewayState.model_validate({"instance": "a", "colour": "red"}).instance == "a"


def test_the_etag_changes_with_what_one_must_act_on() -> None:
    old = state()
    (connection,) = old.connections
    unreachable = connection.model_copy(update={"upstream": UpstreamState(state="Unreachable", message="no answer")})
    for changed in (
        state(revision="cd" * 32),
        state(draining=True),
        state(problems=(StateProblem(message="part 2 is missing"),)),
        state(connections=()),
        state(connections=(connection.model_copy(update={"listening": False}),)),
        state(connections=(unreachable,)),
        state(shipping=ShippingState(state="Failing", message="the store does not answer")),
    ):
        assert changed.etag() != old.etag()


def test_the_etag_stays_when_sessions_come_and_go_or_the_upstream_is_tried_again() -> None:
    old = state()
    (connection,) = old.connections
    later = UpstreamState(state="Reachable", at=AT.replace(minute=30))
    changed = connection.model_copy(update={"sessions": 4, "upstream": later})
    assert state(connections=(changed,)).etag() == old.etag()
    under_way = ShippingState(behind_bytes=4096)
    assert state(shipping=under_way).etag() == old.etag()
    assert old.etag().startswith('"')
    assert old.etag().endswith('"')
