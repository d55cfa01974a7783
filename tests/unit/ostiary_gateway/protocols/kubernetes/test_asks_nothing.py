"""What is denied whatever the object is: nobody asks the API server about it, so nothing is learnt from its answer."""

from __future__ import annotations

import pytest
from support.api_gateway import policy, rule
from support.api_talks import request, status_of, talking

SHOP = "/api/v1/namespaces/shop"
GUARD = policy(
    "guard",
    rule("no-secrets", "k8s.resource == 'secrets' && k8s.verb != 'create'", "Deny", message="No Secrets."),
    rule("no-entry", "k8s.verb == 'connect' && k8s.namespace == 'prod'", "Deny", message="No entry."),
    rule("large", "!k8s.readOnly && k8s.object != {} && k8s.object.spec.replicas > 10", "Deny"),
    rule("kept", "!k8s.readOnly && k8s.oldObject != {} && has(k8s.oldObject.metadata.labels)", "Deny"),
    rule("rest"),
)


@pytest.mark.parametrize(
    "wanted",
    [
        request(f"DELETE {SHOP}/secrets/db"),
        request(f"PATCH {SHOP}/secrets/db", body=b"{}"),
        request(f"DELETE {SHOP}/secrets"),
        request("POST /api/v1/namespaces/prod/services/web/proxy/admin"),
        request(f"GET {SHOP}/secrets/db"),
    ],
)
async def test_what_a_cheap_rule_denies_is_asked_nobody(wanted: bytes) -> None:
    async with talking(GUARD) as talk:
        answer = await talk.client().says(wanted)

        assert status_of(answer)["code"] == 403
        assert talk.servers == []


async def test_what_turns_on_the_object_is_asked_and_the_answer_of_the_server_is_the_agents() -> None:
    async with talking(GUARD) as talk:
        client = talk.client()
        await client.says(request(f"DELETE {SHOP}/pods/web"))

        assert talk.server.heard().startswith(b"GET /api/v1/namespaces/shop/pods/web ")
