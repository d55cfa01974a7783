"""Any bytes as an API server's answer, in any pieces: masked as in one piece, or not shown."""

from __future__ import annotations

import json

from support.answers_masked import fed, info, plan
from support.fuzzing import Target

from ostiary_gateway.protocols.kubernetes.masks import for_record, response_mask
from ostiary_gateway.protocols.kubernetes.questions import Unmaskable
from ostiary_policy.masking import MaskPlan, Strategy

TARGETS = (
    "/api/v1/namespaces/a/secrets/b", "/api/v1/secrets", "/api/v1/secrets?watch=1", "/api/v1/pods",
    "/apis/example.com/v1/things/a",
)  # fmt: skip
PLANS = (
    plan("$.data.*", "$.stringData.*"), plan("$..hidden", detectors=["Email", "CreditCard"]),
    plan("$.data[?(@.a == 'x')]", strategy=Strategy("Null")), plan(detectors=["JWT", "IPAddress"]),
    plan("$.data.*", strategy=Strategy("Partial", keep_last=1)), MaskPlan(),
)  # fmt: skip


def run(data: bytes) -> bytes | str:
    """The first bytes choose the request, the masks, the status and the size of the pieces; the rest is the body."""
    if len(data) < 4:
        return ""
    target, masks, status, size = (
        TARGETS[data[0] % len(TARGETS)],
        PLANS[data[1] % len(PLANS)],
        data[2],
        data[3] % 64 + 1,
    )
    body = data[4:]
    found = info(target)
    code = 422 if status % 5 == 0 else 200
    for direction in ("request", "response"):
        record = for_record(found, direction, b"application/json", code)  # type: ignore[arg-type]
        assert (record is None) == (found.resource != "secrets")
        fed(record, body, size)
    try:
        shown = fed(response_mask(masks, found, code, b"application/json"), body, size)
    except Unmaskable as problem:
        return str(problem)
    assert shown == fed(response_mask(masks, found, code, b"application/json"), body)
    if not masks:
        assert shown == body
        return shown
    if code == 200 and not found.watch and body.strip():
        json.loads(shown.decode("utf-8", "replace"), strict=False)
        hides = masks.json_paths and masks.json_paths[0].path == "$.data.*" and "/secrets/" in target
        if hides and masks.json_paths[0].strategy.type == "Redact":
            read = json.loads(shown.decode("utf-8", "replace"))
            values = read.get("data") if isinstance(read, dict) else None
            for value in values.values() if isinstance(values, dict) else values if isinstance(values, list) else ():
                assert value in ("W3JlZGFjdGVkXQ==", None)
    return shown


TARGET = Target("kubernetes_masks", run)


def test_any_answer() -> None:
    TARGET.replay(1500)
