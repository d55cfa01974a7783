"""ServiceAccount tokens: what one says of itself, what the API server says of it, and the subject. No I/O, no clock.

What a token says of itself is only ever used to refuse it; who it stands for comes from the API server.
Sources: Kubernetes documentation, "Managing Service Accounts" (bound tokens), API reference of TokenReview.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ostiary_gateway.kube.resources import Reviewed
from ostiary_policy.facts import SubjectFacts

from .jose import BadToken, parse_token
from .proof import MAX_GROUP, MAX_GROUPS, MAX_USERNAME, is_name

AUDIENCE: Final = "ostiary"
"""Whom a token must be for: a gateway, and nobody else."""
LEEWAY: Final = 60.0
"""Seconds that clocks may differ: a token that expired a moment ago is left for the API server to refuse."""
EXPECTED: Final = (
    f"a ServiceAccount token for the audience {AUDIENCE}, as the {{place}} (a projected volume with "
    f"serviceAccountToken.audience: {AUDIENCE}, or kubectl create token NAME --audience {AUDIENCE})"
)

_CLAIM: Final = "kubernetes.io"
_EXTRA: Final = "authentication.kubernetes.io/"
_FACTS: Final = {"podName": "pod-name", "podUID": "pod-uid", "nodeName": "node-name"}
"""Claims that policies may read → what the API server calls them."""
_USERNAME: Final = re.compile(
    r"system:serviceaccount:([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?):([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)"
)
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A token that is worth asking the API server about. `expires`: seconds since the epoch, by its own word."""

    subject: str
    expires: float
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who the API server says that a token stands for. `credential_id`: how its audit log names the token."""

    subject: SubjectFacts
    credential_id: str


def is_service_account_token(secret: str) -> bool:
    """Whether a JWT says of itself that it is a ServiceAccount's."""
    try:
        return _is_of_kubernetes(parse_token(secret).payload)
    except BadToken:
        return False


def claimed(secret: str, now: float) -> Claimed:
    """What a token says of itself, if it is worth a question. Raises BadToken."""
    payload = parse_token(secret).payload
    if not _is_of_kubernetes(payload):
        raise BadToken("its issuer is not one that this Connection takes, and it is no ServiceAccount's token")
    audiences = _audiences(payload.get("aud"))
    if not audiences:
        raise BadToken(
            "it is for no audience in particular, as tokens in Secrets are, and would work at the API server; an agent "
            "must not hand such a token to anybody"
        )
    if AUDIENCE not in audiences:
        raise BadToken(
            f"it is not for the audience {AUDIENCE}. If it is the pod's own token for the API server: an agent must "
            "not hand that to anybody"
        )
    if len(audiences) > 1:
        raise BadToken(f"it is for others than {AUDIENCE} as well, and whoever gets it could use it there")
    expires = payload.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 <= expires <= _LAST_SECOND:
        raise BadToken("it has no exp, or one that is no time")
    if now >= expires + LEEWAY:
        raise BadToken("it has expired; the kubelet renews the file that it is in, so read that again for each login")
    subject = payload.get("sub")
    if not isinstance(subject, str):
        raise BadToken("it has no sub")
    return Claimed(subject, float(expires), secret)


def proven(reviewed: Reviewed, token: Claimed) -> ServiceAccount:
    """Who a token stands for by the API server's answer. Raises BadToken."""
    if not reviewed.authenticated:
        raise BadToken(_why_not(reviewed.error))
    if AUDIENCE not in reviewed.audiences:
        raise BadToken("the API server does not say that it has checked the audience")
    found = _USERNAME.fullmatch(reviewed.username)
    if found is None or reviewed.username != token.subject:
        raise BadToken("it is not that of a ServiceAccount")
    if len(reviewed.groups) > MAX_GROUPS or not all(is_name(group, MAX_GROUP) for group in reviewed.groups):
        raise BadToken("the API server's answer has something that is no name of a group")
    subject = SubjectFacts(
        username=reviewed.username,
        uid=reviewed.uid if is_name(reviewed.uid, MAX_USERNAME) else "",
        groups=list(reviewed.groups),
        kind="ServiceAccount",
        namespace=found[1],
        name=found[3],
        claims={name: value for name, extra in _FACTS.items() if (value := _extra(reviewed, extra))},
        onBehalfOf="",
    )
    return ServiceAccount(subject, _extra(reviewed, "credential-id"))


def _is_of_kubernetes(payload: Mapping[str, object]) -> bool:
    # Tokens of Secrets have its parts as claims of their own: kubernetes.io/serviceaccount/namespace …
    return any(name == _CLAIM or name.startswith(f"{_CLAIM}/serviceaccount/") for name in payload)


def _audiences(found: object) -> list[str]:
    listed = [found] if isinstance(found, str) else found
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise BadToken("its aud is no text and no list of text")
    return listed


def _extra(reviewed: Reviewed, name: str) -> str:
    values = reviewed.extra.get(_EXTRA + name, ())
    return values[0] if len(values) == 1 and is_name(values[0], MAX_USERNAME) else ""


def _why_not(error: str) -> str:
    """The API server's reason in words that say what to do; its own words are in the gateway's record."""
    if "expired" in error:
        return "it has expired; the kubelet renews the file that it is in, so read that again for each login"
    if "not found" in error or "does not match" in error or "invalidated" in error or "deleted" in error:
        return "its ServiceAccount, or the pod that it was made for, does not exist any more"
    if "audience" in error:
        return f"it is not for the audience {AUDIENCE}"
    if "signature" in error or "cryptographic" in error or error in ("", "invalid bearer token"):
        return "this cluster's API server has not issued it; is it a token of another cluster?"
    return "the API server does not accept it, and the gateway's record says why"
