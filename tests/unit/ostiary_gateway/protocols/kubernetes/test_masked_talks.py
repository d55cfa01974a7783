"""What a client gets of answers that are masked, or cannot be."""

from __future__ import annotations

import gzip
import json

import pytest
from support.api_gateway import policy, rule
from support.api_talks import body_of, head_of, request, response, status_of, talking

SECRET = "/api/v1/namespaces/shop/secrets/db"
MASKS = policy(
    "masks",
    rule("all"),
    rule("values", "true", "Mask", masking=[{"jsonPath": "$.data.*", "strategy": {"type": "Redact"}}]),
)
BODY = b'{"kind":"Secret","data":{"password":"aHVudGVyMg=="}}'
JSON = "Content-Type: application/json"


def answered(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def test_json_is_asked_for_and_masked() -> None:
    async with talking(MASKS) as talk:
        client = talk.client()
        await client.says(request(f"GET {SECRET}", "Accept: application/vnd.kubernetes.protobuf,application/json"))
        assert b"\r\naccept: application/json\r\n" in talk.server.heard()

        talk.server.says(response(BODY))
        answer = await client.hears()

        assert head_of(answer)[0] == "200 OK"
        assert BODY.replace(b"aHVudGVyMg==", b"W3JlZGFjdGVkXQ==") in answer


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b"k8s\0hunter2", ["Content-Type: application/vnd.kubernetes.protobuf"], "cannot be masked"),
        (gzip.compress(BODY), [JSON, "Content-Encoding: gzip"], "compressed"),
        (BODY[:-3], [JSON], "no JSON"),
        (b"hunter2", [], "without a content type"),
    ],
    ids=["protobuf", "gzip", "broken", "untyped"],
)
async def test_an_answer_that_cannot_be_masked_is_not_shown(body: bytes, headers: list[str], why: str) -> None:
    async with talking(MASKS) as talk:
        client = talk.client()
        await client.says(request(f"GET {SECRET}"))
        talk.server.heard()
        talk.server.says(answered(body, *headers))
        answer = await client.hears()

        assert b"hunter2" not in answer
        assert b"aHVudGVyMg" not in answer
        assert head_of(answer)[0].startswith("502")
        assert why in str(status_of(answer)["message"])


async def test_a_masked_value_that_comes_back_goes_nowhere() -> None:
    async with talking(MASKS) as talk:
        client = talk.client()
        body = b'{"kind":"Secret","data":{"password":"W3JlZGFjdGVkXQ=="}}'
        answer = await client.says(request(f"PUT {SECRET}", body=body))

        assert talk.servers == []
        status = status_of(answer)
        assert status["code"] == 422
        assert "$.data.password is masked for you" in str(status["message"])


async def test_warnings_are_not_passed_on_with_what_is_masked() -> None:
    async with talking(MASKS) as talk:
        client = talk.client()
        await client.says(request(f"GET {SECRET}"))
        talk.server.heard()
        talk.server.says(response(BODY, "200 OK", 'Warning: 299 - "the password aHVudGVyMg== is weak"'))

        assert b"aHVudGVyMg" not in await client.hears()


async def test_a_list_that_breaks_off_does_not_end_as_if_it_were_whole() -> None:
    async with talking(MASKS) as talk:
        client = talk.client()
        await client.says(request("GET /api/v1/namespaces/shop/secrets"))
        talk.server.heard()
        talk.server.says(response(b'{"items":[' + BODY + b"," + BODY + b",{nonsense}]}"))
        answer = await client.hears()

        assert b"aHVudGVyMg" not in answer
        assert not answer.endswith(b"0\r\n\r\n")


async def test_an_error_names_the_field_and_not_the_value() -> None:
    async with talking(MASKS) as talk:
        client = talk.client()
        await client.says(request(f"PUT {SECRET}", body=b'{"type":"x"}'))
        talk.server.heard()
        words = 'Secret "db" is invalid: data[password]: Invalid value: "aHVudGVyMg=="'
        error = {"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422, "message": words}
        talk.server.says(response(json.dumps(error).encode(), "422 Unprocessable Entity"))
        answer = await client.hears()

        assert head_of(answer)[0].startswith("422")
        assert b"aHVudGVyMg" not in body_of(answer)
