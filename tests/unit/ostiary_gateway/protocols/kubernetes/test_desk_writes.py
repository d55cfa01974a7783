"""What is asked of the API server before a write goes on, and what the client hears of it."""

from __future__ import annotations

import json
import re

from support.api_gateway import policy, rule
from support.api_talks import Client, Talk, body_of, head_of, request, response, status_of, talking
from support.resultings import WEB, status, web

FEW = rule("few", "k8s.readOnly || k8s.object.spec.replicas <= 10")
PATCH = f"PATCH {WEB}"
MERGE = "Content-Type: application/merge-patch+json"
FIFTY = b'{"spec":{"replicas":50}}'


def patch(body: bytes = FIFTY, line: str = PATCH) -> bytes:
    return request(line, f"Content-Length: {len(body)}", MERGE) + body


def answer(document: object, code: int = 200) -> bytes:
    return response(json.dumps(document).encode(), f"{code} Said")


def heard(talk: Talk) -> list[str]:
    """The first lines of what the API server hears at all its connections, and has not answered."""
    said = [server.heard() for server in talk.servers]
    return [data.partition(b" HTTP/1.1")[0].decode() for data in said if data]


async def looked_at(talk: Talk, client: Client, now: int, then: int, version: str = "7") -> None:
    """The API server says what is there, and what there would be."""
    for server, made in zip(list(talk.servers), (web(now, version), web(then, version)), strict=False):
        server.says(answer(made))
    await client.hears()


async def test_a_deny_that_needs_no_object_asks_nobody() -> None:
    never = rule("never", "k8s.namespace == 'shop'", "Deny", message="The shop stays as it is.")
    async with talking(policy("p", never, FEW)) as talk:
        told = status_of(await talk.client().says(patch()))
        assert told["code"] == 403
        assert talk.servers == [], "and so the agent learns nothing of what is there"


async def test_a_write_that_may_be_is_forwarded_with_its_precondition() -> None:
    old = rule("few", "k8s.readOnly || k8s.object.spec.replicas <= 10 && k8s.oldObject.spec.replicas <= 10")
    async with talking(policy("p", old)) as talk:
        client = talk.client()
        assert await client.says(patch(b'{"spec":{"replicas":5}}')) == b""
        assert heard(talk) == [f"GET {WEB}", f"{PATCH}?dryRun=All"]
        await looked_at(talk, client, 3, 5)
        sent = b"".join(server.heard() for server in talk.servers)
        assert sent.startswith(f"{PATCH} HTTP/1.1".encode())
        assert json.loads(body_of(sent)) == {"spec": {"replicas": 5}, "metadata": {"resourceVersion": "7"}}


async def test_what_the_object_would_be_is_denied_with_the_rule() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch())
        assert heard(talk) == [f"{PATCH}?dryRun=All"], "the old object is in no rule"
        talk.server.says(answer(web(50)))
        told = status_of(await client.hears())
        assert (told["code"], told["reason"]) == (403, "Forbidden")
        assert heard(talk) == []


async def test_reads_are_let_through_without_a_question() -> None:
    async with talking(policy("p", FEW)) as talk:
        await talk.client().says(request(f"GET {WEB}"))
        assert heard(talk) == [f"GET {WEB}"]


async def test_a_conflict_of_our_own_is_decided_anew() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch(b'{"spec":{"replicas":5}}'))
        talk.server.says(answer(web(5, "7")))
        await client.hears()
        talk.server.heard()
        talk.server.says(answer(status(409, "Conflict")[1], 409))
        assert await client.hears() == b"", "the client hears nothing of it"
        assert heard(talk) == [f"{PATCH}?dryRun=All"]
        talk.server.says(answer(web(5, "8")))
        await client.hears()
        sent = talk.server.heard()
        assert json.loads(body_of(sent))["metadata"] == {"resourceVersion": "8"}
        talk.server.says(answer(web(5, "9")))
        assert head_of(await client.hears())[0].startswith("200")


async def test_what_has_changed_for_the_worse_meanwhile_is_denied() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch(b'{"spec":{"paused":true}}'))
        talk.server.says(answer(web(5, "7")))
        await client.hears()
        talk.server.heard()
        talk.server.says(answer(status(409, "Conflict")[1], 409))
        await client.hears()
        talk.server.heard()
        talk.server.says(answer(web(50, "8")))
        assert status_of(await client.hears())["code"] == 403


async def test_a_conflict_that_never_ends_reaches_the_client() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch(b'{"spec":{"replicas":5}}'))
        tries = 0
        while talk.server.heard():
            talk.server.says(answer(web(5, str(tries))))
            await client.hears()
            talk.server.heard()
            talk.server.says(answer(status(409, "Conflict", "the object has been modified")[1], 409))
            tries += 1
            if said := await client.hears():
                break
        assert status_of(said)["message"] == "the object has been modified"
        assert tries == 6


async def test_the_api_servers_own_refusal_reaches_the_client() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch(b'{"spec":{"replicas":-1}}'))
        talk.server.says(answer(status(422, "Invalid", "spec.replicas: Invalid value: -1")[1], 422))
        told = status_of(await client.hears())
        assert (told["code"], told["message"]) == (422, "spec.replicas: Invalid value: -1")


async def test_values_in_a_refusal_are_masked() -> None:
    mask = rule("mask", "true", "Mask", masking=[{"jsonPath": "$.spec.replicas", "strategy": {"type": "Redact"}}])
    async with talking(policy("p", FEW, mask)) as talk:
        client = talk.client()
        await client.says(patch(b'{"spec":{"replicas":-1}}'))
        talk.server.says(answer(status(422, "Invalid", 'spec.replicas: Invalid value: "s3cret"')[1], 422))
        told = await client.hears()
        assert status_of(told)["code"] == 422
        assert b"s3cret" not in told


async def test_an_api_server_that_does_not_answer_is_no_permission() -> None:
    async with talking(policy("p", FEW)) as talk:
        talk.upstream.away = "nobody there"
        told = status_of(await talk.client().says(patch()))
        assert (told["code"], told["reason"]) == (503, "ServiceUnavailable")
        assert "What this would do cannot be found out now: nobody there." in str(told["message"])


async def test_a_rule_whose_object_is_not_known_denies_with_the_reason() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch(line="PATCH /apis/sub.example/v1/namespaces/shop/machines/m/start"))
        assert heard(talk) == ["GET /openapi/v3/apis/sub.example/v1"]
        talk.server.says(answer({"paths": {}}))
        told = status_of(await client.hears())
        assert told["code"] == 403
        assert "declares no dry run for PATCH of machines/start" in str(told["message"])
        assert heard(talk) == [], "and nothing was tried"


async def test_a_body_that_cannot_be_read_asks_nobody() -> None:
    async with talking(policy("p", FEW)) as talk:
        told = status_of(await talk.client().says(patch(b'{"spec":{"replicas":5},"spec":{}}')))
        assert told["code"] == 400
        assert talk.servers == []


async def test_a_client_that_goes_stops_the_questions() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch())
        assert heard(talk) == [f"{PATCH}?dryRun=All"]
        client.leaves()
        await client.hears()
        assert talk.server.wire.aborted
        assert re.search(rb"200|403", client.wire.heard) is None


async def test_policies_that_come_while_the_api_server_is_asked_are_those_that_decide() -> None:
    async with talking(policy("p", FEW)) as talk:
        client = talk.client()
        await client.says(patch(b'{"spec":{"replicas":5}}'))
        assert heard(talk) == [f"{PATCH}?dryRun=All"]
        grown = rule("same", "k8s.readOnly || k8s.object.spec.replicas == k8s.oldObject.spec.replicas")
        talk.policies(policy("p", grown))
        talk.server.says(answer(web(5)))
        await client.hears()
        assert heard(talk) == [f"GET {WEB}", f"{PATCH}?dryRun=All"], "they read more"
        for server, made in zip(list(talk.servers), (web(3), web(5)), strict=False):
            server.says(answer(made))
        assert status_of(await client.hears())["code"] == 403
