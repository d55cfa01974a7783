"""The masks of the Kubernetes API alone, over a list of pods in pieces of 64 KiB: MB/s of CPU time on one core.

Paired in one run with passing the same pieces on, and with orjson, which reads and writes the same text as objects.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import orjson

from ostiary_gateway import _pure
from ostiary_gateway.protocols.kubernetes.masks import response_mask
from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_policy.masking import DetectorMask, JsonPathMask, MaskPlan, Strategy

PODS: Final = 2500
PIECE: Final = 65_536
ROUNDS: Final = 7
REDACT: Final = Strategy("Redact")


def plan(*paths: str, detectors: tuple[str, ...] = ()) -> MaskPlan:
    return MaskPlan(
        json_paths=tuple(JsonPathMask(path, REDACT) for path in paths),
        detectors=tuple(DetectorMask(name, REDACT) for name in detectors),
    )


TOKENS: Final = ("JWT", "PrivateKey", "GitHubToken", "AWSKey")
PLANS: Final[dict[str, MaskPlan]] = {
    "`$.data.*`, which pods do not have": plan("$.data.*"),
    "`$..password`, which they do not have either": plan("$..password"),
    "`$.metadata.labels.app`: one value a pod": plan("$.metadata.labels.app"),
    "`$.spec.containers[*].env[*].value`: ten values a pod": plan("$.spec.containers[*].env[*].value"),
    "`…env[?(@.name == 'E3')].value`: one value a pod": plan("$.spec.containers[*].env[?(@.name == 'E3')].value"),
    "CreditCard and Email, nothing found": plan(detectors=("CreditCard", "Email")),
    "CreditCard, Email and four kinds of tokens, nothing found": plan(detectors=("CreditCard", "Email", *TOKENS)),
    "IPAddress: five a pod": plan(detectors=("IPAddress",)),
}


def pod(number: int) -> dict[str, object]:
    variables = [{"name": f"E{index}", "value": f"some value {index}"} for index in range(10)]
    keys = {f'k:{{"name":"E{index}"}}': {".": {}, "f:name": {}, "f:value": {}} for index in range(10)}
    fields = {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {'k:{"name":"c"}': {"f:env": {".": {}, **keys}}}}
    mount = {"name": "token", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    since = "2026-11-23T01:02:03Z"
    conditions = [{"type": each, "status": "True", "lastTransitionTime": since} for each in ("Ready", "Initialized")]
    return {
        "metadata": {
            "name": f"web-{number}", "namespace": "shop", "uid": f"0a1b2c3d-1111-2222-3333-{number:012x}",
            "resourceVersion": str(number), "creationTimestamp": since, "labels": {"app": "web", "tier": "front"},
            "managedFields": [{"manager": "kubectl", "operation": "Update", "time": since, "fieldsV1": fields}],
        },
        "spec": {
            "containers": [{
                "name": "c", "image": "registry.example/web:1.2.3", "env": variables, "volumeMounts": [mount],
                "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}}, "imagePullPolicy": "IfNotPresent",
            }],
            "nodeName": f"node-{number % 7}", "restartPolicy": "Always", "serviceAccountName": "default",
            "tolerations": 2 * [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 9}],
        },
        "status": {
            "phase": "Running", "conditions": conditions * 2, "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}],
            "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}], "startTime": since, "qosClass": "Burstable",
            "containerStatuses": [{
                "name": "c", "ready": True, "restartCount": 0, "image": "registry.example/web:1.2.3",
                "imageID": "registry.example/web@sha256:" + "ab" * 32, "state": {"running": {"startedAt": since}},
            }],
        },
    }  # fmt: skip


def rate(body: bytes, do: Callable[[], object]) -> float:
    """MB/s of the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        do()
        best = min(best, time.process_time() - started)
    return len(body) / best / 1e6


def main() -> None:
    listed = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}}
    body = orjson.dumps({**listed, "items": [pod(number) for number in range(PODS)]}) + b"\n"
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    info = request_info("GET", b"/api/v1/pods")
    how = "compiled" if _pure.compiled("ostiary_gateway.masking.json_walk") else "not compiled"
    print(f"{len(body) / 1e6:.1f} MB, {how}\n\n| masks | MB/s |\n| --- | --- |")
    for name, masks in PLANS.items():

        def masked(masks: MaskPlan = masks) -> int:
            mask = response_mask(masks, info, 200, b"application/json")
            assert mask is not None
            size = sum(len(out) for piece in pieces for out in mask.feed(piece))
            return size + sum(map(len, mask.finish()))

        print(f"| {name} | {rate(body, masked):,.0f} |")
    print(f"| passing on | {rate(body, lambda: b''.join(pieces)):,.0f} |")
    through = rate(body, lambda: orjson.dumps(orjson.loads(body)))
    print(f"| orjson: read into objects and written again | {through:,.0f} |")


if __name__ == "__main__":
    main()
