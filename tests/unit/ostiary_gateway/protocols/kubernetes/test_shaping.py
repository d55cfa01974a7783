"""How a request asks for an answer that can be changed on its way."""

from __future__ import annotations

import pytest
from support.kubernetes_sites import agent

from ostiary_gateway.protocols.kubernetes.facts import kubernetes_facts, policy_verb
from ostiary_gateway.protocols.kubernetes.questions import Ask
from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_gateway.protocols.kubernetes.shaping import shaped
from ostiary_gateway.protocols.kubernetes.wire import Request, RequestHead
from ostiary_policy.decision import Decision, Needs
from ostiary_policy.masking import MaskPlan

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
TABLE = b"application/json;as=Table;v=v1;g=meta.k8s.io"


class Nobody:
    """Is not asked: what matters is how the request goes on."""

    identity = agent()

    def decide(self, protocol_facts: object) -> Decision | Needs:
        raise AssertionError


@pytest.mark.parametrize(
    ("asked", "asks"),
    [
        (b"application/vnd.kubernetes.protobuf, application/json", b"application/json"),
        (b"*/*", b"application/json"),
        (TABLE + b",application/json", b"application/json"),
        # The API server answers 406, as it does to who asks it directly.
        (TABLE, TABLE),
    ],
)
def test_a_review_is_asked_for_as_json_where_that_will_do(asked: bytes, asks: bytes) -> None:
    head = RequestHead("POST", REVIEWS.encode(), [(b"accept", asked)], True, b"")
    info = request_info("POST", REVIEWS.encode())
    facts = dict(kubernetes_facts(info, dry_run=False))
    ask = Ask(Request(head, b"{}"), info, policy_verb(info), f"POST {REVIEWS}", facts, {})

    request, shapers = shaped(ask, ask.request, MaskPlan(), MaskPlan(), Nobody())

    assert request.head.get(b"accept") == asks
    assert len(shapers) == 1
