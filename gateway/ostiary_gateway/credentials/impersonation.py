"""Impersonate-* headers for one subject: the API server decides and logs in the agent's own name. No I/O.

Source: Kubernetes documentation, "User impersonation", and k8s.io/apiserver's impersonation filter. For a
ServiceAccount the server knows the groups by itself if none are given, so that the right to impersonate it can be
given by a Role in its own namespace; its name says who it is, so its uid, which would need a ClusterRole, is left out.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from ostiary_gateway.credentials.static import CredentialError
from ostiary_policy.facts import SubjectFacts

Headers = list[tuple[bytes, bytes]]

ON_BEHALF_OF: Final = "ostiary.dev/on-behalf-of"
"""The key of `extra` that names the person for whom the agent acts."""
ACCOUNT: Final = "system:serviceaccount:"
_EVERYBODY: Final = "system:authenticated"
_ACCOUNTS: Final = "system:serviceaccounts"


def impersonation(subject: SubjectFacts) -> Headers:
    """The headers, names in lower case. Raises CredentialError for a subject that nobody may be impersonated as."""
    username = subject["username"]
    extra = _extra(subject)
    if subject["kind"] == "ServiceAccount":
        namespace, name = subject["namespace"], subject["name"]
        if username != f"{ACCOUNT}{namespace}:{name}" or not namespace or not name:
            raise CredentialError("the ServiceAccount's user name is not that of its namespace and name")
        own = {_EVERYBODY, _ACCOUNTS, f"{_ACCOUNTS}:{namespace}"}
        if not own.issuperset(subject["groups"]):
            raise CredentialError("a ServiceAccount is in no groups but its own; it cannot be impersonated")
        return [(b"impersonate-user", _value(username)), *extra]
    groups = [group for group in subject["groups"] if group != _EVERYBODY]
    for each in (username, *groups):
        if each.startswith("system:"):
            # system:masters would be above all rules; no issuer of the agents' may give it.
            raise CredentialError(f"nobody is impersonated as {each!r}: such names are the cluster's own")
    uid = [(b"impersonate-uid", _value(subject["uid"]))] if subject["uid"] else []
    return [
        (b"impersonate-user", _value(username)),
        *uid,
        *((b"impersonate-group", _value(group)) for group in groups),
        *extra,
    ]


def _extra(subject: SubjectFacts) -> Headers:
    person = subject["onBehalfOf"]
    # A key of `extra` is percent-encoded: a header's name cannot hold a slash.
    name = b"impersonate-extra-" + quote(ON_BEHALF_OF, safe="").lower().encode()
    return [(name, _value(person))] if person else []


def _value(text: str) -> bytes:
    """As a header's value. The API server takes it as UTF-8 bytes, and trims spaces."""
    if not text or not text.isprintable() or text != text.strip():
        raise CredentialError(
            "a name cannot be impersonated that is empty or has control characters or spaces at its ends"
        )
    return text.encode()
